"""A port that somebody else holds is told of when that lasts; what is not the port's fault never is."""

import socket
import ssl
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web

from kubeocean.proxier import listeners as module
from kubeocean.proxier.listeners import Listeners

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


async def handle(request: web.BaseRequest, node: str) -> web.StreamResponse:
    return web.Response(text=node)


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


@pytest.fixture
async def listeners() -> AsyncIterator[Listeners]:
    listeners = Listeners(handle, address="127.0.0.1")
    yield listeners
    await listeners.close()


async def test_a_taken_port_is_blocked_when_that_lasts_and_no_longer_when_it_is_free(
    taken: socket.socket, clock: list[float], listeners: Listeners
) -> None:
    port = taken.getsockname()[1]
    await listeners.serve({"vnode-a": port}, CONTEXT)
    assert "in use" in listeners.troubles["vnode-a"]
    assert listeners.blocked == {}
    clock[0] += module.BLOCKED_AFTER + 1
    await listeners.serve({"vnode-a": port}, CONTEXT)
    assert listeners.blocked == {"vnode-a": port}
    taken.close()
    await listeners.serve({"vnode-a": port}, CONTEXT)
    assert (listeners.blocked, listeners.troubles, listeners.count) == ({}, {}, 1)


async def test_a_node_that_has_moved_is_not_blocked_any_more(
    taken: socket.socket, clock: list[float], listeners: Listeners
) -> None:
    await listeners.serve({"vnode-a": taken.getsockname()[1]}, CONTEXT)
    clock[0] += module.BLOCKED_AFTER + 1
    await listeners.serve({}, CONTEXT)
    assert listeners.blocked == {}


async def test_an_address_that_is_not_ours_is_a_trouble_and_no_port_is_to_blame(clock: list[float]) -> None:
    listeners = Listeners(handle, address="192.0.2.1")
    await listeners.serve({"vnode-a": 20000}, CONTEXT)
    clock[0] += module.BLOCKED_AFTER + 1
    assert "192.0.2.1:20000" in listeners.troubles["vnode-a"]
    assert listeners.blocked == {}
    await listeners.close()
