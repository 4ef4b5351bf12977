"""Streams that stay open while a test does something to those who carry them."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from subprocess import PIPE, STDOUT

from kubeocean.kube.loopback import VNODE_LOOPBACK
from tests.integration.federation import eventually
from tests.integration.kubectl import Kubectl
from tests.integration.programs import free_port

# KWOK's exec does not pass on that stdin has ended.
ECHO = 'while read -r line && [ "$line" != bye ]; do echo "$line"; done'


@dataclass
class Typing:
    """`kubectl exec -i` of a shell: what is typed comes back, until it is told good-bye."""

    process: asyncio.subprocess.Process

    async def echoes(self, words: str) -> None:
        """Type a line and see it come back."""
        assert self.process.stdin
        assert self.process.stdout
        line = f"{words}\n".encode()
        self.process.stdin.write(line)
        async with asyncio.timeout(20):
            assert await self.process.stdout.readexactly(len(line)) == line

    async def finish(self) -> None:
        """Say good-bye; the command ends by itself, and well."""
        assert self.process.stdin
        self.process.stdin.write(b"bye\n")
        await self.ended(within=20)
        assert self.process.returncode == 0

    async def ended(self, *, within: float) -> None:
        """Return once kubectl has ended. Fails when that takes longer than `within` seconds."""
        async with asyncio.timeout(within):
            await self.process.wait()


@dataclass
class Forwarding:
    """`kubectl port-forward`, and one connection through it."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answers(self) -> None:
        """Ask something on the connection, and have the answer."""
        self.writer.write(b"GET / HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(20):
            assert (await self.reader.readline()).startswith(b"HTTP/1."), "the far end answers"

    async def ended(self, *, within: float) -> None:
        """Return once the connection has ended. Fails when that takes longer than `within` seconds."""
        async with asyncio.timeout(within):
            await self.reader.read()


@asynccontextmanager
async def typing(kubectl: Kubectl, namespace: str, pod: str) -> AsyncIterator[Typing]:
    process = await asyncio.create_subprocess_exec(
        *kubectl.argv, "exec", "-i", pod, "-n", namespace, "--", "sh", "-c", ECHO, stdin=PIPE, stdout=PIPE
    )
    try:
        stream = Typing(process)
        await stream.echoes("is anybody there?")
        yield stream
    finally:
        await _end(process)


@asynccontextmanager
async def forwarding(kubectl: Kubectl, namespace: str, pod: str, *, spdy: bool = False) -> AsyncIterator[Forwarding]:
    """With `spdy` kubectl learns at once that the far end is gone; over WebSocket some seconds later, whoever carries it."""
    port = free_port(VNODE_LOOPBACK)
    process = await asyncio.create_subprocess_exec(
        *kubectl.argv, "port-forward", pod, "-n", namespace, f"--address={VNODE_LOOPBACK}", f"{port}:80",
        stdout=PIPE, stderr=STDOUT, env={**os.environ, "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false" if spdy else "true"},
    )

    async def connected() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_connection(VNODE_LOOPBACK, port)
        except ConnectionRefusedError as error:
            raise AssertionError("kubectl does not listen yet") from error

    try:
        reader, writer = await eventually(connected, within=20, what="kubectl forwards the port")
        yield Forwarding(process, reader, writer)
        writer.close()
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
