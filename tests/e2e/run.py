"""A workload that runs, as plays and judges use it, whichever way it came into containers.

    directly    manifests and containers are in the physical cluster
    virtually   manifests are in the virtual cluster, containers are those of the twins
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from kubeocean.api import names
from kubeocean.kube.meta import Json, annotations_of, name_of
from tests.e2e.cluster import Cluster, eventually
from tests.e2e.sight import has_reached, read_log
from tests.e2e.workload import Workload

PATIENCE: Final = 150.0  # seconds; many Pods start at once on two cores
_LOOK: Final = 0.25  # seconds between two looks into a log


@dataclass(frozen=True, slots=True)
class Way:
    """How a workload gets into containers. `nodes` are names of nodes as its Pods may see them."""

    name: str
    cluster: Cluster
    physical: Cluster
    nodes: tuple[str, ...]
    variables: dict[str, str]

    def twin_of(self, pod: Json) -> Json | None:
        """Return the Pod whose containers run: `pod` itself, or its twin."""
        if self.cluster is self.physical:
            return self.physical.pod(pod["metadata"]["namespace"], name_of(pod))
        notes = annotations_of(pod)
        namespace, name = (notes.get(key, "") for key in (
            names.PHYSICAL_POD_NAMESPACE_ANNOTATION, names.PHYSICAL_POD_NAME_ANNOTATION,
        ))
        return self.physical.pod(namespace, name) if name else None


@dataclass(slots=True)
class Run:
    """A running workload, as plays use it."""

    workload: Workload
    way: Way
    namespace: str

    @property
    def pods(self) -> list[Json]:
        return sorted(self.way.cluster.pods(self.namespace), key=name_of)

    @property
    def expected_pods(self) -> int:
        pods = self.workload.expect.pods
        return pods if isinstance(pods, int) else len(self.way.nodes)

    def pod(self, name: str = "") -> Json:
        """Return the Pod `name` as last seen; without a name the only one."""
        found = [pod for pod in self.pods if not name or name_of(pod) == name]
        assert len(found) == 1, f"Pods {name}: {[name_of(pod) for pod in self.pods]}"
        return found[0]

    async def until(self, check: Callable[[], Any], what: str, *, within: float = PATIENCE) -> Any:
        """Return the first true answer of `check`, which may raise AssertionError in the meantime."""
        said = ""

        def look() -> Any:
            nonlocal said
            try:
                return check()
            except AssertionError as error:
                said = str(error)
                return None

        return await self.way.cluster.until(look, within=within, what=lambda: f"{what} {said}")

    async def reaches(self, ends: str, *, pods: int = 1) -> None:
        """Wait until there are `pods` Pods and all of them have come to `ends`."""
        def there() -> bool:
            found = [pod for pod in self.pods if not pod["metadata"].get("deletionTimestamp")]
            return len(found) == pods and all(has_reached(pod, ends) for pod in found)

        def described() -> str:
            return f"{pods} Pods {ends}; there are: " + ", ".join(
                f"{name_of(pod)} {(pod.get('status') or {}).get('phase')}" for pod in self.pods
            )
        await self.way.cluster.until(there, within=PATIENCE, what=described)

    async def tells(self, reasons: Iterable[str]) -> None:
        """Wait until Events with all these reasons are about the workload's Pods."""
        async def told() -> bool:
            known = {event["reason"] for event in await self.way.cluster.list_events(self.namespace, kind="Pod")}
            assert known >= set(reasons), f"{sorted(set(reasons) - known)} is not among {sorted(known)}"
            return True

        await eventually(told, within=PATIENCE / 2, what="Events")

    async def log(self, container: str = "main", pod: Json | None = None, *, previous: bool = False) -> str:
        twin = self.way.twin_of(pod or self.pod())
        return await self.way.physical.log(twin, container, previous=previous) if twin else ""

    async def says(self, text: str, container: str = "main", pod: str = "") -> Json:
        """Wait until a container's log holds `text`; return the log as `sight.read_log` reads it."""
        await self.until(lambda: self.pod(pod), "it is there")
        give_up = time.monotonic() + PATIENCE
        while text not in (log := await self.log(container, self.pod(pod))):
            assert time.monotonic() < give_up, f"{container} has not said {text!r} within {PATIENCE:g} s, but: {log[-500:]!r}"
            await asyncio.sleep(_LOOK)
        return read_log(log)

    async def follow(self, container: str = "main", pod: Json | None = None) -> Json:
        """Return what a container has said once it has ended."""
        twin = self.way.twin_of(pod or self.pod())
        assert twin, "there is no Pod to listen to"
        return read_log(await self.way.physical.follow(twin, container))


Play = Callable[[Run], Awaitable[Json]]
