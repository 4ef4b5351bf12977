"""One run of `kubeocean explain pod`: read the Pod, its twin and what stands beside it, put the story together.

What may not be read is never taken for absent. Without the twin nothing can be said of what the Pod waits for: that is
`trouble`; anything else is left out and told (`unread`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kubeocean.api import names
from kubeocean.checks.opening import Sides, open_sides, open_virtual, read_bindings
from kubeocean.checks.partial import PartialReader, name_right
from kubeocean.domain.bindingstatus import find_duplicate
from kubeocean.domain.clocklag import clock_lag, tell_lag
from kubeocean.domain.explanation import Step, build_timeline
from kubeocean.domain.forgediff import FieldChange, diff_forged
from kubeocean.domain.naming import physical_name, token_secret_name, vnode_prefix
from kubeocean.domain.ownership import is_ours
from kubeocean.domain.podcontext import PodContext
from kubeocean.domain.podmap import build_physical_pod
from kubeocean.domain.podpair import is_or_becomes_twin_of
from kubeocean.domain.podrefs import CLAIM, mandatory_references, references_of
from kubeocean.domain.podstatus import TERMINAL_PHASES
from kubeocean.domain.podstory import NamedClaim, PodStory, complaints_of
from kubeocean.domain.podwaiting import explain_waiting
from kubeocean.domain.provisioning import class_of
from kubeocean.domain.refusal import Refusal
from kubeocean.domain.vnode import cluster_of, is_vnode_of, physical_name_of
from kubeocean.domain.workload import workload_of
from kubeocean.kube.client import Client
from kubeocean.kube.errors import ConfigError, Forbidden, KubeError, NotFound
from kubeocean.kube.meta import Json, ObjectKey, is_deleting, key_of, name_of, namespace_of, uid_of
from kubeocean.kube.resources import CONFIGMAPS, NODES, PERSISTENTVOLUMECLAIMS, PODS, SECRETS, STORAGECLASSES, Resource

_KINDS: dict[str, Resource] = {
    "ConfigMap": CONFIGMAPS, "Secret": SECRETS, CLAIM: PERSISTENTVOLUMECLAIMS,
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is to be said of one Pod. `binding` "" = it belongs to none; `trouble` says why the twin could not be looked at.

    `forged`: there is no twin, and `fields` tell what would be made. `unread` are what else could not be read, `clocks` says
    by how much those of the two clusters contradict each other, "" when they do not.
    """

    story: PodStory
    binding: str
    twin: ObjectKey | None
    timeline: list[Step]
    waits: list[str]
    fields: list[FieldChange]
    forged: bool
    trouble: str = ""
    unread: tuple[str, ...] = ()
    clocks: str = ""


async def explain_pod(kubeconfig: Path | None, namespace: str, name: str) -> Explanation:
    """Return the story of a Pod. Raises KubeError when there is none of this name, or the virtual cluster does not answer."""
    async with open_virtual(kubeconfig) as virtual:
        return await explain_in(virtual, namespace, name)


async def explain_in(virtual: Client, namespace: str, name: str) -> Explanation:
    """Return the same, asked of a virtual cluster that is open."""
    try:
        vpod = await virtual.get(PODS, name, namespace)
    except NotFound:
        text = f"there is no Pod {namespace}/{name} in the virtual cluster; one that is deleted leaves no trace"
        raise ConfigError(text) from None
    node = await _node_of(virtual, vpod)
    bindings = await read_bindings(virtual) if vpod["spec"].get("nodeName") else []
    binding = _binding_of(vpod, node, bindings)
    if binding is None:
        return await _without_binding(virtual, vpod, node)
    try:
        async with open_sides(virtual, binding, bindings) as sides:
            return await read_story(sides, vpod, node, binding)
    except KubeError as error:
        story = PodStory(vpod, ours=node is not None, node_gone=node is None, binding=name_of(binding))
        return _tell(story, None, None, trouble=name_right(error, virtual, _mount_of(binding)))


async def _node_of(virtual: Client, vpod: Json) -> Json | None:
    node = vpod["spec"].get("nodeName")
    with suppress(NotFound):
        return await virtual.get(NODES, node) if node else None
    return None


def _binding_of(vpod: Json, node: Json | None, bindings: list[Json]) -> Json | None:
    """Return the binding whose virtual node the Pod sits on; when that is gone its name tells, the longest clusterID first.

    Of several with its clusterID it is the one that is served.
    """
    served = [each for each in bindings if not find_duplicate(each, bindings)]
    if node is not None:
        return next((each for each in served if is_vnode_of(node, _cluster_id(each))), None)
    name = vpod["spec"].get("nodeName") or ""
    fitting = [each for each in served if name.startswith(vnode_prefix(_cluster_id(each)))]
    return max(fitting, key=lambda each: len(_cluster_id(each)), default=None)


def _cluster_id(binding: Json) -> str:
    return str((binding.get("spec") or {}).get("clusterID"))


def _mount_of(binding: Json) -> str:
    return str((binding.get("spec") or {}).get("mountNamespace") or "")


async def _without_binding(virtual: Client, vpod: Json, node: Json | None) -> Explanation:
    reader = PartialReader()
    has_node = bool(vpod["spec"].get("nodeName"))
    claims, gone = await _claims(virtual, vpod, reader)
    story = PodStory(
        vpod, node_gone=node is None and has_node, unbound_cluster=cluster_of(node) if node else "", claims=claims,
        missing=() if has_node else gone, now=datetime.now(UTC),
    )
    return _tell(story, None, None, unread=reader.unread)


