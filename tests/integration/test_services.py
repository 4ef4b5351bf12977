"""Services, network policies and addresses of the virtual cluster, as twins on a real physical API server meet them.

KWOK runs the Pods and no proxy runs here: what is looked at is what the two API servers hold, which is what a proxy would obey.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.domain.naming import physical_name
from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, labels_of, name_of, uid_of
from kubeocean.kube.resources import (
    ENDPOINTSLICES,
    EVENTS,
    NAMESPACES,
    NETWORKPOLICIES,
    PODS,
    PRIORITYCLASSES,
    SERVICES,
    Resource,
)
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.credentials import hand_in, issue_kubeconfig
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    condition,
    discard,
    eventually,
    find,
    for_a_module,
    steadily,
)
from tests.integration.lending import ROLES, grant
from tests.integration.programs import Program

SELECTOR = {"app": "web"}


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(nodes=2, directScheduling=True)) as lender:
        yield lender


@pytest.fixture
async def mirrored(federation: Federation, lender: Lender, namespace: str) -> AsyncIterator[str]:
    """A namespace whose Services are mirrored; taken out of the binding's list in the end."""
    await set_namespaces(federation, lender, [namespace])
    yield namespace
    await set_namespaces(federation, lender, [])
    await eventually(lambda: nothing_left(federation, lender), what="the mirrors of a namespace that left the list")


async def set_namespaces(federation: Federation, lender: Lender, namespaces: list[str]) -> None:
    await federation.virtual.patch(CLUSTERBINDINGS, lender.binding, "", {"spec": {"serviceNamespaces": namespaces}})


async def nothing_left(federation: Federation, lender: Lender) -> bool:
    for resource in (SERVICES, ENDPOINTSLICES):
        left = (await federation.physical[0].list(resource, lender.mount_namespace)).items
        assert not left, f"left: {[name_of(each) for each in left]}"
    return True


def service(name: str, namespace: str, **spec: object) -> Json:
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": SELECTOR, "ports": [{"name": "http", "port": 80, "targetPort": 8080}], **spec},
    }


async def copy_of(federation: Federation, lender: Lender, resource: Resource, name: str, namespace: str) -> Json:
    found = await find(federation.physical[0], resource, physical_name(name, namespace), lender.mount_namespace)
    assert found is not None, f"no copy of {name}"
    return found


async def endpoints(federation: Federation, lender: Lender, name: str, namespace: str) -> list[Json]:
    """Return the endpoints that a proxy in the physical cluster would use for a mirrored Service."""
    selector = f"kubernetes.io/service-name={physical_name(name, namespace)}"
    slices = (await federation.physical[0].list(ENDPOINTSLICES, lender.mount_namespace, label_selector=selector)).items
    return [endpoint for each in slices for endpoint in each.get("endpoints") or ()]


def env_of(twin: Json) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in twin["spec"]["containers"][0]["env"]}


def hosts_of(twin: Json) -> dict[str, str]:
    return {name: each["ip"] for each in twin["spec"].get("hostAliases") or () for name in each["hostnames"]}


async def told(client: Client, namespace: str, reason: str, name: str) -> str:
    found = [
        event["message"] for event in (await client.list(EVENTS, namespace)).items
        if event["reason"] == reason and event["involvedObject"]["name"] == name
    ]
    assert found, f"no Event {reason} about {name}"
    return str(found[0])


