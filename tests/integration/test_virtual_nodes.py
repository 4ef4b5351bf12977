"""A virtual node as contract.md §2 has it, and how it follows its physical node and keeps what users did to it."""

import base64
import json
from collections.abc import Iterator

import pytest

from kubeocean.kube.loopback import VNODE_LOOPBACK
from kubeocean.kube.meta import Json, annotations_of, finalizers_of, labels_of, uid_of
from kubeocean.kube.resources import LEASES, NODES, PODS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    discard,
    eventually,
    find,
    for_a_module,
    steadily,
)
from tests.integration.programs import Program

DEDICATED: Json = {"key": "dedicated", "value": "tests", "effect": "NoSchedule"}
VNODE_TAINT: Json = {"key": "kubeocean.io/vnode", "effect": "NoSchedule"}
NOT_COPIED = (
    "volumes.kubernetes.io/", "csi.volume.kubernetes.io/", "node.alpha.kubernetes.io/", "kubeadm.alpha.kubernetes.io/",
    "kubeocean.io/",
)


async def lend(federation: Federation) -> Lender:
    pool = await federation.pool(
        nodes=2, labels={"example.com/rack": "7"}, taints=[DEDICATED], annotations={
            "example.com/kept": "yes", "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            "csi.volume.kubernetes.io/nodeid": "{}", "kubeadm.alpha.kubernetes.io/cri-socket": "unix:///x",
        },
    )
    lender = await federation.bind(pool)
    await federation.policy(lender, name=f"all-{pool.name}")
    await federation.vnodes(lender)
    return lender


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lend) as lender:
        yield lender


async def both(federation: Federation, lender: Lender, number: int = 0) -> tuple[Json, Json]:
    """Return a physical node and the virtual node that stands for it."""
    physical = await federation.physical[0].get(NODES, lender.pool.nodes[number])
    return physical, await federation.virtual.get(NODES, lender.vnode(number))


def taints_of(node: Json) -> list[Json]:
    return sorted(node["spec"].get("taints") or [], key=lambda taint: str(taint["key"]))


def fnv1a(text: str) -> int:
    value = 2166136261
    for byte in text.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return value


async def test_labels_are_the_physical_nodes_and_ours(federation: Federation, lender: Lender) -> None:
    physical, vnode = await both(federation, lender)
    port = str(vnode["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"])
    copied = {key: text for key, text in labels_of(physical).items() if not key.startswith("kubeocean.io/")}
    assert copied["example.com/rack"] == "7"
    assert labels_of(vnode) == copied | {
        "kubeocean.io/cluster-binding": lender.binding,
        "kubeocean.io/physical-cluster-id": lender.cluster_id,
        "kubeocean.io/physical-node-name": lender.pool.nodes[0],
        "kubeocean.io/physical-node-uid": uid_of(physical),
        "kubeocean.io/physical-node-innerip": "127.0.0.1",
        "kubeocean.io/proxier_port": port,
        "kubeocean.io/managed-by": "kubeocean",
        "kubeocean.io/node-type": "virtual",
        "kubeocean.io/cluster-id": lender.cluster_id,
        "kubeocean.io/physical-node": lender.pool.nodes[0],
        "type": "virtual-kubelet",
        "node.kubernetes.io/instance-type": "vnode",
        "beta.kubernetes.io/instance-type": "vnode",
        "kubernetes.io/hostname": lender.vnode(),
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
    }
    assert finalizers_of(vnode) == ["kubeocean.io/vnode"]


async def test_annotations_that_steer_a_machine_are_not_copied(federation: Federation, lender: Lender) -> None:
    physical, vnode = await both(federation, lender)
    annotations = annotations_of(vnode)
    foreign = {key: text for key, text in annotations.items() if not key.startswith(NOT_COPIED)}
    assert foreign == {key: text for key, text in annotations_of(physical).items() if not key.startswith(NOT_COPIED)}
    assert foreign["example.com/kept"] == "yes"
    # The virtual cluster's own node controller writes its ttl; the others would make it attach volumes.
    copied = [key for key in annotations if key.startswith(NOT_COPIED[:4]) and key != "node.alpha.kubernetes.io/ttl"]
    assert copied == []
    policy = f"all-{lender.pool.name}"
    assert annotations["kubeocean.io/physical-node-name"] == lender.pool.nodes[0]
    assert annotations["kubeocean.io/physical-node-uid"] == uid_of(physical)
    assert annotations["kubeocean.io/policies-applied"] == policy
    assert annotations["kubeocean.io/policy-details"] == f"{policy}()"


