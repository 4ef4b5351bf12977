"""What of the progress becomes visible, and where."""

from __future__ import annotations

import io

import pytest

from kubeocean.sandbox.progress import LineProgress, duration, open_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_written_every_ten_seconds_and_what_is_said_at_once() -> None:
    now, lines = 0.0, list[str]()
    progress = LineProgress(lines.append, clock=lambda: now)
    for second in range(26):
        now = float(second)
        progress.show(f"at {second}")
    progress.say("done")
    progress.show("right after")
    assert lines == ["at 10", "at 20", "done"]


def test_without_a_terminal_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    with open_progress(stream) as progress:
        progress.show("soon replaced")
        progress.say("kept [bold]as it is[/bold]")
    assert stream.getvalue() == "kept [bold]as it is[/bold]\n"


def test_on_a_terminal_the_live_line_is_gone_at_the_end_and_what_was_said_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with open_progress(stream) as progress:
        progress.show("compiling [1/2] now")
        progress.say("etcd: ready")
    written = stream.getvalue()
    assert "compiling [1/2] now" in written
    assert "etcd: ready\n" in written
    assert written.rstrip("\n").endswith(("\x1b[2K", "\x1b[?25h"))


def test_on_a_dumb_terminal_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with open_progress(stream) as progress:
        progress.say("etcd: ready")
    assert stream.getvalue() == "etcd: ready\n"


def test_durations_read_as_people_say_them() -> None:
    assert [duration(seconds) for seconds in (0.2, 59.9, 60, 605)] == ["0 s", "59 s", "1 min 00 s", "10 min 05 s"]