async def test_a_mirrored_service_leads_to_the_pods_and_every_pod_made_after_it_knows_it(
    federation: Federation, lender: Lender, mirrored: str
) -> None:
    virtual, physical = federation.virtual, federation.physical[0]
    made = [
        service("web", mirrored, type="NodePort", sessionAffinity="ClientIP"), service("headless", mirrored, clusterIP="None"),
        service("elsewhere", mirrored, type="ExternalName", externalName="example.org"),
    ]
    first, *_ = [await virtual.create(SERVICES, each) for each in made]
    # At once: the Pod waits for the mirror, for it is told only now where it is.
    pods = [build_pod(f"web-{number}", mirrored, lender, metadata={"labels": SELECTOR}) for number in range(3)]
    await asyncio.gather(*(virtual.create(PODS, each) for each in pods))
    running = await federation.running(mirrored, "web-0", "web-1", "web-2")

    copy = await copy_of(federation, lender, SERVICES, "web", mirrored)
    assert "selector" not in copy["spec"]
    assert (copy["spec"]["type"], copy["spec"]["sessionAffinity"]) == ("ClusterIP", "ClientIP")
    headless = await copy_of(federation, lender, SERVICES, "headless", mirrored)
    assert headless["spec"]["clusterIP"] == "None"
    with pytest.raises(AssertionError):
        await copy_of(federation, lender, SERVICES, "elsewhere", mirrored)

    address = copy["spec"]["clusterIP"]
    for vpod in running:
        twin = await federation.twin(lender, vpod)
        assert twin is not None
        env, hosts = env_of(twin), hosts_of(twin)
        assert (env["WEB_SERVICE_HOST"], env["WEB_SERVICE_PORT"]) == (address, "80")
        assert "HEADLESS_SERVICE_HOST" not in env
        calls = ("web", f"web.{mirrored}", f"web.{mirrored}.svc", f"web.{mirrored}.svc.cluster.local")
        assert [hosts.get(name) for name in calls] == [address] * 4
    assert first["spec"]["clusterIP"] == (await virtual.get(SERVICES, "web", mirrored))["spec"]["clusterIP"]

    addresses = {pod["status"]["podIP"] for pod in running}

    async def leads_to(wanted: set[str]) -> bool:
        for name in ("web", "headless"):
            found = await endpoints(federation, lender, name, mirrored)
            assert {each["addresses"][0] for each in found if each["conditions"].get("ready")} == wanted
            assert {each["nodeName"] for each in found} <= {*lender.pool.nodes}
            assert not any("targetRef" in each or "zone" in each for each in found)
        return True

    await eventually(lambda: leads_to(addresses), what="endpoints are those of the virtual Pods")
    slices = (await virtual.list(ENDPOINTSLICES, mirrored)).items
    await discard(virtual, PODS, "web-2", mirrored, grace_seconds=0)
    gone = next(pod["status"]["podIP"] for pod in running if name_of(pod) == "web-2")

    async def virtual_follows() -> bool:
        found = [each for each in (await virtual.list(ENDPOINTSLICES, mirrored)).items for each in each.get("endpoints") or ()]
        assert gone not in {each["addresses"][0] for each in found}
        return bool(slices)

    await eventually(virtual_follows, what="the virtual slices have dropped the Pod")
    since = time.monotonic()
    await eventually(lambda: leads_to(addresses - {gone}), what="so have the physical ones")
    assert time.monotonic() - since < 1.0

    # A lender's hand in it is undone; a Service that goes takes its mirror along.
    await physical.patch(SERVICES, name_of(copy), lender.mount_namespace, {"spec": {"selector": {"app": "lenders"}}})
    (slice_copy, *_) = (await physical.list(
        ENDPOINTSLICES, lender.mount_namespace, label_selector=f"kubernetes.io/service-name={name_of(copy)}"
    )).items
    await physical.patch(ENDPOINTSLICES, name_of(slice_copy), lender.mount_namespace, {"endpoints": []})
    await physical.delete(SERVICES, name_of(headless), lender.mount_namespace, uid=uid_of(headless))

    async def repaired() -> bool:
        assert "selector" not in (await copy_of(federation, lender, SERVICES, "web", mirrored))["spec"]
        assert uid_of(await copy_of(federation, lender, SERVICES, "headless", mirrored)) != uid_of(headless)
        return await leads_to(addresses - {gone})

    await eventually(repaired, within=5, what="what a lender changed is repaired")
    await virtual.patch(SERVICES, "web", mirrored, {"spec": {"ports": [{"name": "alt", "port": 81, "targetPort": 8080}]}})
    await discard(virtual, SERVICES, "headless", mirrored)

    async def followed() -> bool:
        ports = (await copy_of(federation, lender, SERVICES, "web", mirrored))["spec"]["ports"]
        assert [(port["name"], port["port"]) for port in ports] == [("alt", 81)]
        assert await find(physical, SERVICES, name_of(headless), lender.mount_namespace) is None
        return not await endpoints(federation, lender, "headless", mirrored)

    await eventually(followed, within=5, what="the copies follow")


