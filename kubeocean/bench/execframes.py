"""What `kubectl exec` says over a WebSocket (v5.channel.k8s.io): paths, frames, exit statuses. Pure.

A frame is one byte for its channel and then bytes of that channel. The API servers and a kubelet take the same question under
different names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, urlencode

PROTOCOL: Final = "v5.channel.k8s.io"
STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3
LONGEST: Final = 32 * 1024 - 1  # bytes of one frame's payload, as kubectl sends it


def build_api_target(namespace: str, pod: str, container: str, command: Sequence[str], *, stdin: bool) -> str:
    """Return path and query of an exec, as a user asks an API server."""
    query = [("container", container), *(("command", word) for word in command), ("stdout", "true"), ("stderr", "true")]
    if stdin:
        query.append(("stdin", "true"))
    return f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/exec?{urlencode(query)}"


def build_kubelet_target(namespace: str, pod: str, container: str, command: Sequence[str], *, stdin: bool) -> str:
    """Return path and query of an exec, as an API server asks a kubelet."""
    query = [*(("command", word) for word in command), ("output", "1"), ("error", "1")]
    if stdin:
        query.append(("input", "1"))
    return f"/exec/{quote(namespace)}/{quote(pod)}/{quote(container)}?{urlencode(query)}"


def build_stdin(data: bytes) -> bytes:
    """Return the frame that brings `data` to the command."""
    return bytes((STDIN,)) + data


def parse_frame(frame: bytes) -> tuple[int, bytes]:
    """Return channel and bytes of a frame. Raises ValueError for one without a channel."""
    if not frame:
        raise ValueError("a frame without a channel")
    return frame[0], frame[1:]


def parse_exit(status: bytes) -> int | None:
    """Return the exit code that the last frame of a command tells; None when the command did not end by itself.

    >>> parse_exit(b'{"status": "Success"}')
    0
    """
    try:
        said = json.loads(status)
        if said["status"] == "Success":
            return 0
        causes = (said.get("details") or {}).get("causes") or ()
        return next((int(cause["message"]) for cause in causes if cause.get("reason") == "ExitCode"), None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
