"""A "no" that the user gets to read: on the virtual Pod's condition, in an Event, in `kubeocean explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BEYOND_LEASE: Final = "BeyondLease"  # reason of PhysicalPodUpdated while a resize waits for room in the lease


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not done: `reason` is a CamelCase word for programs, `message` names field and remedy."""

    reason: str
    message: str
