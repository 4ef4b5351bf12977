"""Does what was seen of a workload hold what is expected of it? Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubeocean.kube.meta import Json
from tests.e2e.comparison import missing
from tests.e2e.workload import Expectation


def shortfalls(expect: Expectation, seen: Json) -> Iterator[str]:
    """Yield a sentence for everything expected that was not seen."""
    for place, report in expect.sees.items():
        yield from _in_containers(seen, place, "reports", report)
    for place, lines in expect.prints.items():
        yield from _in_containers(seen, place, "prints", lines)
    if expect.status:
        for name, pod in seen["pods"].items():
            yield from missing(expect.status, pod, f"status of {name}")


def _in_containers(seen: Json, place: str, what: str, expected: Any) -> Iterator[str]:
    """`place` is CONTAINER of every Pod or POD/CONTAINER, with #LABEL for one of several reports."""
    pod_name, _, rest = place.rpartition("/")
    container, _, label = rest.partition("#")
    found = [
        each["containers"][container] for name, each in seen["pods"].items()
        if pod_name in ("", name) and container in each["containers"]
    ]
    if not found:
        yield f"{place}: there is no such container"
    for each in found:
        if what == "prints":
            yield from missing(expected, each["prints"], f"{place} prints")
        elif label not in each["reports"]:
            yield f"{place}: it reported nothing; it printed {each['prints']}"
        else:
            yield from missing(expected, each["reports"][label], f"{place} sees")
