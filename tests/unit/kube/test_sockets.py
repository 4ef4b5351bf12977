"""An outgoing connection keeps nobody from listening on the port that the kernel gave it."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from kubeocean.kube.client import Client
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.resources import PODS
from kubeocean.kube.sockets import build_socket
from kubeocean.proxier.upstream import open_upstream


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def address_of(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


async def assert_such_a_connection(server: socket.socket) -> None:
    """See that the port of the next caller is to be had although he is connected."""
    async with asyncio.timeout(5):
        connection, (_, port) = await asyncio.get_running_loop().sock_accept(server)
    with connection:
        await listen(port)


async def listen(port: int) -> None:
    """Do as the proxier does for a virtual node. Raises OSError."""
    listener = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", port)
    listener.close()
    await listener.wait_closed()


async def test_its_port_is_to_be_had_while_it_lives_and_in_the_minute_after(server: socket.socket) -> None:
    connection = build_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ()))
    connection.connect(server.getsockname())
    port = connection.getsockname()[1]
    await listen(port)
    connection.close()  # first, so that it is this end which lingers
    await listen(port)


async def test_a_client_of_an_api_server_has_such_connections(server: socket.socket) -> None:
    async with Client(ServerConfig(address_of(server)), cluster="east") as client:
        asking = asyncio.create_task(client.get(PODS, "web", "ns"))
        await assert_such_a_connection(server)
        asking.cancel()


async def test_a_stream_of_the_proxier_is_such_a_connection(server: socket.socket) -> None:
    config, headers = ServerConfig(address_of(server)), CIMultiDictProxy(CIMultiDict[str]())
    opening = asyncio.create_task(open_upstream(config, "POST", "/", headers, cluster="east", user_agent="test"))
    await assert_such_a_connection(server)
    opening.cancel()
