"""The command as a user meets it: tables as golden files, pictures, and one line and exit code 2 for every mistake."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kubeocean.cli import app
from kubeocean.simulate import png
from kubeocean.simulate.command import Request, run_simulation

TABLES = sorted(Path(__file__).with_name("tables").glob("*.input.yaml"))
DOCS = str(Path(__file__).parents[3] / "docs" / "simulate")


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["simulate", *arguments], env={"TERM": "dumb", "COLUMNS": "140"})
    return result.exit_code, result.stdout, result.stderr


def plain(text: str) -> str:
    return "".join(line.rstrip() + "\n" for line in text.rstrip().splitlines())


@pytest.mark.parametrize("case", TABLES, ids=lambda case: case.name.removesuffix(".input.yaml"))
def test_tables_read_as_written_beside_the_input(case: Path) -> None:
    lender = case.with_name(case.name.replace(".input.", ".lender."))
    first = case.read_text().splitlines()[0]
    arguments = ["-f", str(case), *first.removeprefix("# simulate: ").split()]
    code, out, err = run(*arguments, *(["--lender-file", str(lender)] if lender.exists() else []))
    assert (code, err) == (0, "")
    golden = case.with_name(case.name.replace(".input.yaml", ".output.txt"))
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(plain(out))
    assert plain(out) == golden.read_text()


MISTAKES: dict[str, tuple[list[str], str]] = {
    "a file that is not there": (["-f", "nowhere.yaml"], "error: nowhere.yaml: cannot be read: No such file"),
    "an unknown time zone": (["-f", DOCS, "--time-zone", "Mars"], "error: --time-zone: 'Mars' is no known time zone; write"),
    "an unknown default zone": (["-f", DOCS, "--default-time-zone", "Europe"], "error: --default-time-zone: 'Europe' is no"),
    "a beginning that is no time": (["-f", DOCS, "--from", "soon"], "error: --from: 'soon' is no time; write a date such as"),
    "a beginning that does not exist": (["-f", DOCS, "--from", "2026-02-30"], "error: --from: '2026-02-30' is no time"),
    "a year beyond all calendars": (["-f", DOCS, "--from", "9999-12-31"], "error: --from: '9999-12-31' is no time"),
    "a picture of another kind": (["-f", DOCS, "-o", "lease.gif"], "error: --output: lease.gif ends neither with .svg nor"),
    "a picture in a folder that is not there": (
        ["-f", DOCS, "-o", "no/such/lease.svg"], "error: --output: there is no folder no/such; create it"),
    "a resource no node has": (
        ["-f", DOCS, "--resource", "cpu,gpus"], "error: --resource: no node has gpus; choose of cpu, memory, pods"),
    "no resource": (["-f", DOCS, "--resource", ","], "error: --resource: name at least one"),
    "a binding that is not there": (
        ["-f", DOCS, "--binding", "x"], "error: --binding x: no ClusterBinding has this name; choose one of berlin"),
    "a kubeconfig that is not there": (["--kubeconfig", "/nowhere"], "error: no kubeconfig at /nowhere; correct --kubeconfig"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, message = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_several_mistakes_are_several_lines() -> None:
    code, _, err = run("-f", DOCS, "--time-zone", "Mars", "--from", "soon", "--resource", "")
    assert code == 2
    assert [line.split(":")[1].strip() for line in err.splitlines()] == ["--time-zone", "--resource", "--from"]


def test_pictures_are_drawn_in_both_formats(tmp_path: Path) -> None:
    svg, image = tmp_path / "lease.svg", tmp_path / "lease.PNG"
    code, out, _ = run("-f", DOCS, "--from", "2026-03-23", "-o", str(svg), "-o", str(image))
    assert code == 0
    assert svg.read_bytes() == (Path(DOCS) / "lease.svg").read_bytes()
    assert image.read_bytes().startswith(b"\x89PNG")
    assert f"Drawn: {svg}" in out


def test_without_pillow_a_png_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    code, _, err = run("-f", DOCS, "-o", str(tmp_path / "lease.png"))
    assert code == 2
    assert err == f"error: --output: {png.PillowMissing()}\n"


def test_manifests_may_come_through_a_pipe() -> None:
    text = (Path(DOCS) / "policies.yaml").read_bytes() + b"\n---\n" + (Path(DOCS) / "nodes.yaml").read_bytes()
    result = CliRunner().invoke(app, ["simulate", "-f", "-", "--from", "2026-03-23"], input=text)
    assert result.exit_code == 0
    assert "office-1…6" in result.stdout


def test_left_out_the_beginning_is_now(capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime(2026, 6, 1, 10, 30, tzinfo=UTC)
    assert run_simulation(Request(files=(Path(DOCS),), days=1), now=now) == 0
    assert "Mon 2026-06-01 12:30 CEST" in capsys.readouterr().out
