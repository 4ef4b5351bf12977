"""Is a window open? Every minute of it is looked at."""

import re
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Json = dict[str, Any]
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def is_open(windows: list[Json], zone: str, instant: datetime) -> bool:
    """Tell whether a clock in `zone` shows at `instant` a minute of one of `windows`; without any it is always open."""
    if not windows:
        return True
    wall = instant.astimezone(ZoneInfo(zone))
    shown = wall.strftime("%Y-%m-%d %H:%M")
    for window in windows:
        for day in (wall.date() - timedelta(days=1), wall.date()):  # the day the window may have started on
            if shown in minutes_of(window, day):
                return True
    return False


def minutes_of(window: Json, day: date) -> list[str]:
    """Return every minute, as a clock shows it, of the window that starts on `day`; none if it does not on that day."""
    named = [each.lower() for each in window.get("days") or []]
    if named and DAYS[day.weekday()] not in named:
        return []
    minute, last = at(day, window["start"]), at(day, window["end"])
    if last < minute:  # crosses midnight, and belongs to the day it starts on
        last += timedelta(days=1)
    minutes = []
    while minute <= last:  # the end minute is inside
        minutes.append(minute.strftime("%Y-%m-%d %H:%M"))
        minute += timedelta(minutes=1)
    return minutes


def at(day: date, clock: str) -> datetime:
    hour, minute = clock.split(":")
    return datetime(day.year, day.month, day.day, int(hour), int(minute))  # noqa: DTZ001  # what a wall clock shows


def is_window(window: Json) -> bool:
    """Tell whether a window can be meant."""
    times = all(re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", str(window.get(edge))) for edge in ("start", "end"))
    return times and all(str(day).lower() in DAYS for day in window.get("days") or [])


def is_zone(name: str) -> bool:
    """Tell whether there is such a time zone."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
