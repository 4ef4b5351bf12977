"""Where programs are found, and what happens when they are not."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kubeocean.sandbox import assets_build
from kubeocean.sandbox.assets import (
    ASSET_VERSION,
    Assets,
    AssetsUnavailable,
    Missing,
    ensure_assets,
    find_assets,
    places,
)
from kubeocean.sandbox.diskspace import Need, Shortage
from kubeocean.sandbox.versions import NAMES

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import FakeGo, Told


def put(folder: Path, *names: str, mode: int = 0o755) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(mode)
    return folder


def cache(environ: dict[str, str]) -> Path:
    return Path(environ["XDG_CACHE_HOME"], "kubeocean", "assets", ASSET_VERSION)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_kubeocean_folder_wins_over_the_kubebuilder_folder_over_the_cache(tmp_path: Path) -> None:
    environ = {"KUBEOCEAN_ASSETS": str(put(tmp_path / "ours", "etcd")),
               "KUBEBUILDER_ASSETS": str(put(tmp_path / "envtest", "etcd", "kubectl")), "XDG_CACHE_HOME": str(tmp_path)}
    put(cache(environ), *NAMES)
    found = find_assets(environ=environ)
    assert isinstance(found, Assets)
    assert {name: found.binaries[name].origin for name in ("etcd", "kubectl", "kwok")} == {
        "etcd": "$KUBEOCEAN_ASSETS", "kubectl": "$KUBEBUILDER_ASSETS", "kwok": "cache"}
    assert found.etcd == tmp_path / "ours" / "etcd"
    assert found.kwok == cache(environ) / "kwok"
    assert found.kubelet is None


def test_what_is_nowhere_is_named_and_so_is_where_was_looked(tmp_path: Path) -> None:
    environ = {"KUBEOCEAN_ASSETS": str(put(tmp_path / "ours", "etcd")), "XDG_CACHE_HOME": str(tmp_path)}
    missing = find_assets(environ=environ)
    assert isinstance(missing, Missing)
    assert missing.names == tuple(name for name in NAMES if name != "etcd")
    assert [place.origin for place in missing.looked_in] == ["$KUBEOCEAN_ASSETS", "cache"]
    assert list(missing.found) == ["etcd"]


def test_a_file_that_cannot_be_executed_is_not_found(environ: dict[str, str]) -> None:
    put(cache(environ), *NAMES)
    put(cache(environ), "kwok", mode=0o644)
    missing = find_assets(environ=environ)
    assert isinstance(missing, Missing)
    assert missing.names == ("kwok",)


def test_the_kubelet_is_needed_only_on_request(environ: dict[str, str]) -> None:
    put(cache(environ), *NAMES)
    assert isinstance(find_assets(environ=environ), Assets)
    assert isinstance(find_assets(kubelet=True, environ=environ), Missing)
    put(cache(environ), "kubelet")
    found = find_assets(environ=environ)
    assert isinstance(found, Assets)
    assert found.kubelet == cache(environ) / "kubelet"


def test_metrics_server_is_needed_only_on_request(environ: dict[str, str]) -> None:
    put(cache(environ), *NAMES)
    missing = find_assets(metrics_server=True, environ=environ)
    assert isinstance(missing, Missing)
    assert missing.names == ("metrics-server",)
    put(cache(environ), "metrics-server")
    found = find_assets(environ=environ)
    assert isinstance(found, Assets)
    assert found.metrics_server == cache(environ) / "metrics-server"


@pytest.mark.parametrize("value", ["", "cache"])
def test_a_relative_or_empty_cache_home_is_ignored(value: str) -> None:
    expected = Path("~/.cache").expanduser() / "kubeocean" / "assets" / ASSET_VERSION
    assert places({"XDG_CACHE_HOME": value})[-1].folder == expected


SERVERS = "etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl"


async def test_what_is_missing_is_built_and_told_about(
    environ: dict[str, str], told: Told, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assets_build, "duration", lambda _seconds: "a while")
    found = await ensure_assets(told, environ=environ)
    assert set(found.binaries) == set(NAMES)
    assert {binary.origin for binary in found.binaries.values()} == {"cache"}
    assert os.readlink(found.kube_apiserver) == os.readlink(found.etcd) == "controlplane"
    assert listing(cache(environ)) == sorted(["controlplane", *NAMES])
    assert told.said[1:] == [f"{SERVERS}: ready after a while", "kwok: ready after a while"]
    assert f"[1/2] {SERVERS}: fetching Go modules, 1 so far, a while" in told.shown
    assert f"[1/2] {SERVERS}: compiling and linking, 1 of at most 3 packages, a while" in told.shown
    assert "[2/2] kwok: linking (2 packages compiled), a while" in told.shown


async def test_a_second_run_touches_neither_go_nor_the_lock(environ: dict[str, str], go: FakeGo) -> None:
    await ensure_assets(environ=environ)
    calls, lock = go.calls(), os.path.join(environ["XDG_CACHE_HOME"], "kubeocean", "build.lock")
    os.unlink(lock)
    await ensure_assets(environ=environ)
    assert go.calls() == calls
    assert not os.access(lock, os.F_OK)


async def test_only_the_missing_program_is_built(tmp_path: Path, environ: dict[str, str], go: FakeGo) -> None:
    environ["KUBEBUILDER_ASSETS"] = str(put(tmp_path / "envtest", *(name for name in NAMES if name != "kubectl")))
    found = await ensure_assets(environ=environ)
    assert listing(cache(environ)) == ["kubectl"]
    assert found.kubectl == cache(environ) / "kubectl"
    assert [call.split()[-1] for call in go.calls("build")] == ["k8s.io/kubernetes/cmd/kubectl"]


async def test_the_kubelet_is_built_on_request(environ: dict[str, str]) -> None:
    found = await ensure_assets(kubelet=True, environ=environ)
    assert found.kubelet == cache(environ) / "kubelet"


async def test_the_flags_are_the_verified_ones_and_nothing_of_the_user_changes_them(
    environ: dict[str, str], go: FakeGo,
) -> None:
    environ |= {"GOFLAGS": "-race", "GOOS": "plan9", "GOROOT": "/nowhere", "GOPROXY": "https://proxy.example"}
    await ensure_assets(environ=environ)
    build = go.calls("build")[0]
    assert build.startswith("build -v -trimpath -ldflags -s -w -X k8s.io/component-base/version.gitVersion=v1.34.4 ")
    seen = go.environment()
    assert {name: seen.get(name) for name in ("GOFLAGS", "CGO_ENABLED", "GOTOOLCHAIN", "GOWORK", "GOOS", "GOROOT")} == {
        "GOFLAGS": "-mod=readonly -buildvcs=false", "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off",
        "GOOS": None, "GOROOT": None}
    assert seen["GOPROXY"] == "https://proxy.example"
    assert seen["GOTMPDIR"].startswith(str(cache(environ)))


async def test_a_folder_named_in_vain_is_told_before_minutes_of_building(
    tmp_path: Path, environ: dict[str, str], told: Told,
) -> None:
    environ["KUBEOCEAN_ASSETS"] = str(tmp_path / "tpyo")
    environ["KUBEBUILDER_ASSETS"] = str(put(tmp_path / "envtest", *(name for name in NAMES if name != "kwok")))
    await ensure_assets(told, environ=environ)
    assert told.said[:2] == [
        f"$KUBEOCEAN_ASSETS={tmp_path / 'tpyo'}: no such folder",
        f"$KUBEBUILDER_ASSETS={tmp_path / 'envtest'}: has no kwok"]


async def test_two_builds_at_once_are_one_build(environ: dict[str, str], go: FakeGo, told: Told) -> None:
    first = asyncio.create_task(ensure_assets(environ=environ))
    await go.reaches("list")
    assert await ensure_assets(told, environ=environ) == await first
    assert len(go.calls("build")) == 2  # one per Go module
    assert set(told.shown) == {f"waiting for another build (pid {os.getpid()})"}


async def test_an_interrupted_build_leaves_no_program_and_no_process(environ: dict[str, str], go: FakeGo) -> None:
    go.script(build='echo half > "$out/controlplane"; exec sleep 60')
    building = asyncio.create_task(ensure_assets(environ=environ))
    await go.reaches("build")
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert listing(cache(environ)) == []
    with pytest.raises(ProcessLookupError):
        os.kill(go.pid(), 0)
    go.script()
    assert isinstance(await ensure_assets(environ=environ), Assets)


async def test_what_a_killed_build_left_is_removed_by_the_next(environ: dict[str, str]) -> None:
    put(cache(environ) / ".build-killed" / "programs", "controlplane")
    await ensure_assets(environ=environ)
    assert listing(cache(environ)) == sorted(["controlplane", *NAMES])


async def test_what_was_ready_before_a_failure_is_kept(environ: dict[str, str], go: FakeGo) -> None:
    go.script(list_='case "$*" in *kwok*) echo "dial tcp: lookup: no such host" >&2; exit 1;; *) echo fmt;; esac')
    with pytest.raises(AssetsUnavailable, match="fetching the Go modules for kwok failed: the Go module proxy cannot"):
        await ensure_assets(environ=environ)
    missing = find_assets(environ=environ)
    assert isinstance(missing, Missing)
    assert missing.names == ("kwok",)


async def test_a_compiler_that_fails_is_quoted_without_the_progress_lines(environ: dict[str, str], go: FakeGo) -> None:
    go.script(build='for n in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "example.com/$n" >&2; done\n'
                    'echo "# example.com/a" >&2; echo "a.go:1:2: undefined: x" >&2; exit 1')
    with pytest.raises(AssetsUnavailable) as caught:
        await ensure_assets(environ=environ)
    assert str(caught.value) == (f"compiling for {SERVERS} failed: the cause is in Go's own words.\n"
                                 "  # example.com/a\n  a.go:1:2: undefined: x")


async def test_too_little_disk_is_said_before_anything_is_fetched(
    environ: dict[str, str], go: FakeGo, monkeypatch: pytest.MonkeyPatch,
) -> None:
    def short(needs: tuple[Need, ...]) -> Shortage:
        return Shortage(needs[0].folder, sum(need.bytes for need in needs), 7 << 20)

    monkeypatch.setattr(assets_build, "find_shortage", short)
    with pytest.raises(AssetsUnavailable, match=r"too little disk space .* needs about \d{4} MiB, 7 MiB are free"):
        await ensure_assets(environ=environ)
    assert go.calls("list") == []


async def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "file").write_text("")
    environ["XDG_CACHE_HOME"] = str(tmp_path / "file")
    with pytest.raises(AssetsUnavailable, match=r"file.*\$XDG_CACHE_HOME"):
        await ensure_assets(environ=environ)
