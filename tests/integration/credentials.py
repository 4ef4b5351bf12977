"""kubeconfigs good and bad: what lenders hand out, what they mistype, and what must never be seen anywhere."""

import base64
import copy
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import EVENTS, SECRETS, SERVICEACCOUNTS
from kubeocean.sandbox.kubeconfig import build_kubeconfig
from kubeocean.sandbox.pki import Authority
from kubeocean.sandbox.state import ClusterHandle
from tests.integration.federation import Lender, condition, eventually

Change = Callable[[Json, Json], None]  # of cluster and user, in place


def kubeconfig_of(handle: ClusterHandle, change: Change | None = None) -> bytes:
    """Return the administrator's kubeconfig of a cluster, changed."""
    kubeconfig = copy.deepcopy(yaml.safe_load(handle.kubeconfig.read_text()))
    if change:
        change(kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"])
    return yaml.safe_dump(kubeconfig).encode()


def issue_kubeconfig(handle: ClusterHandle, user: str) -> bytes:
    """Return the kubeconfig of a user with a certificate of that cluster's authority, and no rights but those granted."""
    authority = authority_of(handle)
    ca, pair = authority.pair.certificate, authority.issue(user)
    return yaml.safe_dump(build_kubeconfig(handle.name, handle.server, ca, user, pair)).encode()


def authority_of(handle: ClusterHandle) -> Authority:
    """Return a cluster's own authority, whose certificates its API server believes."""
    folder = handle.folder / "pki"
    key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Authority(x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes()), key)


async def token_kubeconfig(client: Client, handle: ClusterHandle, name: str, namespace: str) -> bytes:
    """Return a kubeconfig with a token of that ServiceAccount: it dies with the account."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": {
        "audiences": [], "expirationSeconds": 3600,
    }}
    answer = await client.create(SERVICEACCOUNTS, request, subresource="token", name=name, namespace=namespace)

    def use_token(_: Json, user: Json) -> None:
        user.clear()
        user["token"] = answer["status"]["token"]

    return kubeconfig_of(handle, use_token)


async def hand_in(client: Client, lender: Lender, kubeconfig: bytes | None) -> None:
    """Replace what the binding's Secret holds; None: the key is missing."""
    data = None if kubeconfig is None else base64.b64encode(kubeconfig).decode()
    await client.patch(SECRETS, lender.secret, "default", {"data": {"kubeconfig": data}})


def secrets_in(kubeconfig: bytes) -> Iterator[str]:
    """Yield everything of a kubeconfig that nobody may ever see elsewhere, as it stands there and decoded."""
    try:
        users = yaml.safe_load(kubeconfig)["users"]
    except (yaml.YAMLError, TypeError, KeyError):
        return
    for user in users:
        for field in ("token", "password", "client-key-data"):
            if text := user["user"].get(field):
                yield text
        if key := user["user"].get("client-key-data"):
            yield from (line for line in base64.b64decode(key).decode(errors="replace").splitlines() if "--" not in line)


async def events_about(client: Client, name: str) -> list[Json]:
    """Return the Events about a cluster-scoped object."""
    return (await client.list(EVENTS, "default", field_selector=f"involvedObject.name={name}")).items


async def event_about(client: Client, name: str, text: str) -> Json:
    """Wait for an Event about a cluster-scoped object whose reason is, or whose message contains, `text`; return it."""
    async def found() -> Json | None:
        said = await events_about(client, name)
        for event in said:
            if text == event["reason"] or text in event["message"]:
                return event
        assert not said, f"Events are {[(event['reason'], event['message']) for event in said]}"
        return None

    event: Json = await eventually(found, what=f"Event about {name} with {text!r}")
    return event


async def is_failed(client: Client, lender: Lender, reason: str, *, kind: str = "Ready") -> Json:
    """Return the binding once it is Failed for that reason."""
    binding = await client.get(CLUSTERBINDINGS, lender.binding)
    status = binding.get("status") or {}
    found = condition(binding, kind)
    assert (status.get("phase"), found.get("reason")) == ("Failed", reason), f"status is {status}"
    assert found["status"] == "False"
    return binding


def described(binding: Json) -> dict[str, Any]:
    """Return what must not change when another binding is in trouble."""
    status = binding["status"]
    return {"phase": status["phase"], "conditions": status["conditions"]}
