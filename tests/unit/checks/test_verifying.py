"""One run of `verify`: whatever fails on the way, what was found and what was done is told."""

import copy
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from kubeocean.checks import verifying
from kubeocean.checks.looking import Look
from kubeocean.checks.verifying import FOUND, NOT_LOOKED, Request, Verdict, exit_code, run_verify
from kubeocean.checks.verifyreport import as_json
from kubeocean.domain.findings import Finding, Kind
from kubeocean.domain.verification import Snapshot
from kubeocean.kube.errors import Unreachable
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import CONFIGMAPS, PRIORITYCLASSES, SECRETS
from tests.unit.domain.test_verification import healthy

SILENCE = Unreachable("the physical cluster does not answer")


class Run:
    """A run whose looks, and repairs, are given; of gone bindings nothing is left unless `leftovers` says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks: Iterator[Look | Exception] = iter(())
        self.repaired: list[str] = []
        self.repair_fails_at = ""
        self.leftovers: Exception | list[Finding] = []

        @asynccontextmanager
        async def opened(*_: object) -> AsyncIterator[SimpleNamespace]:
            yield SimpleNamespace(binding="b")

        async def all_of_them(_: object, findings: list[Finding]) -> list[Finding]:
            return findings

        async def bindings(_: object) -> list[Json]:
            return [{"metadata": {"name": "b"}, "spec": {"clusterID": "edge"}}]

        for name, stand_in in {
            "open_virtual": opened, "open_sides": opened, "read_bindings": bindings, "look": self._look,
            "repair": self._repair, "look_for_leftovers": self._look_for_leftovers, "take_off": self._repair,
            "without_futile": all_of_them,
        }.items():
            monkeypatch.setattr(verifying, name, stand_in)

    async def _look(self, *_: object, **__: object) -> Look:
        seen = next(self.looks)
        if isinstance(seen, Exception):
            raise seen
        return seen

    async def _repair(self, _: object, finding: Finding) -> tuple[bool, str]:
        if finding.kind == self.repair_fails_at:
            raise SILENCE
        self.repaired.append(finding.kind)
        return True, "done"

    async def _look_for_leftovers(self, _: object) -> tuple[list[Finding], set[str]]:
        if isinstance(self.leftovers, Exception):
            raise self.leftovers
        return self.leftovers, set()

    async def verify(self, *looks: Look | Exception, **request: Any) -> list[Verdict]:
        self.looks = iter(looks)
        return await run_verify(Request(settle=0.0, **request))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


def look(spoil: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot, *notes: str) -> Look:
    return Look(spoil(healthy()), notes)


def two_copies_lost(snapshot: Snapshot) -> Snapshot:
    """Have findings of two kinds: MissingCopy (a Secret) and DriftedCopy (a ConfigMap)."""
    changed = copy.deepcopy(snapshot.physical[CONFIGMAPS][0])
    changed["data"] = {"a": "x"}
    return replace(snapshot, physical={**snapshot.physical, SECRETS: [], CONFIGMAPS: [changed]})


def without(resource: object) -> Callable[[Snapshot], Snapshot]:
    return lambda snapshot: replace(
        snapshot, physical={kind: held for kind, held in snapshot.physical.items() if kind != resource}
    )


async def test_what_the_third_look_could_not_judge_is_not_mended(run: Run) -> None:
    forbidden = "physical configmaps are not judged: forbidden"
    spoilt = look(two_copies_lost)
    verdict, _ = await run.verify(spoilt, spoilt, look(without(CONFIGMAPS), forbidden), repair=True)
    by_kind = {each.finding.kind: each for each in verdict.told}
    drifted = by_kind[Kind.DRIFTED_COPY]
    assert (drifted.mended, drifted.done) == (False, f"left: not judged again: {forbidden}")
    assert verdict.notes == (forbidden,)
    assert exit_code([verdict]) == FOUND


async def test_what_the_third_look_judged_and_does_not_find_is_gone_by_itself(run: Run) -> None:
    """That the PriorityClass was not read is no news, and has nothing to do with it."""
    note = "PriorityClass kubeocean-default is not judged: forbidden"
    spoilt = look(lambda snapshot: without(PRIORITYCLASSES)(two_copies_lost(snapshot)), note)
    verdict, _ = await run.verify(spoilt, spoilt, look(without(PRIORITYCLASSES), note), repair=True)
    assert {each.done for each in verdict.told} == {"gone by itself"}
    assert verdict.left == 0


async def test_what_was_not_read_at_first_is_told_although_it_was_read_later(run: Run) -> None:
    verdict, _ = await run.verify(look(without(CONFIGMAPS), "not judged"), look())
    assert verdict.notes == ("not judged",)


async def test_what_was_found_is_told_although_the_third_look_fails(run: Run) -> None:
    spoilt = look(two_copies_lost)
    verdict, _ = await run.verify(spoilt, spoilt, SILENCE, repair=True)
    assert verdict.error == str(SILENCE)
    assert {each.done for each in verdict.told} == {"left: the look before the repair failed"}
    assert (exit_code([verdict]), run.repaired) == (NOT_LOOKED, [])


async def test_a_failure_in_the_middle_is_told_of_the_finding_it_hit_and_the_rest_is_left(run: Run) -> None:
    """Before it nothing is lost: what was done stays told."""
    spoilt = look(two_copies_lost)
    first, second = (await run.verify(spoilt, spoilt, spoilt, repair=True))[0].told
    assert first.mended
    assert second.mended
    run.repair_fails_at = second.finding.kind
    kept, hit = (await run.verify(spoilt, spoilt, spoilt, repair=True))[0].told
    assert (kept.mended, kept.done) == (True, "done")
    assert (hit.mended, hit.done) == (False, f"left: whether it is mended is unknown, look again: {SILENCE}")
    run.repair_fails_at = first.finding.kind
    verdict, _ = await run.verify(spoilt, spoilt, spoilt, repair=True)
    assert verdict.told[1].done == f"left: not tried after that failure: {SILENCE}"
    assert exit_code([verdict]) == FOUND


async def test_a_failure_while_looking_for_leftovers_loses_no_verdict(run: Run) -> None:
    run.leftovers = SILENCE
    verdicts = await run.verify(look(), look())
    assert [(verdict.binding, verdict.error) for verdict in verdicts] == [("b", ""), ("", str(SILENCE))]
    assert exit_code(verdicts) == NOT_LOOKED
    told = json.loads(json.dumps(as_json(verdicts)))
    assert [binding["looked"] for binding in told["bindings"]] == [True]
    assert told["goneBindings"] == {"looked": False, "error": str(SILENCE), "notes": [], "findings": []}


async def test_what_gone_bindings_left_has_a_key_of_its_own(run: Run) -> None:
    spoilt = look(two_copies_lost)
    run.leftovers = [each.finding for each in (await run.verify(spoilt, spoilt))[0].told]
    told = as_json(await run.verify(look(), look()))
    assert [binding["name"] for binding in told["bindings"]] == ["b"]
    assert len(told["goneBindings"]["findings"]) == 2
    run.repair_fails_at = run.leftovers[0].kind
    rest = as_json(await run.verify(look(), look(), repair=True))["goneBindings"]["findings"]
    assert [each["repaired"] for each in rest] == [False, False]
    assert as_json(await run.verify(look(), look(), binding="b"))["goneBindings"] is None
