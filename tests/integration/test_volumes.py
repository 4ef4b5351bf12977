"""Claims and volumes: carried to the physical cluster, provisioned there, kept as long as their claims, and given back."""

import asyncio
import uuid
from dataclasses import dataclass

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.meta import Json, annotations_of, finalizers_of, is_deleting, labels_of, name_of, uid_of
from kubeocean.kube.resources import EVENTS, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, SECRETS, STATEFULSETS
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    build_pod_spec,
    condition,
    discard,
    eventually,
    find,
    twin_name,
)
from tests.integration.storage import build_claim, build_volume, make_class, mounting, provisioner


@dataclass
class Storage:
    """The claims of one test on both sides."""

    federation: Federation
    lender: Lender
    namespace: str

    @property
    def virtual(self) -> Client:
        return self.federation.virtual

    @property
    def physical(self) -> Client:
        return self.federation.physical[self.lender.pool.cluster]

    async def claim(self, name: str) -> Json | None:
        return await find(self.virtual, PERSISTENTVOLUMECLAIMS, name, self.namespace)

    async def twin(self, name: str) -> Json | None:
        place = (twin_name(name, self.namespace), self.lender.mount_namespace)
        return await find(self.physical, PERSISTENTVOLUMECLAIMS, *place)

    async def bound(self, name: str) -> tuple[Json, Json]:
        """Return claim and twin once both are bound."""
        async def both() -> tuple[Json, Json]:
            claim, twin = await self.claim(name), await self.twin(name)
            assert claim, "no claim"
            assert twin, f"no twin: {await self.events(name)}"
            assert claim["status"]["phase"] == twin["status"]["phase"] == "Bound", (claim["status"], twin["status"])
            return claim, twin

        found: tuple[Json, Json] = await eventually(both, within=30, what=f"{name} is bound on both sides")
        return found

    async def offer(self, sources: Json, tag: str) -> None:
        """Create a volume for each source, and the claims that name them."""
        volumes = {name: f"{name}-{tag}" for name in sources}
        for name, source in sources.items():
            await self.federation.create(PERSISTENTVOLUMES, build_volume(volumes[name], name, self.namespace, **source))

        async def known() -> bool:
            phases = [(await self.virtual.get(PERSISTENTVOLUMES, name))["status"].get("phase") for name in volumes.values()]
            assert all(phases), phases
            return True

        # The volume controller binds at once only what it knows; else it looks again after 15 s.
        await eventually(known, what="the volumes are known")
        for name, volume in volumes.items():
            await self.virtual.create(PERSISTENTVOLUMECLAIMS, build_claim(name, self.namespace, volumeName=volume))

    async def events(self, name: str) -> list[str]:
        found = (await self.virtual.list(EVENTS, self.namespace, field_selector=f"involvedObject.name={name}")).items
        return [f"{each['reason']}: {each['message']}" for each in found]

    async def waits(self, pod: str, reason: str) -> None:
        async def told() -> bool:
            created = condition(await self.virtual.get(PODS, pod, self.namespace), "PhysicalPodCreated")
            assert created.get("reason") == reason, created
            return True

        await eventually(told, within=20, what=f"{pod} waits: {reason}")

    async def discard_claim(self, name: str) -> None:
        await discard(self.virtual, PERSISTENTVOLUMECLAIMS, name, self.namespace)

    async def gone(self, name: str) -> None:
        """Return when claim and twin are gone."""
        async def neither() -> bool:
            claim, twin = await self.claim(name), await self.twin(name)
            assert claim is None, f"{finalizers_of(claim)} {claim['status']} {await self.events(name)}"
            assert twin is None, twin["metadata"]
            return True

        await eventually(neither, within=30, what=f"{name} is gone on both sides")


