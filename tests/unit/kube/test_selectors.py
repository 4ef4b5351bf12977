from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.kube.meta import Json
from kubeocean.kube.selectors import (
    InvalidSelector,
    compile_label_selector,
    compile_node_selector,
    tolerated_seconds,
    tolerates,
)


def node(name: str = "n1", **labels: str) -> Json:
    return {"metadata": {"name": name, "labels": labels}}


def requirement(key: str, operator: str, *values: str) -> Json:
    return {"key": key, "operator": operator, "values": list(values)}


def expressions(*requirements: Json) -> Json:
    return {"matchExpressions": list(requirements)}


def fields(*requirements: Json) -> Json:
    return {"matchFields": list(requirements)}


def terms(*terms: Json) -> Json:
    return {"nodeSelectorTerms": list(terms)}


ZONE_A = requirement("zone", "In", "a")
BIG = requirement("cores", "Gt", "8")

NODE_SELECTORS: dict[str, tuple[Json | None, Json, bool]] = {
    "no selector selects every node": (None, node(), True),
    "an empty selector selects every node": ({}, node(), True),
    "a selector without terms selects every node": (terms(), node(), True),
    "null terms are no terms": ({"nodeSelectorTerms": None}, node(), True),
    "an empty term selects nothing": (terms({}), node(), False),
    "a term of empty lists selects nothing": (terms({"matchExpressions": [], "matchFields": None}), node(), False),
    "beside an empty term the others count": (terms({}, expressions(ZONE_A)), node(zone="a"), True),
    "terms are ORed": (terms(expressions(BIG), expressions(ZONE_A)), node(zone="a"), True),
    "expressions are ANDed": (terms(expressions(ZONE_A, BIG)), node(zone="a", cores="8"), False),
    "all expressions hold": (terms(expressions(ZONE_A, BIG)), node(zone="a", cores="9"), True),
    "a node without labels matches no In": (terms(expressions(ZONE_A)), {"metadata": {"name": "n1"}}, False),
    "In takes any of its values": (terms(expressions(requirement("zone", "In", "b", "a"))), node(zone="a"), True),
    "NotIn refuses its values": (terms(expressions(requirement("zone", "NotIn", "a"))), node(zone="a"), False),
    "NotIn takes a node without the label": (terms(expressions(requirement("zone", "NotIn", "a"))), node(), True),
    "In takes the empty value where it is set": (terms(expressions(requirement("gpu", "In", ""))), node(gpu=""), True),
    "In with the empty value is no DoesNotExist": (terms(expressions(requirement("gpu", "In", ""))), node(), False),
    "Exists takes any value": (terms(expressions(requirement("gpu", "Exists"))), node(gpu=""), True),
    "Exists needs the label": (terms(expressions(requirement("gpu", "Exists"))), node(), False),
    "DoesNotExist takes a node without it": (terms(expressions(requirement("gpu", "DoesNotExist"))), node(), True),
    "DoesNotExist refuses the label": (terms(expressions(requirement("gpu", "DoesNotExist"))), node(gpu="x"), False),
    "Gt compares numbers, not texts": (terms(expressions(BIG)), node(cores="16"), True),
    "Lt compares numbers, not texts": (terms(expressions(requirement("cores", "Lt", "8"))), node(cores="16"), False),
    "Lt is strict": (terms(expressions(requirement("cores", "Lt", "8"))), node(cores="8"), False),
    "Gt is false where the label is no number": (terms(expressions(BIG)), node(cores="many"), False),
    "Gt is false where the number is no int64": (terms(expressions(BIG)), node(cores="9" * 19), False),
    "Gt is false without the label": (terms(expressions(BIG)), node(), False),
    "a node is found by its name": (terms(fields(requirement("metadata.name", "In", "n1"))), node("n1"), True),
    "and not by another's": (terms(fields(requirement("metadata.name", "In", "n2"))), node("n1"), False),
    "all but one name": (terms(fields(requirement("metadata.name", "NotIn", "n1"))), node("n1"), False),
    "fields and expressions are ANDed": (
        terms({**fields(requirement("metadata.name", "In", "n1")), **expressions(ZONE_A)}), node("n1"), False,
    ),
}


