"""Which objects does this selector mean? Node selectors, label selectors and tolerations, by Kubernetes' own rules.

A selector is compiled once into a predicate and asked many times. Compiling is also the validation: what the API server
would refuse, or would silently never match, raises `InvalidSelector`, whose message names field and remedy. Sources:
component-helpers `scheduling/corev1/nodeaffinity` and apimachinery `labels.Requirement`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from kubeocean.kube.meta import Json, labels_of, name_of

Labels = Mapping[str, str]
_Question = Callable[[Labels], bool]

_NAME: Final = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DNS_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_LABEL_VALUE: Final = re.compile(f"(?:{_NAME})?")
_LABEL_KEY: Final = re.compile(rf"(?:(?=.{{1,253}}/){_DNS_LABEL}(?:\.{_DNS_LABEL})*/)?{_NAME}")
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,19}")
_INT64: Final = range(-(2**63), 2**63)

_LABEL_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")
_NODE_OPERATORS: Final = (*_LABEL_OPERATORS, "Gt", "Lt")
_NODE_FIELD: Final = "metadata.name"


class InvalidSelector(ValueError):
    """The selector cannot be used; the message names the field and what to write."""


def compile_node_selector(selector: Json | None, *, field: str = "nodeSelector") -> Callable[[Json], bool]:
    """Return the predicate over Nodes of a v1.NodeSelector; `field` is where it stands, for messages.

    None and a selector without terms select every node (a binding without a selector takes all). Terms are ORed, what
    is in a term is ANDed, and an empty term selects nothing. Raises InvalidSelector.
    """
    terms = (selector or {}).get("nodeSelectorTerms") or []
    if not terms:
        return _every_node
    compiled = [_node_term(term, f"{field}.nodeSelectorTerms[{position}]") for position, term in enumerate(terms)]
    return lambda node: any(matches(node) for matches in compiled)


def compile_label_selector(selector: Json | None, *, field: str = "selector") -> Callable[[Labels], bool]:
    """Return the predicate over labels of a metav1.LabelSelector; `field` is where it stands, for messages.

    None selects nothing and an empty selector everything; all requirements are ANDed. Raises InvalidSelector.
    """
    if selector is None:
        return _nothing
    questions = [
        _requirement({"key": key, "operator": "In", "values": [value]}, f"{field}.matchLabels[{key}]", _LABEL_OPERATORS)
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    questions += [
        _requirement(expression, f"{field}.matchExpressions[{position}]", _LABEL_OPERATORS)
        for position, expression in enumerate(selector.get("matchExpressions") or [])
    ]
    return lambda labels: all(question(labels) for question in questions)


def tolerates(tolerations: Iterable[Json], taint: Json) -> bool:
    """Tell whether one of a Pod's tolerations matches the taint, effect included (api `Toleration.ToleratesTaint`).

    An empty effect or key in a toleration stands for all of them; the operator defaults to Equal. How *long* a
    NoExecute taint is tolerated (`tolerationSeconds`) is not asked here.
    """
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def tolerated_seconds(tolerations: Iterable[Json], taint: Json) -> float:
    """Return how long a Pod with these tolerations may stay beside a NoExecute `taint`: 0 = not at all, inf = for ever.

    Of several tolerations that match, the first counts (tainteviction `getMinTolerationTime`).
    """
    for toleration in tolerations:
        if _tolerates(toleration, taint):
            seconds = toleration.get("tolerationSeconds")
            return float("inf") if seconds is None else max(0.0, float(seconds))
    return 0.0


def _tolerates(toleration: Json, taint: Json) -> bool:
    effect, key = toleration.get("effect"), toleration.get("key")
    if (effect and effect != taint.get("effect")) or (key and key != taint.get("key")):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Equal":
        return (toleration.get("value") or "") == (taint.get("value") or "")
    return bool(operator == "Exists")


def _every_node(node: Json) -> bool:
    return True


def _nothing(labels: Labels) -> bool:
    return False


def _node_term(term: Json, field: str) -> Callable[[Json], bool]:
    questions = [
        _requirement(expression, f"{field}.matchExpressions[{position}]", _NODE_OPERATORS)
        for position, expression in enumerate(term.get("matchExpressions") or [])
    ]
    names = [
        _name_requirement(expression, f"{field}.matchFields[{position}]")
        for position, expression in enumerate(term.get("matchFields") or [])
    ]

    def matches(node: Json) -> bool:
        labels = labels_of(node)
        return all(question(labels) for question in questions) and all(question(name_of(node)) for question in names)

    return matches if questions or names else lambda node: False


def _requirement(expression: Json, field: str, operators: tuple[str, ...]) -> _Question:
    key, operator, values = _read(expression, field, operators)
    if not _LABEL_KEY.fullmatch(key):
        raise InvalidSelector(f"{field}.key: {key!r} is no label key; write NAME or PREFIX/NAME, such as my.org/zone")
    for value in values:
        if not _LABEL_VALUE.fullmatch(value):
            raise InvalidSelector(
                f"{field}.values: {value!r} is no label value; write at most 63 letters, digits, '-', '_' or '.', "
                "the first and the last one a letter or digit"
            )
    if operator in ("In", "NotIn"):
        return _membership(key, operator, values, field)
    if operator in ("Gt", "Lt"):
        return _comparison(key, operator, values, field)
    if values:
        raise InvalidSelector(f"{field}.values: operator {operator} takes no values; remove them, or use In or NotIn")
    return (lambda labels: key in labels) if operator == "Exists" else (lambda labels: key not in labels)


def _membership(key: str, operator: str, values: list[str], field: str) -> _Question:
    if not values:
        raise InvalidSelector(f"{field}.values: operator {operator} needs a value; else use Exists or DoesNotExist")
    wanted = frozenset(values)
    # A node without the label is "not in" any set of its values.
    if operator == "NotIn":
        return lambda labels: labels.get(key) not in wanted
    return lambda labels: labels.get(key) in wanted


def _comparison(key: str, operator: str, values: list[str], field: str) -> _Question:
    bound = _number(values[0]) if len(values) == 1 else None
    if bound is None:
        raise InvalidSelector(f"{field}.values: operator {operator} takes exactly one whole number, such as [\"8\"]")

    def matches(labels: Labels) -> bool:
        number = _number(labels.get(key, ""))
        return number is not None and (number > bound if operator == "Gt" else number < bound)

    return matches


def _name_requirement(expression: Json, field: str) -> Callable[[str], bool]:
    key, operator, values = _read(expression, field, ("In", "NotIn"))
    if key != _NODE_FIELD:
        raise InvalidSelector(f"{field}.key: {key!r} is no field that nodes can be selected by; write {_NODE_FIELD}")
    if len(values) != 1:
        raise InvalidSelector(f"{field}.values: exactly one node name is taken; use one term per name")
    wanted = values[0]
    return (lambda name: name == wanted) if operator == "In" else (lambda name: name != wanted)


def _read(expression: Json, field: str, operators: tuple[str, ...]) -> tuple[str, str, list[str]]:
    operator = expression.get("operator") or ""
    if operator not in operators:
        raise InvalidSelector(f"{field}.operator: {operator!r} is unknown; write one of {', '.join(operators)}")
    return expression.get("key") or "", operator, expression.get("values") or []


def _number(text: str) -> int | None:
    """Read a whole number as Go's ParseInt(text, 10, 64) does."""
    number = int(text) if _NUMBER.fullmatch(text) else None
    return number if number is not None and number in _INT64 else None
