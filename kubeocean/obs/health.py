"""`/healthz`, `/readyz` and `/metrics`: read-only, unauthenticated, and therefore unable to do anything.

A check is a function that returns what is wrong, or None. `/healthz` says whether this process should be restarted,
`/readyz` whether it should get work; both list every check, as the API server's own do with `?verbose`.
Ports are those of the Go project: health on :8081, metrics on :8080; an address of "0" turns one off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

_FLAGS = {"health": "--health-probe-bind-address", "metrics": "--metrics-bind-address"}
Check = Callable[[], str | None]


class InvalidAddress(ValueError):
    """A bind address is not `HOST:PORT`, `:PORT` or `0`."""


def parse_bind_address(address: str, *, flag: str) -> tuple[str | None, int] | None:
    """Read `HOST:PORT`, `[V6]:PORT` or `:PORT` (all interfaces); "0" or "" means off and gives None.

    >>> parse_bind_address(":8081", flag="--health-probe-bind-address")
    (None, 8081)
    """
    if address in ("", "0"):
        return None
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InvalidAddress(f"{flag}: {address!r} is no address; write HOST:PORT, :PORT, or 0 to turn it off")
    return host.strip("[]") or None, int(port)


class HealthServer:
    """Serves health checks and metrics of this process; `start` and `stop` inside the event loop."""

    def __init__(
        self, *, health_address: str, metrics_address: str, registry: CollectorRegistry = REGISTRY,
        live: Mapping[str, Check] | None = None, ready: Mapping[str, Check] | None = None,
    ) -> None:
        self._given = {"health": health_address, "metrics": metrics_address}
        self._addresses = {name: parse_bind_address(text, flag=_FLAGS[name]) for name, text in self._given.items()}
        self._registry = registry
        self.live: dict[str, Check] = dict(live or {})
        self.ready: dict[str, Check] = dict(ready or {})
        self._runners: list[web.AppRunner] = []
        self.ports: dict[str, int] = {}

    async def start(self) -> None:
        """Listen. An address that cannot be had raises OSError, whose text names it and its flag."""
        for name, address in self._addresses.items():
            if address is None:
                continue
            app = web.Application()
            app.add_routes(self._health_routes() if name == "health" else [web.get("/metrics", self._metrics)])
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            self._runners.append(runner)
            try:
                await web.TCPSite(runner, *address).start()
            except OSError as error:
                number = error.errno or 0
                why = os.strerror(number) if number > 0 else error.strerror  # negative: of the resolver
                text = f"{_FLAGS[name]}: cannot listen on {self._given[name]!r}: {why}; choose another, or 0 to turn it off"
                raise OSError(text) from error
            self.ports[name] = runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the listeners; safe to call twice."""
        while self._runners:
            await self._runners.pop().cleanup()

    def _health_routes(self) -> list[web.RouteDef]:
        async def healthz(_: web.Request) -> web.Response:
            return _answer(self.live)

        async def readyz(_: web.Request) -> web.Response:
            return _answer(self.ready)

        return [web.get("/healthz", healthz), web.get("/readyz", readyz)]

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(checks: Mapping[str, Check]) -> web.Response:
    problems = {name: check() for name, check in checks.items()}
    lines = [f"[-] {name} failed: {problem}" if problem else f"[+] {name} ok" for name, problem in problems.items()]
    failed = any(problems.values())
    lines.append("check failed" if failed else "ok")
    return web.Response(text="\n".join(lines) + "\n", status=503 if failed else 200)
