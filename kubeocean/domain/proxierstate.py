"""How the proxier fares that a manager runs as its child process: what the child tells, and what a binding says of it.

The child tells everything about itself on one line of JSON, whenever something changes and now and then besides; a line says
all there is to say, so one that is lost costs nothing. `decide_proxier` makes of the last one, and of what the parent has
seen of the process, what stands in the binding's condition ProxierReady.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

PROXIER_FAILED: Final = "ProxierFailed"
STARTS_WITHIN: Final = 20.0  # seconds that a proxier may take before what keeps it is called a failure


@dataclass(frozen=True, slots=True)
class ProxierState:
    """Whether a binding's virtual nodes are served; not `ready` without a `reason`: not yet, and nothing is wrong."""

    ready: bool
    message: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ProxierReport:
    """`trouble` keeps the whole process from serving, "" = nothing does; `bindings` are those it serves, by name.

    `blocked`: virtual nodes whose port has not been to be had for a while, and the port. `metrics`: what it counts, as a
    scraper reads it; "" = it does not say.
    """

    trouble: str = "the proxier is starting"
    bindings: Mapping[str, ProxierState] = field(default_factory=dict)
    blocked: Mapping[str, int] = field(default_factory=dict)
    metrics: str = ""

    def encode(self) -> str:
        """Return the line that `parse_report` reads."""
        return json.dumps(asdict(self))


def parse_report(line: str | bytes) -> ProxierReport:
    """Read one line of a child. Raises ValueError when it is none."""
    try:
        said = json.loads(line)
        bindings = {str(name): ProxierState(**state) for name, state in said["bindings"].items()}
        blocked = {str(name): int(port) for name, port in said["blocked"].items()}
        return ProxierReport(str(said["trouble"]), bindings, blocked, str(said["metrics"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a report of a proxier: {error}") from error


def decide_proxier(binding: str, report: ProxierReport, *, ended: str, age: float) -> ProxierState:
    """Return how `binding` is served. `ended`: why no process runs, "" when one does; `age`: for how many seconds it has."""
    if ended:
        return ProxierState(False, ended, PROXIER_FAILED)
    if report.trouble:
        return ProxierState(False, report.trouble, PROXIER_FAILED if age > STARTS_WITHIN else "")
    return report.bindings.get(binding) or ProxierState(False, "the proxier does not serve this binding yet")
