"""The serving certificate: asked for, waited for, renewed in time; what is unusable never replaces what works."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kubeocean.kube.client import Client
from kubeocean.kube.errors import Forbidden, ServerError
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import Resource
from kubeocean.proxier.certificate import ServingCertificate, ShownCertificate
from kubeocean.sandbox.pki import Authority

pytestmark = pytest.mark.looptime
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LIFE = 1000.0  # seconds
ADDRESS = "10.0.0.10"


def now() -> datetime:
    return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())


class Api:
    """A virtual cluster whose controller manager signs what is approved, unless told otherwise."""

    def __init__(self) -> None:
        self.authority = Authority.create("test")
        self.filed: list[Json] = []
        self.approved: set[str] = set()
        self.signs, self.may_approve, self.up = True, True, True
        self.garbage = False
        self.conditions: list[Json] = []

    async def create(self, _: Resource, request: Json) -> Json:
        if not self.up:
            raise ServerError("out of order", status=500, reason="InternalError")
        made = {**request, "metadata": {"name": f"csr-{len(self.filed)}"}}
        self.filed.append(made)
        return made

    async def update(self, _: Resource, request: Json, *, subresource: str) -> None:
        assert (subresource, request["status"]["conditions"][0]["type"]) == ("approval", "Approved")
        if not self.may_approve:
            raise Forbidden("may not", status=403, reason="Forbidden")
        self.approved.add(request["metadata"]["name"])

    async def get(self, _: Resource, name: str) -> Json:
        status: Json = {"conditions": self.conditions}
        if self.signs and name in self.approved:
            status["certificate"] = base64.b64encode(b"rubbish" if self.garbage else self._sign(name)).decode()
        return {"status": status}

    def _sign(self, name: str) -> bytes:
        spec = next(each for each in self.filed if each["metadata"]["name"] == name)["spec"]
        request = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
        builder = x509.CertificateBuilder(
            issuer_name=self.authority.certificate.subject, subject_name=request.subject, public_key=request.public_key(),
            serial_number=x509.random_serial_number(), not_valid_before=now(), not_valid_after=now() + timedelta(seconds=LIFE),
        )
        return builder.sign(self.authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)


@asynccontextmanager
async def kept(api: Api) -> AsyncIterator[ServingCertificate]:
    certificate = ServingCertificate(cast(Client, api), name="proxier", address=ADDRESS, clock=now)
    task = asyncio.create_task(certificate.run())
    try:
        yield certificate
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_asks_as_a_kubelet_does() -> None:
    api = Api()
    async with kept(api) as certificate:
        await asyncio.sleep(1)
        assert certificate.trouble == ""
    spec = api.filed[0]["spec"]
    request = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
    assert request.subject.rfc4514_string() == "CN=system:node:proxier,O=system:nodes"
    assert (spec["signerName"], spec["usages"]) == ("kubernetes.io/kubelet-serving", ["digital signature", "server auth"])
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("proxier"), x509.IPAddress(ip_address(ADDRESS))], "the address in the nodes' status"


async def test_it_is_renewed_well_before_it_ends_with_a_new_key() -> None:
    api = Api()
    async with kept(api) as certificate:
        await asyncio.sleep(LIFE * 0.69)
        assert len(api.filed) == 1
        await asyncio.sleep(LIFE * 0.12)
        assert len(api.filed) == 2
        assert certificate.expires is not None
        assert certificate.expires > BEGIN + timedelta(seconds=LIFE)
    keys = {x509.load_pem_x509_csr(base64.b64decode(each["spec"]["request"])).public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    ) for each in api.filed}
    assert len(keys) == 2


async def test_a_renewal_that_fails_is_no_trouble_until_the_certificate_ends() -> None:
    api = Api()
    async with kept(api) as certificate:
        await asyncio.sleep(1)
        api.up = False
        await asyncio.sleep(LIFE * 0.95)
        assert certificate.trouble == ""
        await asyncio.sleep(LIFE * 0.1)
        assert "out of order" in certificate.trouble
        api.up = True
        await asyncio.sleep(61)
        assert certificate.trouble == ""


def _denied(api: Api) -> None:
    api.signs, api.conditions = False, [{"type": "Denied", "message": "not you"}]


def _unsigned(api: Api) -> None:
    api.signs = False


def _rubbish(api: Api) -> None:
    api.garbage = True


def _unapproved(api: Api) -> None:
    api.may_approve = False


TROUBLES: dict[str, tuple[Callable[[Api], None], str]] = {
    "denied": (_denied, "request csr-[0-9]+ was denied: not you"),
    "nobody signs": (_unsigned, "csr-[0-9]+ is approved and not signed after 30 s"),
    "what comes is no certificate": (_rubbish, "PEM|certificate"),
    "a human must approve": (_unapproved, "waits for: kubectl certificate approve csr-0"),
}


@pytest.mark.parametrize(("breaks", "told"), TROUBLES.values(), ids=TROUBLES)
async def test_why_there_is_none_is_told_and_mended_by_itself(breaks: Callable[[Api], None], told: str) -> None:
    api = Api()
    breaks(api)
    async with kept(api) as certificate:
        await asyncio.sleep(40)
        assert re.search(told, certificate.trouble), certificate.trouble
        api.signs, api.garbage, api.conditions = True, False, []
        api.approved.add("csr-0")
        await asyncio.sleep(120)
        assert certificate.trouble == ""


async def test_a_request_that_waits_for_a_human_is_filed_once() -> None:
    api = Api()
    api.may_approve = False
    async with kept(api):
        await asyncio.sleep(600)
        assert len(api.filed) == 1


class Given(ShownCertificate):
    """A certificate that a test gives."""


def test_a_pair_that_does_not_fit_leaves_the_one_before_in_place() -> None:
    authority = Authority.create("test")
    first, second = (authority.issue("node", names=["10.0.0.10"]) for _ in range(2))
    shown = Given(lambda: datetime.now(UTC))
    shown.show(first.certificate, first.key)
    expires = shown.expires
    with pytest.raises(ValueError, match="unusable"):
        shown.show(second.certificate, first.key)
    assert (shown.expires, shown.trouble) == (expires, "")
