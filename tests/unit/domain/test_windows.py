"""The table is what a lender expects of his windows; the property looks at the clock every minute and compares."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeocean.api.policy import TimeWindow
from kubeocean.domain.windows import WindowState, state

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def window(span: str, *days: str) -> TimeWindow:
    start, _, end = span.partition("-")
    return TimeWindow(start=start, end=end, days=list(days))


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


# 2026-01-01 is a Thursday. New York: 02:00 -> 03:00 on Sunday 2026-03-08, 02:00 -> 01:00 on Sunday 2026-11-01.
NY = "America/New_York"
PROMISES: dict[str, tuple[list[TimeWindow], str, str, bool, str | None]] = {
    "no windows at all means always": ([], "UTC", "2026-01-01T12:00", True, None),
    "the start minute is inside": ([window("09:00-17:00")], "UTC", "2026-01-01T09:00", True, "2026-01-01T17:01"),
    "the second before it is not": ([window("09:00-17:00")], "UTC", "2026-01-01T08:59:59", False, "2026-01-01T09:00"),
    "the end minute is inside to its last second": (
        [window("09:00-17:00")], "UTC", "2026-01-01T17:00:59", True, "2026-01-01T17:01"),
    "after the end minute it is shut": ([window("09:00-17:00")], "UTC", "2026-01-01T17:01", False, "2026-01-02T09:00"),
    "start equal to end is one minute": (
        [window("12:00-12:00")], "UTC", "2026-01-01T12:00:30", True, "2026-01-01T12:01"),
    "the whole day is never left": ([window("00:00-23:59")], "UTC", "2026-01-01T23:59:59", True, None),
    "two windows that touch are one span": (
        [window("22:00-23:59"), window("00:00-06:00")], "UTC", "2026-01-01T23:00", True, "2026-01-02T06:01"),
    "overlapping windows close with the last": (
        [window("09:00-12:00"), window("10:00-15:00")], "UTC", "2026-01-01T11:00", True, "2026-01-01T15:01"),
    "days in any case are understood": (
        [window("09:00-17:00", "tHuRsDaY")], "UTC", "2026-01-01T10:00", True, "2026-01-01T17:01"),
    "another day is shut until its day comes": (
        [window("09:00-17:00", "Thursday")], "UTC", "2026-01-02T10:00", False, "2026-01-08T09:00"),
    "a night belongs to the day it starts on: Saturday 05:00 is Friday's": (
        [window("22:00-06:00", "Friday")], "UTC", "2026-01-03T05:00", True, "2026-01-03T06:01"),
    "a night belongs to the day it starts on: Friday 05:00 is Thursday's": (
        [window("22:00-06:00", "Friday")], "UTC", "2026-01-02T05:00", False, "2026-01-02T22:00"),
    "Sunday's night reaches into Monday": (
        [window("22:00-06:00", "Sunday")], "UTC", "2026-01-05T06:00:59", True, "2026-01-05T06:01"),
    "a night that would end days from now hides no window that opens before it does": (
        [window("22:00-06:00", "Monday"), window("04:00-12:00", "Friday")], "UTC", "2026-01-13T07:00", False,
        "2026-01-16T04:00"),
    "nor one that opens at that very midnight": (
        [window("00:30-00:00", "Monday"), window("00:00-00:30", "Friday")], "UTC", "2026-01-13T00:01", False,
        "2026-01-16T00:00"),
    "the policy's zone counts, not UTC": (
        [window("09:00-17:00")], "Asia/Shanghai", "2026-01-01T01:00+00:00", True, "2026-01-01T09:01+00:00"),
    "the weekday is that of the zone": (
        [window("00:00-05:00", "Friday")], "Asia/Shanghai", "2026-01-01T17:00+00:00", True, "2026-01-01T21:01+00:00"),
    "a window inside the gap stays shut that day": (
        [window("02:10-02:50")], NY, "2026-03-08T01:30-05:00", False, "2026-03-09T02:10-04:00"),
    "a weekly window inside the gap waits a week": (
        [window("02:10-02:50", "Sunday")], NY, "2026-03-08T00:00-05:00", False, "2026-03-15T02:10-04:00"),
    "a window that starts in the gap opens where the gap ends": (
        [window("02:30-04:00")], NY, "2026-03-08T01:59-05:00", False, "2026-03-08T03:00-04:00"),
    "a window that ends in the gap shuts where the gap begins": (
        [window("01:00-02:30")], NY, "2026-03-08T01:30-05:00", True, "2026-03-08T03:00-04:00"),
    "the night the clocks go back is an hour longer": (
        [window("00:00-05:00")], NY, "2026-11-01T01:30-04:00", True, "2026-11-01T05:01-05:00"),
    "an hour that is shown twice counts twice: shut in between": (
        [window("01:00-01:29")], NY, "2026-11-01T01:29-04:00", True, "2026-11-01T01:30-04:00"),
    "an hour that is shown twice counts twice: open again": (
        [window("01:00-01:29")], NY, "2026-11-01T01:30-04:00", False, "2026-11-01T01:00-05:00"),
}


@pytest.mark.parametrize("promise", PROMISES)
def test_state(promise: str) -> None:
    windows, zone, now, is_open, change = PROMISES[promise]
    found = state(windows, zone, aware(now))
    assert (found.open, found.next_change) == (is_open, None if change is None else aware(change))


def aware(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def test_the_active_window_is_named() -> None:
    night, day = window("22:00-06:00"), window("09:00-17:00")
    assert state([night, day], "UTC", at("2026-01-01T10:00")).active == day
    assert state([night, day], "UTC", at("2026-01-01T07:00")).active is None


def test_a_change_of_the_active_window_is_worth_a_visit_though_nothing_opens_or_shuts() -> None:
    found = state([window("00:00-11:59"), window("12:00-23:59")], "UTC", at("2026-01-01T10:00"))
    assert found == WindowState(True, window("00:00-11:59"), None, at("2026-01-01T12:00"))


def test_the_answer_is_in_utc_whatever_the_question_was() -> None:
    found = state([window("09:00-17:00")], NY, at("2026-06-01T10:00", "Asia/Tokyo"))
    assert found.next_change is not None
    assert found.next_change.tzinfo is UTC


CLOCK = st.builds(lambda minutes: f"{minutes // 60:02d}:{minutes % 60:02d}", st.integers(0, 1439))
WINDOWS = st.lists(
    st.builds(
        lambda start, end, days: TimeWindow(start=start, end=end, days=days),
        CLOCK, CLOCK, st.lists(st.sampled_from(DAYS), max_size=3),
    ),
    min_size=1, max_size=3,
)
ZONES = st.sampled_from(
    ["UTC", NY, "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Havana", "Africa/Casablanca"]
)


def within_45_days(start: str) -> st.SearchStrategy[datetime]:
    return st.integers(0, 45 * 24 * 60 * 60).map(lambda seconds: at(start) + timedelta(seconds=seconds))


# Around the shifts of all these zones, where mistakes live.
MOMENTS = st.one_of(within_45_days("2026-02-15"), within_45_days("2026-09-25"))


def open_by_the_clock(windows: list[TimeWindow], zone: str, now: datetime) -> bool:
    wall = now.astimezone(ZoneInfo(zone))
    shown, today, yesterday = wall.strftime("%H:%M"), DAYS[wall.weekday()], DAYS[wall.weekday() - 1]
    for item in windows:
        on, was_on = (not item.days or day in item.days for day in (today, yesterday))
        if item.start <= item.end:
            if on and item.start <= shown <= item.end:
                return True
        elif (on and shown >= item.start) or (was_on and shown <= item.end):
            return True
    return False


@settings(max_examples=150, deadline=None)
@given(WINDOWS, ZONES, MOMENTS)
def test_next_change_is_the_first_minute_at_which_the_clock_says_otherwise(
    windows: list[TimeWindow], zone: str, now: datetime
) -> None:
    found = state(windows, zone, now)
    assert found.open == open_by_the_clock(windows, zone, now)
    end = found.next_change or now + timedelta(days=15)
    # The first two days and the last one, where mistakes live: every minute of two weeks would take long.
    for begins, ends in ((now, min(end, now + timedelta(days=2))), (max(now, end - timedelta(days=1)), end)):
        minute = begins.replace(second=0, microsecond=0)
        while (minute := minute + timedelta(minutes=1)) < ends:
            assert open_by_the_clock(windows, zone, minute) == found.open
    if found.next_change is not None:
        assert found.next_change > now
        assert open_by_the_clock(windows, zone, found.next_change) != found.open
