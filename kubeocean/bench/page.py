"""A page that a program under measurement serves on loopback."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp

_TIMEOUT = aiohttp.ClientTimeout(total=5)


async def read_page(url: str) -> str | None:
    """Return the page; None while it is not there."""
    with suppress(aiohttp.ClientError, asyncio.TimeoutError):
        async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False) as session, session.get(url) as answer:
            return await answer.text() if answer.status == 200 else None
    return None
