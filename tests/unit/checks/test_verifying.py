"""A run of verify: whose binding is looked at, and what is told of a run of repairs whatever happens on the way."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pytest

from kubeocean.checks.looking import Look
from kubeocean.checks.opening import open_sides
from kubeocean.checks.verifying import Told, Verdict, exit_code, mend
from kubeocean.checks.verifyreport import as_json
from kubeocean.domain.findings import Kind
from kubeocean.domain.verification import Snapshot, verify
from kubeocean.kube.client import Client
from kubeocean.kube.errors import ConfigError, Unreachable
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.resources import NODES, PODS, Resource
from tests.unit.checks.test_repairing import NOON, SPEC, WRITTEN, Clusters
from tests.unit.domain.test_podfindings import OWNER
from tests.unit.syncer.world import Server


def binding(name: str, second: int, **spec: str) -> Json:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": f"2026-01-01T12:00:{second:02}Z"},
        "spec": {**WRITTEN, **spec},
    }


async def test_a_duplicate_of_an_older_binding_is_not_looked_at() -> None:
    older, newer = binding("older", 0), binding("newer", 1)
    server = Server(lambda: NOON)
    with pytest.raises(ConfigError, match=r"already used by ClusterBinding 'older'.*clusterID of its own"):
        async with open_sides(cast(Client, server), newer, [newer, older]):
            raise AssertionError("it was opened")
    with pytest.raises(ConfigError, match="Secret"):  # the older one gets as far as its kubeconfig
        async with open_sides(cast(Client, server), older, [newer, older]):
            raise AssertionError("there is no Secret")


def two_twins_without_pods(clusters: Clusters) -> tuple[Verdict, Look]:
    """Return what two looks found, and the third one: two orphans."""
    clusters.virtual.remove(PODS, ObjectKey("shop", "web-0"))
    again = clusters.twin["metadata"] | {"name": "web-1-x", "uid": "another"}
    clusters.physical.put(PODS, {**clusters.twin, "metadata": again})
    twins = [obj for (plural, _), obj in clusters.physical.objects.items() if plural == PODS.plural]
    empty: dict[Resource, list[Json]] = {PODS: [], NODES: []}
    snapshot = Snapshot("b", SPEC, OWNER, "lent", datetime(2026, 1, 1, 13, tzinfo=UTC), empty, {PODS: twins, NODES: []})
    found = [each for each in verify(snapshot) if each.kind is Kind.ORPHAN_TWIN]
    assert len(found) == 2
    return Verdict("b", tuple(map(Told, found))), Look(snapshot, ())


async def test_what_was_mended_before_a_cluster_fell_silent_is_told() -> None:
    clusters = Clusters()
    verdict, third = two_twins_without_pods(clusters)
    confirm, asked = clusters.below.confirm, 0

    async def confirm_once() -> None:
        nonlocal asked
        asked += 1
        if clusters.writes:
            raise Unreachable("the lender is silent")
        await confirm()

    clusters.below.confirm = confirm_once  # type: ignore[method-assign]  # the fault injected
    after = await mend(clusters.sides, verdict, third)
    assert [each.mended for each in after.told] == [True, False]
    assert after.told[1].done == "left: the lender is silent"
    assert clusters.writes == ["delete pods"]


async def test_what_a_third_look_could_not_judge_is_not_gone_by_itself() -> None:
    clusters = Clusters()
    verdict, third = two_twins_without_pods(clusters)
    empty: dict[Resource, list[Json]] = {PODS: [], NODES: []}
    nothing = replace(third.snapshot, physical=empty)
    after = await mend(clusters.sides, verdict, Look(nothing, ("Pods are not judged: forbidden",)))
    assert [each.mended for each in after.told] == [False, False]
    assert after.notes == ("Pods are not judged: forbidden",)
    after = await mend(clusters.sides, verdict, Look(nothing, ()))
    assert {each.done for each in after.told} == {"gone by itself"}


def test_a_failure_to_look_for_what_gone_bindings_left_is_in_the_json() -> None:
    verdicts = [Verdict("b"), Verdict("", error="the server is silent")]
    assert exit_code(verdicts) == 2
    told = as_json(verdicts)
    assert told["goneBindings"] == [{"looked": False, "error": "the server is silent", "notes": []}]
    assert not told["clean"]
