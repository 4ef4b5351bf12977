from typing import cast

import pytest

from kubeocean.clusters.permissions import (
    INSTALL_RULES,
    NODE_PROXY_RULES,
    PHYSICAL_RULES,
    VIRTUAL_RULES,
    KnownRights,
    find_missing,
)
from kubeocean.clusters.rbac import build_rules
from kubeocean.kube.client import Client
from kubeocean.kube.errors import Forbidden
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import SELFSUBJECTRULESREVIEWS, Resource


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


class Authorizer:
    """Lists `rules`, and answers every question with `allows`; counts both kinds."""

    def __init__(self) -> None:
        self.rules: list[Json] = [{"verbs": ["get"], "resources": ["pods"]}, {"verbs": ["list"], "resources": ["nodes"]}]
        self.allows, self.incomplete, self.lists = True, False, True
        self.questions = 0

    async def create(self, resource: Resource, _: Json) -> Json:
        if resource == SELFSUBJECTRULESREVIEWS:
            if not self.lists:
                raise Forbidden("may not ask", status=403)
            return {"status": {"resourceRules": self.rules, "incomplete": self.incomplete}}
        self.questions += 1
        return {"status": {"allowed": self.allows}}

    async def look(self, rights: KnownRights, namespace: str = "team-a") -> tuple[bool, bool]:
        """Return whether something is missing, and whether that took more than the list of rules."""
        self.questions = 0
        return bool(await rights.find_missing(cast(Client, self), namespace)), self.questions > 0


async def test_the_questions_are_asked_again_only_when_the_rules_are_others() -> None:
    authorizer, rights = Authorizer(), KnownRights()
    assert await authorizer.look(rights) == (False, True)
    assert await authorizer.look(rights) == (False, False)
    authorizer.rules.reverse()
    assert await authorizer.look(rights) == (False, False), "in another order they are the same rules"
    authorizer.rules.pop()
    authorizer.allows = False
    assert await authorizer.look(rights) == (True, True)


async def test_what_is_missing_is_asked_for_until_it_is_there() -> None:
    authorizer, rights = Authorizer(), KnownRights()
    authorizer.allows = False
    assert await authorizer.look(rights) == (True, True)
    authorizer.allows = True  # by an authorizer that lists no rules
    assert await authorizer.look(rights) == (False, True)


async def test_another_namespace_is_another_question() -> None:
    authorizer, rights = Authorizer(), KnownRights()
    await authorizer.look(rights)
    assert await authorizer.look(rights, "team-b") == (False, True)


@pytest.mark.parametrize("lack", [{"incomplete": True}, {"lists": False}], ids=["incomplete", "refused"])
async def test_rules_that_are_not_all_known_spare_no_question(lack: dict[str, bool]) -> None:
    authorizer, rights = Authorizer(), KnownRights()
    for field, value in lack.items():
        setattr(authorizer, field, value)
    for _ in range(2):
        assert await authorizer.look(rights) == (False, True)
