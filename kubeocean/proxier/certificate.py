"""The certificate under which virtual nodes are served: asked for as a kubelet asks.

A kubelet with serverTLSBootstrap files a CertificateSigningRequest for signer `kubernetes.io/kubelet-serving`; the virtual
cluster's controller manager signs it once it is approved. Nobody approves those by himself, so we approve our own: we know
who asked. Where we may not, a human does: the request waits for him, and `trouble` names it. The key is made here, never
leaves memory, and is a new one with every renewal. At some three quarters of its life the certificate is renewed; new
handshakes get the new one, open streams go on. There is no unencrypted way to serve.
"""

from __future__ import annotations

import asyncio
import base64
import random
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubeocean.clusters.permissions import KUBELET_SERVING_SIGNER
from kubeocean.kube.backoff import Backoff
from kubeocean.kube.client import Client
from kubeocean.kube.errors import Forbidden, KubeError
from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.resources import CERTIFICATESIGNINGREQUESTS
from kubeocean.kube.tls import load_certificate
from kubeocean.proxier.metrics import EXPIRES

RENEW_AT: Final = 0.8  # of its life
SIGNED_WITHIN: Final = 30.0  # seconds
APPROVED_WITHIN: Final = 3600.0  # seconds: by a human; Kubernetes forgets a pending request after a day
_POLL: Final = 0.25
_POLL_HUMAN: Final = 5.0
_RETRY: Final = Backoff(base=2.0, cap=60.0)

log = structlog.get_logger(__name__)


class NotSigned(KubeError):
    """The virtual cluster has not given us a certificate; the message says what may be missing."""


class ShownCertificate:
    """A TLS `context` whose certificate is replaced while it serves; where from is a subclass's matter."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self.context = _new_context()
        self._shown: tuple[bytes, bytes] | None = None
        self.expires: datetime | None = None
        self._why = "no certificate yet"

    @property
    def trouble(self) -> str:
        """Return why there is no valid certificate to show, "" while there is one."""
        if self.expires and self.expires > self._clock():
            return ""
        return self._why or f"it ended at {self.expires}"

    def show(self, certificate: bytes, key: bytes) -> x509.Certificate:
        """Show this one (PEM) from the next handshake on, and return it. Raises ValueError when it is unusable."""
        parsed = x509.load_pem_x509_certificate(certificate)
        try:
            load_certificate(_new_context(), certificate, key)  # a pair that does not fit would spoil the live context
            load_certificate(self.context, certificate, key)
        except ssl.SSLError as error:
            raise ValueError(f"certificate and key are unusable: {error.reason or error}") from error
        self._shown, self.expires, self._why = (certificate, key), parsed.not_valid_after_utc, ""
        EXPIRES.set(self.expires.timestamp())
        log.info("serving certificate", valid_until=self.expires.isoformat())
        return parsed

    def trust(self, ca: str) -> None:
        """Have a new `context` that takes client certificates of `ca` (PEM, "" = of nobody) and shows the same certificate.

        A context cannot unlearn an authority, so whoever listens with the old one has to listen anew.
        """
        self.context = _new_context()
        if ca:
            self.context.load_verify_locations(cadata=ca)
            self.context.verify_mode = ssl.CERT_OPTIONAL  # who has a token needs none
        if self._shown:
            load_certificate(self.context, *self._shown)

    async def run(self) -> None:
        """Keep the certificate valid until cancelled."""
        raise NotImplementedError


class ServingCertificate(ShownCertificate):
    """A certificate for `address` that the virtual cluster issues, and issues anew."""

    def __init__(
        self, client: Client, *, name: str, address: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__(clock)
        self._client, self._name, self._address = client, name, address

    async def run(self) -> None:
        """Get a certificate, and a new one before it ends, until cancelled."""
        failures = 0
        while True:
            try:
                pause = await self._renew()
                failures = 0
            except (KubeError, ValueError) as error:
                failures, self._why = failures + 1, str(error)
                pause = _RETRY.delay(failures)
                log.warning("no serving certificate", error=str(error))
            await asyncio.sleep(pause)

    async def _renew(self) -> float:
        """Replace the certificate; returns the seconds until the next one is due."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = build_request(key, self._name, self._address)
        certificate = await self._sign(request)
        parsed = self.show(certificate, _pem(key))
        begun, ends = parsed.not_valid_before_utc, parsed.not_valid_after_utc
        life, age = (ends - begun).total_seconds(), (self._clock() - begun).total_seconds()
        return max(1.0, life * (RENEW_AT - random.uniform(0.0, 0.1)) - age)

    async def _sign(self, request: bytes) -> bytes:
        filed = await self._client.create(CERTIFICATESIGNINGREQUESTS, {
            "apiVersion": CERTIFICATESIGNINGREQUESTS.api_version, "kind": "CertificateSigningRequest",
            "metadata": {"generateName": "kubeocean-proxier-"},
            "spec": {
                "request": base64.b64encode(request).decode(), "signerName": KUBELET_SERVING_SIGNER,
                "usages": ["digital signature", "server auth"],
            },
        })
        within, every, what = SIGNED_WITHIN, _POLL, "approved and not signed"
        try:
            await self._client.update(CERTIFICATESIGNINGREQUESTS, _approved(filed, self._clock()), subresource="approval")
        except Forbidden:
            within, every, what = APPROVED_WITHIN, _POLL_HUMAN, "not approved, or not signed,"
            self._why = f"request {name_of(filed)} waits for: kubectl certificate approve {name_of(filed)}"
            log.warning("no serving certificate", error=self._why)
        for _ in range(int(within / every)):
            answer = await self._client.get(CERTIFICATESIGNINGREQUESTS, name_of(filed))
            if certificate := (answer.get("status") or {}).get("certificate"):
                return base64.b64decode(certificate)
            for condition in (answer.get("status") or {}).get("conditions") or ():
                if condition["type"] in ("Denied", "Failed"):
                    raise NotSigned(f"request {name_of(filed)} was {condition['type'].lower()}: {condition.get('message')}")
            await asyncio.sleep(every)
        raise NotSigned(
            f"request {name_of(filed)} is {what} after {within:.0f} s: does the virtual cluster's "
            f"controller manager sign for {KUBELET_SERVING_SIGNER} (--cluster-signing-cert-file)?"
        )


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the CAs of older clusters lack key identifiers
    return context


def build_request(key: ec.EllipticCurvePrivateKey, name: str, address: str) -> bytes:
    """Return the PEM of a request that the kubelet-serving signer takes: its subject must be a node's."""
    subject = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"[:64]),
    ])
    alternatives: list[x509.GeneralName] = [x509.DNSName(name), x509.IPAddress(ip_address(address))]
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _approved(filed: Json, now: datetime) -> Json:
    condition = {
        "type": "Approved", "status": "True", "reason": "KubeoceanProxier", "message": "serves virtual nodes",
        "lastUpdateTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return {**filed, "status": {**(filed.get("status") or {}), "conditions": [condition]}}


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
