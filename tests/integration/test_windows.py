"""Windows of policies: who is inside, who is outside, and the minute at which that changes.

Every case is a node of its own with a policy of its own, made when the module starts; the windows lie around that moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from kubeocean.api.resources import RESOURCELEASINGPOLICIES
from kubeocean.kube.meta import Json, is_deleting, parse_time
from kubeocean.kube.resources import NODES, PODS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog
from tests.integration.federation import (
    TOLERATES_VNODES,
    Federation,
    Lender,
    build_pod,
    condition,
    eventually,
    find,
    for_a_module,
    steadily,
)
from tests.integration.programs import Program

OUT_OF_WINDOW = "kubeocean.io/out-of-time-windows"
CASES = (
    "always", "now", "later", "earlier", "nearly all day", "in a zone where it is now", "in a zone where it is not now",
    "today", "not today", "closing", "opening", "reclaimed", "spared",
)
OPEN = ("always", "now", "nearly all day", "in a zone where it is now", "today")


@dataclass(frozen=True, slots=True)
class Windows:
    """The binding, the policy of each case, and the minute at which `closing` closes and `opening` opens."""

    lender: Lender
    policies: dict[str, str]
    edge: datetime
    log: AuditLog

    def vnode(self, case: str) -> str:
        return self.lender.vnode(CASES.index(case))


def clock(moment: datetime) -> str:
    return moment.strftime("%H:%M")


def window(start: datetime, end: datetime, *days: str) -> Json:
    return {"start": clock(start), "end": clock(end), "days": list(days)}


def policies(now: datetime, edge: datetime) -> dict[str, Json]:
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    far = (now + timedelta(days=3)).strftime("%A").upper()
    others = [(now + timedelta(days=days)).strftime("%A") for days in range(7) if days != 3]
    whole_day = {"start": "00:00", "end": "23:59"}
    here = window(now - hour, now + hour)
    there = window(now - 7 * hour, now - 5 * hour)  # six hours behind: POSIX' sign is the other way round
    return {
        "always": {},
        "now": {"timeWindows": [here]},
        "later": {"timeWindows": [window(now + hour, now + 2 * hour)]},
        "earlier": {"timeWindows": [window(now - 3 * hour, now - 2 * hour), window(now - 2 * hour, now - hour)]},
        "nearly all day": {"timeWindows": [window(now - hour, now - 2 * hour)]},
        "in a zone where it is now": {"timeWindows": [there], "timeZone": "Etc/GMT+6"},
        "in a zone where it is not now": {"timeWindows": [here], "timeZone": "Etc/GMT+6"},
        "today": {"timeWindows": [{**whole_day, "days": others}]},
        "not today": {"timeWindows": [{**whole_day, "days": [far]}]},
        "closing": {"timeWindows": [window(edge - 2 * hour, edge - minute)]},
        "opening": {"timeWindows": [window(edge, edge + 2 * hour)]},
        "reclaimed": {"timeWindows": [here], "forceReclaim": True},
        "spared": {"timeWindows": [here]},
    }


async def lend(federation: Federation) -> Windows:
    pool = await federation.pool(nodes=len(CASES))
    lender = await federation.bind(pool)
    log = AuditLog(federation.sandbox.virtual)
    now = datetime.now(UTC)
    edge = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    if edge - now < timedelta(seconds=10):  # time to make the nodes and to look at them before it comes
        edge += timedelta(minutes=1)
    names = {}
    for case, node in zip(CASES, pool.nodes, strict=True):
        only = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        spec = policies(now, edge)[case]
        names[case] = await federation.policy(lender, nodeSelector={"nodeSelectorTerms": [only]}, **spec)
    await federation.vnodes(lender)
    return Windows(lender, names, edge, log)


@pytest.fixture(scope="module")
def windows(sandbox: Sandbox, manager: Program) -> Iterator[Windows]:
    with for_a_module(sandbox, lend) as windows:
        yield windows


async def effects(federation: Federation, windows: Windows, case: str) -> list[str]:
    """Return the effects with which the virtual node says that it is out of its window."""
    vnode = await federation.virtual.get(NODES, windows.vnode(case))
    return [taint["effect"] for taint in vnode["spec"]["taints"] if taint["key"] == OUT_OF_WINDOW]


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("closing", "opening", "reclaimed", "spared")])
async def test_only_a_closed_window_taints(federation: Federation, windows: Windows, case: str) -> None:
    expected = [] if case in OPEN else ["NoSchedule"]

    async def as_expected() -> bool:
        found = await effects(federation, windows, case)
        assert found == expected, f"effects {found}"
        policy = await federation.virtual.get(RESOURCELEASINGPOLICIES, windows.policies[case])
        assert (policy.get("status") or {}).get("phase") == ("Active" if case in OPEN else "Inactive"), policy.get("status")
        reason = "ActiveTimeWindow" if case in OPEN else "InactiveTimeWindow"
        assert condition(policy, "Active")["reason"] == reason
        return True

    await eventually(as_expected, what=f"a window {case}")
    vnode = await federation.virtual.get(NODES, windows.vnode(case))
    assert vnode["status"]["allocatable"]["cpu"] == "8", "figures stay, only taints change"


async def run(federation: Federation, windows: Windows, namespace: str, case: str, *tolerations: Json) -> str:
    """Run a Pod on the case's node and return its name."""
    name = f"{case}-{len(tolerations)}"
    await federation.virtual.create(PODS, build_pod(
        name, namespace, windows.lender, tolerations=[*TOLERATES_VNODES, *tolerations],
        nodeSelector={"kubernetes.io/hostname": windows.vnode(case)},
    ))
    await federation.running(namespace, name)
    return name


