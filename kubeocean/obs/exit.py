"""The last resort: a process that cannot stop what it must stop ends at once, and says so, for its supervisor to start anew."""

from __future__ import annotations

import logging
import os
import sys

import structlog

EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h

log = structlog.get_logger(__name__)


def exit_loudly(what: str) -> None:
    """End the process now, without any cleaning up; `what` says what did not end in time."""
    try:
        log.critical("the process ends by force", because=what)
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:  # also where nobody reads what we say
        os._exit(EXIT_CODE)
