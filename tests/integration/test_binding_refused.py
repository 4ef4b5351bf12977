"""A binding whose Secret is no good: said clearly in its status, an Event and `kubectl get cb`; mended, it heals by itself.

All bad bindings stand side by side, beside a good one that must not notice. They are made once, looked at while they fail,
mended all at once and looked at again; every test reads what was seen.
"""

import asyncio
import base64
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import EVENTS, SECRETS
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.sandbox import Sandbox
from kubeocean.sandbox.state import ClusterHandle
from tests.integration.audit import AuditLog
from tests.integration.credentials import (
    described,
    event_about,
    hand_in,
    kubeconfig_of,
    secrets_in,
)
from tests.integration.federation import Federation, Lender, Pool, condition, eventually, for_a_module
from tests.integration.kubectl import Kubectl
from tests.integration.programs import Program

HEALED_WITHIN = 5.0  # seconds
TOKEN = "a-token-nobody-may-see-" + uuid.uuid4().hex
KEY_PEM = f"-----BEGIN PRIVATE KEY-----\n{uuid.uuid4().hex}\n-----END PRIVATE KEY-----\n"


@dataclass(frozen=True, slots=True)
class Bad:
    """A Secret's content, and what the binding must say: all of `says`, under `reason`."""

    kubeconfig: bytes | None
    says: tuple[str, ...]
    reason: str = "ConnectivityFailed"


@dataclass(slots=True)
class Seen:
    """What was to be seen of one binding."""

    lender: Lender
    failed: Json
    event: Json
    kubectl: str
    healed_after: float = -1.0
    healed: Json = field(default_factory=dict)


@dataclass(slots=True)
class Scene:
    """What was to be seen of all."""

    seen: dict[str, Seen]
    good_before: Json
    good_after: Json
    writes_about_good: list[str]
    events: list[Json]


def bad_secrets(sandbox: Sandbox) -> dict[str, Bad]:
    physical, other = sandbox.physical

    def changed(*, cluster: Json | None = None, user: Json | None = None, replace_user: Json | None = None) -> bytes:
        def change(the_cluster: Json, the_user: Json) -> None:
            the_cluster.update(cluster or {})
            the_user.update(user or {})
            if replace_user is not None:
                the_user.clear()
                the_user.update(replace_user)
        return kubeconfig_of(physical, change)

    key = base64.b64encode(KEY_PEM.encode()).decode()
    exec_user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", "exit 1"]}}
    return {
        "the key is missing": Bad(None, ("no key 'kubeconfig'", "add it")),
        "the key is empty": Bad(b"", ("'kubeconfig' is empty", "put a kubeconfig")),
        "no YAML": Bad(f"users: [{{token: {TOKEN}}}\n: :".encode(), ("no valid YAML", "unchanged")),
        "no kubeconfig": Bad(b"hello", ("no kubeconfig", "clusters, contexts and users")),
        "no current context": Bad(b"{clusters: [], users: []}", ("current-context is missing",)),
        "the wrong CA": Bad(changed(cluster={"certificate-authority-data": ca_of(other)}), ("certificate-authority-data",)),
        "nobody listens": Bad(
            changed(cluster={"server": "https://127.0.0.1:9"}), ("127.0.0.1:9", "check the server address")
        ),
        "no such host": Bad(
            changed(cluster={"server": "https://nowhere.invalid:6443"}), ("nowhere.invalid", "check the server address")
        ),
        "a path too much": Bad(changed(cluster={"server": physical.server + "/nothing"}), ("404", "check the server address")),
        "no https": Bad(changed(cluster={"server": "http://192.0.2.7:6443"}), (".cluster.server", "https://HOST:PORT")),
        "nobody is to be trusted": Bad(
            changed(cluster={"insecure-skip-tls-verify": True}),
            (".insecure-skip-tls-verify is refused", "certificate-authority-data"),
        ),
        "a proxy": Bad(changed(cluster={"proxy-url": "http://127.0.0.1:1"}), (".proxy-url", "directly")),
        "a token that is not accepted": Bad(changed(replace_user={"token": TOKEN}), ("not accepted", "renew")),
        "a command": Bad(changed(replace_user=exec_user), (".user.exec", "run a command", "ServiceAccount")),
        "a plugin": Bad(changed(replace_user={"auth-provider": {"name": "gcp"}}), (".user.auth-provider", "plugin")),
        "a token in a file": Bad(changed(replace_user={"tokenFile": "/etc/passwd"}), (".user.tokenFile", "file")),
        "a certificate in a file": Bad(changed(user={"client-certificate": "/etc/passwd"}), (".client-certificate", "flatten")),
        "a key in a file": Bad(changed(user={"client-key": "/etc/passwd"}), (".client-key", "flatten")),
        "a CA in a file": Bad(changed(cluster={"certificate-authority": "/etc/passwd"}), (".certificate-authority", "flatten")),
        "a key that is none": Bad(changed(user={"client-key-data": key}), ("client-key-data", "PEM")),
        "no credentials": Bad(changed(replace_user={}), ("no credentials", "set token")),
    }


