from typing import cast

from kubeocean.clusters.permissions import INSTALL_RULES, NODE_PROXY_RULES, PHYSICAL_RULES, VIRTUAL_RULES, find_missing
from kubeocean.clusters.rbac import build_rules
from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import Resource


def test_a_lender_grants_secrets_and_pod_writes_in_the_mount_namespace_only() -> None:
    for rule in PHYSICAL_RULES:
        if rule.resource == "secrets" or (rule.resource == "pods" and "create" in rule.verbs):
            assert rule.mounted, rule


def test_nothing_is_asked_for_with_a_wildcard() -> None:
    for rule in (*PHYSICAL_RULES, *INSTALL_RULES, *(rule for rules in VIRTUAL_RULES.values() for rule in rules)):
        assert "*" not in (rule.group, rule.resource, *rule.verbs)
        assert rule.why


class Reviewer:
    """Answers every SelfSubjectAccessReview with no, and notes what was asked."""

    def __init__(self) -> None:
        self.asked: set[tuple[str, str, str]] = set()

    async def create(self, resource: Resource, review: Json) -> Json:
        attributes = review["spec"]["resourceAttributes"]
        self.asked.add((attributes["verb"], attributes["group"], attributes["resource"]))
        return {"status": {"allowed": False}}


async def test_what_is_optional_is_granted_but_not_missed() -> None:
    reviewer = Reviewer()
    missing = await find_missing(cast(Client, reviewer), "team-a")
    assert "patch nodes" in missing
    optional = {(rule.group, rule.resource) for rule in PHYSICAL_RULES if rule.optional}
    assert {resource for _, resource in optional} >= {
        "csinodes", "resourceleasingpolicies", "resourceleasingpolicies/status", "services", "networkpolicies",
    }
    assert ("metrics.k8s.io", "pods") in optional
    assert not any((group, resource) in optional for _, group, resource in reviewer.asked)
    granted = {
        (group, resource)
        for rule in build_rules(PHYSICAL_RULES) for group in rule["apiGroups"] for resource in rule["resources"]
    }
    assert optional <= granted


def test_the_right_to_a_nodes_proxy_is_asked_for_apart_and_only_to_read() -> None:
    assert not any(rule.resource == "nodes/proxy" for rule in PHYSICAL_RULES)
    assert [(rule.resource, rule.verbs) for rule in NODE_PROXY_RULES] == [("nodes/proxy", ("get",))]