async def read_story(sides: Sides, vpod: Json, node: Json | None, binding: Json) -> Explanation:
    """Return the story of a Pod on virtual node `node` of a binding, None when that is gone.

    Raises KubeError when the twin cannot be looked at.
    """
    reader, key = PartialReader(), key_of(vpod)
    place = ObjectKey(sides.mount_namespace, physical_name(key.name, key.namespace))
    found = await _under_its_name(sides, place)
    twin = found if found is not None and is_or_becomes_twin_of(found, vpod, sides.owner) else None
    other = found if twin is None else None
    forged = build_physical_pod(vpod, _context(sides, vpod, node)) if node else None
    claims, _ = await _claims(sides.virtual, vpod, reader)
    ours = other is not None and is_ours(other, sides.owner)
    story = PodStory(
        vpod, twin, ours=node is not None, running_daemonsets=sides.spec.running_daemonset_by_default,
        copies=await _copies(sides, vpod, reader), missing=await _missing(sides, vpod, reader) if twin is None else (),
        refusal=f"{forged.reason}: {forged.message}" if isinstance(forged, Refusal) else "", node_gone=node is None,
        binding=sides.binding, predecessor=other if ours else None, taken=None if ours else other, claims=claims,
        now=datetime.now(UTC), unbinding=is_deleting(binding), binding_says=complaints_of(binding),
    )
    has_ended = (vpod.get("status") or {}).get("phase") in TERMINAL_PHASES  # it gets no twin any more
    pod = None if has_ended or forged is None or isinstance(forged, Refusal) else forged.pod
    return _tell(story, twin, pod, unread=reader.unread)


async def _under_its_name(sides: Sides, place: ObjectKey) -> Json | None:
    try:
        return await sides.physical.get(PODS, place.name, place.namespace)
    except NotFound:
        return None
    except Forbidden as error:
        right = name_right(error, sides.virtual, place.namespace)
        text = f"twin {place} may not be read, so whether there is one is unknown: {right}"
        raise KubeError(text, cluster=error.cluster) from error


def _context(sides: Sides, vpod: Json, node: Json) -> PodContext:
    spec = sides.spec
    return PodContext(
        owner=sides.owner, cluster_id=spec.cluster_id, mount_namespace=sides.mount_namespace,
        physical_node=physical_name_of(node), direct_scheduling=spec.direct_scheduling, allow_privileged=spec.allow_privileged,
        priority_class=spec.pod_priority_class_name or names.DEFAULT_PRIORITY_CLASS, workload=workload_of(vpod),
    )


async def _copies(sides: Sides, vpod: Json, reader: PartialReader) -> tuple[Json, ...]:
    """Return what is there beside the twin of what the Pod needs."""
    namespace, volumes = namespace_of(vpod), vpod["spec"].get("volumes") or ()
    wanted = {
        (_KINDS[each.kind], physical_name(each.name, namespace)) for each in references_of(vpod) if each.kind in _KINDS
    }
    wanted |= {
        (SECRETS, token_secret_name(name_of(vpod), volume["name"], uid_of(vpod))) for volume in volumes
        if "projected" in volume or "configMap" in volume
    }
    found = await asyncio.gather(*(
        reader.find(sides.physical, resource, ObjectKey(sides.mount_namespace, name), "physical")
        for resource, name in sorted(wanted, key=lambda pair: (pair[0].plural, pair[1]))
    ))
    return tuple(each.obj for each in found if each.obj is not None)


async def _missing(sides: Sides, vpod: Json, reader: PartialReader) -> tuple[str, ...]:
    asked = [(kind, key, where) for kind, key, where in mandatory_references(vpod) if kind in _KINDS]
    found = await asyncio.gather(*(reader.find(sides.virtual, _KINDS[kind], key, "virtual") for kind, key, _ in asked))
    return tuple(f"{kind} {key} ({where})" for (kind, key, where), each in zip(asked, found, strict=True) if each.gone)


async def _claims(virtual: Client, vpod: Json, reader: PartialReader) -> tuple[tuple[NamedClaim, ...], tuple[str, ...]]:
    """Return the claims that a Pod names and, in words, those that do not exist."""
    claims, gone = [], []
    for kind, key, where in mandatory_references(vpod):
        if kind != CLAIM:
            continue
        found = await reader.find(virtual, PERSISTENTVOLUMECLAIMS, key, "virtual")
        if found.gone:
            gone.append(f"{kind} {key} ({where})")
        elif found.obj:
            claims.append(await _with_class(virtual, found.obj, reader))
    return tuple(claims), tuple(gone)


async def _with_class(virtual: Client, claim: Json, reader: PartialReader) -> NamedClaim:
    name = class_of(claim)
    if not name or claim["spec"].get("volumeName"):
        return NamedClaim(claim)
    found = await reader.find(virtual, STORAGECLASSES, ObjectKey("", name), "virtual")
    return NamedClaim(claim, found.obj, class_gone=found.gone)


def _tell(
    story: PodStory, twin: Json | None, forged: Json | None, *, trouble: str = "", unread: tuple[str, ...] = ()
) -> Explanation:
    shown = twin or forged
    return Explanation(
        story, story.binding, key_of(twin) if twin else None, build_timeline(story), [] if trouble else explain_waiting(story),
        diff_forged(story.vpod, shown) if shown else [], forged=twin is None, trouble=trouble, unread=unread,
        clocks=tell_lag(clock_lag(story.vpod, story.ppod, story.copies)),
    )
