"""Pods that should be gone and are not: which of them are told, and which are somebody else's affair."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from kubeocean.domain.findings import Kind, Mend
from kubeocean.domain.podfindings import PodScene, check_homeless, check_vpod, node_of
from kubeocean.kube.meta import Json
from tests.unit.domain.test_podfindings import NODE, OWNER, VNODE, made_by_the_go_project, pair

ENDS = "2026-01-01T12:00:00Z"
LATE = datetime(2026, 1, 1, 12, 5, tzinfo=UTC)
SOON = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


def scene(now: datetime | None = LATE) -> PodScene:
    return PodScene(OWNER, "lent", {VNODE: NODE}.get, now=now)


def leaving(**metadata: object) -> Json:
    vpod = pair()[0]
    vpod["metadata"] |= {"deletionTimestamp": ENDS, "deletionGracePeriodSeconds": 30, **metadata}
    return vpod


def another() -> Json:
    """Return what has the twin's name and is none: the twin of a successor."""
    twin = copy.deepcopy(pair(uid="v-2")[1])
    twin["metadata"]["uid"] = "p-2"
    return twin


TABLE: dict[str, tuple[Json, Json | None, PodScene, bool]] = {
    "its grace is long over and its twin is gone": (leaving(), None, scene(), True),
    "under its twin's name there is another's": (leaving(), another(), scene(), True),
    "its grace ended a moment ago": (leaving(), None, scene(SOON), False),
    "its twin still ends": (leaving(), pair()[1], scene(), False),
    "its twin was never adopted, and still ends": (leaving(), made_by_the_go_project(*pair()), scene(), False),
    "nobody wants it gone": (pair()[0], pair()[1], scene(), False),
    "only a finalizer of a user holds it": (leaving(finalizers=["his"], deletionGracePeriodSeconds=0), None, scene(), False),
    "it was never released, whatever finalizers it has": (leaving(finalizers=["his"]), None, scene(), True),
    "it was released by half": (leaving(deletionGracePeriodSeconds=0), None, scene(), True),
    "the time is not known": (leaving(), None, scene(None), False),
}


@pytest.mark.parametrize("check", [check_vpod, check_homeless])
@pytest.mark.parametrize("case", TABLE)
def test_who_is_stuck(case: str, check: Callable[[Json, Json | None, PodScene], object]) -> None:
    vpod, ppod, around, stuck = TABLE[case]
    assert (check(vpod, ppod, around) is not None) is stuck


def test_what_is_told_of_it() -> None:
    finding = check_vpod(leaving(), None, scene())
    assert finding
    assert (finding.kind, finding.reason, finding.mend) == (Kind.STUCK_POD, "NotReleased", Mend.RELEASE)
    assert ENDS in finding.cause
    assert node_of(finding, leaving()) is None


def test_of_one_without_its_node_the_node_is_to_be_proved_gone_as_well() -> None:
    vpod = leaving()
    finding = check_homeless(vpod, None, scene())
    assert finding
    assert (finding.kind, finding.reason, finding.mend) == (Kind.STUCK_POD, "NoVirtualNode", Mend.RELEASE)
    node = node_of(finding, vpod)
    assert node
    assert node.key.name == vpod["spec"]["nodeName"]
