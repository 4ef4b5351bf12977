"""A clock that is ahead by what a file says."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from kubeocean.kube.clock import ShiftedClock, real_time

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "ahead"
    file.write_text("86400\n")
    return file


def test_it_runs_with_the_real_time_and_steps_with_the_file(file: Path) -> None:
    with time_machine.travel(NOON, tick=False) as traveller:
        clock = ShiftedClock(file)
        assert clock() == NOON + timedelta(days=1)
        traveller.shift(1.5)
        assert clock() == NOON + timedelta(days=1, seconds=1.5)
        file.write_text("-90.5")
        assert clock() == NOON - timedelta(seconds=89)
        assert real_time() == NOON + timedelta(seconds=1.5)


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "1e30", "2026-03-29T00:00:00Z"])
def test_a_file_without_a_number_of_seconds_is_refused_at_first_and_skipped_later(file: Path, text: str) -> None:
    with time_machine.travel(NOON, tick=False):
        clock = ShiftedClock(file)
        file.write_text(text)
        assert clock() == NOON + timedelta(days=1)
        file.unlink()
        assert clock() == NOON + timedelta(days=1)
        file.write_text(text)
        with pytest.raises(ValueError, match="write how many seconds it is ahead, such as 86400"):
            ShiftedClock(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ShiftedClock(tmp_path / "none")
