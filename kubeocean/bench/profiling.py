"""Where the manager's CPU time goes: a profile that is switched on for the burst only.

Two halves. `install` runs inside the child, before the program: SIGUSR1 starts profiling, SIGUSR2 stops it and writes the
file. `read_hotspots` reads that file. The profile counts CPU time instead of elapsed time, so that waiting costs nothing.
"""

from __future__ import annotations

import cProfile
import pstats
import signal
import time
from pathlib import Path

from kubeocean.bench.results import Hotspot

SHOWN = 25


def install(path: str) -> None:
    """Obey the two signals from now on; the profile is written to `path`, at once and whole."""
    profile = cProfile.Profile(time.process_time)

    def start(*_: object) -> None:
        profile.enable()

    def stop(*_: object) -> None:
        profile.disable()
        fresh = Path(f"{path}.new")
        profile.dump_stats(fresh)
        fresh.replace(path)

    signal.signal(signal.SIGUSR1, start)
    signal.signal(signal.SIGUSR2, stop)


def read_hotspots(path: Path) -> list[Hotspot]:
    """Return the functions with the most time of their own."""
    entries = getattr(pstats.Stats(str(path)), "stats").items()  # noqa: B009  # known to pstats' users, not to its types
    hotspots = [
        Hotspot(function_name(*function), calls, own, total) for function, (calls, _, own, total, _) in entries
    ]
    return sorted(hotspots, key=lambda each: -each.own)[:SHOWN]


def function_name(file: str, line: int, name: str) -> str:
    """Return how a function is called in the report: by module rather than by where Python is installed.

    >>> function_name("/usr/lib/python3.11/site-packages/aiohttp/client.py", 500, "_request")
    'aiohttp/client.py:500 _request'
    """
    if file == "~":
        return name
    for root in ("site-packages/", "/lib/python", "/kubeocean/"):
        _, found, rest = file.rpartition(root)
        if found:
            file = f"kubeocean/{rest}" if root == "/kubeocean/" else rest
            break
    return f"{file}:{line} {name}"
