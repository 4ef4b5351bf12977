"""A certificate from a Secret: followed as it changes, and never given up for one that is unusable."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import cast

import pytest

from kubeocean.kube.client import Client
from kubeocean.kube.meta import ObjectKey
from kubeocean.kube.resources import SECRETS
from kubeocean.proxier.givencertificate import GivenCertificate
from kubeocean.sandbox.pki import Authority, KeyPair
from tests.unit.syncer.watching import Watches
from tests.unit.syncer.world import Server

pytestmark = pytest.mark.looptime
PLACE = ObjectKey("kube-system", "proxier-tls")
AUTHORITY = Authority.create("test")


def _now() -> datetime:
    return datetime.now(UTC)


def _put(server: Server, pair: KeyPair, *, without: str = "") -> None:
    data = {"tls.crt": pair.certificate, "tls.key": pair.key}
    server.put(SECRETS, {
        "metadata": {"name": PLACE.name, "namespace": PLACE.namespace},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items() if key != without},
    })


@asynccontextmanager
async def _followed(server: Server) -> AsyncIterator[GivenCertificate]:
    certificate = GivenCertificate(cast(Client, Watches(server)), namespace=PLACE.namespace, name=PLACE.name)
    task = asyncio.create_task(certificate.run())
    try:
        await asyncio.sleep(1)
        yield certificate
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_in_the_secret_is_shown_and_what_comes_later_too() -> None:
    server, pairs = Server(_now), [AUTHORITY.issue("node", names=["10.0.0.10"]) for _ in range(2)]
    _put(server, pairs[0])
    async with _followed(server) as certificate:
        assert (certificate.trouble, certificate._shown) == ("", (pairs[0].certificate, pairs[0].key))
        _put(server, pairs[1])
        await asyncio.sleep(1)
        assert certificate._shown == (pairs[1].certificate, pairs[1].key)


async def test_a_missing_secret_is_told_and_taken_up_when_it_comes() -> None:
    server = Server(_now)
    async with _followed(server) as certificate:
        assert "kube-system/proxier-tls: there is none" in certificate.trouble
        _put(server, AUTHORITY.issue("node", names=["10.0.0.10"]))
        await asyncio.sleep(15)
        assert certificate.trouble == ""


async def test_an_unusable_one_leaves_the_one_before_in_place() -> None:
    server, first, second = Server(_now), *(AUTHORITY.issue("node", names=["10.0.0.10"]) for _ in range(2))
    _put(server, first)
    async with _followed(server) as certificate:
        _put(server, KeyPair(second.certificate, first.key))
        await asyncio.sleep(1)
        assert (certificate.trouble, certificate._shown) == ("", (first.certificate, first.key))
        _put(server, second, without="tls.key")
        await asyncio.sleep(1)
        assert certificate._shown == (first.certificate, first.key)
