"""List-then-watch without I/O: what to ask an API server next, and what its answers mean.

    STREAMING_LIST ──initial-events-end──► WATCHING ◄──listed── PAGED_LIST
          │  ▲                              │    ▲                   ▲
          │  └────────── expired (410) ─────┘    └─ cut: resume      │
          └───────────── 400 or 422, or no end in sight ─────────────┘

A *streaming list* is a watch that begins with every object and marks the end of them by an annotated bookmark; no
server keeps the whole answer in memory for it, and neither do we. Servers that refuse it are listed in pages. From then
on the same connection (or the next one) tells every change in order of resourceVersion, bookmarks included, so the last
one seen is the place to resume at after a cut. We list again only when the server cannot resume there: 410, a revision
it does not understand or has not reached.

A watch may be silent without being broken: bookmarks come every minute only once the server knows of a later revision,
which for a kind that nobody writes etcd tells every ten minutes, and for Events, which API servers do not cache, they never
come. So silence is no failure. It may also be a connection that is dead at the other end, so another one takes its place at
once; and a server whose etcd was restored is silent until it reaches the revision at which we resumed, so after more than
ten minutes without a word we list.

A list that fails half-way has told the truth about what it named and nothing about what it did not: the sink removes
objects only in `list_ends`. After an error the machine says how long to wait: doubling, and never a tight loop, not
even for a server that lists well and then refuses every watch.

Sources: KEP-3157 (streaming lists), KEP-956 (bookmarks), KEP-5504 (resourceVersions compare), "Efficient detection of
changes" in the API concepts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from random import uniform
from typing import Protocol

from kubeocean.kube.backoff import Backoff
from kubeocean.kube.codec import decode
from kubeocean.kube.errors import ApiError, BadRequest, Gone, Invalid, Unreachable, error_class
from kubeocean.kube.meta import Json, revision
from kubeocean.kube.skim import Skimmer

_INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_STREAMING_LIST = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
_BACKOFF = Backoff(base=0.5, cap=30.0, jitter=0.5)
_LONGEST_LINE = 32 * 2**20  # bytes; etcd takes 1.5 MiB an object, so whatever is longer is no watch event


class Phase(Enum):
    """What is asked next."""

    STREAMING_LIST = "streaming list"
    PAGED_LIST = "paged list"
    WATCHING = "watch"


class Sink(Protocol):
    """Who is told what the server has; called in order, must not raise, must not keep the caller long."""

    def list_begins(self) -> None:
        """Start to note what the list names; an unfinished list before it is forgotten."""

    def put(self, obj: Json) -> None:
        """Take the object as it is now."""

    def delete(self, obj: Json) -> None:
        """Take that the server said DELETED; `obj` is the last state."""

    def list_ends(self, revision: int) -> None:
        """Drop what the list did not name: all is known up to `revision`."""

    def advance(self, revision: int) -> None:
        """Take that nothing up to `revision` is still to come."""

    def pass_over(self, revision: int) -> None:
        """Take that what happened at `revision` concerns somebody else, and that nothing up to it is still to come."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient a watch is. Seconds."""

    silence: float = 100.0  # no byte for so long = the connection may be dead: another one resumes
    silences: int = 7  # so many watches in a row that never said a word = the server may be behind us: list again
    shortest_watch: float = 240.0  # the server is asked to end each watch after a random time between these,
    longest_watch: float = 480.0  # so that connections spread over its replicas again
    brief: float = 1.0  # a connection that ends sooner and told nothing counts as a failure
    backoff: Backoff = _BACKOFF


class LineSplitter:
    """Cuts a byte stream into lines; a line may be spread over many chunks."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes, without their ends. ValueError for an endless line."""
        lines = chunk.split(b"\n")
        if len(lines) > 1 and self._parts:
            lines[0] = b"".join((*self._parts, lines[0]))
            self._parts.clear()
            self._size = 0
        rest = lines.pop()
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
            if self._size > _LONGEST_LINE:
                raise ValueError(f"a line of more than {_LONGEST_LINE >> 20} MiB is no watch event")
        return [line for line in lines if line]

    @property
    def unfinished(self) -> bool:
        """Tell whether the last line has no end yet."""
        return bool(self._parts)


