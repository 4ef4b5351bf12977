"""Who wrote what: the audit log of a sandbox's cluster, which holds every write that its API server answered.

In a sandbox with `audit_reads` it holds every read of an object as well.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from kubeocean.kube.meta import parse_time
from kubeocean.sandbox.state import ClusterHandle

OURS = ("kubeocean-manager", "kubeocean-syncer", "kubeocean-proxier")
# What a proxier asks for as it starts: its serving certificate, for a key that never leaves the process.
_CERTIFICATE = ("certificatesigningrequests", "certificatesigningrequests/approval")
_READS = ("get", "list", "watch")
# POSTed questions: nothing is stored.
_NO_WRITES = ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews", "tokenreviews")


@dataclass(frozen=True, slots=True)
class Write:
    """One request and its answer; `resource` is such as pods/status."""

    agent: str
    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    at: datetime

    @property
    def is_lease(self) -> bool:
        return self.resource == "leases"

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} {self.namespace}/{self.name} {self.code}"


class AuditLog:
    """The writes to one cluster since this object was made, or since `restart`."""

    def __init__(self, cluster: ClusterHandle) -> None:
        self.name, self._path = cluster.name, cluster.audit_log
        self._from = 0
        self.restart()

    def restart(self) -> None:
        """Forget what was written until now."""
        self._from = self._path.stat().st_size

    def ours(self) -> list[Write]:
        """Return what programs of Kubeocean wrote."""
        return [write for write in self.writes() if write.agent.startswith(OURS)]

    def writes(self) -> list[Write]:
        return [each for each in self._requests() if each.verb not in _READS and each.resource not in _NO_WRITES]

    def our_reads(self) -> list[Write]:
        """Return what programs of Kubeocean got and listed; watches last, and are no reads at rest."""
        return [
            each for each in self._requests()
            if each.agent.startswith(OURS) and (each.verb in ("get", "list") or each.resource in _NO_WRITES)
        ]

    def our_watches(self) -> list[Write]:
        """Return the watches that programs of Kubeocean opened (an entry as it begins, and one as it ends)."""
        return [each for each in self._requests() if each.agent.startswith(OURS) and each.verb == "watch"]

    def _requests(self) -> list[Write]:
        with self._path.open("rb") as log:
            log.seek(self._from)
            lines = log.read().split(b"\n")[:-1]  # the last one is still being written
        return [request for line in lines if (request := _read(line))]


def beside_leases(*logs: AuditLog, starts: int = 0) -> list[Write]:
    """Return what we wrote beside Leases; each of `starts` may have asked for a serving certificate, once."""
    written = [write for log in logs for write in log.ours() if not write.is_lease]
    asked = Counter(write.resource for write in written)
    allowed = _CERTIFICATE if all(asked[resource] <= starts for resource in _CERTIFICATE) else ()
    return [write for write in written if write.resource not in allowed]


def summary(writes: Iterable[Write]) -> dict[str, int]:
    """Return how often each kind of write was made, for messages: {"patch pods/status 200": 3}."""
    return dict(Counter(f"{write.verb} {write.resource} {write.code}" for write in writes))


def _read(line: bytes) -> Write | None:
    entry = json.loads(line)
    about = entry.get("objectRef")
    if about is None:
        return None
    return Write(
        agent=entry.get("userAgent", ""), user=entry["user"].get("username", ""), verb=entry["verb"],
        resource="/".join(filter(None, (about["resource"], about.get("subresource")))),
        namespace=about.get("namespace", ""), name=about.get("name", ""),
        code=(entry.get("responseStatus") or {}).get("code", 0), at=parse_time(entry["requestReceivedTimestamp"]),
    )


async def until_quiet(*logs: AuditLog, during: float = 4.0, within: float = 30.0) -> None:
    """Return once we have written nothing but Leases for `during` seconds."""
    quiet_since, seen, give_up = time.monotonic(), -1, time.monotonic() + within
    while time.monotonic() - quiet_since < during:
        written = beside_leases(*logs)
        if len(written) != seen:
            quiet_since, seen = time.monotonic(), len(written)
        assert time.monotonic() < give_up, f"never quiet; at last: {', '.join(map(str, written[-5:]))}"
        await asyncio.sleep(0.2)
