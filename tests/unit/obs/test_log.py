import json
import sys

import pytest
import structlog

from kubeocean.obs.log import configure_logging


@pytest.fixture(autouse=True)
def _restore() -> object:
    yield
    structlog.reset_defaults()


def test_a_line_is_json_with_time_level_and_facts(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(format="json")
    structlog.get_logger("test").info("bound", binding="lender-a")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["binding"], line["level"]) == ("bound", "lender-a", "info")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("key", ["token", "bearer_token", "kubeconfig", "authorization", "password"])
def test_a_secret_never_reaches_a_line(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(format="json")
    structlog.get_logger("test").warning("oops", **{key: "hunter2"})
    assert "hunter2" not in capsys.readouterr().err


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="warning", format="json")
    structlog.get_logger("test").info("chatter")
    assert capsys.readouterr().err == ""


def test_an_exception_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(format="json")
    try:
        raise ValueError("why")
    except ValueError as error:
        structlog.get_logger("test").error("failed", exc_info=error)
    assert "ValueError: why" in json.loads(capsys.readouterr().err)["exception"]


def test_a_traceback_on_a_terminal_shows_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(format="console")
    header = "".join(("hun", "ter2"))
    try:
        raise ValueError(len(header))
    except ValueError as error:
        structlog.get_logger("test").error("failed", exc_info=error)
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "hunter2" not in shown


class Torn:
    """A stderr whose reader has gone."""

    def isatty(self) -> bool:
        return False

    def write(self, _: str) -> None:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_line_that_nobody_reads_any_more_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Torn())
    configure_logging(format="json")
    structlog.get_logger("test").info("said in vain")
