"""Which nodes a v1.NodeSelector means."""

from typing import Any

Json = dict[str, Any]


def selects(selector: Json | None, node: Json) -> bool:
    """Tell whether one of the terms holds for a node; no selector, or one without terms, means every node."""
    terms = (selector or {}).get("nodeSelectorTerms") or []
    return not terms or any(holds(term, node) for term in terms)


def holds(term: Json, node: Json) -> bool:
    labels = node["metadata"].get("labels") or {}
    questions = [(each, labels) for each in term.get("matchExpressions") or []]
    questions += [(each, {"metadata.name": node["metadata"]["name"]}) for each in term.get("matchFields") or []]
    return bool(questions) and all(answer(question, values) for question, values in questions)


def answer(question: Json, values: dict[str, str]) -> bool:
    value, wanted = values.get(question["key"]), question.get("values") or []
    match question["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and value.isdecimal() and int(value) > int(wanted[0])
        case "Lt":
            return value is not None and value.isdecimal() and int(value) < int(wanted[0])
    raise ValueError(f"no operator: {question}")