async def test_bound_volumes_are_carried_with_their_secrets_and_go_with_their_claims(
    federation: Federation, namespace: str
) -> None:
    lender = await federation.lend(allowPrivileged=True)
    storage, tag = Storage(federation, lender, namespace), uuid.uuid4().hex[:6]
    virtual, physical = storage.virtual, storage.physical
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": [lender.vnode()]},
    ]}]}}
    for name in ("publish", "stage"):
        await virtual.create(SECRETS, {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
            "stringData": {"key": name},
        })
    csi = {"driver": "csi.test.example", "volumeHandle": f"handle-{tag}"} | {
        f"node{kind}SecretRef": {"name": kind.lower(), "namespace": namespace} for kind in ("Publish", "Stage")
    }
    sources: Json = {
        "disk": {"hostPath": {"path": f"/tmp/{tag}"}, "nodeAffinity": affinity}, "net": {"csi": csi},
        "late": {"nfs": {"server": "nfs.test.example", "path": "/l"}},
        "taken": {"nfs": {"server": "nfs.test.example", "path": "/t"}},
    }
    blocker = build_claim(twin_name("taken", namespace), lender.mount_namespace)
    blocker = await physical.create(PERSISTENTVOLUMECLAIMS, blocker)
    await virtual.create(PODS, build_pod("late", namespace, lender, **mounting("late"), nodeName=lender.vnode()))
    await storage.waits("late", "MandatoryPersistentVolumeClaimNotFound")
    await storage.offer(sources, tag)
    for name in ("disk", "net", "taken"):
        await virtual.create(PODS, build_pod(name, namespace, lender, **mounting(name)))
    await federation.running(namespace, "disk", "net", "late")

    # Conflicts are told, and heal.
    await storage.waits("taken", "PhysicalClaimTaken")
    assert any("PhysicalClaimTaken" in event for event in await storage.events("taken"))
    await physical.delete(PERSISTENTVOLUMECLAIMS, name_of(blocker), lender.mount_namespace, uid=uid_of(blocker))
    await federation.running(namespace, "taken")

    # What was made.
    for name in ("disk", "net"):
        claim, twin = await storage.bound(name)
        volume = await physical.get(PERSISTENTVOLUMES, twin["spec"]["volumeName"])
        assert volume["spec"]["claimRef"]["uid"] == uid_of(twin)
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
        assert f"kubeocean.io/finalizer-{lender.cluster_id}" in finalizers_of(claim)
        if name == "disk":
            (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
            assert term["matchExpressions"][0]["values"] == [lender.pool.nodes[0]]
        else:
            for field in ("nodePublishSecretRef", "nodeStageSecretRef"):
                reference = volume["spec"]["csi"][field]
                copy = await physical.get(SECRETS, reference["name"], reference["namespace"])
                assert reference["namespace"] == lender.mount_namespace
                assert labels_of(copy)["kubeocean.io/used-by-pv"] == "true"
    twin_pod = await federation.twin(lender, await virtual.get(PODS, "disk", namespace))
    assert twin_pod
    claims = [each["persistentVolumeClaim"] for each in twin_pod["spec"]["volumes"] if "persistentVolumeClaim" in each]
    assert [each["claimName"] for each in claims] == [twin_name("disk", namespace)]

    # A claim in use outlives its deletion until the Pod is gone; then all goes, and no mark stays.
    await storage.discard_claim("disk")
    await asyncio.sleep(0.5)
    in_use = await storage.twin("disk")
    assert in_use
    assert not is_deleting(in_use)
    await discard(virtual, PODS, "disk", namespace)
    await discard(virtual, PODS, "net", namespace)
    await storage.discard_claim("net")
    for name in ("disk", "net"):
        await storage.gone(name)

    async def unmarked() -> bool:
        for name in ("disk", "net"):
            volume = await virtual.get(PERSISTENTVOLUMES, f"{name}-{tag}")
            assert "kubeocean" not in str(volume["metadata"].get("labels")) + str(finalizers_of(volume))
        ours = (await physical.list(PERSISTENTVOLUMES, label_selector="kubeocean.io/owner")).items
        mine = [annotations_of(each).get("kubeocean.io/virtual-name", "") for each in ours]
        assert not {f"disk-{tag}", f"net-{tag}"} & set(mine)
        return True

    await eventually(unmarked, within=15, what="volumes are given back")


def build_stateful_set(namespace: str, lender: Lender, storage_class: str) -> Json:
    template = build_claim("data", namespace, storage_class=storage_class)
    template["metadata"] = {"name": "data"}
    spec = build_pod_spec(lender, containers=mounting("data")["containers"], terminationGracePeriodSeconds=1)
    return {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": namespace},
        "spec": {
            "replicas": 1, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": spec}, "volumeClaimTemplates": [template],
        },
    }


async def test_claims_without_volumes_are_provisioned_and_live_as_long_as_they(federation: Federation, namespace: str) -> None:
    lender = await federation.lend()
    storage, tag = Storage(federation, lender, namespace), uuid.uuid4().hex[:6]
    virtual, physical = storage.virtual, storage.physical
    await make_class(federation, f"wait-{tag}")
    await make_class(federation, f"once-{tag}", mode="Immediate")
    await make_class(federation, f"absent-{tag}", physical=False)
    refuse = {twin_name("picky", namespace)}
    named = {"kubeocean.io/cluster-binding": lender.binding}
    async with provisioner(physical, f"wait-{tag}", refuse=refuse), provisioner(physical, f"once-{tag}", refuse=set()):
        await virtual.create(STATEFULSETS, build_stateful_set(namespace, lender, f"wait-{tag}"))
        for name, kind in (("picky", "wait"), ("absent", "absent")):
            await virtual.create(PERSISTENTVOLUMECLAIMS, build_claim(name, namespace, storage_class=f"{kind}-{tag}"))
            await virtual.create(PODS, build_pod(name, namespace, lender, **mounting(name)))
        await virtual.create(
            PERSISTENTVOLUMECLAIMS, build_claim("now", namespace, storage_class=f"once-{tag}", annotations=named)
        )
        await federation.running(namespace, "db-0", "picky", within=60)
        assert not refuse, "the first node was refused"
        await storage.bound("now")
        claim, twin = await storage.bound("data-db-0")
        volume = await virtual.get(PERSISTENTVOLUMES, claim["spec"]["volumeName"])
        assert volume["spec"]["csi"]["driver"] == "claims.kubeocean.io"
        (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        assert [lender.vnode()] in [each["values"] for each in term["matchExpressions"]]
        assert any("has no StorageClass" in event for event in await storage.events("absent"))

        # The next Pod of the name finds the same claim; so does everybody after a while without any Pod.
        before = await virtual.get(PODS, "db-0", namespace)
        await discard(virtual, PODS, "db-0", namespace)

        async def replaced() -> bool:
            pod = await find(virtual, PODS, "db-0", namespace)
            return pod is not None and uid_of(pod) != uid_of(before)

        await eventually(replaced, within=20, what="another db-0")
        await federation.running(namespace, "db-0")
        assert uid_of((await storage.bound("data-db-0"))[1]) == uid_of(twin)

        # It grows.
        patch = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
        await virtual.patch(PERSISTENTVOLUMECLAIMS, "data-db-0", namespace, patch)

        async def wished() -> bool:
            live = await storage.twin("data-db-0")
            return live is not None and live["spec"]["resources"]["requests"]["storage"] == "2Gi"

        await eventually(wished, what="the wish went down")
        status = {"status": {
            "capacity": {"storage": "2Gi"},
            "conditions": [{"type": "FileSystemResizePending", "status": "True", "message": "waits for the kubelet"}],
        }}
        await physical.patch(
            PERSISTENTVOLUMECLAIMS, name_of(twin), lender.mount_namespace, status, kind=PatchType.STRATEGIC,
            subresource="status",
        )

        async def grown() -> bool:
            live = await storage.claim("data-db-0")
            assert live
            assert live["status"]["capacity"]["storage"] == "2Gi"
            assert condition(live, "FileSystemResizePending").get("message") == "waits for the kubelet"
            volume = await virtual.get(PERSISTENTVOLUMES, live["spec"]["volumeName"])
            return bool(volume["spec"]["capacity"]["storage"] == "2Gi")

        await eventually(grown, what="what became of it came up")

        # And goes, with the volume on both sides, when its claim is deleted.
        await discard(virtual, STATEFULSETS, "db", namespace)
        await discard(virtual, PODS, "picky", namespace)
        for name in ("data-db-0", "picky", "now"):
            await storage.discard_claim(name)
        for name in ("data-db-0", "picky", "now"):
            await storage.gone(name)

        async def no_volume() -> bool:
            left = list(map(name_of, (await virtual.list(PERSISTENTVOLUMES)).items))
            assert not [name for name in left if lender.cluster_id in name], left
            return True

        await eventually(no_volume, within=15, what="virtual volumes are gone")


async def test_unbinding_waits_for_data_unless_forced_to_leave_it(federation: Federation, namespace: str) -> None:
    lender = await federation.lend()
    storage, tag = Storage(federation, lender, namespace), uuid.uuid4().hex[:6]
    virtual, physical = storage.virtual, storage.physical
    await make_class(federation, f"once-{tag}", mode="Immediate")
    await federation.create(
        PERSISTENTVOLUMES, build_volume(f"net-{tag}", "net", namespace, nfs={"server": "nfs.test.example", "path": "/"})
    )
    named = {"kubeocean.io/cluster-binding": lender.binding}
    async with provisioner(physical, f"once-{tag}", refuse=set()):
        for name in ("kept", "dropped"):
            claim = build_claim(name, namespace, storage_class=f"once-{tag}", annotations=named)
            await virtual.create(PERSISTENTVOLUMECLAIMS, claim)
        await virtual.create(PERSISTENTVOLUMECLAIMS, build_claim("net", namespace, volumeName=f"net-{tag}"))
        await virtual.create(PODS, build_pod("net", namespace, lender, **mounting("net")))
        for name in ("kept", "dropped", "net"):
            await storage.bound(name)
        await discard(virtual, CLUSTERBINDINGS, lender.binding)

        async def told() -> bool:
            binding = await virtual.get(CLUSTERBINDINGS, lender.binding)
            message = condition(binding, "Ready").get("message", "")
            assert f"waits for {namespace}/dropped, {namespace}/kept" in message, message
            assert await storage.twin("net") is None
            return True

        await eventually(told, within=30, what="the binding says what it waits for")
        await storage.discard_claim("dropped")
        await storage.gone("dropped")
        await virtual.patch(CLUSTERBINDINGS, lender.binding, "", {"spec": {"deletionPolicy": "Force"}})
        await federation.unbind(lender, within=30)
    data = await storage.twin("kept")
    assert data, "the data is left"
    for name in ("kept", "net"):
        released = await storage.claim(name)
        assert released
        assert "kubeocean.io/" not in str(released["metadata"].get("labels")) + str(finalizers_of(released))
    events = (await virtual.list(EVENTS, "default", field_selector=f"involvedObject.name={lender.binding}")).items
    assert any("stays in the physical cluster" in each["message"] and name_of(data) in each["message"] for each in events)
    await physical.delete(PERSISTENTVOLUMECLAIMS, name_of(data), lender.mount_namespace, uid=uid_of(data))
    await storage.discard_claim("kept")
    kept = [each for each in (await virtual.list(PERSISTENTVOLUMES)).items if lender.cluster_id in name_of(each)]
    for volume in kept:
        await discard(virtual, PERSISTENTVOLUMES, name_of(volume))