def ca_of(handle: ClusterHandle) -> str:
    return base64.b64encode((handle.folder / "pki" / "ca.crt").read_bytes()).decode()


@pytest.fixture(scope="module")
def scene(sandbox: Sandbox, manager: Program, assets: Assets) -> Iterator[Scene]:
    with for_a_module(sandbox, lambda federation: play(federation, assets)) as scene:
        yield scene


async def play(federation: Federation, assets: Assets) -> Scene:
    client = federation.virtual
    good = await federation.lend(nodes=1)
    await eventually(lambda: counts_its_node(federation, good), what="the good binding has settled")
    good_before = described(await client.get(CLUSTERBINDINGS, good.binding))
    log = AuditLog(federation.sandbox.virtual)
    kubectl = Kubectl(assets, federation.sandbox.virtual)

    async def look(bad: Bad) -> Seen:
        lender = await federation.bind(Pool(0, "none", ()), kubeconfig=bad.kubeconfig or b"", ready=False)
        if bad.kubeconfig is None:
            await hand_in(client, lender, None)
        failed = await eventually(lambda: says(federation, lender, bad), within=20, what=lender.binding)

        event = await event_about(client, lender.binding, bad.says[0])
        return Seen(lender, failed, event, await kubectl("get", "clusterbinding", lender.binding, "-o", "wide"))

    bads = bad_secrets(federation.sandbox)
    seen = dict(zip(bads, await asyncio.gather(*map(look, bads.values())), strict=True))
    await mend(federation, [*seen.values()])
    good_after = described(await client.get(CLUSTERBINDINGS, good.binding))
    writes = [str(write) for write in log.ours() if write.name == good.binding]
    return Scene(seen, good_before, good_after, writes, (await client.list(EVENTS)).items)


async def counts_its_node(federation: Federation, good: Lender) -> bool:
    return bool((await federation.virtual.get(CLUSTERBINDINGS, good.binding))["status"].get("nodes") == 1)


async def says(federation: Federation, lender: Lender, bad: Bad) -> Json:
    binding = await federation.virtual.get(CLUSTERBINDINGS, lender.binding)
    status = binding.get("status") or {}
    said = status.get("phase") == "Failed" and all(part in status["lastError"] for part in bad.says)
    assert said, f"status is {status}"
    return binding


async def mend(federation: Federation, broken: list[Seen]) -> None:
    """Put the right kubeconfig into every Secret, and note how long it takes until all is well."""
    right = kubeconfig_of(federation.sandbox.physical[0])
    at_once = asyncio.Semaphore(4)  # what is asked for is the time of one, not how many syncers can start in it

    async def heal(seen: Seen) -> None:
        async with at_once:
            since = time.monotonic()
            await hand_in(federation.virtual, seen.lender, right)
            await eventually(lambda: federation.is_ready(seen.lender), within=30, what=f"{seen.lender.binding} is Ready again")
            seen.healed_after = time.monotonic() - since
            seen.healed = await federation.virtual.get(CLUSTERBINDINGS, seen.lender.binding)

    await asyncio.gather(*map(heal, broken))


CASES = (
    "the key is missing", "the key is empty", "no YAML", "no kubeconfig", "no current context", "the wrong CA",
    "nobody listens", "no such host", "a path too much", "no https", "nobody is to be trusted", "a proxy",
    "a token that is not accepted",
    "a command", "a plugin", "a token in a file", "a certificate in a file", "a key in a file", "a CA in a file",
    "a key that is none", "no credentials",
)