@pytest.mark.parametrize("promise", NODE_SELECTORS)
def test_node_selector(promise: str) -> None:
    selector, candidate, selected = NODE_SELECTORS[promise]
    assert compile_node_selector(selector)(candidate) is selected


BAD_NODE_SELECTORS: dict[str, tuple[Json, str]] = {
    "an operator that does not exist": (expressions(requirement("a", "Is", "b")), "matchExpressions[0].operator: 'Is'"),
    "an operator in another case": (expressions(requirement("a", "in", "b")), "write one of In, NotIn"),
    "no operator": (expressions({"key": "a"}), "write one of In, NotIn"),
    "In without values": (expressions(requirement("a", "In")), "matchExpressions[0].values: operator In needs a value"),
    "Exists with values": (expressions(ZONE_A, requirement("a", "Exists", "b")), "matchExpressions[1].values"),
    "Gt with two values": (expressions(requirement("a", "Gt", "1", "2")), "exactly one whole number"),
    "Gt with a word": (expressions(requirement("a", "Gt", "x")), "exactly one whole number"),
    "Gt with a fraction": (expressions(requirement("a", "Gt", "1.5")), "exactly one whole number"),
    "Gt beyond int64": (expressions(requirement("a", "Gt", "9" * 19)), "exactly one whole number"),
    "a key with a blank": (expressions(requirement("a b", "Exists")), "matchExpressions[0].key: 'a b'"),
    "a key with an empty prefix": (expressions(requirement("/a", "Exists")), "no label key"),
    "no key": (expressions({"operator": "Exists"}), "no label key"),
    "a value that no label can have": (expressions(requirement("a", "In", "b c")), "'b c' is no label value"),
    "a value that is too long": (expressions(requirement("a", "NotIn", "b" * 64)), "is no label value"),
    "a field that nodes are not selected by": (fields(requirement("spec.podCIDR", "In", "x")), "write metadata.name"),
    "two names at once": (fields(requirement("metadata.name", "In", "a", "b")), "one term per name"),
    "names that are greater than another": (fields(requirement("metadata.name", "Gt", "1")), "write one of In, NotIn"),
}


@pytest.mark.parametrize("what", BAD_NODE_SELECTORS)
def test_a_bad_node_selector_is_refused_with_field_and_remedy(what: str) -> None:
    term, message = BAD_NODE_SELECTORS[what]
    with pytest.raises(InvalidSelector) as error:
        compile_node_selector(terms(expressions(ZONE_A), term), field="spec.nodeSelector")
    assert str(error.value).startswith("spec.nodeSelector.nodeSelectorTerms[1].")
    assert message in str(error.value)


LABEL_SELECTORS: dict[str, tuple[Json | None, Mapping[str, str], bool]] = {
    "no selector selects nothing": (None, {"app": "web"}, False),
    "an empty selector selects everything": ({}, {}, True),
    "matchLabels are ANDed": ({"matchLabels": {"app": "web", "tier": "front"}}, {"app": "web"}, False),
    "further labels do not matter": ({"matchLabels": {"app": "web"}}, {"app": "web", "tier": "front"}, True),
    "labels and expressions are ANDed": (
        {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "old", "operator": "DoesNotExist"}]},
        {"app": "web", "old": "yes"}, False,
    ),
    "expressions alone": ({"matchExpressions": [requirement("app", "In", "web", "db")]}, {"app": "db"}, True),
}


