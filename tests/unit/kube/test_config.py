"""From a kubeconfig (ours, a lender's, the Pod's) to a connection, proved against a real TLS server."""

from __future__ import annotations

import base64
import json
import ssl
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubeocean.kube import config as config_module
from kubeocean.kube.client import Client
from kubeocean.kube.config import ServerConfig, config_from_file, config_from_kubeconfig, guard_kubeconfig
from kubeocean.kube.credentials import TokenFile
from kubeocean.kube.errors import ConfigError, Unreachable, UntrustedServer
from kubeocean.kube.meta import Json
from kubeocean.kube.tls import build_ssl_context

SOURCE = "Secret kubeocean-system/east"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """A CA without key identifiers, as many older clusters have: Python's strict mode refuses it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("test-ca")
        self.certificate = _pem(self._sign(_builder(self._name, self._name, self._key, ca=True)))

    def issue(self, common_name: str, *names: x509.GeneralName, password: bytes | None = None) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name), self._name, key)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        return Pair(_pem(self._sign(builder)), key.private_bytes(serialization.Encoding.PEM, form, encryption))

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self._key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool = False
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer, subject, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1)
    ).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)


CA = Authority()
CLIENT = CA.issue("lender")


@pytest.fixture
async def server() -> AsyncIterator[str]:
    """Run a TLS server for 127.0.0.1 and "kubernetes" that asks for a client certificate and says who called."""

    async def who(request: web.Request) -> web.Response:
        assert request.transport is not None
        certificate = request.transport.get_extra_info("peercert") or {}
        subject = "".join(value for part in certificate.get("subject", ()) for _, value in part)
        return web.json_response({"certificate": subject, "authorization": request.headers.get("Authorization", "")})

    async with serving(CA.issue("s", x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("kubernetes")), who) as url:
        yield url


@asynccontextmanager
async def serving(pair: Pair, handler: object) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/version", handler)  # type: ignore[arg-type]  # aiohttp's Handler type is private
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=_server_context(pair)).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def _server_context(pair: Pair) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=CA.certificate.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    with tempfile.NamedTemporaryFile() as file:
        file.write(pair.certificate + pair.key)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def kubeconfig(server: str, user: Json, namespace: str = "", **cluster: object) -> Json:
    fields = {"server": server, "certificate-authority-data": b64(CA.certificate)} | cluster
    return {
        "current-context": "ctx",
        "contexts": [{"name": "ctx", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
        "clusters": [{"name": "c", "cluster": {key: value for key, value in fields.items() if value is not None}}],
        "users": [{"name": "u", "user": user}],
    }


def with_certificate(pair: Pair) -> Json:
    return {"client-certificate-data": b64(pair.certificate), "client-key-data": b64(pair.key)}


async def guarded(data: Json, *, strict: bool = False) -> ServerConfig:
    return await config_from_kubeconfig(guard_kubeconfig(yaml.safe_dump(data), source=SOURCE), source=SOURCE, strict=strict)


async def ask(config: ServerConfig) -> Json:
    async with Client(config, cluster="east") as client:
        return await client.server_version()


# --- guarded kubeconfigs ---------------------------------------------------------------------------------------------


async def test_a_token_is_shown(server: str) -> None:
    config = await guarded(kubeconfig(server + "/", {"token": "t"}, namespace="team"))
    assert (config.server, config.namespace) == (server, "team")
    assert await ask(config) == {"certificate": "", "authorization": "Bearer t"}


async def test_a_client_certificate_is_shown(server: str) -> None:
    config = await guarded(kubeconfig(server, with_certificate(CLIENT)))
    assert await ask(config) == {"certificate": "lender", "authorization": ""}


async def test_a_password_is_shown(server: str) -> None:
    answer = await ask(await guarded(kubeconfig(server, {"username": "u", "password": "p"})))
    assert answer["authorization"] == "Basic " + b64(b"u:p")


async def test_a_server_of_another_authority_is_not_trusted(server: str) -> None:
    other = b64(Authority().certificate)
    config = await guarded(kubeconfig(server, {"token": "t"}, **{"certificate-authority-data": other}))
    with pytest.raises(UntrustedServer, match="certificate-authority-data"):
        await ask(config)


async def test_a_server_of_another_name_is_not_trusted(server: str) -> None:
    config = await guarded(kubeconfig(server.replace("127.0.0.1", "localhost"), {"token": "t"}))
    with pytest.raises(UntrustedServer, match="tls-server-name"):
        await ask(config)


async def test_the_name_in_the_certificate_can_be_given(server: str) -> None:
    data = kubeconfig(server.replace("127.0.0.1", "localhost"), {"token": "t"}, **{"tls-server-name": "kubernetes"})
    assert (await ask(await guarded(data)))["authorization"] == "Bearer t"


async def test_an_old_authority_is_accepted_unless_strictness_is_asked_for(server: str) -> None:
    data = kubeconfig(server, {"token": "t"})
    await ask(await guarded(data))
    config = await guarded(data, strict=True)
    assert config.ssl is not None
    if sys.version_info >= (3, 13):
        with pytest.raises(Unreachable):
            await ask(config)


def test_strictness_is_cleared_only_where_it_was_not_asked_for() -> None:
    default = ssl.create_default_context().verify_flags & ssl.VERIFY_X509_STRICT
    assert build_ssl_context(ca=CA.certificate).verify_flags & ssl.VERIFY_X509_STRICT == 0
    assert build_ssl_context(ca=CA.certificate, strict=True).verify_flags & ssl.VERIFY_X509_STRICT == default


UNUSABLE = {
    "a certificate that is none": with_certificate(Pair(b"x", CLIENT.key)),
    "a key of somebody else": with_certificate(Pair(CLIENT.certificate, CA.issue("other").key)),
    "a key that wants a password": with_certificate(CA.issue("locked", password=b"p")),
    "a certificate that is no base64": {"client-certificate-data": "%%%", "client-key-data": b64(CLIENT.key)},
}


@pytest.mark.parametrize("what", UNUSABLE)
async def test_unusable_certificates_are_explained(what: str) -> None:
    with pytest.raises(ConfigError, match=f"^{SOURCE}: .*client-certificate-data"):
        await guarded(kubeconfig("https://127.0.0.1:1", UNUSABLE[what]))


async def test_an_unguarded_command_is_still_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    user = {"exec": {"command": "touch", "args": [str(trace)], "apiVersion": "client.authentication.k8s.io/v1"}}
    config = await config_from_kubeconfig(kubeconfig("https://127.0.0.1:1", user), source=SOURCE)
    with pytest.raises(Unreachable):
        await ask(config)
    assert not trace.exists()


# --- the operator's own files ----------------------------------------------------------------------------------------


def write(path: Path, data: Json) -> str:
    path.write_text(yaml.safe_dump(data))
    return str(path)


async def test_files_are_found_beside_the_kubeconfig_that_names_them(server: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(CA.certificate)
    (tmp_path / "cert.pem").write_bytes(CLIENT.certificate)
    (tmp_path / "key.pem").write_bytes(CLIENT.key)
    data = kubeconfig(
        server, {"client-certificate": "cert.pem", "client-key": "key.pem"}, "",
        **{"certificate-authority": "ca.pem", "certificate-authority-data": None},
    )
    assert (await ask(await config_from_file(write(tmp_path / "config", data))))["certificate"] == "lender"


async def test_verification_can_be_switched_off_by_the_operator(server: str, tmp_path: Path) -> None:
    data = kubeconfig(
        server, {"token": "t"}, "", **{"insecure-skip-tls-verify": True, "certificate-authority-data": None}
    )
    assert (await ask(await config_from_file(write(tmp_path / "config", data))))["authorization"] == "Bearer t"


async def test_a_context_can_be_chosen(server: str, tmp_path: Path) -> None:
    data = kubeconfig("https://127.0.0.1:1", {"token": "t"})
    data["contexts"].append({"name": "other", "context": {"cluster": "c2", "user": "u"}})
    data["clusters"].append({"name": "c2", "cluster": {"server": "https://127.0.0.2:2"}})
    config = await config_from_file(write(tmp_path / "config", data), context="other")
    assert config.server == "https://127.0.0.2:2"


async def test_a_list_of_files_is_merged_as_kubectl_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kubeconfig("https://127.0.0.1:1", {"token": "first"})
    second = kubeconfig("https://127.0.0.1:2", {"token": "second"}) | {"current-context": "other"}
    second["contexts"].append({"name": "other", "context": {"cluster": "c", "user": "u"}})
    paths = [write(tmp_path / "one", first), str(tmp_path / "missing"), write(tmp_path / "two", second)]
    monkeypatch.setenv("KUBECONFIG", ":".join(paths))
    config = await config_from_file(None)
    assert (config.server, await config.authorization(False)) == ("https://127.0.0.1:1", "Bearer first")
    assert (await config_from_file(None, context="other")).server == "https://127.0.0.1:1"


async def test_a_token_file_is_read_again_when_the_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    data = kubeconfig("https://127.0.0.1:1", {"tokenFile": "token"})
    config = await config_from_file(write(tmp_path / "config", data))
    assert await config.authorization(False) == "Bearer one"
    (tmp_path / "token").write_text("two\n")
    assert [await config.authorization(False), await config.authorization(True)] == ["Bearer one", "Bearer two"]


def plugin(path: Path, status: Json) -> Json:
    """Return a user whose credential plugin counts its runs in a file and answers `status`."""
    answer = json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status})
    script = textwrap.dedent(f"""\
        from pathlib import Path
        runs = Path({str(path)!r}); runs.write_text(str(int(runs.read_text()) + 1) if runs.exists() else "1")
        print({answer!r}.replace("RUN", runs.read_text()))
    """)
    return {"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": ["-c", script],
    }}


async def test_a_plugin_is_run_once_and_again_only_when_its_token_is_refused(server: str, tmp_path: Path) -> None:
    data = kubeconfig(server, plugin(tmp_path / "runs", {"token": "token-RUN"}))
    config = await config_from_file(write(tmp_path / "config", data))
    assert [(await ask(config))["authorization"] for _ in range(2)] == ["Bearer token-1"] * 2
    assert await config.authorization(True) == "Bearer token-2"


async def test_a_plugin_that_fails_is_explained(tmp_path: Path) -> None:
    data = kubeconfig("https://127.0.0.1:1", plugin(tmp_path / "runs", {}))
    data["users"][0]["user"]["exec"]["args"] = ["-c", "raise SystemExit(3)"]
    config = await config_from_file(write(tmp_path / "config", data))
    with pytest.raises(ConfigError, match=r"the credential plugin failed: .*3"):
        await ask(config)


OWN_REFUSED: dict[str, tuple[Json, str]] = {
    "a proxy": (kubeconfig("https://h:1", {"token": "t"}, **{"proxy-url": "http://p"}), "proxy-url is not supported"),
    "impersonation": (kubeconfig("https://h:1", {"token": "t", "as": "x"}), "as is not supported"),
    "a missing file": (kubeconfig("https://h:1", {"client-certificate": "gone"}), "client-certificate: .*gone"),
    "users that are no list": (kubeconfig("https://h:1", {}) | {"users": "x"}, "users is no list"),
}


@pytest.mark.parametrize("what", OWN_REFUSED)
async def test_even_an_own_kubeconfig_is_refused_for(what: str, tmp_path: Path) -> None:
    data, message = OWN_REFUSED[what]
    with pytest.raises(ConfigError, match=message):
        await config_from_file(write(tmp_path / "config", data))


async def test_a_kubeconfig_that_is_not_there_is_not_replaced_by_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no kubeconfig at .*missing; correct"):
        await config_from_file(str(tmp_path / "missing"))


# --- inside a Pod ----------------------------------------------------------------------------------------------------


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this process look like a Pod without a kubeconfig."""
    (tmp_path / "ca.crt").write_bytes(CA.certificate)
    (tmp_path / "namespace").write_text("kubeocean-system")
    (tmp_path / "token").write_text("pod-token")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(config_module, "SERVICE_ACCOUNT", tmp_path)
    return tmp_path


