"""The lever is one of asyncio's own: this tells when a new Python has moved it."""

import asyncio
import ssl
from asyncio import sslproto

import pytest

from kubeocean.kube.tlsbuffers import TLS_BUFFER, shrink_tls_buffers


async def buffer_size() -> int:
    loop, context = asyncio.get_running_loop(), ssl.create_default_context()
    protocol = sslproto.SSLProtocol(loop, asyncio.Protocol(), context, loop.create_future(), server_hostname="example")
    return len(protocol.get_buffer(-1))


async def test_a_new_tls_connection_reads_into_a_small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sslproto.SSLProtocol, "max_size", sslproto.SSLProtocol.max_size)  # put back in the end
    assert await buffer_size() > TLS_BUFFER
    shrink_tls_buffers()
    assert await buffer_size() == TLS_BUFFER
