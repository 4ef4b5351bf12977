"""The images of real nodes, built from nothing but files of this machine: there is no registry.

An image is a docker archive: one layer, a configuration, a manifest. Built twice it is the same to the byte, and it is
built once: the archive's name tells what went into it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubeocean.sandbox.nodes import ARCHITECTURES
from kubeocean.sandbox.realnode.files import PAUSE_IMAGE

TOOLBOX_IMAGES = ("kubeocean.test/toolbox:1", "kubeocean.test/toolbox:2")  # one content: to see an image change
USER = 1000  # of /etc/passwd, beside root and nobody
_REVISION = 1  # raised when what is below changes what an image holds

_PASSWD = f"""\
root:x:0:0:root:/root:/bin/sh
app:x:{USER}:{USER}:app:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
"""
_GROUP = f"root:x:0:\napp:x:{USER}:\nnobody:x:65534:\n"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in an image: a file with `content`, a link to `target`, or (neither) a folder."""

    path: str
    mode: int = 0o755
    content: bytes | None = None
    target: str = ""
    owner: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """One image under all its `names`."""

    names: tuple[str, ...]
    entries: tuple[Entry, ...]
    command: tuple[str, ...]


def build_pause(program: bytes) -> Image:
    """Return the image of the container that holds a Pod together."""
    return Image((PAUSE_IMAGE,), (Entry("pause", content=program),), ("/pause",))


def build_toolbox(busybox: bytes, applets: Iterable[str], toolbox: bytes) -> Image:
    """Return an image with a shell, `toolbox`, and somebody who is not root."""
    folders = ("bin", "etc", "root", "home", "mnt", "var")
    links = [Entry(f"bin/{each}", target="busybox") for each in sorted(set(applets) - {"busybox", "toolbox"})]
    return Image(TOOLBOX_IMAGES, (
        *map(Entry, folders), Entry("tmp", 0o1777), Entry("home/app", owner=USER),
        Entry("bin/busybox", content=busybox), Entry("bin/toolbox", content=toolbox), *links,
        Entry("etc/passwd", 0o644, _PASSWD.encode()), Entry("etc/group", 0o644, _GROUP.encode()),
        Entry("etc/toolbox-image", 0o644, b"made by kubeocean's sandbox\n"),
    ), ("sh",))


def build_archive(image: Image, architecture: str) -> bytes:
    """Return the docker archive of an image."""
    layer = _tar(image.entries)
    config = json.dumps({
        "architecture": architecture, "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin:/sbin:/usr/bin"], "Cmd": list(image.command), "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }, sort_keys=True).encode()
    named = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": named, "RepoTags": list(image.names), "Layers": ["layer.tar"]}]).encode()
    return _tar((
        Entry(named, 0o644, config), Entry("layer.tar", 0o644, layer), Entry("manifest.json", 0o644, manifest),
    ))


def _tar(entries: Sequence[Entry]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.mode, info.uid, info.gid = entry.mode, entry.owner, entry.owner
            if entry.content is not None:
                info.size = len(entry.content)
            else:
                info.type, info.linkname = (tarfile.SYMTYPE, entry.target) if entry.target else (tarfile.DIRTYPE, "")
            archive.addfile(info, io.BytesIO(entry.content) if entry.content is not None else None)
    return written.getvalue()


def ensure_archives(folder: Path, *, pause: Path, toolbox: Path, busybox: Path) -> tuple[Path, ...]:
    """Return the archives of all images, in `folder`; build those that are not there. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    shell, tools, pauser = busybox.read_bytes(), toolbox.read_bytes(), pause.read_bytes()
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return (
        _ensure(folder, "pause", build_pause(pauser)), _ensure(folder, "toolbox", build_toolbox(shell, applets, tools)),
    )


def _ensure(folder: Path, name: str, image: Image) -> Path:
    digest = hashlib.sha256(repr((_REVISION, image)).encode()).hexdigest()[:12]
    path = folder / f"{name}-{digest}.tar"
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(build_archive(image, ARCHITECTURES.get(platform.machine(), platform.machine())))
        fresh.replace(path)
    return path

