"""What a lender does to his own cluster in the random walk against the oracle: his Pods come and go, his nodes change."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from random import Random
from typing import TypeVar

from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.errors import NotFound
from kubeocean.kube.meta import Json, name_of, namespace_of, uid_of
from kubeocean.kube.resources import NODES, PODS, Resource
from kubeocean.sandbox.nodes import NodeTemplate, build_node, node_names
from tests.integration import drawing

T = TypeVar("T")
AT_ONCE = 32  # calls


class LenderSide:
    """One physical cluster, and the names of what the walk has there; each change returns what was done, in words."""

    def __init__(self, rng: Random, client: Client, binding: str, cluster_id: str, template: NodeTemplate) -> None:
        self.client, self.binding, self.cluster_id = client, binding, cluster_id
        self.nodes = node_names(template.count)
        self._rng, self._template = rng, template
        self._away: list[str] = []  # nodes that were removed
        self._pods: dict[str, Json] = {}  # as they were created, by name
        self._made = 0

    # --- Pods --------------------------------------------------------------------------------------------------------
    async def change_pods(self) -> str:
        """Have a tenth of the Pods end and a tenth deleted, some resized, and as many come as have gone."""
        names = self._rng.sample(sorted(self._pods), len(self._pods))
        tenth = max(1, len(names) // 10)
        ending, deleted, resized = names[:tenth], names[tenth : 2 * tenth], names[2 * tenth : 3 * tenth]
        await in_batches(self._end(self._pods.pop(name)) for name in ending)
        await in_batches(remove(self.client, PODS, self._pods.pop(name)) for name in deleted)
        await in_batches(self._resize(self._pods[name]) for name in resized)
        await self.add_pods(2 * tenth)
        return f"{self.binding}: {tenth} Pods end, {tenth} are deleted, {tenth} resized, {2 * tenth} come"

    async def add_pods(self, count: int) -> None:
        """Create as many Pods, bound to nodes at random."""
        pods = []
        for _ in range(count):
            self._made += 1
            pods.append(drawing.draw_pod(self._rng, f"foreign-{self._made}", self._rng.choice(self.nodes)))
        for made in await in_batches(self.client.create(PODS, pod) for pod in pods):
            self._pods[name_of(made)] = made

    async def _end(self, pod: Json) -> None:
        phase = self._rng.choice(("Succeeded", "Failed"))
        await self._patch_pod(pod, {"status": {"phase": phase}}, "status")

    async def _resize(self, pod: Json) -> None:
        """Ask for more CPU, of a node that reports what is in effect; now and then it says that it cannot give more."""
        before, cannot = pod["spec"]["containers"], self._rng.random() < 0.5
        more = [{"name": each["name"], "resources": {"requests": {"cpu": self._rng.choice(("2", "3333m"))}}} for each in before]
        if "resources" in pod["spec"]:
            return  # of a Pod with requests as a whole, no container may be resized beyond them
        await self._patch_pod(pod, {"status": {"containerStatuses": [report(each) for each in before]}}, "status")
        await self._patch_pod(pod, {"spec": {"containers": more}}, "resize")
        if cannot:
            condition = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
            await self._patch_pod(pod, {"status": {"conditions": [condition]}}, "status")

    async def _patch_pod(self, pod: Json, change: Json, subresource: str) -> None:
        await self.client.patch(
            PODS, name_of(pod), namespace_of(pod), change, kind=PatchType.STRATEGIC, subresource=subresource
        )

    # --- nodes -------------------------------------------------------------------------------------------------------
    async def change_nodes(self) -> str:
        """Change something about a third of the nodes."""
        changes: tuple[Callable[[str], Awaitable[str]], ...] = (
            self.relabel, self._hide, self._shrink, self._cordon, self._uncordon, self._taint, self._untaint,
            *[self._show] * 3,  # or few would be left
        )
        nodes = self._rng.sample(self.nodes, max(4, len(self.nodes) // 3))
        drawn = [(self._rng.choice(changes), node) for node in nodes]
        return f"{self.binding}: {', '.join(await in_batches(change(node) for change, node in drawn))}"

    async def relabel(self, node: str) -> str:
        """Give a node other labels for selectors to ask about."""
        labels = drawing.draw_labels(self._rng)
        await self._patch_node(node, {"metadata": {"labels": labels}})
        return f"{node} becomes {labels}"

    async def _hide(self, node: str) -> str:
        label = self._rng.choice(({"type": "virtual-kubelet"}, {"beta.kubernetes.io/instance-type": "external"}))
        await self._patch_node(node, {"metadata": {"labels": label}})
        return f"{node} becomes {label}"

    async def _show(self, node: str) -> str:
        await self._patch_node(node, {"metadata": {"labels": {"type": None, "beta.kubernetes.io/instance-type": None}}})
        return f"{node} is a machine"

    async def _shrink(self, node: str) -> str:
        sizes = {"cpu": self._rng.choice(("7123m", "5", "8")), "memory": self._rng.choice(("31.5Gi", "16Gi"))}
        sizes["example.com/gpu"] = self._rng.choice(("0", "5", "8"))
        await self.client.patch(NODES, node, "", {"status": {"allocatable": sizes}}, subresource="status")
        return f"{node} has {sizes}"

    async def _cordon(self, node: str) -> str:
        await self._patch_node(node, {"spec": {"unschedulable": True}})
        return f"{node} is cordoned"

    async def _uncordon(self, node: str) -> str:
        await self._patch_node(node, {"spec": {"unschedulable": None}})
        return f"{node} is uncordoned"

    async def _taint(self, node: str) -> str:
        await self._patch_node(node, {"spec": {"taints": [drawing.ANOTHERS_TAINT]}})
        return f"{node} is another's virtual node, out of its window"

    async def _untaint(self, node: str) -> str:
        await self._patch_node(node, {"spec": {"taints": []}})  # Kubernetes puts that of a cordon back
        return f"{node} is nobody's virtual node"

    async def _patch_node(self, node: str, change: Json) -> None:
        await self.client.patch(NODES, node, "", change)

    async def replace_nodes(self) -> str:
        """Have a node leave for a while, one come back, and one be another machine from now on."""
        leaving, changed = self._rng.sample(self.nodes, 2)
        coming = list(self._away)
        for node in (leaving, changed):
            found = await self.client.get(NODES, node)
            await remove(self.client, NODES, found)
        port = found["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        for node in (changed, *coming):
            await self.client.create(NODES, build_node(node, self._template, address="127.0.0.1", port=port))
            await self.relabel(node)
        self.nodes, self._away = sorted({*self.nodes, *coming} - {leaving}), [leaving]
        self._pods = {name: pod for name, pod in self._pods.items() if pod["spec"]["nodeName"] != leaving}
        return f"{self.binding}: {leaving} leaves, {changed} is another machine, {', '.join(coming) or 'none'} comes back"


def report(container: Json) -> Json:
    """Return the status of a container to which the node has given what it asks for."""
    requests = container["resources"]["requests"]
    return {
        "name": container["name"], "image": "busybox", "imageID": "", "ready": True, "restartCount": 0,
        "state": {"running": {"startedAt": None}}, "resources": {"requests": requests}, "allocatedResources": requests,
    }


async def remove(client: Client, resource: Resource, obj: Json) -> None:
    """Delete an object, a Pod at once; one that is gone already is no matter."""
    grace = 0 if resource is PODS else None
    with suppress(NotFound):
        await client.delete(resource, name_of(obj), namespace_of(obj), uid=uid_of(obj), grace_seconds=grace)


async def in_batches(work: Iterable[Awaitable[T]]) -> list[T]:
    """Await all of `work`, begun in order and some at a time, and return the answers in that order."""
    waiting, answers = list(work), []
    for start in range(0, len(waiting), AT_ONCE):
        answers += await asyncio.gather(*waiting[start : start + AT_ONCE])
    return answers
