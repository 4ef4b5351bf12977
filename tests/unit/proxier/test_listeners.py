"""Ports of virtual nodes: opened and closed with them, and not to be held by whoever says nothing."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from kubeocean.proxier import listeners as module
from kubeocean.proxier.listeners import Listeners
from kubeocean.sandbox.ports import choose_ports


@pytest.fixture
async def listeners(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listeners]:
    monkeypatch.setattr(module, "HEAD_WITHIN", 0.3)
    monkeypatch.setattr(module, "HANDSHAKE_WITHIN", 0.3)

    async def answer(request: web.BaseRequest, vnode: str) -> web.StreamResponse:
        await asyncio.sleep(float(request.rel_url.query.get("seconds", "0")))
        return web.Response(text=vnode)

    made = Listeners(answer, address="127.0.0.1")
    yield made
    await made.close()


@pytest.fixture
def ports() -> list[int]:
    return choose_ports(2, ("127.0.0.1",))


@pytest.fixture
def port(ports: list[int]) -> int:
    return ports[0]


def _plain() -> ssl.SSLContext:
    """Return None where a context is due: what is tested here is HTTP, which is the same over TLS."""
    return None  # type: ignore[return-value]


async def _say(port: int, words: bytes) -> bytes:
    """Return all that is answered until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(words)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n%s\r\n"


async def test_the_port_tells_which_node_is_meant(listeners: Listeners, ports: list[int]) -> None:
    port, other = ports
    await listeners.serve({"a": port, "b": other}, _plain())
    assert (await _say(port, GET % (b"", b"Connection: close\r\n"))).endswith(b"a")
    assert (await _say(other, GET % (b"", b"Connection: close\r\n"))).endswith(b"b")


async def test_a_node_that_goes_is_served_no_longer_and_one_that_comes_is(listeners: Listeners, ports: list[int]) -> None:
    port, other = ports
    await listeners.serve({"a": port}, _plain())
    await listeners.serve({"b": other}, _plain())
    with pytest.raises(ConnectionRefusedError):
        await _say(port, b"")
    assert (await _say(other, GET % (b"", b"Connection: close\r\n"))).endswith(b"b")


async def test_a_port_that_somebody_holds_is_told_and_keeps_no_other_node_from_being_served(
    listeners: Listeners, ports: list[int]
) -> None:
    port, held = ports
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as whoever chose the port tried it
        holder.bind(("127.0.0.1", held))
        holder.listen()
        await listeners.serve({"a": held, "b": port}, _plain())
        assert list(listeners.troubles) == ["a"]
        assert (await _say(port, GET % (b"", b"Connection: close\r\n"))).endswith(b"b")
    await listeners.serve({"a": held, "b": port}, _plain())
    assert listeners.troubles == {}


SLOW = {
    "nothing": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: ",
    "an answered request, then half a head": GET % (b"", b"") + b"GET",
}


@pytest.mark.parametrize("words", SLOW.values(), ids=SLOW)
async def test_who_does_not_say_what_he_wants_is_hung_up_on(listeners: Listeners, port: int, words: bytes) -> None:
    await listeners.serve({"a": port}, _plain())
    before = asyncio.get_running_loop().time()
    await _say(port, words)
    assert asyncio.get_running_loop().time() - before < 3


async def test_a_head_that_comes_byte_by_byte_is_not_waited_for(listeners: Listeners, port: int) -> None:
    await listeners.serve({"a": port}, _plain())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(5):
        writer.write(b"GET / HTTP/1.1\r\n")
        while not reader.at_eof():
            try:
                writer.write(b"x: y\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
            except ConnectionError:
                break
    writer.close()


async def test_who_does_not_begin_with_tls_is_hung_up_on(listeners: Listeners, port: int) -> None:
    await listeners.serve({"a": port}, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    before = asyncio.get_running_loop().time()
    assert await _say(port, b"") == b""
    assert asyncio.get_running_loop().time() - before < 3


HEADS = {
    "a line beyond all length": GET % (b"x" * 40_000, b""),
    "a header beyond all length": GET % (b"", b"X: " + b"x" * 40_000 + b"\r\n"),
}


@pytest.mark.parametrize("words", HEADS.values(), ids=HEADS)
async def test_an_oversized_head_is_refused(listeners: Listeners, port: int, words: bytes) -> None:
    await listeners.serve({"a": port}, _plain())
    assert (await _say(port, words)).startswith(b"HTTP/1.0 400") or (await _say(port, words)).startswith(b"HTTP/1.1 400")


async def test_what_is_being_answered_is_answered_when_the_ports_close(listeners: Listeners, port: int) -> None:
    await listeners.serve({"a": port}, _plain())
    busy = asyncio.create_task(_say(port, GET % (b"?seconds=0.2", b"")))
    await asyncio.sleep(0.1)
    await listeners.stop_listening()
    assert (await busy).endswith(b"a")
    with pytest.raises(ConnectionRefusedError):
        await _say(port, b"")
