"""One TCP port per virtual node: the request's path does not name the node, so the port must.

Listeners follow the virtual nodes: a node that comes, goes or changes its port is served, or no longer, with the next look.
A port that cannot be opened is tried again with every look, and said so in the log (once) and in `troubles`; one that somebody
else holds for a while is in `blocked`, too. Other nodes are served meanwhile. All listeners share one server, so closing one
ends no stream of another.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Final

import structlog
from aiohttp import web

HEAD_WITHIN: Final = 15.0  # seconds for a caller to say what it wants; also how long an idle connection is kept
BLOCKED_AFTER: Final = 5.0  # seconds: whoever had the ports before us, and is ending, has closed them by then
HANDSHAKE_WITHIN: Final = 10.0  # seconds for TLS
_BACKLOG: Final = 512
_LONGEST_LINE: Final = 2**14  # of a request's line, and of a header

log = structlog.get_logger(__name__)


class _Site(web.TCPSite):
    """A TCPSite whose callers must be done with TLS in time; aiohttp would leave them asyncio's minute."""

    async def start(self) -> None:
        """Listen."""
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None, "the runner was set up"
        self._server = await asyncio.get_running_loop().create_server(
            server, self._host, self._port, ssl=self._ssl_context, backlog=self._backlog,
            ssl_handshake_timeout=HANDSHAKE_WITHIN if self._ssl_context else None,
        )


class Listeners:
    """Serves `handle(request, vnode)` on the port of every virtual node."""

    def __init__(self, handle: Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]], *, address: str) -> None:
        self._handle, self._address = handle, address
        self._nodes: dict[int, str] = {}
        self._sites: dict[int, web.BaseSite] = {}
        self._runner: web.ServerRunner | None = None
        self._serial = asyncio.Lock()
        self.troubles: dict[str, str] = {}  # by virtual node
        self._taken: dict[int, float] = {}  # ports that somebody else holds, and since when (monotonic)

    async def serve(self, ports: Mapping[str, int], context: ssl.SSLContext) -> None:
        """Listen for exactly these virtual nodes from now on."""
        async with self._serial:
            wanted = {port: node for node, port in ports.items() if port}
            self._nodes = wanted
            for port in [port for port in self._sites if port not in wanted]:
                await self._sites.pop(port).stop()
            before, self.troubles = self.troubles, {}
            for port in wanted:
                if port not in self._sites:
                    await self._open(port, context)
            for node, trouble in self.troubles.items():
                if before.get(node) != trouble:
                    log.warning("virtual node is not served", node=node, error=trouble)
            self._taken = {port: since for port, since in self._taken.items() if self._nodes.get(port) in self.troubles}

    @property
    def blocked(self) -> dict[str, int]:
        """Return the virtual nodes whose port somebody else has held for a while, and the port."""
        now = monotonic()
        return {self._nodes[port]: port for port, since in self._taken.items() if now - since > BLOCKED_AFTER}

    async def _open(self, port: int, context: ssl.SSLContext) -> None:
        if self._runner is None:
            server = web.Server(
                self._dispatch, handler_cancellation=True, keepalive_timeout=HEAD_WITHIN, lingering_time=0, access_log=None,
                max_line_size=_LONGEST_LINE, max_field_size=_LONGEST_LINE,
            )
            self._runner = web.ServerRunner(server, shutdown_timeout=0.0)
            await self._runner.setup()
        site = _Site(self._runner, self._address, port, ssl_context=context, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            self.troubles[self._nodes[port]] = f"cannot listen on {self._address}:{port}: {why}"
            if error.errno == errno.EADDRINUSE:  # any other trouble is not the port's: the next one would have it too
                self._taken.setdefault(port, monotonic())
        else:
            self._sites[port] = site

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        port = transport.get_extra_info("sockname")[1] if transport else 0
        node = self._nodes.get(port)
        if node is None:
            return web.Response(status=404, text="no virtual node is served here any more\n")
        return await self._handle(request, node)

    @property
    def count(self) -> int:
        """Return how many ports are open."""
        return len(self._sites)

    async def stop_listening(self) -> None:
        """Close every port; a request that is being answered is answered, its connection takes no other. `serve` may follow."""
        async with self._serial:
            for site in self._sites.values():
                await site.stop()
            self._sites, self._taken = {}, {}
            if self._runner and self._runner.server:
                for connection in self._runner.server.connections:
                    connection.close()

    async def close(self) -> None:
        """Stop listening; connections that are no streams are closed."""
        async with self._serial:
            self._nodes, self._taken = {}, {}
            for site in self._sites.values():
                await site.stop()
            self._sites = {}
            if self._runner:
                await self._runner.cleanup()
                self._runner = None
