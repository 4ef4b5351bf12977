"""A policy's change wakes the nodes it concerns: all of them, no others, and each once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubeocean.api.binding import ClusterBindingSpec, SecretReference
from kubeocean.api.names import LAST_VALID_LENDER_POLICY_ANNOTATION
from kubeocean.clusters.physical import PhysicalCluster
from kubeocean.clusters.virtual import VirtualCluster
from kubeocean.domain.leasing import LeaseFacts, assess
from kubeocean.domain.lender import Standing
from kubeocean.domain.ownership import Owner
from kubeocean.domain.policies import remembered_policy
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.events import EventRecorder
from kubeocean.kube.informer import Informer
from kubeocean.kube.meta import Json
from kubeocean.syncer.bottomup.policywatch import PolicyWatch
from kubeocean.syncer.pairing import Pairing, SyncerOptions


class Clusters:
    """A pairing whose caches are filled by hand, and a node controller that decides but writes nothing."""

    def __init__(self, config: ServerConfig) -> None:
        spec = ClusterBindingSpec(
            cluster_id="edge", secret_ref=SecretReference(name="s", namespace="n"), mount_namespace="mount"
        )
        owner = Owner("virtual-uid", "edge")
        self.virtual = VirtualCluster(config, user_agent="test")
        self.physical = PhysicalCluster(
            config, binding="binding", owner=owner, mount_namespace="mount", user_agent="test"
        )
        self.pairing = Pairing(
            "binding", "uid", spec, owner, self.virtual, self.physical, EventRecorder(self.virtual.calls, component="test"),
            SyncerOptions(),
        )
        self.woken: list[str] = []
        self.revision = 0
        for number, zone in enumerate("aabbc"):
            self.tell(self.physical.nodes, f"node-{number}", labels={"zone": zone})

    def begin(self, standing: Standing = Standing.READ) -> None:
        """Start to listen, with the lender's policies read (or not)."""
        self.physical.lender.standing, self.physical.lender._complete = standing, standing is Standing.READ
        PolicyWatch(self.pairing, self.woken.append).attach()
        self.work()

    def tell(self, informer: Informer[Any], name: str, *, labels: Json | None = None, **fields: Any) -> None:
        self.revision += 1
        metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(self.revision), "labels": labels or {}}
        informer.put({"metadata": metadata, **fields})

    def edit(self, side: Informer[Any], name: str, zone: str | None = None, **spec: Any) -> list[str]:
        """Write a policy that selects the nodes of a zone; return who is woken by it, in order."""
        if zone:
            expression = {"key": "zone", "operator": "In", "values": [zone]}
            spec["nodeSelector"] = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
        self.tell(side, name, spec={"cluster": "binding", **spec})
        return self.work()

    def forget(self, side: Informer[Any], name: str) -> list[str]:
        self.revision += 1
        side.delete({"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(self.revision)}})
        return self.work()

    def work(self) -> list[str]:
        """Decide about every node that was woken, as the node controller does; return who that was."""
        woken, self.woken[:] = sorted(self.woken), []
        for entry in self.physical.nodes.store.entries():
            if entry.key.name in woken:
                self._decide(entry.object())
        return woken

    def _decide(self, node: Json) -> None:
        pairing, name = self.pairing, node["metadata"]["name"]
        before, annotations = pairing.leases.get(name), {}
        if before and before.lender_remembered:
            annotations[LAST_VALID_LENDER_POLICY_ANNOTATION] = before.lender_remembered.text()
        vnode = {"metadata": {"name": "v", "annotations": annotations}} if before else None
        assert not vnode or remembered_policy(vnode) is None
        policies = [entry.summary for entry in self.virtual.policies.store.entries()]
        lease = assess(LeaseFacts(
            node, vnode, "binding", pairing.spec, policies, {}, pairing.clock(), lender=self.physical.lender.view
        ))
        if lease.decision.leasable:
            pairing.leases[name] = lease
        else:
            pairing.leases.pop(name, None)


@pytest.fixture
async def clusters() -> AsyncIterator[Clusters]:
    async def nothing(refresh: bool) -> None:
        return None

    made = Clusters(ServerConfig(server="https://127.0.0.1:1", ssl=None, authorization=nothing))
    yield made
    await made.physical.close()
    await made.virtual.close()


A, B, C = ["node-0", "node-1"], ["node-2", "node-3"], ["node-4"]
INVALID = "Mars/Olympus"


@pytest.mark.parametrize("side", ["borrower", "lender"])
async def test_an_edit_touches_exactly_the_nodes_concerned(clusters: Clusters, side: str) -> None:
    clusters.begin()
    policies = clusters.virtual.policies if side == "borrower" else clusters.physical.lender.informer
    assert clusters.edit(policies, "p", "a") == A
    assert clusters.edit(policies, "p", "a", resourceLimits=[{"resource": "cpu", "quantity": 1}]) == A
    assert clusters.edit(policies, "p", "b") == sorted(A + B), "those it leaves and those it comes to"
    assert clusters.edit(policies, "p", "b", priority=3) == B
    assert clusters.edit(policies, "p", "b", priority=3) == [], "nothing that decides has changed"
    assert clusters.edit(policies, "q", "c", cluster="another") == []
    assert clusters.edit(policies, "q", "c") == C
    assert clusters.edit(policies, "q", "c", cluster="another") == C
    assert clusters.forget(policies, "p") == B
    assert clusters.forget(policies, "q") == []


async def test_a_lender_may_call_us_by_the_cluster_id_or_mean_everybody(clusters: Clusters) -> None:
    clusters.begin()
    policies = clusters.physical.lender.informer
    assert clusters.edit(policies, "p", "a", cluster="edge") == A
    assert clusters.edit(policies, "q", "b", cluster="*") == B


async def test_nodes_that_follow_the_memory_of_an_invalid_policy_are_concerned(clusters: Clusters) -> None:
    clusters.begin()
    policies = clusters.physical.lender.informer
    clusters.edit(policies, "p", "a")
    illegible = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Near"}]}]}
    assert clusters.edit(policies, "p", nodeSelector=illegible) == A
    assert clusters.edit(policies, "p", "b", timeZone=INVALID) == sorted(A + B)
    assert clusters.edit(policies, "p", "c") == sorted(A + B + C)


async def test_who_waited_for_the_lender_is_woken_when_he_is_heard(clusters: Clusters) -> None:
    clusters.begin(Standing.UNKNOWN)
    assert clusters.edit(clusters.virtual.policies, "p", "a") == A
    assert clusters.pairing.leases == {}, "nothing new is leased"
    clusters.physical.lender._become(Standing.ABSENT, "")
    assert clusters.work() == sorted(A + B + C)
    assert sorted(clusters.pairing.leases) == A


async def test_trouble_with_the_lender_wakes_nobody(clusters: Clusters) -> None:
    clusters.begin()
    clusters.edit(clusters.physical.lender.informer, "p", "a")
    clusters.physical.lender._become(Standing.UNKNOWN, "500")
    assert clusters.work() == []
    clusters.physical.lender._become(Standing.READ, "")
    assert clusters.work() == sorted(B + C), "who has no lease may have waited for him"
