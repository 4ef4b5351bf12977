"""Which refusal is about a PriorityClass, and what it is told with."""

import pytest

from kubeocean.domain.priorityclass import explain_missing_class

ANSWER = 'lender: POST …: 403 Forbidden: pods "web-1" is forbidden: no PriorityClass with name {} was found'


@pytest.mark.parametrize(("name", "remedy"), [("fast", "spec.podPriorityClassName"), ("kubeocean-default", "kubeocean rbac")])
def test_a_missing_class_is_named_with_cluster_and_remedy(name: str, remedy: str) -> None:
    refusal = explain_missing_class(ANSWER.format(name), name, "lender")
    assert refusal is not None
    assert refusal.reason == "PriorityClassNotFound"
    for part in (f"PriorityClass {name}", "ClusterBinding lender", remedy, ANSWER.format(name)):
        assert part in refusal.message


def test_other_refusals_are_none_of_its_business() -> None:
    assert explain_missing_class("exceeded quota", "fast", "lender") is None
    assert explain_missing_class(ANSWER.format("faster"), "fast", "lender") is None
