"""A door in front of an API server: closed, the cluster is as good as gone for whoever came through it."""

import asyncio
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from kubeocean.sandbox.state import ClusterHandle


class Gate:
    """Forwards connections to a cluster's API server while it is open. `async with Gate(cluster) as gate`."""

    def __init__(self, cluster: ClusterHandle) -> None:
        self._cluster = cluster
        self._server: asyncio.Server | None = None
        self._port = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "Gate":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Let connections through, at the same address as before."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut every connection and refuse new ones."""
        if self._server:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    def kubeconfig(self) -> bytes:
        """Return the administrator's kubeconfig, leading through the gate."""
        config = yaml.safe_load(Path(self._cluster.kubeconfig).read_bytes())
        for cluster in config["clusters"]:
            cluster["cluster"]["server"] = f"https://127.0.0.1:{self._port}"
        return yaml.safe_dump(config).encode()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = urlsplit(self._cluster.server)
        try:
            there = await asyncio.open_connection(address.hostname, address.port)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, there[1]}
        await asyncio.gather(self._pump(reader, there[1]), self._pump(there[0], writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        self._open.discard(writer)
        writer.close()
