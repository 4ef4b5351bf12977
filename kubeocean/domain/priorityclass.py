"""What a twin's PriorityClass has to do with a refusal: the class is the binding's choice, and the lender's to have."""

from __future__ import annotations

from kubeocean.api import names
from kubeocean.domain.refusal import Refusal


def explain_missing_class(answer: str, priority_class: str, binding: str) -> Refusal | None:
    """Return what to tell when the physical API server refused a twin because it has no such PriorityClass; else None.

    `answer` is the server's text: `no PriorityClass with name NAME was found` (admission plugin Priority).
    """
    if f"no PriorityClass with name {priority_class} was found" not in answer:
        return None
    if priority_class == names.DEFAULT_PRIORITY_CLASS:
        remedy = "it is made again when the lender grants priorityclasses (kubeocean rbac)"
    else:
        remedy = "the lender has to create it, or spec.podPriorityClassName of that ClusterBinding has to name another"
    message = f"PriorityClass {priority_class} does not exist in the physical cluster of ClusterBinding {binding}: {remedy}"
    return Refusal("PriorityClassNotFound", f"{message} ({answer})")
