"""One run of `kubeocean explain pod`: read the Pod, its twin and what stands beside it, put the story together."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kubeocean.api import names
from kubeocean.checks.opening import Sides, open_sides, open_virtual, read_bindings
from kubeocean.domain.bindingstatus import find_duplicate
from kubeocean.domain.explanation import PodStory, Step, build_timeline, explain_waiting, mandatory_references
from kubeocean.domain.forgediff import FieldChange, diff_forged
from kubeocean.domain.naming import physical_name, token_secret_name
from kubeocean.domain.podcontext import PodContext
from kubeocean.domain.podmap import build_physical_pod
from kubeocean.domain.podpair import is_or_becomes_twin_of
from kubeocean.domain.podrefs import references_of
from kubeocean.domain.podstatus import TERMINAL_PHASES
from kubeocean.domain.refusal import Refusal
from kubeocean.domain.vnode import is_vnode_of, physical_name_of
from kubeocean.domain.workload import workload_of
from kubeocean.kube.client import Client
from kubeocean.kube.errors import ConfigError, Forbidden, KubeError, NotFound
from kubeocean.kube.meta import Json, ObjectKey, key_of, name_of, uid_of
from kubeocean.kube.resources import CONFIGMAPS, NODES, PERSISTENTVOLUMECLAIMS, PODS, SECRETS, Resource

_KINDS: dict[str, Resource] = {
    "ConfigMap": CONFIGMAPS, "Secret": SECRETS, "PersistentVolumeClaim": PERSISTENTVOLUMECLAIMS,
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is to be said of one Pod. `binding` "" = it is on no virtual node; `trouble` says what could not be looked at.

    `forged`: there is no twin, and `fields` tell what would be made.
    """

    story: PodStory
    binding: str
    twin: ObjectKey | None
    timeline: list[Step]
    waits: list[str]
    fields: list[FieldChange]
    forged: bool
    trouble: str = ""


async def explain_pod(kubeconfig: Path | None, namespace: str, name: str) -> Explanation:
    """Return the story of a Pod. Raises KubeError when there is none of this name, or the virtual cluster does not answer."""
    async with open_virtual(kubeconfig) as virtual:
        try:
            vpod = await virtual.get(PODS, name, namespace)
        except NotFound:
            text = f"there is no Pod {namespace}/{name} in the virtual cluster; one that is deleted leaves no trace"
            raise ConfigError(text) from None
        node = await _node_of(virtual, vpod)
        bindings = await read_bindings(virtual)
        binding = _binding_of(bindings, node) if node else None
        if binding is None or node is None:
            node_gone = node is None and bool(vpod["spec"].get("nodeName"))
            return _tell(PodStory(vpod, node_gone=node_gone), "", None, None)
        try:
            async with open_sides(virtual, binding, bindings) as sides:
                return await _read_story(sides, vpod, node)
        except KubeError as error:
            return _tell(PodStory(vpod, ours=True), name_of(binding), None, None, trouble=str(error))


async def _node_of(virtual: Client, vpod: Json) -> Json | None:
    node = vpod["spec"].get("nodeName")
    with suppress(NotFound):
        return await virtual.get(NODES, node) if node else None
    return None


def _binding_of(bindings: list[Json], node: Json) -> Json | None:
    """Return the binding of a virtual node: of several with its clusterID the one that is served."""
    for binding in bindings:
        if is_vnode_of(node, str((binding.get("spec") or {}).get("clusterID"))) and not find_duplicate(binding, bindings):
            return binding
    return None


async def _read_story(sides: Sides, vpod: Json, node: Json) -> Explanation:
    key = key_of(vpod)
    twin = await _find_twin(sides, ObjectKey(sides.mount_namespace, physical_name(key.name, key.namespace)))
    if twin is not None and not is_or_becomes_twin_of(twin, vpod, sides.owner):
        twin = None
    forged = build_physical_pod(vpod, _context(sides, vpod, node))
    refusal = f"{forged.reason}: {forged.message}" if isinstance(forged, Refusal) else ""
    story = PodStory(
        vpod, twin, ours=True, running_daemonsets=sides.spec.running_daemonset_by_default,
        copies=await _copies(sides, vpod), missing=await _missing(sides, vpod) if twin is None else (), refusal=refusal,
    )
    has_ended = (vpod.get("status") or {}).get("phase") in TERMINAL_PHASES  # it gets no twin any more
    return _tell(story, sides.binding, twin, None if has_ended or isinstance(forged, Refusal) else forged.pod)


def _context(sides: Sides, vpod: Json, node: Json) -> PodContext:
    spec = sides.spec
    return PodContext(
        owner=sides.owner, cluster_id=spec.cluster_id, mount_namespace=sides.mount_namespace,
        physical_node=physical_name_of(node), direct_scheduling=spec.direct_scheduling, allow_privileged=spec.allow_privileged,
        priority_class=spec.pod_priority_class_name or names.DEFAULT_PRIORITY_CLASS, workload=workload_of(vpod),
    )


async def _copies(sides: Sides, vpod: Json) -> tuple[Json, ...]:
    """Return what is there beside the twin of what the Pod needs."""
    namespace, volumes = vpod["metadata"]["namespace"], vpod["spec"].get("volumes") or ()
    wanted = {
        (_KINDS[each.kind], physical_name(each.name, namespace)) for each in references_of(vpod) if each.kind in _KINDS
    }
    wanted |= {
        (SECRETS, token_secret_name(name_of(vpod), volume["name"], uid_of(vpod))) for volume in volumes
        if "projected" in volume or "configMap" in volume
    }
    found = await asyncio.gather(*(
        _find(sides.physical, resource, ObjectKey(sides.mount_namespace, name)) for resource, name in sorted(
            wanted, key=lambda pair: (pair[0].plural, pair[1])
        )
    ))
    return tuple(filter(None, found))


async def _missing(sides: Sides, vpod: Json) -> tuple[str, ...]:
    asked = [(kind, key, where) for kind, key, where in mandatory_references(vpod) if kind in _KINDS]
    found = await asyncio.gather(*(_is_there(sides.virtual, _KINDS[kind], key) for kind, key, _ in asked))
    return tuple(
        f"{kind} {key} ({where})" for (kind, key, where), there in zip(asked, found, strict=True) if not there
    )


async def _is_there(client: Client, resource: Resource, key: ObjectKey) -> bool:
    """Tell whether an object exists, as far as we may know: what must not be read is not called missing."""
    try:
        await client.get(resource, key.name, key.namespace)
    except NotFound:
        return False
    except Forbidden:
        pass
    return True


async def _find_twin(sides: Sides, place: ObjectKey) -> Json | None:
    """Return what has the name of a twin. That it may not be read says nothing about it: Forbidden is raised."""
    try:
        return await sides.physical.get(PODS, place.name, place.namespace)
    except NotFound:
        return None


async def _find(client: Client, resource: Resource, key: ObjectKey) -> Json | None:
    try:
        return await client.get(resource, key.name, key.namespace)
    except (NotFound, Forbidden):
        return None


def _tell(story: PodStory, binding: str, twin: Json | None, forged: Json | None, *, trouble: str = "") -> Explanation:
    shown = twin or forged
    return Explanation(
        story, binding, key_of(twin) if twin else None, build_timeline(story), [] if trouble else explain_waiting(story),
        diff_forged(story.vpod, shown) if shown else [], forged=twin is None, trouble=trouble,
    )
