"""Grace comes before force, and outlives the process that granted it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kubeocean.api.names import CLOSED_AT_ANNOTATION
from kubeocean.api.policy import ResourceLeasingPolicySpec
from kubeocean.domain.reclaim import Closing, closed_at, decide_closing

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def minutes(count: int) -> datetime:
    return NOON + timedelta(minutes=count)


def spec(*, force: bool = True, grace: int = 0) -> ResourceLeasingPolicySpec:
    return ResourceLeasingPolicySpec(cluster="b", force_reclaim=force, graceful_reclaim_period_seconds=grace * 60)


CASES: dict[str, tuple[ResourceLeasingPolicySpec, bool, datetime | None, Closing]] = {
    "an open window forgets when it was shut": (spec(), True, minutes(-5), Closing(None)),
    "without forceReclaim nobody is ever forced": (spec(force=False), False, minutes(-999), Closing(minutes(-999))),
    "grace 0 forces at once": (spec(), False, None, Closing(NOON, force_now=True)),
    "grace starts when the window is seen to be shut": (
        spec(grace=10), False, None, Closing(NOON, revisit_at=minutes(10))),
    "grace goes on where an earlier process noted it": (
        spec(grace=10), False, minutes(-4), Closing(minutes(-4), revisit_at=minutes(6))),
    "grace ends to the minute": (spec(grace=10), False, minutes(-10), Closing(minutes(-10), force_now=True)),
    "a note from the future is not waited for": (
        spec(grace=10), False, minutes(60), Closing(NOON, revisit_at=minutes(10))),
}


@pytest.mark.parametrize("case", CASES)
def test_decide_closing(case: str) -> None:
    policy, is_open, recorded, expected = CASES[case]
    assert decide_closing(policy, window_open=is_open, recorded=recorded, now=NOON) == expected


def test_the_note_is_read_back() -> None:
    note = Closing(NOON).text
    assert closed_at({"metadata": {"annotations": {CLOSED_AT_ANNOTATION: note}}}) == NOON
    assert Closing(None).text == ""


@pytest.mark.parametrize("text", ["", "yesterday", "0001-01-01T00:00:00+23:00"])
def test_an_illegible_note_is_none(text: str) -> None:
    assert closed_at({"metadata": {"annotations": {CLOSED_AT_ANNOTATION: text}}}) is None
    assert closed_at(None) is None
