"""What the API servers themselves say was written, by whom and when: their audit logs.

They are exact where an observer is not: every write is in them, also the futile ones, with the microsecond it arrived
(`requestReceivedTimestamp`) and was answered (`stageTimestamp`). Reads are not logged (see the sandbox's audit policy).
All servers of a sandbox share one clock, so moments in different logs can be compared.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

OURS = ("kubeocean-manager", "kubeocean-syncer", "kubeocean-proxier")
LEASES = "leases"
# The price of time, what a proxier asks for once as it starts, and questions that are asked as a POST.
_NOT_FOR_PODS = (
    LEASES, "certificatesigningrequests", "certificatesigningrequests/approval",
    "selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews", "tokenreviews",
)
_LONGEST_LINE = 64 * 2**10  # bytes; an event of level Metadata has some hundreds


@dataclass(frozen=True, slots=True)
class Write:
    """One request that changes something; `received` and `completed` are seconds since 1970, by the server's clock.

    resource: plural, with the subresource after a slash, as in `pods/status`. name: "" where the server named it.
    """

    program: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    received: float
    completed: float


@dataclass(frozen=True, slots=True)
class WriteCount:
    """How often one program did one thing in one kind of cluster; `mean_ms` is the server's own time for it."""

    side: str
    program: str
    verb: str
    resource: str
    count: int
    failed: int
    mean_ms: float

    @property
    def ours(self) -> bool:
        """Tell whether Kubeocean wrote it for the sake of Pods: leases, certificates and questions about rights are not."""
        return self.program in OURS and self.resource not in _NOT_FOR_PODS


def parse_line(line: bytes) -> Write | None:
    """Return the write that a line of an audit log tells of, None for what is none (a read, an unfinished stage).

    A write is one that was answered, refused ones included. Raises ValueError for a line that is no audit event.
    """
    event = orjson.loads(line)
    if event.get("stage") != "ResponseComplete" or event.get("verb") in ("get", "list", "watch"):
        return None
    reference: dict[str, Any] = event.get("objectRef") or {}
    resource, subresource = reference.get("resource", ""), reference.get("subresource", "")
    return Write(
        program=program_of(event.get("userAgent", "")), verb=event["verb"],
        resource=f"{resource}/{subresource}" if subresource else resource,
        namespace=reference.get("namespace", ""), name=reference.get("name", ""),
        code=(event.get("responseStatus") or {}).get("code", 0),
        received=_moment(event["requestReceivedTimestamp"]), completed=_moment(event["stageTimestamp"]),
    )


def program_of(user_agent: str) -> str:
    """Return which program a User-Agent names.

    >>> program_of("kube-scheduler/v1.34.4 (linux/amd64) kubernetes/d1c2/scheduler")
    'kube-scheduler'
    """
    return user_agent.split("/", 1)[0].split(" ", 1)[0] or "unknown"


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class AuditTail:
    """Reads what is added to one audit log from now on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = self._end_of_whole_lines()

    def read(self) -> list[Write]:
        """Return the writes since the last call; a line that is still being written is left for the next one."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [write for line in whole.splitlines() if line and (write := parse_line(line))]

    def _end_of_whole_lines(self) -> int:
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, size - _LONGEST_LINE))
            return start + file.read(size - start).rfind(b"\n") + 1


def count_writes(writes: Mapping[str, Iterable[Write]]) -> list[WriteCount]:
    """Return who wrote what how often, by side (`virtual`, `physical`); the most frequent first."""
    groups: dict[tuple[str, str, str, str], list[Write]] = defaultdict(list)
    for side, each_side in writes.items():
        for write in each_side:
            groups[side, write.program, write.verb, write.resource].append(write)
    counts = [
        WriteCount(
            *key, count=len(group), failed=sum(write.code >= 400 for write in group),
            mean_ms=1000 * sum(write.completed - write.received for write in group) / len(group),
        )
        for key, group in groups.items()
    ]
    return sorted(counts, key=lambda each: (-each.count, each.side, each.program, each.verb, each.resource))


def own_writes(counts: Iterable[WriteCount], side: str) -> int:
    """Return how often Kubeocean wrote to one kind of cluster, as far as Pods are the cause (see `WriteCount.ours`)."""
    return sum(each.count for each in counts if each.ours and each.side == side)
