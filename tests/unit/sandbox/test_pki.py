"""Certificates that servers and clients really accept, strict checks included."""

import asyncio
import ssl
from pathlib import Path

import pytest

from kubeocean.sandbox.pki import Authority, new_signing_key, write_pair


async def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """One TLS connection through memory; raises what either side raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=name)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(5):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.fixture
def authority() -> Authority:
    return Authority.create("test-ca")


def contexts(authority: Authority, other: Authority, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    write_pair(authority.pair, folder, "ca")
    write_pair(authority.issue("server", names=("localhost", "127.0.0.1", "10.89.1.1")), folder, "server")
    write_pair(other.issue("admin", organizations=("system:masters",)), folder, "client")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.crt"))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(folder / "server.crt", folder / "server.key")
    client = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(folder / "client.crt", folder / "client.key")
    return server, client


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "10.89.1.1"])
async def test_client_and_server_trust_each_other_under_every_name(
    authority: Authority, tmp_path: Path, name: str
) -> None:
    server, client = contexts(authority, authority, tmp_path)
    await asyncio.wait_for(handshake(server, client, name), 5)


async def test_a_name_that_was_not_asked_for_is_refused(authority: Authority, tmp_path: Path) -> None:
    server, client = contexts(authority, authority, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(server, client, "10.89.1.2")


async def test_a_client_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    server, client = contexts(authority, Authority.create("test-ca"), tmp_path)
    with pytest.raises(ssl.SSLError):
        await handshake(server, client, "localhost")


def test_a_key_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    write_pair(new_signing_key(), tmp_path, "tokens")
    assert (tmp_path / "tokens.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "tokens.crt").read_bytes().startswith(b"-----BEGIN PUBLIC KEY")