async def test_what_we_wanted_is_remembered_on_the_node(federation: Federation, lender: Lender) -> None:
    _, vnode = await both(federation, lender)
    expected = json.loads(base64.b64decode(annotations_of(vnode)["kubeocean.io/expected-metadata"]))
    assert set(expected) == {"labels", "annotations", "taints"}
    assert expected["labels"] == labels_of(vnode)
    assert sorted(expected["taints"], key=lambda taint: str(taint["key"])) == [DEDICATED, VNODE_TAINT]


async def test_taints_are_the_physical_nodes_and_the_default_one(federation: Federation, lender: Lender) -> None:
    _, vnode = await both(federation, lender)
    assert taints_of(vnode) == [DEDICATED, VNODE_TAINT]


async def test_status_shows_the_lease_and_how_the_machine_fares(federation: Federation, lender: Lender) -> None:
    physical, vnode = await both(federation, lender)
    status = vnode["status"]
    assert status["capacity"] == status["allocatable"] == physical["status"]["allocatable"]
    said = ("type", "status", "reason", "message")
    assert [[each.get(key) for key in said] for each in status["conditions"]] == [
        [each.get(key) for key in said] for each in physical["status"]["conditions"]
    ]
    assert status["nodeInfo"] == physical["status"]["nodeInfo"]
    assert status["addresses"] == [
        {"type": "InternalIP", "address": VNODE_LOOPBACK}, {"type": "Hostname", "address": lender.vnode()},
    ]


