"""What is told of a component that died while it was waited for."""

from pathlib import Path

from kubeocean.sandbox.launch import describe_death
from kubeocean.sandbox.state import ComponentInfo


def death(log: Path, text: str) -> str:
    log.write_text(text)
    return describe_death("physical-1", ComponentInfo("kubelet", 1, "", "", log))


def test_the_end_of_its_log_is_quoted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = "\n".join(f"line {number}" for number in range(1, 10))
    assert death(log, lines).splitlines() == [
        f"kubelet of physical-1 died; the end of {log}:", *(f"    line {number}" for number in range(4, 10)),
    ]


def test_an_empty_log_is_told_as_such(tmp_path: Path) -> None:
    assert death(tmp_path / "log", "").endswith(":\n    (empty)")


def test_the_remedy_for_too_many_watched_files_is_named(tmp_path: Path) -> None:
    told = death(tmp_path / "log", "failed to create fsnotify watcher: too many open files\ngoodbye\n")
    assert "sysctl -w fs.inotify.max_user_instances=" in told
