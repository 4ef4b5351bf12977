"""The oracle's own idea of windows and selectors, against tables computed by hand. 2026-03-28 is a Saturday."""

from datetime import datetime
from typing import Any

import pytest

from tests.oracle.selectors import selects
from tests.oracle.windows import is_open, is_window, is_zone

Json = dict[str, Any]
DAY, NIGHT = {"start": "09:00", "end": "17:00"}, {"start": "22:00", "end": "06:00"}
SATURDAY_NIGHT = {**NIGHT, "days": ["SATURDAY"]}
GAP, TWICE = {"start": "02:10", "end": "02:50"}, {"start": "02:30", "end": "02:30"}
BERLIN = "Europe/Berlin"

OPEN: dict[str, tuple[list[Json], str, str, bool]] = {
    "no windows": ([], "UTC", "2026-03-28T03:00:00Z", True),
    "the first second": ([DAY], "UTC", "2026-03-28T09:00:00Z", True),
    "the second before": ([DAY], "UTC", "2026-03-28T08:59:59Z", False),
    "the last second of the end minute": ([DAY], "UTC", "2026-03-28T17:00:59Z", True),
    "the second after": ([DAY], "UTC", "2026-03-28T17:01:00Z", False),
    "start and end the same": ([{"start": "12:00", "end": "12:00"}], "UTC", "2026-03-28T12:00:59Z", True),
    "start and end the same, a minute later": ([{"start": "12:00", "end": "12:00"}], "UTC", "2026-03-28T12:01:00Z", False),
    "before midnight": ([NIGHT], "UTC", "2026-03-28T23:59:59Z", True),
    "after midnight": ([NIGHT], "UTC", "2026-03-29T00:00:00Z", True),
    "Sunday morning belongs to Saturday night": ([SATURDAY_NIGHT], "UTC", "2026-03-29T05:00:00Z", True),
    "Saturday morning belongs to Friday night": ([SATURDAY_NIGHT], "UTC", "2026-03-28T05:00:00Z", False),
    "one of two": ([DAY, NIGHT], "UTC", "2026-03-28T05:00:00Z", True),
    "neither of two": ([DAY, NIGHT], "UTC", "2026-03-28T07:00:00Z", False),
    "in another zone it is 09:00": ([DAY], BERLIN, "2026-03-28T08:00:00Z", True),
    "in another zone it is already Sunday": (
        [{"start": "00:00", "end": "23:59", "days": ["Sunday"]}], "Asia/Kolkata", "2026-03-28T18:30:00Z", True,
    ),
    "minutes that no clock shows do not come": ([GAP], BERLIN, "2026-03-29T01:00:00Z", False),
    "a day earlier they did": ([GAP], BERLIN, "2026-03-28T01:10:00Z", True),
    "minutes that are shown twice come once": ([TWICE], BERLIN, "2026-10-25T00:30:00Z", True),
    "and twice": ([TWICE], BERLIN, "2026-10-25T01:30:00Z", True),
    "but not between": ([TWICE], BERLIN, "2026-10-25T01:00:00Z", False),
}


@pytest.mark.parametrize("sentence", OPEN)
def test_a_window_is_open(sentence: str) -> None:
    windows, zone, instant, expected = OPEN[sentence]
    assert is_open(windows, zone, datetime.fromisoformat(instant)) is expected


def test_what_can_be_meant() -> None:
    assert is_window(DAY)
    assert is_window(SATURDAY_NIGHT)
    for wrong in ({"start": "24:00"}, {"end": None}, {"end": "9:00"}, {"days": ["Sat"]}):
        assert not is_window(DAY | wrong), wrong
    assert is_zone(BERLIN)
    assert not is_zone("Mars/Phobos")
    assert not is_zone("Europe")


NODE: Json = {"metadata": {"name": "node-1", "labels": {"disk": "ssd", "cores": "16", "empty": ""}}}


def label(key: str, operator: str, *values: str) -> Json:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def name(operator: str, *values: str) -> Json:
    return {"matchFields": [{"key": "metadata.name", "operator": operator, "values": list(values)}]}


TERMS: dict[str, tuple[list[Json], bool]] = {
    "no terms": ([], True),
    "an empty term": ([{}], False),
    "in": ([label("disk", "In", "hdd", "ssd")], True),
    "not among them": ([label("disk", "In", "hdd")], False),
    "in, and absent": ([label("gpu", "In", "")], False),
    "not in": ([label("disk", "NotIn", "hdd")], True),
    "not in, and absent": ([label("gpu", "NotIn", "a100")], True),
    "exists, though empty": ([label("empty", "Exists")], True),
    "does not exist": ([label("gpu", "DoesNotExist")], True),
    "greater": ([label("cores", "Gt", "8")], True),
    "not greater than itself": ([label("cores", "Gt", "16")], False),
    "less": ([label("cores", "Lt", "17")], True),
    "greater, and no number": ([label("disk", "Gt", "0")], False),
    "greater, and absent": ([label("gpu", "Gt", "-1")], False),
    "by name": ([name("In", "node-1")], True),
    "by another name": ([name("In", "node-2")], False),
    "terms are alternatives": ([label("disk", "In", "hdd"), name("In", "node-1")], True),
    "within a term all must hold": ([label("disk", "In", "ssd") | name("NotIn", "node-1")], False),
}


@pytest.mark.parametrize("sentence", TERMS)
def test_a_selector_selects(sentence: str) -> None:
    terms, expected = TERMS[sentence]
    assert selects({"nodeSelectorTerms": terms}, NODE) is expected


def test_no_selector_selects_every_node() -> None:
    assert selects(None, NODE)
    assert selects({}, NODE)