async def close(federation: Federation, windows: Windows, case: str) -> None:
    now = datetime.now(UTC)
    shut = window(now + timedelta(hours=1), now + timedelta(hours=2))
    await federation.virtual.patch(RESOURCELEASINGPOLICIES, windows.policies[case], "", {"spec": {"timeWindows": [shut]}})


async def test_a_shut_window_alone_moves_nobody(federation: Federation, windows: Windows, namespace: str) -> None:
    pod = await run(federation, windows, namespace, "spared")
    await close(federation, windows, "spared")

    async def shut() -> bool:
        return await effects(federation, windows, "spared") == ["NoSchedule"]

    await eventually(shut, what="the edited window is shut")

    async def stays() -> bool:
        return not is_deleting(await federation.virtual.get(PODS, pod, namespace))

    await steadily(stays, during=1, what="the Pod runs on")


async def test_force_reclaim_moves_whom_does_not_tolerate_it(
    federation: Federation, windows: Windows, namespace: str
) -> None:
    tolerates = {"key": OUT_OF_WINDOW, "operator": "Exists", "effect": "NoExecute"}
    goes = await run(federation, windows, namespace, "reclaimed")
    stays = await run(federation, windows, namespace, "reclaimed", tolerates)
    await close(federation, windows, "reclaimed")

    async def gone() -> bool:
        assert "NoExecute" in await effects(federation, windows, "reclaimed"), "no NoExecute"
        assert await find(federation.virtual, PODS, goes, namespace) is None, "the Pod is still there"
        return True

    await eventually(gone, within=20, what="the Pod is moved")
    assert not is_deleting(await federation.virtual.get(PODS, stays, namespace))


async def test_windows_change_at_their_minute_and_the_end_minute_belongs_to_them(
    federation: Federation, windows: Windows
) -> None:
    before, after = {"closing": [], "opening": ["NoSchedule"]}, {"closing": ["NoSchedule"], "opening": []}

    async def found() -> dict[str, list[str]]:
        return {case: await effects(federation, windows, case) for case in ("closing", "opening")}

    if datetime.now(UTC) < windows.edge - timedelta(seconds=2):
        assert await found() == before
        for case in before:
            policy = await federation.virtual.get(RESOURCELEASINGPOLICIES, windows.policies[case])
            assert parse_time(policy["status"]["nextChangeTime"]) == windows.edge

    async def changed() -> bool:
        effects = await found()
        assert effects == after, effects
        return True

    left = (windows.edge - datetime.now(UTC)).total_seconds()
    await eventually(changed, within=max(left, 0) + 10, what=f"the edge at {windows.edge:%H:%M}")
    for case in before:
        # When exactly, the API server knows; an earlier write made the node.
        written = [write for write in windows.log.ours() if write.name == windows.vnode(case) and write.verb == "patch"]
        at_edge = [write for write in written if write.resource == "nodes" and write.at >= windows.edge]
        assert at_edge, f"{case}: changed before its minute"
        late = (at_edge[0].at - windows.edge).total_seconds()
        assert late < 1.5, f"{case}: {late:.2f} s late"

    async def told() -> bool:
        for case, phase in (("closing", "Inactive"), ("opening", "Active")):
            policy = await federation.virtual.get(RESOURCELEASINGPOLICIES, windows.policies[case])
            assert policy["status"]["phase"] == phase, f"{case}: {policy['status']}"
        return True

    await eventually(told, what="the policies say so")