async def test_in_a_pod_its_service_account_is_used(pod: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", server.rsplit(":", 1)[1])
    config = await config_from_file(None)
    assert config.namespace == "kubeocean-system"
    assert (await ask(config))["authorization"] == "Bearer pod-token"


async def test_an_ipv6_service_address_gets_its_brackets(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert (await config_from_file(None)).server == "https://[fd00::1]:443"


async def test_outside_of_everything_the_remedy_is_named(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="set --kubeconfig"):
        await config_from_file(None)


async def test_a_pod_without_token_is_explained(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (pod / "ca.crt").unlink()
    with pytest.raises(ConfigError, match="automountServiceAccountToken"):
        await config_from_file(None)


async def test_a_token_file_is_read_every_minute(tmp_path: Path) -> None:
    path, times = tmp_path / "token", iter([0.0, 0.0, 59.0, 60.0, 60.0])
    path.write_text("one")
    token = TokenFile(path, source="x", clock=lambda: next(times))
    seen = [await token(False)]
    path.write_text("two")
    seen += [await token(False), await token(False)]
    assert seen == ["Bearer one", "Bearer one", "Bearer two"]


@pytest.mark.parametrize("content", ["", "\n", "a\nb", "\xff"])
async def test_a_token_file_without_a_token_is_explained(content: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(ConfigError, match="token file"):
        await TokenFile(path, source="x")(False)
