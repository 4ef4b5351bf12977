"""The whole of what the Go project leaves is taken over on real control planes, by the audit logs without a needless write."""

from collections import Counter

from kubeocean.kube.meta import annotations_of, finalizers_of, labels_of, name_of, uid_of
from kubeocean.kube.resources import CSINODES, LEASES, NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog, beside_leases, summary, until_quiet
from tests.integration.federation import Federation, discard, eventually, find
from tests.integration.goproject import GoProject
from tests.integration.programs import Program
from tests.integration.test_crashes import assert_a_restart_writes_nothing

OWNER = "kubeocean.io/owner"
# What a start over a Pod of ours may make: a token, which the one before cannot be asked for, and what is told of it.
MADE = {"events", "serviceaccounts/token", "leases"}


async def test_it_is_taken_over_as_it_runs_and_a_second_start_writes_nothing(
    federation: Federation, namespace: str, manager: Program, sandbox: Sandbox
) -> None:
    lender = await federation.bind(await federation.pool())
    manager.kill()
    go = GoProject(federation, lender, namespace)
    await go.leave()
    await federation.policy(lender)
    logs = [AuditLog(cluster) for cluster in (sandbox.virtual, sandbox.physical[0])]
    manager.ensure()

    async def ours() -> bool:
        unowned = [kind for kind, obj in (await go.now()).items() if OWNER not in labels_of(obj)]
        assert not unowned, f"nobody's yet: {unowned}"
        return True

    await eventually(ours, within=40, what="all is adopted")
    await until_quiet(*logs)
    writes = [write for log in logs for write in log.ours()]
    print(summary(writes))
    # Its placeholder is made anew: nothing on it says to a later unbinding whose it is, and any Pod could preempt it.
    deleted = [(write.resource, write.name) for write in writes if write.verb == "delete"]
    assert deleted == [("pods", name_of(go.above["placeholder"]))]
    made = [write for write in beside_leases(*logs, starts=1) if write.verb == "create" and write.resource not in MADE]
    assert [(write.resource, write.namespace) for write in made] == [("pods", "kubeocean-fake")], "made what there was"
    assert not [write for write in writes if write.code >= 400]
    changes = Counter((write.resource, write.namespace, write.name) for write in beside_leases(*logs, starts=1))
    again = {change: count for change, count in changes.items() if count > 1 and change[0] != "events"}
    assert not again, "what is adopted is written once"

    after = await go.now()
    for kind, before in go.below.items():
        assert uid_of(after[kind]) == uid_of(before), f"another {kind}"
    assert after["pod"]["spec"] == go.below["pod"]["spec"]
    assert after["pod"]["status"] == go.below["pod"]["status"], "nothing restarted"
    assert labels_of(after["pod"])["kubeocean.io/virtual-namespace"] == namespace, "network policies choose by it"
    assert after["claim"]["spec"] == go.below["claim"]["spec"]
    retained = {"persistentVolumeReclaimPolicy": "Retain"}
    assert after["volume"]["spec"] == go.below["volume"]["spec"] | retained, "the data outlives the twin"
    assert list(after["token"]["data"]) == ["sa-token"], "renewed under the key that the twin projects"
    assert after["token"]["data"] != go.below["token"]["data"]

    vnode = await federation.virtual.get(NODES, lender.vnode())
    assert uid_of(vnode) == uid_of(go.above["node"])
    assert (labels_of(vnode)["team"], labels_of(vnode)["kubeocean.io/proxier_port"]) == ("users-own", "23456")
    for kind, resource, of in (("lease", LEASES, "kube-node-lease"), ("csinode", CSINODES, "")):
        taken = await federation.virtual.get(resource, lender.vnode(), of)
        assert uid_of(taken) == uid_of(go.above[kind])
        assert [owner["uid"] for owner in taken["metadata"]["ownerReferences"]] == [uid_of(vnode)]
    assert taken["spec"] == go.above["csinode"]["spec"]
    volume = await federation.virtual.get(PERSISTENTVOLUMES, name_of(go.above["volume"]))
    assert annotations_of(volume)["kubeocean.io/physical-name"] == name_of(after["volume"])
    (vpod,) = await federation.running(namespace, "web")
    assert uid_of(vpod) == uid_of(go.above["pod"])
    await assert_a_restart_writes_nothing(lender, manager, logs)
    await assert_it_ends_as_any_other(federation, go)


async def assert_it_ends_as_any_other(federation: Federation, go: GoProject) -> None:
    """Delete the Pod and its claim; nothing is left of either below, and no mark above."""
    virtual, physical = federation.virtual, federation.physical[0]
    await discard(virtual, PODS, "web", go.namespace, grace_seconds=1)
    await discard(virtual, PERSISTENTVOLUMECLAIMS, "data", go.namespace)

    async def gone() -> bool:
        assert not await federation.twins(go.lender), "a twin"
        for kind, resource in (("claim", PERSISTENTVOLUMECLAIMS), ("volume", PERSISTENTVOLUMES)):
            obj = go.below[kind]
            assert not await find(physical, resource, name_of(obj), obj["metadata"].get("namespace", "")), kind
        volume = await virtual.get(PERSISTENTVOLUMES, name_of(go.above["volume"]))
        assert not [each for each in finalizers_of(volume) if "kubeocean" in each]
        return True

    await eventually(gone, within=40, what="the Pod, its claim and its volume are gone")