class ListWatch:
    """The state machine. `position` is the resourceVersion to resume at, "" before the first complete list.

    What `skimmer` says is foreign is passed over as if the server had selected it out.

    `consecutive_failures` and `last_error` are for health: 0 and None since the server last told something of use.
    """

    def __init__(
        self, sink: Sink, *, timing: Timing, cluster: str, what: str, skimmer: Skimmer | None = None
    ) -> None:
        self.phase = Phase.STREAMING_LIST
        self.position = ""
        self.consecutive_failures = 0
        self.last_error: Exception | None = None
        self._sink = sink
        self._timing = timing
        self._cluster, self._what, self._skimmer = cluster, what, skimmer
        self._pages = False  # the server has no streaming lists
        self._strikes = 0  # failures since a watch last made headway; what the backoff counts
        self._silences = 0  # watches in a row that were accepted and never said a word
        self._accepted = False  # the server has begun to answer this request
        self._spoke = False  # this connection brought at least one line,
        self._told = False  # and one while watching

    def begin(self) -> Phase:
        """Call before every request; the answer says which."""
        self._accepted = self._spoke = self._told = False
        if self.phase is not Phase.WATCHING:
            self._sink.list_begins()
        return self.phase

    def accepted(self) -> None:
        """Take that the server has begun to answer the watch that was asked for."""
        self._accepted = True

    def params(self, selectors: Mapping[str, str]) -> dict[str, str]:
        """Return the query of the watch to open now."""
        seconds = uniform(self._timing.shortest_watch, self._timing.longest_watch)
        params = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(int(seconds)), **selectors}
        return params | (_STREAMING_LIST if self.phase is Phase.STREAMING_LIST else {"resourceVersion": self.position})

    def receive(self, line: bytes) -> None:
        """Take one line of a watch.

        Raises what an ERROR event says, Gone when history was rewound, ValueError when the line is no JSON object.
        """
        self._spoke, self._silences = True, 0
        if self._skimmer and (position := self._skimmer.position_of_foreign(line)):
            self._pass_over(position)
            return
        event = decode(line)
        kind, obj = event["type"], event["object"]
        if kind == "BOOKMARK":
            self._bookmark(obj)
            return
        if kind == "ERROR":
            raise self._error(obj)
        position = obj["metadata"]["resourceVersion"]
        if kind == "DELETED":
            self._sink.delete(obj)
        else:
            self._sink.put(obj)
        if self.phase is Phase.WATCHING:
            # Initial events come in order of name, not of revision: they are no place to resume at.
            self.position = position
            self._headway()

    def _pass_over(self, position: str) -> None:
        """Take that something happened to an object that is nobody's here. A list merely does not name it."""
        if self.phase is Phase.WATCHING:
            self.position = position
            self._headway()
            self._sink.pass_over(revision(position))

    def listed(self, resource_version: str) -> None:
        """Take that the whole list was told to the sink."""
        self.phase = Phase.WATCHING
        self.position = resource_version
        self.consecutive_failures, self.last_error = 0, None
        self._sink.list_ends(revision(resource_version))

    def ended(self, *, lived: float) -> float:
        """Take that a watch ended in good order after `lived` seconds; return the seconds to wait before the next."""
        if self.phase is not Phase.WATCHING:
            return self.failed(Unreachable(f"{self._say()}: ended before the list was complete", cluster=self._cluster))
        if not self._told and lived < self._timing.brief:
            return self.failed(Unreachable(f"{self._say()}: ended at once", cluster=self._cluster))
        self._headway()
        return 0.0

    def failed(self, error: Exception) -> float:
        """Take that the request or its connection failed; return the seconds to wait before the next."""
        if self.phase is Phase.STREAMING_LIST and isinstance(error, BadRequest | Invalid):
            self._page()  # not a failure: the server is older than streaming lists
            return 0.0
        self._strikes += 1
        if self.phase is Phase.WATCHING and _lost_our_place(error):
            self._start_over()
            if self._strikes == 1:
                return 0.0  # not a failure either: a revision ages
        self.consecutive_failures += 1
        self.last_error = error
        backoff = self._timing.backoff
        retry_after = error.retry_after if isinstance(error, ApiError) else None
        # A balancer's idea of how long it will be away must not keep us from seeing what happens once it is back.
        return max(backoff.delay(self._strikes), min(retry_after or 0.0, backoff.cap))

    def silent(self) -> float:
        """Take that nothing came for `timing.silence` seconds; return the seconds to wait before the next request."""
        if self.phase is Phase.WATCHING and self._accepted:
            self._silences += not self._spoke
            if self._silences >= self._timing.silences:
                self._silences = 0
                self._start_over()
            return 0.0
        wait = self.failed(Unreachable(f"{self._say()}: silent for {self._timing.silence:g} s", cluster=self._cluster))
        if self.phase is Phase.STREAMING_LIST:
            # Either the cluster is cut off, or the server overlooks sendInitialEvents and will never mark the end.
            self._page()
        return wait

    def _start_over(self) -> None:
        self.phase = Phase.PAGED_LIST if self._pages else Phase.STREAMING_LIST

    def _page(self) -> None:
        self._pages = True
        self.phase = Phase.PAGED_LIST

    def _headway(self) -> None:
        self._told = True
        if self._strikes:
            self._strikes = self.consecutive_failures = 0
            self.last_error = None

    def _bookmark(self, obj: Json) -> None:
        metadata = obj["metadata"]
        position = metadata["resourceVersion"]
        if self.phase is Phase.STREAMING_LIST:
            if (metadata.get("annotations") or {}).get(_INITIAL_EVENTS_END) != "true":
                message = f"{self._say()}: a bookmark before {_INITIAL_EVENTS_END}: sendInitialEvents was overlooked"
                raise Invalid(message, cluster=self._cluster, status=422)
            self.listed(position)
            return
        if revision(position) < revision(self.position):
            # Only a restored etcd goes back in time; what we hold may never have happened there.
            message = f"{self._say()}: went back from {self.position} to {position}"
            raise Gone(message, cluster=self._cluster, status=410)
        self.position = position
        self._headway()
        self._sink.advance(revision(position))

    def _error(self, status: Json) -> ApiError:
        code, reason = int(status.get("code") or 0), str(status.get("reason") or "")
        message = f"{self._say()}: {status.get('message') or reason or code}"
        seconds = (status.get("details") or {}).get("retryAfterSeconds")
        retry_after = float(seconds) if seconds else None
        return error_class(code, reason)(
            message, cluster=self._cluster, status=code, reason=reason, retry_after=retry_after
        )

    def _say(self) -> str:
        return f"{self._cluster}: {self.phase.value} of {self._what}"


def _lost_our_place(error: Exception) -> bool:
    """Tell whether the server cannot resume at our resourceVersion: too old, unreadable, or (504) of its future."""
    return isinstance(error, Gone | BadRequest | Invalid) or (isinstance(error, ApiError) and error.status == 504)
