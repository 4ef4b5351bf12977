"""What is wrong with mirrored Services, EndpointSlices and NetworkPolicies: the copies are built anew, and compared.

What a copy should be decides `servicemap` or `netpolicymap`, whether it is that `mirrors.decide_copy`; so a syncer that would
write nothing here is told nothing, and what it would write is what mends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from kubeocean.domain.findings import SYNCER, Finding, Kind, Mend, Ref, Side, ref_to
from kubeocean.domain.mirrors import Create, decide_copy, origin_of, origin_uid_of
from kubeocean.domain.netpolicymap import map_policy, policy_content
from kubeocean.domain.ownership import Owner
from kubeocean.domain.servicemap import (
    is_mirrored,
    map_service,
    map_slice,
    replaces_service,
    replaces_slice,
    service_content,
    service_of_slice,
    slice_content,
    trim_service,
    trim_slice,
)
from kubeocean.kube.meta import Json, ObjectKey, is_deleting, key_of, labels_of, name_of, namespace_of, uid_of
from kubeocean.kube.resources import ENDPOINTSLICES, NETWORKPOLICIES, SERVICES, Resource


@dataclass(frozen=True, slots=True)
class MirrorScene:
    """What surrounds the mirrors of one binding. `pods_in` are the virtual namespaces that have Pods of ours."""

    owner: Owner
    mount_namespace: str
    service_namespaces: frozenset[str]
    pods_in: frozenset[str]
    physical_node_of: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class _Mirror:
    """How one kind is mirrored: what is wanted by the copy's name, and how a copy is compared with it."""

    resource: Resource
    wanted: Mapping[str, Json]
    originals: Mapping[ObjectKey, Json]
    content: Callable[[Json], Json]
    replaces: Callable[[Json, Json], bool] = lambda existing, wanted: False
    keeps_unwanted: bool = False  # a copy whose original lives may outlast the need for it


def check_services(
    services: Iterable[Json], slices: Iterable[Json], copies: Iterable[Json], slice_copies: Iterable[Json], scene: MirrorScene
) -> Iterator[Finding]:
    """Yield what is wrong with mirrored Services and their slices. `copies` and `slice_copies` are ours."""
    mirrored = {
        key_of(service): service for service in services
        if namespace_of(service) in scene.service_namespaces and is_mirrored(service)
    }
    wanted = (map_service(trim_service(each), scene.owner, scene.mount_namespace) for each in _staying(mirrored))
    yield from _check(_Mirror(SERVICES, _by_name(wanted), mirrored, service_content, replaces_service), copies)
    of_them = {
        key_of(each): each for each in slices
        if ObjectKey(namespace_of(each), service_of_slice(each)) in mirrored
    }
    mapped = (
        map_slice(trim_slice(each), scene.owner, scene.mount_namespace, scene.physical_node_of) for each in _staying(of_them)
    )
    yield from _check(_Mirror(ENDPOINTSLICES, _by_name(mapped), of_them, slice_content, replaces_slice), slice_copies)


def check_policies(
    policies: Iterable[Json], namespaces: Iterable[Json], copies: Iterable[Json], scene: MirrorScene
) -> Iterator[Finding]:
    """Yield what is wrong with mirrored network policies; those of a namespace without Pods of ours may have a copy or not."""
    labels = {name_of(namespace): labels_of(namespace) for namespace in namespaces}
    originals = {key_of(policy): policy for policy in policies}
    wanted = (
        map_policy(policy, scene.owner, scene.mount_namespace, labels) for policy in _staying(originals)
        if namespace_of(policy) in scene.pods_in
    )
    yield from _check(_Mirror(NETWORKPOLICIES, _by_name(wanted), originals, policy_content, keeps_unwanted=True), copies)


def _staying(originals: Mapping[ObjectKey, Json]) -> Iterator[Json]:
    """Yield what is not on its way out; until it is gone its copy stays, as it is."""
    return (each for each in originals.values() if not is_deleting(each))


def _check(mirror: _Mirror, copies: Iterable[Json]) -> Iterator[Finding]:
    existing = _by_name(copies)
    for copy in existing.values():
        if name_of(copy) not in mirror.wanted and not is_deleting(copy) and (finding := _unwanted(copy, mirror)):
            yield finding
    for name, wanted in mirror.wanted.items():
        if finding := _compare(wanted, existing.get(name), mirror):
            yield finding


def _unwanted(copy: Json, mirror: _Mirror) -> Finding | None:
    origin, about = origin_of(copy), ref_to(Side.PHYSICAL, mirror.resource, copy)
    if origin is None:
        cause = "it carries our labels and does not say of what it is a copy; nothing mirrored has a copy of this name"
        return Finding(Kind.ORPHAN_MIRROR, "Stray", about, cause, SYNCER, Mend.DELETE)
    noted = origin_uid_of(copy)
    lives = origin in mirror.originals and uid_of(mirror.originals[origin]) == noted
    if lives and (mirror.keeps_unwanted or is_deleting(mirror.originals[origin])):
        return None
    cause = f"{mirror.resource.kind} {origin}, of which it is a copy, is gone or no longer to be mirrored"
    # Gone: proved by its uid. No longer mirrored: the binding says so, and the original lives.
    source = Ref(Side.VIRTUAL, mirror.resource, origin, noted)
    return Finding(Kind.ORPHAN_MIRROR, "NotMirrored", about, cause, SYNCER, Mend.DELETE, source)


def _compare(wanted: Json, existing: Json | None, mirror: _Mirror) -> Finding | None:
    step = decide_copy(wanted, existing, mirror.content, replaces=mirror.replaces)
    if step is None:
        return None
    origin = origin_of(wanted)
    source = Ref(Side.VIRTUAL, mirror.resource, origin, origin_uid_of(wanted)) if origin else None
    if existing is None or isinstance(step, Create):
        about = Ref(Side.PHYSICAL, mirror.resource, key_of(wanted))
        cause = f"{mirror.resource.kind} {origin} is to be mirrored, and has no copy"
        return Finding(Kind.MISSING_MIRROR, "NoCopy", about, cause, SYNCER, Mend.STEP, source, step)
    about = ref_to(Side.PHYSICAL, mirror.resource, existing)
    cause = f"it is not what a copy of {origin} should be: one of the two was changed"
    return Finding(Kind.DRIFTED_MIRROR, "Differs", about, cause, SYNCER, Mend.STEP, source, step)


def _by_name(objects: Iterable[Json]) -> dict[str, Json]:
    return {name_of(obj): obj for obj in objects}