def test_every_bad_secret_is_looked_at(scene: Scene) -> None:
    assert scene.seen.keys() == {*CASES}


@pytest.mark.parametrize("case", CASES)
def test_its_conditions_say_what_is_wrong_and_where(scene: Scene, case: str) -> None:
    seen = scene.seen[case]
    ready, connected = condition(seen.failed, "Ready"), condition(seen.failed, "Connected")
    assert (ready["status"], ready["reason"]) == ("False", "ConnectivityFailed")
    assert (connected["status"], connected["reason"]) == ("False", "ConnectivityFailed")
    assert f"default/{seen.lender.secret}" in ready["message"]
    assert connected["message"] == ready["message"] == seen.failed["status"]["lastError"]
    assert seen.failed["status"]["observedGeneration"] == seen.failed["metadata"]["generation"]


@pytest.mark.parametrize("case", CASES)
def test_a_warning_event_says_the_same(scene: Scene, case: str) -> None:
    seen = scene.seen[case]
    event = seen.event
    assert (event["type"], event["reason"]) == ("Warning", "ConnectivityFailed")
    assert event["involvedObject"]["uid"] == seen.failed["metadata"]["uid"]
    assert event["message"] == seen.failed["status"]["lastError"]


@pytest.mark.parametrize("case", CASES)
def test_kubectl_get_shows_it(scene: Scene, case: str) -> None:
    seen = scene.seen[case]
    header, row = seen.kubectl.splitlines()
    assert header.split()[:4] == ["NAME", "CLUSTERID", "PHASE", "NODES"]
    assert row.split()[:3] == [seen.lender.binding, seen.lender.cluster_id, "Failed"]
    assert condition(seen.failed, "Ready")["message"] in row


@pytest.mark.parametrize("case", CASES)
def test_once_the_secret_is_right_it_heals_by_itself(scene: Scene, case: str) -> None:
    seen = scene.seen[case]
    assert seen.healed_after < HEALED_WITHIN
    status = seen.healed["status"]
    assert (status["phase"], status.get("lastError", "")) == ("Ready", "")
    assert condition(seen.healed, "Connected")["status"] == "True"
    assert status["physicalClusterUID"]
    assert status["kubernetesVersion"].startswith("v1.")


def test_the_good_one_beside_them_notices_nothing(scene: Scene) -> None:
    assert scene.good_after == scene.good_before
    assert not scene.writes_about_good


def test_no_secret_is_seen_in_a_status_an_event_or_the_log(scene: Scene, sandbox: Sandbox, manager: Program) -> None:
    hidden = {TOKEN, *KEY_PEM.splitlines()[1:2]}
    for bad in bad_secrets(sandbox).values():
        hidden.update(secrets_in(bad.kubeconfig or b""))
    hidden.update(secrets_in(kubeconfig_of(sandbox.physical[0])))
    assert len(hidden) > 5
    shown = [
        manager.log.read_text(),
        *(str(seen.failed["status"]) + str(seen.healed["status"]) for seen in scene.seen.values()),
        *(str(event) for event in scene.events),
    ]
    for text in shown:
        for secret in hidden:
            assert secret not in text


async def test_a_secret_that_does_not_exist_is_named_and_waited_for(federation: Federation) -> None:
    lender = await federation.bind(
        Pool(0, "none", ()), ready=False, secretRef={"name": f"later-{uuid.uuid4().hex[:6]}", "namespace": "default"}
    )
    missing = (await federation.virtual.get(CLUSTERBINDINGS, lender.binding))["spec"]["secretRef"]["name"]
    await eventually(
        lambda: says(federation, lender, Bad(None, (f"default/{missing} does not exist", "create it"))), what=lender.binding
    )
    right = base64.b64encode(kubeconfig_of(federation.sandbox.physical[0])).decode()
    await federation.create(SECRETS, {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": missing, "namespace": "default"},
        "data": {"kubeconfig": right},
    })
    await eventually(lambda: federation.is_ready(lender), within=HEALED_WITHIN, what="Ready once the Secret is there")
