"""Images out of nothing but files."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from kubeocean.sandbox.realnode.images import (
    TOOLBOX_IMAGES,
    USER,
    build_archive,
    build_pause,
    build_toolbox,
    ensure_archives,
)


def opened(archive: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(archive))


def content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file
    return file.read()


def test_an_archive_says_what_is_in_it() -> None:
    with opened(build_archive(build_pause(b"program"), "amd64")) as archive:
        (manifest,) = json.loads(content(archive, "manifest.json"))
        config = json.loads(content(archive, manifest["Config"]))
        layer = content(archive, manifest["Layers"][0])
    assert manifest["RepoTags"] == ["kubeocean.test/pause:1"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert (config["architecture"], config["config"]["Cmd"]) == ("amd64", ["/pause"])
    with opened(layer) as files:
        assert content(files, "pause") == b"program"
        assert files.getmember("pause").mode == 0o755


def test_the_toolbox_has_a_shell_its_own_program_and_somebody_who_is_not_root() -> None:
    image = build_toolbox(b"busybox", ["sh", "ls", "busybox"], b"toolbox")
    assert image.names == TOOLBOX_IMAGES
    with opened(build_archive(image, "amd64")) as archive, opened(content(archive, "layer.tar")) as files:
        assert files.getmember("bin/sh").linkname == "busybox"
        assert content(files, "bin/busybox") == b"busybox"
        assert content(files, "bin/toolbox") == b"toolbox"
        assert f"app:x:{USER}:{USER}" in content(files, "etc/passwd").decode()
        assert files.getmember("tmp").mode == 0o1777
        assert files.getmember("home/app").uid == USER


def test_the_same_image_is_the_same_to_the_byte() -> None:
    one, other = (build_archive(build_toolbox(b"b", ["sh"], b"t"), "amd64") for _ in range(2))
    assert one == other


def test_archives_are_built_once_and_anew_when_what_they_hold_has_changed(tmp_path: Path) -> None:
    programs = {name: tmp_path / name for name in ("pause", "toolbox", "busybox")}
    for path in programs.values():
        path.write_text("#!/bin/sh\necho sh\n")
        path.chmod(0o755)
    first = ensure_archives(tmp_path / "images", **programs)
    times = [path.stat().st_mtime_ns for path in first]
    assert ensure_archives(tmp_path / "images", **programs) == first
    assert [path.stat().st_mtime_ns for path in first] == times
    programs["toolbox"].write_text("#!/bin/sh\n# another\n")
    pause, toolbox = ensure_archives(tmp_path / "images", **programs)
    assert (pause == first[0], toolbox == first[1]) == (True, False)
