"""Two writers at one object: a node that is NotReady is mirrored, and the virtual cluster's node controller leaves it at that.

The dangerous ones are a node whose kubelet says False, and one whose kubelet is dead, which the lender's node controller calls
Unknown. Both are mirrored in conditions; what the virtual node controller derives from them (taints) is its own. Beside them
stands a node with all that can be beside a node. Longer, by hand: KUBEOCEAN_TEST_REST=180.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.resources import CSINODES, NODES, PODS
from tests.integration.audit import AuditLog, Write, until_quiet
from tests.integration.federation import Federation, Lender, build_pod, discard, eventually, find
from tests.integration.kubelet import Kubelet

REST = float(os.environ.get("KUBEOCEAN_TEST_REST", "30"))  # seconds
HEARTBEAT = 10.0


async def say_ready(federation: Federation, node: str, status: str, reason: str) -> None:
    condition = {"type": "Ready", "status": status, "reason": reason, "message": "by a test"}
    await federation.physical[0].patch(NODES, node, "", {"status": {"conditions": [condition]}}, subresource="status")


async def taint_keys(federation: Federation, vnode: str) -> dict[str, str]:
    node = await federation.virtual.get(NODES, vnode)
    return {taint["key"]: taint["effect"] for taint in node["spec"].get("taints") or ()}


async def mirrored(federation: Federation, lender: Lender) -> bool:
    """Tell whether both virtual nodes say what theirs say, and the virtual node controller has drawn its conclusions."""
    for number, status, taint in ((0, "False", "not-ready"), (1, "Unknown", "unreachable")):
        conditions = (await federation.virtual.get(NODES, lender.vnode(number)))["status"]["conditions"]
        ready = next(each for each in conditions if each["type"] == "Ready")
        assert ready["status"] == status, ready
        assert f"node.kubernetes.io/{taint}" in await taint_keys(federation, lender.vnode(number))
    return True


async def furnish(federation: Federation, lender: Lender, node: str) -> None:
    """Put a CSINode and a foreign Pod with a hostPort beside a physical node."""
    driver = {"name": "csi.example.com", "nodeID": node}
    federation.made.physical += [(0, CSINODES, node, ""), (0, PODS, f"web-{node}", "default")]
    await federation.physical[0].create(CSINODES, {
        "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": node}, "spec": {"drivers": [driver]},
    })
    container = {"name": "main", "image": "busybox", "ports": [{"containerPort": 80, "hostPort": 8080}]}
    await federation.physical[0].create(PODS, {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"web-{node}", "namespace": "default"},
        "spec": {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0},
    })

    async def there() -> bool:
        assert await find(federation.virtual, CSINODES, lender.vnode(2)), "no CSINode"
        pods = (await federation.virtual.list(PODS, "kubeocean-fake")).items
        assert [pod for pod in pods if pod["spec"].get("nodeName") == lender.vnode(2)], "no placeholder"
        return True

    await eventually(there, what="what goes beside the node")


async def place(federation: Federation, lender: Lender, namespace: str, kubelet: Kubelet, name: str, vnode: str) -> None:
    """Have a Pod run on a virtual node; it stays there whatever becomes of the node."""
    stays: Json = {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"kubernetes.io/hostname": vnode}}
    vpod = await federation.virtual.create(PODS, build_pod(name, namespace, lender, **stays))

    async def runs() -> bool:
        twin = await federation.twin(lender, vpod)
        assert twin, "no twin"
        await kubelet.runs(twin)
        return True

    await eventually(runs, what=f"twin of {name}")
    await federation.running(namespace, name)


async def end_pods(federation: Federation, lender: Lender, namespace: str) -> None:
    """Play the kubelet of nodes that have none: their Pods end at once."""
    for pod in (await federation.virtual.list(PODS, namespace)).items:
        twin = await federation.twin(lender, pod)
        await discard(federation.virtual, PODS, name_of(pod), namespace, grace_seconds=0)
        if twin:
            await discard(federation.physical[0], PODS, name_of(twin), lender.mount_namespace, grace_seconds=0)


def by_agent(writes: Iterable[Write]) -> dict[str, int]:
    """Return how often each program wrote what: {"kube-controller-manager patch nodes": 2}."""
    return dict(Counter(f"{write.agent.split('/')[0]} {write.verb} {write.resource}" for write in writes))


async def test_nobody_fights_over_a_node_that_is_not_ready(federation: Federation, namespace: str) -> None:
    pool = await federation.pool(nodes=3, played=False)
    lender = await federation.bind(pool)
    living = Kubelet(federation.physical[0], replace(lender, pool=replace(pool, nodes=(pool.nodes[0], pool.nodes[2]))))
    await living.heartbeat()
    await federation.policy(lender)
    await federation.vnodes(lender)
    for number, name in enumerate(("on-false", "on-unknown")):
        await place(federation, lender, namespace, living, name, lender.vnode(number))
    await furnish(federation, lender, pool.nodes[2])
    await say_ready(federation, pool.nodes[0], "False", "KubeletNotReady")
    await say_ready(federation, pool.nodes[1], "Unknown", "NodeStatusUnknown")
    await eventually(lambda: mirrored(federation, lender), within=20, what="NotReady is mirrored")
    logs = [AuditLog(cluster) for cluster in (federation.sandbox.virtual, federation.sandbox.physical[0])]
    await until_quiet(*logs)
    for log in logs:
        log.restart()
    end = asyncio.get_running_loop().time() + REST
    while (left := end - asyncio.get_running_loop().time()) > 0:
        await living.heartbeat()
        await asyncio.sleep(min(HEARTBEAT, left))

    above, below = (log.writes() for log in logs)
    concerned = [write for write in above if write.name in lender.vnodes or write.namespace in (namespace, "kubeocean-fake")]
    print(f"virtual, {REST:.0f} s: {by_agent(concerned)}")
    print(f"by us, both clusters: {by_agent(write for log in logs for write in log.ours())}")
    print(f"physical node controller: {by_agent(write for write in below if write.name in pool.nodes)}")
    fights = [write for write in concerned if not write.is_lease and write.resource != "events"]
    assert len(fights) <= 3 * len(lender.vnodes), by_agent(fights)  # what the node controller's own timers may still owe
    ours = [write for log in logs for write in log.ours() if not write.is_lease]
    assert not ours, by_agent(ours)
    await mirrored(federation, lender)
    beats = Counter(write.name for write in above if write.is_lease and write.name in lender.vnodes)
    assert set(beats) == set(lender.vnodes), f"leases go on for all: {beats}"
    await end_pods(federation, lender, namespace)
