"""What figures of streams come to: pure parts, and the reports for people and programs."""

import io
import json
import os
from dataclasses import replace

import pytest
from rich.console import Console

from kubeocean.bench.crowd import judge
from kubeocean.bench.idle import fitting
from kubeocean.bench.percentiles import Spread
from kubeocean.bench.procfs import child_of, open_files
from kubeocean.bench.proxierwatch import parse_counts
from kubeocean.bench.streamreport import print_streams
from kubeocean.bench.streamresults import Crowd, Footprint, Idle, Rate, Streams, StreamSetting
from kubeocean.bench.streamverdict import added, crowd_ratio, rate_ratio, stream_checks, stream_doubts
from kubeocean.cli.bench import streams_as_json

COUNTED = "".join(f"{number}\n" for number in range(1, 2001)).encode()
RATES = {"straight": Rate([80.0, 100.0], 0.0), "proxier": Rate([90.0, 60.0], 4.0), "through": Rate([50.0, 40.0], None)}


@pytest.fixture
def streams() -> Streams:
    """A keystroke takes 1 ms straight, 1.2 to the proxier, 1.75 through; a session 64 KiB."""
    return Streams(
        StreamSetting("KWOK", 2, 0.1, "3.11.7", 256.0, 200, 100),
        {
            "straight": Spread(2000, 1.0, 2.0, 9.0), "proxier": Spread(2000, 1.2, 2.5, 9.0),
            "through": Spread(2000, 1.75, 4.0, 9.0),
        },
        RATES, RATES,
        Idle(
            100, Footprint(50 * 2**20, 20, 0, 30), Footprint(50 * 2**20 + 100 * 64 * 2**10, 220, 100, 330),
            Footprint(51 * 2**20, 20, 0, 30), Footprint(57 * 2**20, 220, 100, 331),
        ),
        {"straight": Crowd([2.0, 1.0], []), "through": Crowd([3.0, 1.5], [])},
    )


def printed(streams: Streams) -> str:
    stream = io.StringIO()
    print_streams(streams, Console(file=stream, width=140))
    return stream.getvalue()


def test_what_is_added_is_the_difference_to_the_straight_way(streams: Streams) -> None:
    assert added(streams.keystrokes, "through") == pytest.approx((0.75, 2.0))
    assert added(streams.keystrokes, "proxier") == pytest.approx((0.2, 0.5))
    assert rate_ratio(streams.output, "through") == 0.5
    assert crowd_ratio(streams.crowd) == 1.5
    assert streams.idle.bytes_per_session == 64 * 2**10


def over_budget(streams: Streams) -> list[str]:
    return [check.what for check in stream_checks(streams) if not check.keeps_final]


def test_a_good_run_keeps_every_budget_and_has_no_doubts(streams: Streams) -> None:
    assert over_budget(streams) == []
    assert stream_doubts(streams) == []


def test_more_than_a_millisecond_is_over_whatever_the_proxier_has_to_do_with_it(streams: Streams) -> None:
    slow = streams.keystrokes | {"through": Spread(2000, 2.1, 3.0, 9.0)}
    assert over_budget(replace(streams, keystrokes=slow)) == ["keystroke, added in all, p50"]


def test_one_stream_that_fails_or_stays_open_is_over(streams: Streams) -> None:
    crowd = streams.crowd | {"through": Crowd([3.0], ["stream 7: exit code None"])}
    idle = replace(streams.idle, after=Footprint(1, 22, 1, 33))
    found = replace(streams, crowd=crowd, idle=idle)
    assert over_budget(found) == ["200 at once, through: failed", "streams still open after all had ended"]
    assert "stream 7: exit code None" in printed(found)


def test_a_busy_machine_and_fewer_sessions_than_asked_for_are_told(streams: Streams) -> None:
    doubtful = replace(streams, setting=replace(streams.setting, load=3.0, asked=1000))
    assert len(stream_doubts(doubtful)) == 2
    assert "100 idle sessions instead of 1000" in printed(doubtful)


def test_a_person_sees_every_figure(streams: Streams) -> None:
    text = printed(streams)
    for expected in ("KWOK", "+0.750", "+2.000", "0.50×", "64.0 KiB", "1.50×", "0.75 ms", "1.00 ms", "330", "331"):
        assert expected in text


def test_what_the_system_does_not_tell_is_left_out(streams: Streams) -> None:
    silent = Footprint(None, None, 0, 1)
    unknown = replace(streams, idle=Idle(100, silent, silent, silent, silent))
    assert unknown.idle.bytes_per_session is None
    assert "KiB" not in printed(unknown)


def test_a_program_gets_every_figure_and_what_follows_from_it(streams: Streams) -> None:
    document = json.loads(json.dumps(streams_as_json(streams)))
    assert document["keystrokes"]["through"]["p99"] == 4.0
    assert document["added_ms"]["through"]["p50"] == 0.75
    assert document["ratios"] == {
        "output": {"straight": 1.0, "proxier": 0.9, "through": 0.5}, "input": {"straight": 1.0, "proxier": 0.9, "through": 0.5},
        "crowd": 1.5,
    }
    assert document["bytes_per_session"] == 65536
    assert {check["keeps_final"] for check in document["checks"]} == {True}


JUDGEMENTS = {
    "all of its own output and a good end": (b"stream 7\n" + COUNTED, 0, ""),
    "another one's output": (b"stream 8\n" + COUNTED, 0, "stream 7: 8902 bytes that begin with"),
    "its last bytes are missing": (b"stream 7\n" + COUNTED[:-1], 0, "stream 7: 8901 bytes"),
    "no end was told": (b"stream 7\n" + COUNTED, None, "stream 7: exit code None"),
}


@pytest.mark.parametrize("case", JUDGEMENTS)
def test_a_command_of_a_crowd_is_judged_by_its_output_and_its_end(case: str) -> None:
    came, code, wrong = JUDGEMENTS[case]
    found = judge(7, came, code)
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)


@pytest.mark.parametrize(("asked", "files", "fit"), [(1000, 20_000, 1000), (1000, 1024, 87), (10, 1024, 10), (10, 100, 1)])
def test_there_are_as_many_idle_sessions_as_open_files_allow(asked: int, files: int, fit: int) -> None:
    assert fitting(asked, files) == fit


PAGES = {
    "streams of all bindings and actions are added up": (
        '# TYPE kubeocean_proxier_sessions gauge\nkubeocean_proxier_sessions{clusterbinding="a",action="exec"} 3.0\n'
        'kubeocean_proxier_sessions{clusterbinding="b",action="logs"} 2.0\n'
        "# TYPE kubeocean_proxier_tasks gauge\nkubeocean_proxier_tasks 40.0\n", (5, 40)),
    "before the first stream there are none": (
        "# TYPE kubeocean_proxier_tasks gauge\nkubeocean_proxier_tasks 30.0\n", (0, 30)),
    "without a proxier nothing is known": ("", (-1, -1)),
}


@pytest.mark.parametrize("case", PAGES)
def test_open_streams_are_read_from_the_managers_metrics(case: str) -> None:
    page, (sessions, tasks) = PAGES[case]
    assert parse_counts(page) == {"sessions": sessions, "tasks": tasks}


def test_the_kernel_tells_of_open_files_and_children() -> None:
    before = open_files(os.getpid())
    if before is None:
        pytest.skip("this system does not tell")
    with open(os.devnull):
        assert open_files(os.getpid()) == before + 1
    assert open_files(2**30) is None
    assert child_of(os.getpid(), "proxier") is None
