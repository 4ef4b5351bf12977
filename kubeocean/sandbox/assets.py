"""The real programs of a sandbox: where they are looked for, and how missing ones come to be.

Each program is looked for by itself, in this order: `$KUBEOCEAN_ASSETS`, `$KUBEBUILDER_ASSETS`, the cache folder of
this version. So a folder that holds only some of them (envtest's has no kwok) is completed by the places after it. What
no place has is built from pinned Go modules into the cache, once: the file is linked under a temporary name in the same
folder, pushed to the disk and renamed, so a name in the cache is always a whole program, whatever was interrupted when.

Two that need a program at the same time build it once: a lock on the cache is held while building, and whoever waited
for it looks again before doing anything. When nothing is missing, neither the lock nor Go is touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubeocean.sandbox.assets_build import build_programs
from kubeocean.sandbox.filelock import hold_lock
from kubeocean.sandbox.gotool import AssetsUnavailable
from kubeocean.sandbox.progress import Progress, Silence
from kubeocean.sandbox.versions import ASSET_VERSION, FIGURES, FORWARDER, KUBELET, NAMES, NAMES_ON_REQUEST, PAUSE, TOOLBOX

__all__ = [
    "ASSET_VERSION", "Assets", "AssetsUnavailable", "Binary", "Missing", "Place", "ensure_assets", "find_assets",
    "places",
]

FROM_CACHE = "cache"
_VARIABLES = ("KUBEOCEAN_ASSETS", "KUBEBUILDER_ASSETS")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder in which programs are looked for; `origin` is what a person calls it."""

    origin: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Binary:
    """One program that is there; `origin` names the place it was found in."""

    name: str
    path: Path
    origin: str


@dataclass(frozen=True, slots=True)
class Assets:
    """Every program that a sandbox needs, by name in `binaries`."""

    binaries: Mapping[str, Binary]

    @property
    def etcd(self) -> Path:
        """The storage of all API servers."""
        return self.binaries["etcd"].path

    @property
    def kube_apiserver(self) -> Path:
        """The API server."""
        return self.binaries["kube-apiserver"].path

    @property
    def kube_controller_manager(self) -> Path:
        """Kubernetes' own controllers."""
        return self.binaries["kube-controller-manager"].path

    @property
    def kube_scheduler(self) -> Path:
        """The scheduler."""
        return self.binaries["kube-scheduler"].path

    @property
    def kubectl(self) -> Path:
        """The command line client."""
        return self.binaries["kubectl"].path

    @property
    def kwok(self) -> Path:
        """The program that plays kubelets."""
        return self.binaries["kwok"].path

    @property
    def kubelet(self) -> Path | None:
        """The real kubelet; None where nobody asked for it and none happens to be there."""
        return self._on_request("kubelet")

    @property
    def pause(self) -> Path | None:
        """The program of the container that holds a Pod together; None as for the kubelet."""
        return self._on_request(PAUSE)

    @property
    def forwarder(self) -> Path | None:
        """What leads from a real node's network to the API servers; None as for the kubelet."""
        return self._on_request(FORWARDER)

    @property
    def toolbox(self) -> Path | None:
        """What containers of tests run; None as for the kubelet."""
        return self._on_request(TOOLBOX)

    @property
    def metrics_server(self) -> Path | None:
        """What `kubectl top` asks; None as for the kubelet."""
        return self._on_request("metrics-server")

    def _on_request(self, name: str) -> Path | None:
        found = self.binaries.get(name)
        return found.path if found else None


@dataclass(frozen=True, slots=True)
class Missing:
    """Some programs are nowhere: their `names`, what was `found`, and where was looked."""

    names: tuple[str, ...]
    found: Mapping[str, Binary]
    looked_in: tuple[Place, ...]


def cache_root(environ: Mapping[str, str]) -> Path:
    """Return `${XDG_CACHE_HOME:-~/.cache}/kubeocean`; a relative $XDG_CACHE_HOME is ignored, as its authors ask."""
    configured = Path(environ.get("XDG_CACHE_HOME", ""))
    return (configured if configured.is_absolute() else Path("~/.cache").expanduser()) / "kubeocean"


def images_folder() -> Path:
    """Return the folder in which images of real nodes are kept, beside the programs."""
    return cache_root(os.environ) / "images"


def places(environ: Mapping[str, str] | None = None) -> tuple[Place, ...]:
    """Return the folders in the order in which they are looked through; the last one is the cache."""
    environ = os.environ if environ is None else environ
    named = [Place(f"${variable}", Path(environ[variable])) for variable in _VARIABLES if environ.get(variable)]
    return (*named, Place(FROM_CACHE, cache_root(environ) / "assets" / ASSET_VERSION))


def find_assets(
    *, kubelet: bool = False, metrics_server: bool = False, environ: Mapping[str, str] | None = None,
) -> Assets | Missing:
    """Look for every program and build nothing. With `kubelet` those that only real nodes need must be there, too."""
    looked_in = places(environ)
    on_request = (name for names in NAMES_ON_REQUEST.values() for name in names)
    found = {name: binary for name in (*NAMES, *on_request) if (binary := _find(name, looked_in))}
    needed = (*NAMES, *_asked_for(kubelet=kubelet, metrics_server=metrics_server))
    missing = tuple(name for name in needed if name not in found)
    return Missing(missing, found, looked_in) if missing else Assets(found)


def _asked_for(*, kubelet: bool, metrics_server: bool) -> Iterator[str]:
    if kubelet:
        yield from NAMES_ON_REQUEST[KUBELET]
    if metrics_server:
        yield from NAMES_ON_REQUEST[FIGURES]


def _find(name: str, looked_in: tuple[Place, ...]) -> Binary | None:
    for place in looked_in:
        path = place.folder / name
        if path.is_file() and os.access(path, os.X_OK):
            return Binary(name, path.absolute(), place.origin)
    return None


async def ensure_assets(
    progress: Progress | None = None, *, kubelet: bool = False, metrics_server: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Assets:
    """Return every program, building the missing ones into the cache first (minutes; at once when none is missing).

    Raises AssetsUnavailable, whose message names what is in the way and the remedy. Cancelling it leaves no program
    half-written and no process behind.
    """
    progress, environ = progress or Silence(), os.environ if environ is None else environ

    def find() -> Assets | Missing:
        return find_assets(kubelet=kubelet, metrics_server=metrics_server, environ=environ)

    found = find()
    if isinstance(found, Assets):
        return found
    _tell_of_useless_places(found, progress)
    root, folder = cache_root(environ), found.looked_in[-1].folder
    try:
        async with hold_lock(root / "build.lock", progress):
            found = find()
            if isinstance(found, Missing):
                await build_programs(found.names, folder, root, progress, environ)
                found = find()
    except OSError as error:
        raise AssetsUnavailable(f"cannot build into {folder}: {error}; make room and make it writable, or name another "
                                "cache folder in $XDG_CACHE_HOME") from error
    if isinstance(found, Missing):
        raise AssetsUnavailable(f"built, yet not to be executed: {', '.join(found.names)}; is {folder} mounted "
                                "noexec? Name another cache folder in $XDG_CACHE_HOME")
    return found


def _tell_of_useless_places(missing: Missing, progress: Progress) -> None:
    # Somebody set the variable on purpose: minutes of building must not start without a word about it.
    for place in missing.looked_in[:-1]:
        what = f"has no {', '.join(missing.names)}" if place.folder.is_dir() else "no such folder"
        progress.say(f"{place.origin}={place.folder}: {what}")
