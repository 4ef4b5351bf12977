"""Ordinary workloads in real containers: directly on a physical node, and through its virtual node.

All run at once, in the fixture `show`; each test judges one of them. It fails when a container did not see what it
should, or saw something else than when run directly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kubeocean.kube.meta import Json
from tests.e2e.comparison import differences, sort_out
from tests.e2e.differences import EVERYWHERE, documented
from tests.e2e.realnode import RealFederation
from tests.e2e.stage import Show, Stage, run_all
from tests.e2e.workload import Workload, load_all
from tests.integration.federation import connect

WORKLOADS = {workload.name: workload for workload in load_all()}
pytestmark = pytest.mark.timeout(900)  # the first test's set-up is the run of all


@pytest.fixture(scope="module")
def show(request: pytest.FixtureRequest, real_federation: RealFederation) -> Show:
    """What became of every workload that a test of this session asks for."""
    parameters = (getattr(item, "callspec", None) for item in request.session.items)
    asked = {each.params.get("name") for each in parameters if each}
    show = asyncio.run(perform_on(real_federation, [workload for workload in WORKLOADS.values() if workload.name in asked]))
    for name, found in sorted(show.outcomes.items(), key=lambda item: -item[1].virtual.seconds):
        print(f"{name:24} {found.virtual.seconds:5.1f} s, directly {found.direct.seconds if found.direct else 0:5.1f} s")
    return show


async def perform_on(federation: RealFederation, workloads: list[Workload]) -> Show:
    sandbox = federation.sandbox
    async with await connect(sandbox.virtual) as virtual, await connect(sandbox.physical[0]) as physical:
        return await run_all(Stage(virtual, physical, federation.node, federation.vnode, federation.disk), workloads)


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_workload(name: str, show: Show) -> None:
    workload, found = WORKLOADS[name], show.outcomes[name]
    problems = [f"through the virtual node: {problem}" for problem in found.virtual.problems]
    stories = [found.virtual.story]
    if found.direct:
        problems += [f"directly: {problem}" for problem in found.direct.problems]
        stories.append(found.direct.story)
        if not problems:
            problems += unexplained(workload, found.direct.seen, found.virtual.seen)
    assert not problems, "\n".join([f"{workload.name}:", *problems, *filter(None, stories)])


def unexplained(workload: Workload, direct: Json, virtual: Json) -> Iterator[str]:
    """Yield the differences between both runs that are not listed, and what is listed but no difference any more."""
    own = workload.expect.differs
    unknown, used = sort_out(differences(direct, virtual), {**EVERYWHERE, **own, **workload.expect.varies})
    yield from map(str, unknown)
    yield from (f"{pattern}: is no difference any more; remove it from the workload" for pattern in own if pattern not in used)


def test_no_pod_and_no_twin_outlives_its_namespace(show: Show) -> None:
    assert not show.left


def test_every_listed_difference_is_documented() -> None:
    listed = [EVERYWHERE, *(workload.expect.differs for workload in WORKLOADS.values())]
    reasons = {why.lower() for each in listed for why in each.values()}
    assert reasons <= documented(), f"docs/differences.md lacks: {reasons - documented()}"
