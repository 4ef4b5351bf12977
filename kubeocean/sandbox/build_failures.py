"""Why did a build fail? Go's complaints are looked through for the few causes that a person can do something about."""

from __future__ import annotations

import re
from collections.abc import Sequence

_QUOTED = 8  # lines

# The first pattern found decides: a full disk also makes compilers fail, so causes come before effects.
_CAUSES = tuple((re.compile(pattern, re.IGNORECASE), remedy) for pattern, remedy in (
    (r"no space left on device|disk quota exceeded",
     "the disk is full; make room, or move the caches with $XDG_CACHE_HOME, $GOCACHE and $GOMODCACHE"),
    (r"checksum mismatch|SECURITY ERROR",
     "a module is not the one that was pinned: what the module proxy serves was changed, or the download was; nothing "
     "of it is used. Check $GOPROXY"),
    (r"signal: killed|cannot allocate memory|out of memory",
     "memory ran out; linking needs about 3 GB, so close something or add swap, then try again"),
    (r"dial tcp|no such host|i/o timeout|timed out|connection re(fused|set)|network is unreachable|TLS handshake|"
     r"x509: |proxyconnect|module lookup disabled|unexpected EOF|: 50\d ",
     "the Go module proxy cannot be reached; check the network, or name a proxy of yours in $GOPROXY, then try again "
     "(what was fetched is kept)"),
    (r"permission denied|read-only file system",
     "a folder cannot be written; see the path below, and $GOCACHE, $GOMODCACHE and $XDG_CACHE_HOME"),
    (r"updates to go\.(mod|sum) needed|missing go\.sum entry",
     "go.mod and go.sum do not agree; run hack/update-go-modules"),
    (r"requires go >= |toolchain not available", "this Go is too old for the pinned modules; install a newer one"),
))


def explain(complaints: Sequence[str], doing: str) -> str:
    """Return a message: what failed, the likely cause with its remedy where it is known, and Go's own last lines."""
    said = "\n".join(complaints)
    cause = next((remedy for pattern, remedy in _CAUSES if pattern.search(said)), "the cause is in Go's own words")
    return f"{doing} failed: {cause}.\n" + "\n".join(f"  {line}" for line in complaints[-_QUOTED:])
