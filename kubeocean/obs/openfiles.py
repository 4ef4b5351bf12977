"""How many files and connections a process may have open."""

from __future__ import annotations

import resource
from contextlib import suppress


def allow_most_open_files() -> int:
    """Raise this process's limit, and that of children started later, as far as nobody need be asked; return what it is then.

    The usual 1024 is meant for programs that use select(2). Go's programs raise it by themselves; Python's do not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems have a lower one that they do not tell of
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft
