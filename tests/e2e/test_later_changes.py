"""What a user changes of a running Pod happens to its real containers, and what the real kubelet makes of it is told."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.meta import Json, name_of, namespace_of, uid_of
from kubeocean.kube.resources import PODS
from tests.e2e.realnode import RealFederation
from tests.integration.federation import build_pod, condition, eventually, find, is_running, twin_name

IMAGE, OTHER_IMAGE = "kubeocean.test/toolbox:1", "kubeocean.test/toolbox:2"
QUOTA = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null | cut -d' ' -f1"  # cgroup v2, v1
SHOW = "trap 'exit 7' TERM; while true; do {command}; sleep 0.2; done"


class Pods:
    """Pods of one virtual namespace, and their twins."""

    def __init__(self, federation: RealFederation, virtual: Client, physical: Client, namespace: str) -> None:
        self._lender, self._virtual, self._physical, self._namespace = federation.lender, virtual, physical, namespace

    async def start(self, name: str, show: str, *, container: Json | None = None, command: str = "", **spec: Any) -> None:
        """Run a Pod that writes again and again what a command shows, or does something else."""
        shell = ["sh", "-c", command or SHOW.format(command=show)]
        main = {"name": "main", "image": IMAGE, "command": shell, **(container or {})}
        pod = build_pod(name, self._namespace, self._lender, metadata={"labels": {"app": name}}, containers=[main], **spec)
        await self._virtual.create(PODS, pod)

        async def runs() -> bool:
            found = await self.get(name)
            assert is_running(found), found.get("status")
            return True

        await eventually(runs, within=40, what=f"{name} runs")

    async def get(self, name: str) -> Json:
        return await self._virtual.get(PODS, name, self._namespace)

    async def edit(self, name: str, patch: Json, subresource: str = "") -> None:
        await self._virtual.patch(PODS, name, self._namespace, patch, kind=PatchType.STRATEGIC, subresource=subresource)

    async def twin(self, name: str) -> Json:
        twin = await find(self._physical, PODS, twin_name(name, self._namespace), self._lender.mount_namespace)
        assert twin is not None, f"no twin of {name}"
        return twin

    async def says(self, name: str, container: str = "main") -> str:
        """Return the last line that a container wrote."""
        twin = await self.twin(name)
        path = PODS.path(namespace_of(twin), name_of(twin), "log")
        return (await self._physical.raw("GET", path, params={"container": container, "tailLines": "1"})).decode().strip()

    async def delete(self, name: str, *, grace_seconds: int) -> float:
        """Ask for the deletion of a Pod and return when that was."""
        pod, now = await self.get(name), time.monotonic()
        await self._virtual.delete(PODS, name, self._namespace, uid=uid_of(pod), grace_seconds=grace_seconds)
        return now

    async def is_gone(self, name: str) -> bool:
        """Tell whether it is gone on both sides."""
        twin = twin_name(name, self._namespace)
        below = await find(self._physical, PODS, twin, self._lender.mount_namespace)
        return below is None and await find(self._virtual, PODS, name, self._namespace) is None

    async def evict_twin(self, name: str) -> None:
        twin = await self.twin(name)
        await self._physical.create(PODS, {
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name_of(twin), "namespace": namespace_of(twin)},
        }, subresource="eviction", name=name_of(twin))


async def change_an_image(pods: Pods) -> None:
    await pods.start("image", "cat /etc/toolbox-image")
    twin = uid_of(await pods.twin("image"))
    await pods.edit("image", {"spec": {"containers": [{"name": "main", "image": OTHER_IMAGE}]}})

    async def restarted() -> bool:
        status = (await pods.get("image"))["status"]["containerStatuses"][0]
        assert status["restartCount"] == 1, status
        return bool(status["ready"])  # the images are the same by content, so the runtime may call this by either name

    await eventually(restarted, within=30, what="the container is made anew")
    after = await pods.twin("image")
    assert (uid_of(after), after["spec"]["containers"][0]["image"]) == (twin, OTHER_IMAGE)


def sizes(cpu: str) -> Json:
    return {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}}]}}


async def resize_in_place(pods: Pods) -> None:
    small = {"requests": {"cpu": "100m"}, "limits": {"cpu": "100m"}}
    await pods.start("resize", QUOTA, container={"resources": small})

    async def has(limit: str, cpu: str) -> bool:
        assert await pods.says("resize") == limit
        status = (await pods.get("resize"))["status"]["containerStatuses"][0]
        assert status["resources"]["limits"] == {"cpu": cpu}, status
        assert status["restartCount"] == 0
        return True

    await eventually(lambda: has("10000", "100m"), what="100 m in the container's cgroup")
    await pods.edit("resize", sizes("200m"), "resize")
    await eventually(lambda: has("20000", "200m"), within=30, what="200 m in the container's cgroup")
    await pods.edit("resize", sizes("4k"), "resize")

    async def infeasible() -> bool:
        told = condition(await pods.get("resize"), "PodResizePending")
        assert told.get("reason") == "Infeasible", told
        return "cpu" in told["message"]

    await eventually(infeasible, within=30, what="the kubelet's No to 4000 cores")
    await pods.edit("resize", sizes("150m"), "resize")
    await eventually(lambda: has("15000", "150m"), within=30, what="150 m in the container's cgroup")

    async def seen() -> bool:
        pod = await pods.get("resize")
        assert not condition(pod, "PodResizePending"), pod["status"]["conditions"]
        assert pod["status"]["observedGeneration"] == pod["metadata"]["generation"]
        return True

    await eventually(seen, what="nothing is pending, and the kubelet is known to have seen the newest Pod")


async def debug(pods: Pods) -> None:
    await pods.start("debug", "true", shareProcessNamespace=True)
    command = ["sh", "-c", SHOW.format(command="echo $WHO sees $(ls /proc | grep -c '^[0-9]')")]
    await pods.edit("debug", {"spec": {"ephemeralContainers": [
        {"name": "debugger", "image": OTHER_IMAGE, "command": command, "env": [{"name": "WHO", "value": "me"}]}
    ]}}, "ephemeralcontainers")

    async def runs() -> bool:
        statuses = (await pods.get("debug"))["status"].get("ephemeralContainerStatuses") or [{}]
        assert "running" in statuses[0].get("state", {}), statuses
        return (await pods.says("debug", "debugger")).startswith("me sees")

    await eventually(runs, within=30, what="the ephemeral container runs")


async def relabel(pods: Pods) -> None:
    item = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    await pods.start(
        "labels", "tr '\\n' ' ' < /pod/labels; echo", container={"volumeMounts": [{"name": "pod", "mountPath": "/pod"}]},
        volumes=[{"name": "pod", "downwardAPI": {"items": [item]}}],
    )
    await eventually(lambda: says(pods, 'app="labels"'), what="the virtual labels, and no other")
    await pods.edit("labels", {"metadata": {"labels": {"app": "other", "more": "yes"}}})
    # A kubelet looks at its volumes about once a minute, unless it has been told to do so more often.
    await eventually(lambda: says(pods, 'app="other" more="yes"'), within=90, what="the new labels in the mounted file")


async def says(pods: Pods, wanted: str) -> bool:
    said = await pods.says("labels")
    assert said == wanted, said
    return True


async def evict(pods: Pods) -> None:
    await pods.start("evicted", "true")
    await pods.evict_twin("evicted")

    async def told() -> bool:
        pod = await pods.get("evicted")
        assert pod["status"]["phase"] == "Failed", pod["status"]
        assert condition(pod, "DisruptionTarget")["reason"] == "EvictionByEvictionAPI"
        ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        assert ended["exitCode"] == 7, ended
        return True

    await eventually(told, within=30, what="the eviction, and how the container ended")


async def outlive_the_grace(pods: Pods) -> None:
    await pods.start("stubborn", "true", command="trap '' TERM; while true; do sleep 0.2; done")
    since = await pods.delete("stubborn", grace_seconds=3)
    await eventually(lambda: pods.is_gone("stubborn"), within=20, what="the Pod is gone")
    took = time.monotonic() - since
    assert 3 < took < 8, f"it took {took:.1f} s"


CHANGES: tuple[Callable[[Pods], Coroutine[Any, Any, None]], ...] = (
    change_an_image, resize_in_place, debug, relabel, evict, outlive_the_grace,
)


async def test_later_changes_happen_to_real_containers(
    real_federation: RealFederation, virtual_client: Client, physical_client: Client, virtual_namespace: str
) -> None:
    pods = Pods(real_federation, virtual_client, physical_client, virtual_namespace)
    async with asyncio.TaskGroup() as group:
        for change in CHANGES:
            group.create_task(change(pods), name=change.__name__)
