"""Is there room?"""

from __future__ import annotations

from pathlib import Path

from kubeocean.sandbox.diskspace import MIB, Need, find_shortage, size_up_to


def test_needs_on_one_file_system_are_added_up(tmp_path: Path) -> None:
    needs = (Need(tmp_path / "not" / "there" / "yet", 60 * MIB), Need(tmp_path, 60 * MIB))
    assert find_shortage(needs, free=lambda _folder: 120 * MIB) is None
    shortage = find_shortage(needs, free=lambda _folder: 119 * MIB)
    assert str(shortage) == f"{tmp_path} needs about 120 MiB, 119 MiB are free"


def test_nothing_to_write_needs_nothing(tmp_path: Path) -> None:
    assert find_shortage((Need(tmp_path, 0),), free=lambda _folder: 0) is None


def test_sizes_are_counted_no_further_than_the_limit(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"x" * 70)
    (tmp_path / "file").write_bytes(b"x" * 50)
    assert size_up_to(tmp_path, 1000) == 120
    assert size_up_to(tmp_path, 100) == 100
    assert size_up_to(tmp_path / "nothing", 100) == 0
