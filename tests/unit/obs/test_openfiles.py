import subprocess
import sys

PROGRAM = """
import resource
from kubeocean.obs.openfiles import allow_most_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print(allow_most_open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_limit_is_raised_as_far_as_it_goes() -> None:
    allowed, soft, hard = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    ).stdout.split()
    assert allowed == soft == hard