@pytest.mark.parametrize("promise", LABEL_SELECTORS)
def test_label_selector(promise: str) -> None:
    selector, labels, selected = LABEL_SELECTORS[promise]
    assert compile_label_selector(selector)(labels) is selected


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ({"matchLabels": {"app": "a b"}}, "selector.matchLabels[app].values: 'a b' is no label value"),
        ({"matchExpressions": [requirement("a", "Gt", "1")]}, "selector.matchExpressions[0].operator: 'Gt' is unknown"),
    ],
)
def test_a_bad_label_selector_is_refused_with_field_and_remedy(selector: Json, message: str) -> None:
    with pytest.raises(InvalidSelector) as error:
        compile_label_selector(selector)
    assert message in str(error.value)


keys = st.sampled_from("abc")


@given(st.dictionaries(keys, st.sampled_from(["", "1", "2"])), keys, st.sampled_from("12"))
def test_an_operator_and_its_opposite_never_agree(labels: dict[str, str], key: str, value: str) -> None:
    for one, other, values in (("In", "NotIn", [value]), ("Exists", "DoesNotExist", [])):
        yes = compile_label_selector(expressions(requirement(key, one, *values)))
        no = compile_label_selector(expressions(requirement(key, other, *values)))
        assert yes(labels) is not no(labels)


TAINT = {"key": "lease", "value": "true", "effect": "NoExecute"}

TOLERATIONS: dict[str, tuple[list[Json], Json, bool]] = {
    "nothing is tolerated by default": ([], TAINT, False),
    "the same key, value and effect": ([{"key": "lease", "value": "true", "effect": "NoExecute"}], TAINT, True),
    "no operator means Equal": ([{"key": "lease", "effect": "NoExecute"}], TAINT, False),
    "Equal without a value tolerates a taint without one": ([{"key": "lease"}], {"key": "lease", "effect": "X"}, True),
    "no effect means every effect": ([{"key": "lease", "operator": "Equal", "value": "true"}], TAINT, True),
    "another effect does not help": ([{"key": "lease", "operator": "Exists", "effect": "NoSchedule"}], TAINT, False),
    "Exists does not look at the value": ([{"key": "lease", "operator": "Exists"}], TAINT, True),
    "Exists without a key tolerates everything": ([{"operator": "Exists"}], TAINT, True),
    "Exists of one effect tolerates that effect": ([{"operator": "Exists", "effect": "NoExecute"}], TAINT, True),
    "another key does not help": ([{"key": "other", "operator": "Exists"}], TAINT, False),
    "one of several is enough": ([{"key": "other"}, {"key": "lease", "operator": "Exists"}], TAINT, True),
    "an unknown operator tolerates nothing": ([{"key": "lease", "operator": "Gt", "value": "1"}], TAINT, False),
}


@pytest.mark.parametrize("promise", TOLERATIONS)
def test_tolerates(promise: str) -> None:
    tolerations, taint, tolerated = TOLERATIONS[promise]
    assert tolerates(tolerations, taint) is tolerated


NO_EXECUTE: Json = {"key": "lease", "value": "over", "effect": "NoExecute"}
FOR_HOW_LONG: dict[str, tuple[list[Json], float]] = {
    "who does not tolerate it may not stay at all": ([], 0),
    "who tolerates another effect may not stay": ([{"operator": "Exists", "effect": "NoSchedule"}], 0),
    "who tolerates it without limit may stay for ever": ([{"key": "lease", "operator": "Exists"}], float("inf")),
    "who tolerates it for a while may stay that long": ([{"operator": "Exists", "tolerationSeconds": 30}], 30),
    "a negative while is none": ([{"operator": "Exists", "tolerationSeconds": -1}], 0),
    "of two that match the first counts": (
        [{"operator": "Exists", "tolerationSeconds": 5}, {"operator": "Exists"}], 5),
    "one that does not match counts for nothing": (
        [{"key": "other", "operator": "Exists", "tolerationSeconds": 5}, {"operator": "Exists"}], float("inf")),
}


@pytest.mark.parametrize("promise", FOR_HOW_LONG)
def test_tolerated_seconds(promise: str) -> None:
    tolerations, expected = FOR_HOW_LONG[promise]
    assert tolerated_seconds(tolerations, NO_EXECUTE) == expected
