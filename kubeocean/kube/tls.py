"""TLS contexts from certificates in memory, so that no key of a lender's cluster ever lies in a file of ours."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def build_ssl_context(
    *, ca: bytes | None, certificate: bytes | None = None, key: bytes | None = None, strict: bool = False,
    verify: bool = True,
) -> ssl.SSLContext:
    """Return a client context that trusts `ca` alone (None: what the system trusts) and shows `certificate`. All PEM.

    strict keeps VERIFY_X509_STRICT, which Python 3.13 turned on and which the CAs of many older clusters fail (they
    lack key identifiers). verify=False trusts anybody. Raises ssl.SSLError or ValueError for unusable input.
    """
    context = ssl.create_default_context(cadata=ca.decode("ascii") if ca is not None else None)
    if not strict:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None and key is not None:
        load_certificate(context, certificate, key)
    return context


def load_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Have `context` show `certificate` from the next handshake on. PEM. Raises ssl.SSLError for what is unusable."""
    with _path_to(certificate + b"\n" + key) as path:
        # Without a password callback OpenSSL would ask for one on the terminal, and we would hang.
        context.load_cert_chain(path, password=lambda: "")


@contextmanager
def _path_to(content: bytes) -> Iterator[str]:
    """Give `content` a path for as long as OpenSSL, which reads only files, needs one; in memory if possible."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("client-certificate"), "wb") as memory:
            memory.write(content)
            memory.flush()
            yield f"/proc/self/fd/{memory.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