async def test_a_name_that_is_taken_is_told_and_left_alone_and_keeps_no_pod_waiting(
    federation: Federation, lender: Lender, mirrored: str
) -> None:
    strangers = service(physical_name("web", mirrored), lender.mount_namespace)
    strangers = await federation.physical[0].create(SERVICES, strangers)
    try:
        await federation.virtual.create(SERVICES, service("web", mirrored))
        message = await eventually(
            lambda: told(federation.virtual, mirrored, "MirrorNameTaken", "web"), what="the Service says who has its name"
        )
        assert name_of(strangers) in message
        assert lender.binding in message
        await federation.virtual.create(PODS, build_pod("one", mirrored, lender))
        (vpod,) = await federation.running(mirrored, "one", within=5)
        twin = await federation.twin(lender, vpod)
        assert twin is not None
        virtual = await federation.virtual.get(SERVICES, "web", mirrored)
        assert env_of(twin)["WEB_SERVICE_HOST"] == virtual["spec"]["clusterIP"], "the address at least that it has anywhere"
        assert "web" not in hosts_of(twin)
        now = await federation.physical[0].get(SERVICES, name_of(strangers), lender.mount_namespace)
        assert (uid_of(now), now["spec"]) == (uid_of(strangers), strangers["spec"])
    finally:
        await discard(federation.physical[0], SERVICES, name_of(strangers), lender.mount_namespace)
        await discard(federation.virtual, SERVICES, "web", mirrored)