async def test_every_virtual_node_has_a_kubelet_port_of_its_own(federation: Federation, lender: Lender) -> None:
    ports = []
    for number, name in enumerate(lender.vnodes):
        _, vnode = await both(federation, lender, number)
        port = vnode["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        assert 0 <= port - (15000 + fnv1a(name) % (65535 - 15000 + 1)) < 3, "not where the name puts it"
        ports.append(port)
    assert len(set(ports)) == 2


async def test_its_lease_says_for_whom_and_how_long(federation: Federation, lender: Lender) -> None:
    _, vnode = await both(federation, lender)

    async def lease() -> Json | None:
        return await find(federation.virtual, LEASES, lender.vnode(), "kube-node-lease")

    found = await eventually(lease, what="its Lease")
    assert found["spec"]["leaseDurationSeconds"] == 40
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Node", lender.vnode(), uid_of(vnode))


async def test_what_users_put_on_it_survives_and_what_they_took_off_comes_back(
    federation: Federation, lender: Lender
) -> None:
    _, vnode = await both(federation, lender)
    taint = {"key": "example.com/mine", "effect": "PreferNoSchedule"}
    await federation.virtual.patch(NODES, lender.vnode(), "", {
        "metadata": {
            "labels": {"example.com/mine": "1", "example.com/rack": None, "kubeocean.io/node-type": None},
            "annotations": {"example.com/mine": "1"},
        },
        "spec": {"taints": [*vnode["spec"]["taints"], taint], "unschedulable": True},
    })

    async def restored() -> bool:
        _, vnode = await both(federation, lender)
        assert labels_of(vnode).get("example.com/rack") == "7", labels_of(vnode)
        assert labels_of(vnode).get("kubeocean.io/node-type") == "virtual", labels_of(vnode)
        return True

    await eventually(restored, what="removed labels are back")
    # A change of the physical node makes us write all of it again.
    name = lender.pool.nodes[0]
    await federation.physical[0].patch(NODES, name, "", {"metadata": {"labels": {"example.com/new": "1"}}})

    async def written() -> bool:
        return labels_of((await both(federation, lender))[1]).get("example.com/new") == "1"

    await eventually(written, what="the physical node's new label")
    _, vnode = await both(federation, lender)
    assert labels_of(vnode)["example.com/mine"] == annotations_of(vnode)["example.com/mine"] == "1"
    assert taint in vnode["spec"]["taints"]
    assert vnode["spec"]["unschedulable"] is True, "a user's cordon was undone"
    await federation.physical[0].patch(NODES, name, "", {"metadata": {"labels": {"example.com/new": None}}})

    async def gone() -> bool:
        return "example.com/new" not in labels_of((await both(federation, lender))[1])

    await eventually(gone, what="the label that the physical node has no more")
    await federation.virtual.patch(NODES, lender.vnode(), "", {
        "metadata": {"labels": {"example.com/mine": None}},
        "spec": {"taints": [DEDICATED, VNODE_TAINT], "unschedulable": None},
    })


async def test_a_lenders_cordon_is_mirrored_under_our_own_key(federation: Federation, lender: Lender) -> None:
    name = lender.pool.nodes[1]
    cordon = {"key": "kubeocean.io/physical-node-unschedulable", "effect": "NoSchedule"}

    async def shows(expected: bool) -> bool:
        _, vnode = await both(federation, lender, 1)
        assert (cordon in vnode["spec"]["taints"]) is expected, vnode["spec"]
        assert "unschedulable" not in vnode["spec"], vnode["spec"]
        assert all(taint["key"] != "node.kubernetes.io/unschedulable" for taint in vnode["spec"]["taints"])
        return True

    await federation.physical[0].patch(NODES, name, "", {"spec": {"unschedulable": True}})
    await eventually(lambda: shows(True), what="cordon")
    await federation.physical[0].patch(NODES, name, "", {"spec": {"unschedulable": None}})
    await eventually(lambda: shows(False), what="uncordon")


async def test_deleted_behind_our_back_it_comes_back_and_its_pods_never_notice(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    tolerations = [{"operator": "Exists"}]
    await federation.virtual.create(
        PODS, build_pod("stays", namespace, lender, tolerations=tolerations, nodeSelector={
            "kubernetes.io/hostname": lender.vnode(1)
        }),
    )
    (vpod,) = await federation.running(namespace, "stays")
    twin = await federation.twin(lender, vpod)
    assert twin
    _, before = await both(federation, lender, 1)
    await discard(federation.virtual, NODES, lender.vnode(1))

    async def back() -> bool:
        (_, after) = await federation.vnodes(lender)
        return uid_of(after) != uid_of(before)

    await eventually(back, what="virtual node is back")
    _, after = await both(federation, lender, 1)
    assert labels_of(after) == labels_of(before)

    async def alive() -> bool:
        (pod,), now = await federation.running(namespace, "stays"), await federation.twin(lender, vpod)
        return uid_of(pod) == uid_of(vpod) and now is not None and uid_of(now) == uid_of(twin)

    await steadily(alive, during=1, what="the Pod and its twin live on")

    async def has_lease() -> bool:
        # The old one is garbage with its node.
        lease = await find(federation.virtual, LEASES, lender.vnode(1), "kube-node-lease")
        return lease is not None and [owner["uid"] for owner in lease["metadata"]["ownerReferences"]] == [uid_of(after)]

    await eventually(has_lease, within=20, what="the new node has a Lease")


@pytest.mark.parametrize("label", [
    {"type": "virtual-kubelet"}, {"node.kubernetes.io/instance-type": "external"},
    {"beta.kubernetes.io/instance-type": "eklet"}, {"node.kubernetes.io/instance-type": "vnode"},
], ids=str)
async def test_what_is_no_machine_gets_none(federation: Federation, lender: Lender, label: dict[str, str]) -> None:
    name = f"{lender.pool.name}-skipped-{abs(hash(str(label))) % 10000}"
    await federation.add_node(lender.pool, name, labels=label)
    later = f"{name}-later"  # a machine that joins afterwards gets one: by then the other was looked at as well
    await federation.add_node(lender.pool, later)

    async def nodes() -> list[str]:
        found = (await federation.virtual.list(NODES)).items
        return [labels_of(node).get("kubeocean.io/physical-node-name", "") for node in found]

    async def joined() -> bool:
        return later in await nodes()

    await eventually(joined, what=f"virtual node of {later}")
    assert name not in await nodes()
