"""Asks servers that are only just starting whether they work yet: silence and refusals are answers here, not errors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
import orjson

from kubeocean.kube.meta import Json

_EVERY = 0.1  # seconds between two looks
_PATIENCE = aiohttp.ClientTimeout(total=3)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Probe:
    """Asks with the credentials in `tls` (None: plain HTTP)."""

    session: aiohttp.ClientSession
    tls: ssl.SSLContext | None = None

    async def works(self, url: str) -> bool:
        """Tell whether `url` answers 200."""
        return await self._get(url) is not None

    async def read(self, url: str) -> Json | None:
        """Return the object at `url`; None when there is none, or no answer."""
        body = await self._get(url)
        return None if body is None else orjson.loads(body)

    async def _get(self, url: str) -> bytes | None:
        try:
            async with self.session.get(url, ssl=self.tls or False, timeout=_PATIENCE) as answer:
                return await answer.read() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


async def until(look: Callable[[], Awaitable[_T | None]]) -> _T:
    """Look again and again until the answer is true; return it. Give up by cancelling."""
    while True:
        if answer := await look():
            return answer
        await asyncio.sleep(_EVERY)
