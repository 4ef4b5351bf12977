"""Logs: one JSON line per event on stderr, or readable lines on a terminal.

Modules take their logger with `structlog.get_logger(__name__)` and pass facts as keywords; `configure_logging` decides
once per process how they look. Values whose key names a secret never reach a line, whoever logs them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Literal

import structlog

LogFormat = Literal["json", "console"]
LEVELS = ("debug", "info", "warning", "error")
_SECRET_KEYS = ("token", "password", "authorization", "kubeconfig", "secret_data", "private_key")


def configure_logging(*, level: str = "info", format: LogFormat | None = None) -> None:
    """Set up structlog for this process. `format` None means console on a terminal, JSON elsewhere."""
    chosen = format or ("console" if sys.stderr.isatty() else "json")
    threshold = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor = (
        # Not rich's tracebacks, which show the value of every local variable: tokens and kubeconfigs among them.
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback) if chosen == "console"
        else structlog.processors.JSONRenderer(default=str)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact_secrets,
            *([] if chosen == "console" else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _StderrLogger(),
        cache_logger_on_first_use=True,
    )
    # Libraries (aiohttp, asyncio) log through the standard library: warnings of theirs must not vanish.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)


class _StderrLogger:
    """Writes finished lines to whatever stderr is at that moment: loggers live as long as modules, streams may not.

    Where nobody reads any more (a proxier outlives its manager, and the pipe of both) a line is lost, and no work for its sake.
    """

    def msg(self, line: str) -> None:
        with suppress(OSError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = exception = msg


def redact_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the value of every key that names a secret (a structlog processor)."""
    for key in event:
        if any(word in key.lower() for word in _SECRET_KEYS):
            event[key] = "[redacted]"
    return event
