"""Where virtual nodes are served on a laptop, a port that the kernel gave to somebody's connection is free all the same."""

import asyncio
import socket
import sys

import pytest

from kubeocean.kube.loopback import VNODE_LOOPBACK

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="loopback is one address there")


async def test_a_connection_of_another_program_keeps_no_port_from_a_virtual_node() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as caller:  # which shares its port with nobody
        caller.connect(server.getsockname())
        connection, (_, port) = server.accept()
        with connection:
            listener = await asyncio.get_running_loop().create_server(asyncio.Protocol, VNODE_LOOPBACK, port)
            listener.close()
            await listener.wait_closed()


def test_who_calls_a_virtual_node_takes_no_port_there() -> None:
    with socket.create_server((VNODE_LOOPBACK, 0)) as server, socket.create_connection(server.getsockname()) as caller:
        assert caller.getsockname()[0] == "127.0.0.1"
