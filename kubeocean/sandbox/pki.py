"""Throw-away certificates: one authority per cluster, made anew by every `up`, dead with the folder they lie in.

Everything is ECDSA P-256: a key is made in well under a millisecond, where RSA would cost a second per cluster.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=365)
_PURPOSES = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
_SKEW = timedelta(hours=1)  # a clock that was set back must not make a new certificate "not yet valid"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """What a program loads: a certificate and its private key (for a signing key: the public key), both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """One certificate authority; `pair` is its own certificate and key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, common_name: str) -> Authority:
        """Make a new self-signed authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = (
            _builder(name, name, key.public_key(), key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(certificate_authority=True), critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @property
    def pair(self) -> KeyPair:
        """Return the authority's own certificate and key."""
        return _pair(self.certificate, self.key)

    def issue(self, common_name: str, *, organizations: Iterable[str] = (), names: Iterable[str] = ()) -> KeyPair:
        """Return a new certificate for a client and, when `names` (DNS names or IP addresses) are given, a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ])
        builder = (
            _builder(subject, self.certificate.subject, key.public_key(), self.key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(certificate_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_PURPOSES), critical=False)
        )
        if alternatives := [_general_name(name) for name in names]:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return _pair(builder.sign(self.key, hashes.SHA256()), key)


def new_signing_key() -> KeyPair:
    """Return a key for signing ServiceAccount tokens; its `certificate` is the bare public key."""
    key = ec.generate_private_key(ec.SECP256R1())
    return KeyPair(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), _pem(key))


def write_pair(pair: KeyPair, folder: Path, name: str) -> None:
    """Write NAME.crt and NAME.key into `folder`; the key can be read by its owner only."""
    (folder / f"{name}.crt").write_bytes(pair.certificate)
    with open(os.open(folder / f"{name}.key", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pair.key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, issuer_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    # Both key identifiers are what Python 3.13's VERIFY_X509_STRICT insists on.
    return (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(issuer).public_key(key).serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW).not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, certificate_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=certificate_authority, crl_sign=certificate_authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(certificate.public_bytes(Encoding.PEM), _pem(key))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
