"""Where cgroups are, and which are a sandbox's."""

import signal
import subprocess
from pathlib import Path

import pytest

from kubeocean.sandbox.realnode import cgroups

MOUNTINFO = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:38 / /cgroup rw - ext4 cgroup rw
"""


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is taken for the only hierarchy; the kernel's files in it are ordinary ones."""
    monkeypatch.setattr(cgroups, "_hierarchies", lambda: [tmp_path])
    return tmp_path


def test_hierarchies_of_both_versions_are_found() -> None:
    assert cgroups.hierarchies(MOUNTINFO) == [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/unified")]


def test_a_cgroup_is_made_with_a_part_for_the_daemons(hierarchy: Path) -> None:
    assert cgroups.make("kubeocean-cafe-real-1") == [hierarchy / "kubeocean-cafe-real-1" / "daemons"]
    assert (hierarchy / "kubeocean-cafe-real-1" / "daemons").is_dir()
    cgroups.end("kubeocean-cafe-")
    assert not any(hierarchy.iterdir())


def test_cgroups_of_others_are_left_alone(hierarchy: Path) -> None:
    (hierarchy / "kubeocean-beef-real-1").mkdir()
    cgroups.make("kubeocean-cafe-real-1")
    cgroups.end("kubeocean-cafe-")
    assert [path.name for path in hierarchy.iterdir()] == ["kubeocean-beef-real-1"]


def test_whoever_is_in_a_cgroup_is_killed_and_a_cgroup_that_stays_is_told(
    hierarchy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_END_WITHIN", 0.1)
    pods = hierarchy / "kubeocean-cafe-real-1" / "kubepods" / "pod"
    pods.mkdir(parents=True)
    with subprocess.Popen(["/bin/sleep", "60"]) as sleeper:
        (pods / "cgroup.procs").write_text(f"{sleeper.pid}\n")  # an ordinary file: the kernel would take the line out
        with pytest.raises(Exception, match=f"killed, but not gone after 0 s: pid {sleeper.pid}"):
            cgroups.end("kubeocean-cafe-")
        assert sleeper.wait(5) == -signal.SIGKILL
