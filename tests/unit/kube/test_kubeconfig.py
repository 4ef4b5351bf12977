"""What a kubeconfig out of a Secret may say: a table of refusals, each with its field and remedy."""

from __future__ import annotations

import base64
import copy
import time
from collections.abc import Callable

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.kube.config import guard_kubeconfig
from kubeocean.kube.errors import ConfigError
from kubeocean.kube.kubeconfig import select
from kubeocean.kube.meta import Json

SECRET = "s3cr3t-t0ken"
SOURCE = "Secret kubeocean-system/east"
PEM = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n").decode()

GOOD: Json = {
    "apiVersion": "v1", "kind": "Config", "current-context": "ctx",
    "contexts": [{"name": "ctx", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
    "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443", "certificate-authority-data": PEM}}],
    "users": [{"name": "u", "user": {"token": SECRET}}],
}


def changed(change: Callable[[Json], object]) -> str:
    config = copy.deepcopy(GOOD)
    change(config)
    return str(yaml.safe_dump(config))


def cluster(**fields: object) -> str:
    return changed(lambda config: config["clusters"][0]["cluster"].update(fields))


def user(**fields: object) -> str:
    return changed(lambda config: config["users"][0]["user"].update({key.replace("_", "-"): v for key, v in fields.items()}))


ACCEPTED = {
    "a token": changed(lambda config: None),
    "a client certificate": user(token=None, client_certificate_data=PEM, client_key_data=PEM),
    "a password": user(token=None, username="u", password=SECRET),
    "a server below a path": cluster(server="https://rancher.example/k8s/clusters/c-1/"),
    "plain http on loopback": cluster(server="http://127.0.0.1:8001"),
    "plain http on loopback, IPv6": cluster(server="http://[::1]:8001"),
    "no certificate authority": cluster(**{"certificate-authority-data": None}),
    "another context that runs a command": changed(
        lambda config: config["users"].append({"name": "other", "user": {"exec": {"command": "rm"}}})
    ),
    "empty fields that would be refused if set": user(exec=None, tokenFile=""),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_an_inline_kubeconfig_passes(what: str) -> None:
    chosen = select(guard_kubeconfig(ACCEPTED[what], source=SOURCE), source=SOURCE)
    assert chosen.cluster["server"]


# what is wrong: (kubeconfig, the field that must be named, the remedy that must be named)
REFUSED: dict[str, tuple[str | bytes, str, str]] = {
    "a command": (user(exec={"command": "sh"}), "users[u].user.exec", "ServiceAccount"),
    "a plugin": (user(**{"auth-provider": {"name": "gcp"}}), "users[u].user.auth-provider", "ServiceAccount"),
    "a token file": (user(tokenFile="/etc/passwd"), "users[u].user.tokenFile", "users[].user.token"),
    "a certificate file": (user(client_certificate="/x"), "users[u].user.client-certificate ", "--flatten"),
    "a key file": (user(client_key="/x"), "users[u].user.client-key ", "--flatten"),
    "a CA file": (cluster(**{"certificate-authority": "/x"}), "clusters[c].cluster.certificate-authority ", "--flatten"),
    "a proxy": (cluster(**{"proxy-url": "http://p"}), "clusters[c].cluster.proxy-url", "directly"),
    "impersonation": (user(**{"as": "admin"}), "users[u].user.as ", "credentials of that user"),
    "no verification": (
        cluster(**{"insecure-skip-tls-verify": True}), "insecure-skip-tls-verify", "certificate-authority-data",
    ),
    "no current-context": (changed(lambda c: c.pop("current-context")), "current-context", "set it"),
    "an empty current-context": (changed(lambda c: c.update({"current-context": ""})), "current-context", "set it"),
    "a dangling current-context": (changed(lambda c: c.update({"current-context": "x"})), "'x'", "correct the name"),
    "a dangling user": (changed(lambda c: c.update(users=[])), "contexts[ctx].context.user", "correct the name"),
    "a dangling cluster": (changed(lambda c: c.update(clusters=[])), "contexts[ctx].context.cluster", "add it"),
    "no users": (changed(lambda c: c.pop("users")), "users", "expected entries"),
    "users that are no list": (changed(lambda c: c.update(users={"u": {}})), "users", "expected entries"),
    "entries that are no mappings": (changed(lambda c: c.update(users=["u"])), "users", "expected entries"),
    "a user twice": (changed(lambda c: c["users"].append(copy.deepcopy(c["users"][0]))), "users", "keep one"),
    "a user that is no mapping": (changed(lambda c: c["users"][0].update(user="x")), "users[u].user", "no mapping"),
    "a context without user": (
        changed(lambda c: c["contexts"][0]["context"].pop("user")), "contexts[ctx].context.user", "name one of users",
    ),
    "no server": (cluster(server=None), "clusters[c].cluster.server", "https URL"),
    "a server that is no URL": (cluster(server="10.0.0.1"), "clusters[c].cluster.server", "https://HOST:PORT"),
    "a server of another scheme": (cluster(server="file:///etc/passwd"), "server", "https://HOST:PORT"),
    "a server with a bad port": (cluster(server="https://h:99999"), "server", "https://HOST:PORT"),
    "a server with a line break": (cluster(server="https://h\r\nX: y"), "server", "https://HOST:PORT"),
    "a server with credentials": (cluster(server=f"https://u:{SECRET}@h"), "server", "users"),
    "a server with a query": (cluster(server="https://h/?a=b"), "server", "https://HOST:PORT"),
    "a server that is a number": (cluster(server=7), "server", "https URL"),
    "plain http": (cluster(server="http://10.0.0.1:8080"), "server is not https", "https://HOST:PORT"),
    "plain http to a name that only looks local": (cluster(server="http://localhost.evil:80"), "not https", "https://"),
    "no credentials": (user(token=""), "users[u].user has no credentials", "set token"),
    "half a key pair": (user(client_certificate_data=PEM), "client-key-data", "set both"),
    "a token with a line break": (user(token=f"{SECRET}\nX-Evil: 1"), "users[u].user.token", "one line"),
    "a token that is a number": (user(token=12345), "users[u].user.token", "quotes"),
    "a namespace that is a list": (
        changed(lambda c: c["contexts"][0]["context"].update(namespace=["a"])), "namespace", "quotes",
    ),
    "no YAML": (f"token: {SECRET}: {{", "no valid YAML", "paste the kubeconfig"),
    "binary": (b"\x00\xff\xfe", "no valid YAML", "paste the kubeconfig"),
    "a list": ("[]", "no kubeconfig", "clusters, contexts and users"),
    "nothing": ("", "no kubeconfig", "clusters, contexts and users"),
    "a megabyte": ("#" * (2**20 + 1), "larger than 1 MiB", "one cluster"),
    "a laugh": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "alias", "write the value out"),
    "a pit": ("[" * 5000 + "]" * 5000, "levels deep", "no kubeconfig"),
    "a python object": ("!!python/object/apply:os.system ['true']", "no valid YAML", "paste the kubeconfig"),
    "an endless number": (f"a: {'9' * 9999}", "cannot read", "paste the kubeconfig"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_kubeconfig_is_refused_for(what: str) -> None:
    raw, names, remedy = REFUSED[what]
    with pytest.raises(ConfigError) as caught:
        guard_kubeconfig(raw, source=SOURCE)
    message = str(caught.value)
    assert message.startswith(f"{SOURCE}: ")
    assert names in message
    assert remedy in message
    assert SECRET not in message
    assert caught.value.__cause__ is None


def test_what_was_not_checked_is_not_returned() -> None:
    config = guard_kubeconfig(ACCEPTED["another context that runs a command"], source=SOURCE)
    assert len(config["users"]) == len(config["clusters"]) == len(config["contexts"]) == 1
    assert "exec" not in str(config)


def test_guarding_twice_changes_nothing() -> None:
    once = guard_kubeconfig(ACCEPTED["a token"], source=SOURCE)
    assert guard_kubeconfig(yaml.safe_dump(once), source=SOURCE) == once


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_no_input_whatever_raises_anything_else(raw: str | bytes) -> None:
    with pytest.raises(ConfigError):
        guard_kubeconfig(raw, source=SOURCE)


def test_the_largest_hostile_input_is_refused_in_reasonable_time() -> None:
    began = time.process_time()
    for raw in ("- a\n" * 2**18, "? " * 2**19, "{" * 2**20, "a: " + "[]," * 300_000):
        with pytest.raises(ConfigError):
            guard_kubeconfig(raw, source=SOURCE)
    assert time.process_time() - began < 20
