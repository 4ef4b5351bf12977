"""kubectl port-forward to a Pod on a virtual node: many ports, many connections, over both protocols."""

import asyncio
import re
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.e2e.kubectl import FLAVOURS, Kubectl, Ways
from tests.e2e.shell import CLOSED_PORT, PORTS

pytestmark = pytest.mark.parametrize("ways", FLAVOURS, indirect=True)
CONNECTIONS = 40  # to each port, all at once
REQUEST = b"GET /healthz HTTP/1.0\r\n\r\n"


@asynccontextmanager
async def forwarded(kubectl: Kubectl, words: tuple[str, ...], count: int) -> AsyncIterator[tuple[Process, dict[int, int]]]:
    """Forward; gives the process and the local port of each remote one."""
    async with kubectl.started(*words) as process:
        assert process.stdout
        local: dict[int, int] = {}
        async with asyncio.timeout(20):
            while len(local) < count:
                line = (await process.stdout.readline()).decode()
                assert line, (await process.stderr.read()).decode() if process.stderr else ""
                if found := re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)", line):
                    local[int(found[2])] = int(found[1])
        yield process, local


async def ask(port: int, request: bytes = REQUEST) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


async def test_many_ports_and_many_connections_at_once(ways: Ways) -> None:
    words = ways.words("shell", ("port-forward", "{pod}", *(f":{port}" for port in PORTS)))
    async with forwarded(ways.virtual, words, len(PORTS)) as (_, local):
        assert set(local) == set(PORTS)
        answers = await asyncio.gather(*(ask(local[port]) for port in PORTS for _ in range(CONNECTIONS)))
        assert len(answers) == len(PORTS) * CONNECTIONS
        assert {answer.partition(b"\r\n\r\n")[2] for answer in answers} == {b"ok\n"}
        assert (await ask(local[PORTS[0]])).endswith(b"ok\n"), "and it goes on"


async def test_a_port_where_nobody_listens_is_refused_in_the_words_of_the_far_side(ways: Ways) -> None:
    said = [await complaint(way, *names) for way, *names in (
        (ways.virtual, "shell", ways.namespace), (ways.direct, ways.twin("shell"), ways.twins)
    )]
    assert "refused" in said[0]
    assert anonymous(said[0]) == anonymous(said[1])


async def complaint(kubectl: Kubectl, pod: str, namespace: str) -> str:
    words = ("port-forward", f"--namespace={namespace}", pod, f":{CLOSED_PORT}")
    async with forwarded(kubectl, words, 1) as (process, local), asyncio.timeout(20):
        # kubectl closes the connection as soon as it hears: what it had not read by then would make that a reset.
        assert await ask(local[CLOSED_PORT], request=b"") == b""
        said = b""
        while b"refused" not in said:
            assert process.stderr
            line = await process.stderr.readline()
            assert line, said
            said += line
        return said.decode()


def anonymous(text: str) -> str:
    """Return it without the local port, the moment and the numbers of one connection."""
    text = re.sub(r"\d\d:\d\d:\d\d\.\d+ +\d+ \w+\.go:\d+\]", "WHEN", text)
    return re.sub(rf"\b(?!{CLOSED_PORT})\d{{4,5}}\b", "N", text)
