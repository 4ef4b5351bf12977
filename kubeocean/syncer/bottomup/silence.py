"""Notices when a physical cluster has been silent for so long that its nodes are Unknown, and when it is heard again.

Nothing in our caches changes at that moment, so nothing else would make anybody look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

import structlog

from kubeocean.syncer.pairing import Pairing

CHECK_EVERY = 0.5  # seconds

log = structlog.get_logger(__name__)


async def watch_silence(pairing: Pairing, on_change: Callable[[], None]) -> NoReturn:
    """Call `on_change` whenever `pairing.unknown_since()` has begun or ceased to be None; for ever."""
    unknown = False
    while True:
        await asyncio.sleep(CHECK_EVERY)
        if unknown != (pairing.unknown_since() is not None):
            unknown = not unknown
            how = "Unknown" if unknown else "known again"
            log.warning("how the physical nodes fare has changed", binding=pairing.binding_name, they_are=how)
            on_change()