async def test_api_server_and_dns_are_found_by_the_intranet_services_and_a_later_change_is_for_new_pods(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    virtual = federation.virtual
    ports = [{"name": "other", "port": 80}, {"name": "https", "port": 6443}]
    intranet = [
        ("kubernetes-intranet", "default", ports, "192.0.2.1"),
        ("kube-dns-intranet", "kube-system", [{"port": 53, "protocol": "UDP"}], "192.0.2.53"),
    ]

    async def run(name: str) -> Json:
        await virtual.create(PODS, build_pod(name, namespace, lender))
        (vpod,) = await federation.running(namespace, name)
        twin = await federation.twin(lender, vpod)
        assert twin is not None
        return twin

    for name, where, ports, _ in intranet:
        await federation.create(SERVICES, service(name, where, type="LoadBalancer", selector={}, ports=ports))
    try:
        before = await run("before")
        assert env_of(before)["KUBERNETES_SERVICE_HOST"] == ""
        assert before["spec"]["dnsPolicy"] == "ClusterFirst"
        for name, where, _, ip in intranet:
            status = {"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}}
            await virtual.patch(SERVICES, name, where, status, subresource="status")
        await asyncio.sleep(0.3)  # on another watch than the Pod's
        after = await run("after")
        env = env_of(after)
        assert (env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_SERVICE_PORT"]) == ("192.0.2.1", "6443")
        assert hosts_of(after)["kubernetes.default.svc"] == "192.0.2.1"
        assert after["spec"]["dnsConfig"]["nameservers"] == ["192.0.2.53"]
        now = await federation.physical[0].get(PODS, name_of(before), lender.mount_namespace)
        assert (uid_of(now), env_of(now)) == (uid_of(before), env_of(before)), "a running Pod keeps what it was told"
    finally:
        for name, where, *_ in intranet:
            await discard(virtual, SERVICES, name, where)


def policy(name: str, namespace: str, **spec: object) -> Json:
    return {
        "apiVersion": NETWORKPOLICIES.api_version, "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": SELECTOR}, "policyTypes": ["Ingress"], **spec},
    }


async def test_a_network_policy_is_in_force_before_the_pod_it_selects_and_follows_namespaces(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    virtual, physical = federation.virtual, federation.physical[0]
    label = {"tests/team": uuid.uuid4().hex[:8]}
    peers = [{"namespaceSelector": {"matchLabels": label}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}]
    await virtual.create(NETWORKPOLICIES, policy("guard", namespace, ingress=[{"from": peers}]))
    await virtual.create(NETWORKPOLICIES, policy("others", "default"))  # no Pod of ours is there
    try:
        await virtual.create(PODS, build_pod("web", namespace, lender, metadata={"labels": SELECTOR}))
        (vpod,) = await federation.running(namespace, "web")
        twin = await federation.twin(lender, vpod)
        copy = await copy_of(federation, lender, NETWORKPOLICIES, "guard", namespace)
        assert twin is not None
        chosen = copy["spec"]["podSelector"]
        assert chosen["matchLabels"] == SELECTOR
        assert labels_of(twin)["kubeocean.io/virtual-namespace"] in chosen["matchExpressions"][0]["values"]
        assert [each.keys() for each in copy["spec"]["ingress"][0]["from"]] == [{"ipBlock"}], "no namespace is meant so far"
        await virtual.patch(NAMESPACES, namespace, "", {"metadata": {"labels": label}})

        async def follows() -> bool:
            now = await copy_of(federation, lender, NETWORKPOLICIES, "guard", namespace)
            chosen = [each["podSelector"] for each in now["spec"]["ingress"][0].get("from") or () if "podSelector" in each]
            return [each["matchExpressions"][0]["values"] for each in chosen] == [[namespace]]

        async def lone() -> bool:
            found = (await physical.list(NETWORKPOLICIES, lender.mount_namespace)).items
            return {name_of(each) for each in found} == {physical_name("guard", namespace)}

        await eventually(follows, what="a namespace that is labelled is meant")
        await steadily(lone, during=0.3, what="only policies of namespaces with Pods of ours")
        await physical.patch(NETWORKPOLICIES, name_of(copy), lender.mount_namespace, {"spec": {"ingress": [{}]}})
        await eventually(follows, what="what a lender opened is shut again")
        await discard(virtual, NETWORKPOLICIES, "guard", namespace)

        async def gone() -> bool:
            return await find(physical, NETWORKPOLICIES, name_of(copy), lender.mount_namespace) is None

        await eventually(gone, what="the copy goes with its original")
    finally:
        await discard(virtual, NETWORKPOLICIES, "others", "default")


async def test_without_the_right_to_write_policies_no_pod_they_select_starts_and_all_is_said(
    federation: Federation, manager: Program, namespace: str
) -> None:
    borrower = f"borrower-{uuid.uuid4().hex[:6]}"
    lender = await federation.bind(
        await federation.pool(), kubeconfig=b"soon", ready=False, podPriorityClassName="none-such",
        serviceNamespaces=[namespace],
    )
    await grant(federation, lender, borrower)
    await take_away_what_is_optional(federation, lender)
    await hand_in(federation.virtual, lender, issue_kubeconfig(federation.sandbox.physical[0], borrower))
    await federation.policy(lender)
    await federation.vnodes(lender)
    virtual = federation.virtual
    await virtual.create(SERVICES, service("web", namespace))
    await virtual.create(NETWORKPOLICIES, policy("guard", namespace))
    await virtual.create(PODS, build_pod("web", namespace, lender, metadata={"labels": SELECTOR}))
    await virtual.create(PODS, build_pod("free", namespace, lender))

    async def refused(pod: str, reason: str) -> str:
        found = condition(await virtual.get(PODS, pod, namespace), "PhysicalPodCreated")
        assert found.get("reason") == reason, found
        return str(found["message"])

    message = await eventually(lambda: refused("web", "NetworkPolicyNotEnforced"), within=15, what="the Pod says what it lacks")
    assert "guard" in message
    assert "kubeocean rbac" in message
    assert lender.binding in await told(virtual, namespace, "NetworkPolicyNotEnforced", "guard")
    await eventually(lambda: told(virtual, namespace, "MirrorRefused", "web"), what="the Service says why it has no mirror")
    # The other Pod is held by nothing but its PriorityClass, which the lender does not have.
    message = await eventually(lambda: refused("free", "PriorityClassNotFound"), within=15, what="the class is named")
    assert "none-such" in message
    assert lender.binding in message
    classes = {"metadata": {"name": "none-such"}, "value": -5}
    await federation.physical[0].create(PRIORITYCLASSES, {
        "apiVersion": PRIORITYCLASSES.api_version, "kind": "PriorityClass", **classes,
    })
    try:
        await federation.running(namespace, "free", within=40)
        assert await federation.twin(lender, await virtual.get(PODS, "web", namespace)) is None
    finally:
        await discard(federation.physical[0], PRIORITYCLASSES, "none-such")
    await federation.unbind(lender)


async def take_away_what_is_optional(federation: Federation, lender: Lender) -> None:
    """Take from the borrower's Role all that concerns network policies and Services."""
    role = await federation.physical[0].get(ROLES, "kubeocean-borrower", lender.mount_namespace)
    kept = [rule for rule in role["rules"] if not {"networkpolicies", "services"} & {*rule["resources"]}]
    await federation.physical[0].patch(ROLES, name_of(role), lender.mount_namespace, {"rules": kept})
