"""The picture is well-formed, has a row for each group, and no label runs into another or out of the picture."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from PIL import Image

from kubeocean.simulate.files import read_files
from kubeocean.simulate.given import Given, Side
from kubeocean.simulate.picture import LEFT, RIGHT, WIDTH, draw_schedule
from kubeocean.simulate.png import render_png
from kubeocean.simulate.schedule import Schedule, Week, plan
from kubeocean.simulate.shapes import Line, Picture, Polygon, Rect, Text, fit, text_width
from kubeocean.simulate.svg import render_svg
from kubeocean.simulate.theme import CLOCKS, RECLAIM
from kubeocean.simulate.world import build_world

DOCS = Path(__file__).parents[3] / "docs" / "simulate"
BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"


def documented(begin: str = "2026-03-23", days: int = 7) -> Schedule:
    start = datetime.fromisoformat(begin).replace(tzinfo=BERLIN)
    week = Week(start, start + timedelta(days=days), BERLIN)
    return plan(build_world(read_files([DOCS], Side.EITHER)), week, now=NOW)


def crowded(nodes: int, days: int = 9) -> Schedule:
    """Return nodes that all have long names, policies of their own and short windows."""
    given = []
    for number in range(nodes):
        name, machine = f"a-policy-with-quite-a-long-name-indeed-for-machine-{number}", f"machine-{number}.rack.example.com"
        terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [machine]}]}]
        windows = [{"start": f"{number % 24:02}:30", "end": f"{(number * 7) % 24:02}:10"}]
        given.append({
            "apiVersion": "cloud.tencent.com/v1beta1", "kind": "ResourceLeasingPolicy", "metadata": {"name": name},
            "spec": {
                "cluster": "a-binding-with-a-name", "nodeSelector": {"nodeSelectorTerms": terms}, "timeWindows": windows,
                "forceReclaim": number % 2 == 0, "gracefulReclaimPeriodSeconds": 1800,
            },
        })
        given.append({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": machine},
            "status": {"allocatable": {"cpu": "7910m", "memory": "31234567Ki", "example.com/very-special-accelerators": "3"}},
        })
    start = datetime(2026, 10, 20, 13, 20, tzinfo=BERLIN)
    week = Week(start, start + timedelta(days=days), BERLIN)
    return plan(build_world([Given("f", Side.EITHER, obj) for obj in given]), week, now=start + timedelta(days=2))


PICTURES: dict[str, Picture] = {
    "the documented week": draw_schedule(documented(), ["cpu", "memory"]),
    "a day": draw_schedule(documented("2026-03-29", 1), ["cpu"]),
    "a month": draw_schedule(documented(days=31), ["cpu", "memory", "pods"]),
    "a crowded week": draw_schedule(
        crowded(14), ["cpu", "memory", "example.com/very-special-accelerators"], now=datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    "more rows than fit": draw_schedule(crowded(45, days=1), ["cpu"]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_svg_is_well_formed_and_says_what_the_picture_says(name: str) -> None:
    picture = PICTURES[name]
    root = ElementTree.fromstring(render_svg(picture))
    said = [text.text for text in root.iter(f"{SVG}text")]
    assert said == [shape.text for shape in picture.shapes if isinstance(shape, Text)]
    assert root.findtext(f"{SVG}title") == picture.title
    patterns = {pattern.get("id") for pattern in root.iter(f"{SVG}pattern")}
    used = {str(rect.get("fill"))[5:-1] for rect in root.iter(f"{SVG}rect") if str(rect.get("fill")).startswith("url(")}
    assert used <= patterns


@pytest.mark.parametrize("name", PICTURES)
def test_no_label_runs_into_another(name: str) -> None:
    texts = [shape for shape in PICTURES[name].shapes if isinstance(shape, Text)]
    for one, two in combinations(texts, 2):
        if abs(one.y - two.y) < 0.75 * min(one.size, two.size):
            assert one.extent[1] <= two.extent[0] or two.extent[1] <= one.extent[0], (one.text, two.text)


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_leaves_the_picture(name: str) -> None:
    picture = PICTURES[name]
    for shape in picture.shapes:
        if isinstance(shape, Text):
            assert shape.text
            assert shape.extent[0] >= 0, shape.text
            assert shape.extent[1] <= picture.width, shape.text
            assert shape.y <= picture.height
        elif isinstance(shape, Rect):
            assert shape.x >= LEFT - 0.01
            assert shape.x + shape.width <= WIDTH - RIGHT + 1.01
        elif isinstance(shape, Polygon):
            assert all(0 <= y <= picture.height for _, y in shape.points)


@pytest.mark.parametrize("name", ["the documented week", "a crowded week"])
def test_the_png_is_a_picture_of_twice_the_size(name: str) -> None:
    picture = PICTURES[name]
    with Image.open(io.BytesIO(render_png(picture))) as image:
        assert image.size == (round(picture.width * 2), round(picture.height * 2))


def test_every_group_has_a_row_with_its_policy() -> None:
    said = [shape.text for shape in PICTURES["the documented week"].shapes if isinstance(shape, Text)]
    for words in ("lab-1…2", "office-1…6", "render-1…2", "database-1", "6 nodes · offices-at-night", "1 node · not leased"):
        assert words in said


def test_rows_beyond_what_a_page_holds_are_counted() -> None:
    said = [shape.text for shape in PICTURES["more rows than fit"].shapes if isinstance(shape, Text)]
    assert "and 5 more rows" in said


def test_a_day_of_23_hours_is_drawn_as_wide_as_it_is_and_says_so() -> None:
    picture = PICTURES["the documented week"]
    midnights = sorted({shape.x1 for shape in picture.shapes if isinstance(shape, Line) and shape.color == "#c9d1d9"
                        and shape.x1 == shape.x2})
    widths = [two - one for one, two in pairwise(midnights)]
    assert widths[-1] / widths[0] == pytest.approx(23 / 24)
    said = [shape.text for shape in picture.shapes if isinstance(shape, Text) and shape.color == CLOCKS]
    assert said == ["Sun 29 Mar · 23 h", "clocks 02:00 to 03:00"]


def test_evictions_are_marked_where_they_begin() -> None:
    marks = [shape for shape in PICTURES["the documented week"].shapes if isinstance(shape, Line) and shape.color == RECLAIM]
    assert len(marks) == 5  # Monday to Friday


def test_names_that_look_like_markup_do_no_harm() -> None:
    picture = Picture(10, 10, "<&>", '"', [Text(1, 1, "<script>"), Rect(0, 0, 1, 1, "#000000", tip="a < b & c")])
    root = ElementTree.fromstring(render_svg(picture))
    assert [text.text for text in root.iter(f"{SVG}text")] == ["<script>"]


def test_what_does_not_fit_loses_its_middle() -> None:
    assert fit("offices-at-night", 10, 1000) == "offices-at-night"
    assert fit("offices-at-night", 10, 60) == "offic…night"
    assert text_width(fit("offices-at-night", 10, 60), 10) <= 60
    assert fit("offices-at-night", 10, 3) == ""
