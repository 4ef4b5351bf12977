"""Mends what may be mended safely, one finding at a time, and says what it did.

A syncer may be at work on the same objects, so nothing is done on the strength of an old look. `repair` is given findings of a
look that was made just now, the third one, and for each of them: the object is read again and must be the same one and ours;
what it stands for is read on the other side, and for a deletion must be proved gone by the server itself; both clusters must be
who they were; and the write carries uid or resourceVersion, so whatever changed in between wins. A foreign object is never
touched. Nothing is made or marked for a binding that is on its way out: nobody would ever take it away again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from kubeocean.api import names
from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.checks.opening import Sides
from kubeocean.domain.depmap import Step as CopyStep
from kubeocean.domain.depmap import build_copy, build_copy_patch, copy_key, decide_copy
from kubeocean.domain.findings import Finding, Kind, Mend, Ref, Side
from kubeocean.domain.hostports import placeholder_labels
from kubeocean.domain.marks import build_mark_patch, build_unmark_patch, is_marked
from kubeocean.domain.mirrors import Change, Create, Remove
from kubeocean.domain.naming import volume_twin_names
from kubeocean.domain.ownership import is_ours
from kubeocean.domain.podfindings import node_of
from kubeocean.domain.podpair import is_or_becomes_twin_of, is_twin_of, recorded_twin
from kubeocean.domain.podstatus import TERMINAL_PHASES, build_lost_patch, diff_pod_status
from kubeocean.domain.servicemap import is_mirrored, service_of_slice
from kubeocean.domain.vnode import is_vnode_of
from kubeocean.kube.answers import proves_absence
from kubeocean.kube.client import PatchType
from kubeocean.kube.errors import ApiError, ConfigError, Conflict, NotFound
from kubeocean.kube.meta import (
    Json,
    ObjectKey,
    annotations_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    resource_version_of,
    uid_of,
)
from kubeocean.kube.resources import ENDPOINTSLICES, NETWORKPOLICIES, NODES, PERSISTENTVOLUMES, PODS, SERVICES

# Of this the original may well live, and not be to be mirrored.
_MAY_LIVE = "NotMirrored"
_MAKES = frozenset({Mend.COPY, Mend.STEP, Mend.MARK})


class Left(Exception):
    """A finding is left as it is; the message says why."""


async def repair(sides: Sides, finding: Finding) -> tuple[bool, str]:
    """Mend one finding of a look made just now; return whether it is mended, and what was done or why not."""
    mend = _MENDS.get(finding.mend)
    if mend is None:
        return False, "not mended by itself"
    try:
        await sides.confirm()
        spec = await _spec(sides)
        if finding.mend in _MAKES and spec is None:
            raise Left("the binding is being removed, or was: unbinding has the word")
        if spec not in (None, sides.spec):
            raise Left("the binding was edited meanwhile; look again")
        return True, await mend(sides, finding)
    except Left as why:
        return False, f"left: {why}"
    except (Conflict, NotFound):
        return False, "left: it changed at this very moment; look again"
    except ApiError as error:
        return False, f"left: {error}"


async def _spec(sides: Sides) -> ClusterBindingSpec | None:
    try:
        return await sides.read_spec()
    except ConfigError as error:
        raise Left(str(error)) from None


# --- live reads ------------------------------------------------------------------------------------------------------
async def _read(sides: Sides, ref: Ref) -> Json | None:
    """Return the object as it is now, None only when its server says that it is not there."""
    try:
        return await sides.client(ref.side).get(ref.resource, ref.key.name, ref.key.namespace)
    except NotFound as answer:
        if not proves_absence(answer):
            raise
        await sides.confirm()
        return None


async def _read_same(sides: Sides, ref: Ref) -> Json:
    live = await _read(sides, ref)
    if live is None or (ref.uid and uid_of(live) != ref.uid):
        raise Left("it is gone by itself")
    if is_deleting(live):
        raise Left("it is on its way out already")
    return live


def _must_be_ours(sides: Sides, ref: Ref, live: Json) -> None:
    if ref.side is Side.PHYSICAL:
        ours = is_ours(live, sides.owner)
    elif ref.resource == PODS:
        ours = placeholder_labels(sides.spec.cluster_id).items() <= labels_of(live).items()
    else:
        ours = is_vnode_of(live, sides.spec.cluster_id)
    if not ours:
        raise Left("it is not ours any more")


async def _must_be_over(sides: Sides, finding: Finding) -> None:
    """Return when what the object stands for is proved gone."""
    origin = finding.origin
    if origin is None:
        return  # the look just made, a whole list of a confirmed cluster, is the proof
    live = await _read(sides, origin)
    if live is None or (origin.uid and uid_of(live) != origin.uid):
        return
    if finding.kind is Kind.ORPHAN_COPY and not is_marked(live, sides.spec.cluster_id):
        return  # whoever needs a copy has it marked before anything else
    if finding.reason == _MAY_LIVE and not await _is_to_be_mirrored(sides, live, origin):
        return
    raise Left(f"{origin} lives after all")


async def _is_to_be_mirrored(sides: Sides, live: Json, origin: Ref) -> bool:
    """Tell whether the mirror of an object that lives is to stay; of one on its way out it is, until that is gone."""
    if origin.resource == NETWORKPOLICIES:
        return True  # that its namespace has no Pods of ours is the syncer's to say
    service: Json | None = live
    if origin.resource == ENDPOINTSLICES:
        service = await _read(sides, Ref(Side.VIRTUAL, SERVICES, ObjectKey(origin.key.namespace, service_of_slice(live))))
    return service is not None and origin.key.namespace in sides.spec.service_namespaces and is_mirrored(service)


# --- the mends -------------------------------------------------------------------------------------------------------
async def _delete(sides: Sides, finding: Finding) -> str:
    about = finding.about
    live = await _read_same(sides, about)
    _must_be_ours(sides, about, live)
    await _must_be_over(sides, finding)
    grace = 0 if finding.kind is Kind.ORPHAN_PLACEHOLDER else None
    await sides.client(about.side).delete(
        about.resource, about.key.name, about.key.namespace, uid=uid_of(live), resource_version=resource_version_of(live),
        grace_seconds=grace,
    )
    return "deleted"


async def _unmark(sides: Sides, finding: Finding) -> str:
    about = finding.about
    live = await _read(sides, about)
    if live is None or uid_of(live) != about.uid:
        raise Left("it is gone by itself")
    patch = build_unmark_patch(live, sides.spec.cluster_id)
    if patch is None:
        raise Left("it carries no mark of ours any more")
    for place in _places(sides, about):
        copy = await _read(sides, place)
        if copy is not None and is_ours(copy, sides.owner):
            raise Left(f"{place} is there after all")
    await sides.virtual.patch(about.resource, about.key.name, about.key.namespace, patch)
    return "our marks are off"


def _places(sides: Sides, about: Ref) -> list[Ref]:
    """Return where a twin of a marked object would be."""
    if about.resource == PERSISTENTVOLUMES:
        names_of = volume_twin_names(about.key.name, sides.owner.annotation)
        return [Ref(Side.PHYSICAL, about.resource, ObjectKey("", name)) for name in names_of]
    return [Ref(Side.PHYSICAL, about.resource, copy_key(about.key, sides.mount_namespace))]


async def _mark(sides: Sides, finding: Finding) -> str:
    about, place = finding.about, finding.origin
    live = await _read_same(sides, about)
    patch = build_mark_patch(live, sides.spec.cluster_id, place.key) if place else None
    if patch is None:
        raise Left("it carries all marks again")
    await sides.virtual.patch(about.resource, about.key.name, about.key.namespace, patch)
    return "our marks are complete again"


async def _copy(sides: Sides, finding: Finding) -> str:
    about, origin = finding.about, finding.origin
    if origin is None:
        raise Left("it is not known of what it is a copy")
    original, present = await _read_same(sides, origin), await _read(sides, about)
    marks = {key: text for key, text in labels_of(present or {"metadata": {}}).items() if key == names.USED_BY_PV_LABEL}
    wanted, calls = build_copy(original, sides.owner, sides.mount_namespace, marks), sides.physical
    match decide_copy(present, wanted, sides.owner):
        case CopyStep.CREATE:
            await calls.create(about.resource, wanted)
            return "copied"
        case CopyStep.PATCH if present and (patch := build_copy_patch(present, wanted)):
            await calls.patch(about.resource, about.key.name, about.key.namespace, patch)
            return "made a faithful copy again"
        case CopyStep.REPLACE if present:
            await calls.delete(
                about.resource, about.key.name, about.key.namespace, uid=uid_of(present),
                resource_version=resource_version_of(present),
            )
            await calls.create(about.resource, wanted)
            return "replaced by a faithful copy"
        case CopyStep.CONFLICT:
            raise Left("an object that is not ours has its name")
    raise Left("it is in order again, or about to be")


async def _do_step(sides: Sides, finding: Finding) -> str:
    about, calls = finding.about, sides.physical
    if finding.origin:
        await _read_same(sides, finding.origin)
    match finding.step:
        case Create(obj):
            await calls.create(about.resource, obj)
            return "mirrored"
        case Change(name, patch):
            _must_be_ours(sides, about, await _read_same(sides, about))
            await calls.patch(about.resource, name, about.key.namespace, patch)  # with its resourceVersion
            return "made a faithful copy again"
        case Remove(name, uid):
            live = await _read_same(sides, about)
            _must_be_ours(sides, about, live)
            await calls.delete(
                about.resource, name, about.key.namespace, uid=uid, resource_version=resource_version_of(live)
            )
            return "deleted, for it cannot be changed; look again and it is made anew"
    raise Left("there is nothing to do")


async def _mirror(sides: Sides, finding: Finding) -> str:
    if finding.origin is None:
        raise Left("its twin is not known")
    vpod, twin = await _read_same(sides, finding.about), await _read_same(sides, finding.origin)
    if not is_twin_of(twin, vpod, sides.owner):
        raise Left("the physical Pod is not its twin")
    patch = diff_pod_status(vpod, twin)
    if patch is None:
        raise Left("it says the same again")
    await _patch_status(sides, vpod, patch)
    return "the twin's status is on it"


async def _lose(sides: Sides, finding: Finding) -> str:
    if finding.origin is None:
        raise Left("it is not known where its twin was")
    vpod, twin = await _read_same(sides, finding.about), await _read(sides, finding.origin)
    if (vpod.get("status") or {}).get("phase") in TERMINAL_PHASES or not recorded_twin(vpod):
        raise Left("it is not waiting for a twin any more")
    if twin is not None and is_or_becomes_twin_of(twin, vpod, sides.owner):
        raise Left("its twin lives after all")
    await _patch_status(sides, vpod, build_lost_patch(vpod, datetime.now(UTC)))
    return f"declared Failed/{names.PHYSICAL_POD_LOST}"


async def _release(sides: Sides, finding: Finding) -> str:
    about = finding.about
    vpod = await _read(sides, about)
    if vpod is None or uid_of(vpod) != about.uid:
        raise Left("it is gone by itself")
    if not is_deleting(vpod) or finding.origin is None:
        raise Left("it is not about to go")
    twin = await _read(sides, finding.origin)
    if twin is not None and is_or_becomes_twin_of(twin, vpod, sides.owner):
        raise Left("its twin lives after all")
    if (node := node_of(finding, vpod)) and await _read(sides, node) is not None:
        raise Left(f"{node} is there again, and its syncer ends the Pod")
    await sides.virtual.delete(PODS, name_of(vpod), namespace_of(vpod), uid=uid_of(vpod), grace_seconds=0)
    return "released: its twin is gone"


async def _patch_status(sides: Sides, vpod: Json, patch: Json) -> None:
    patch = {**patch, "metadata": {**patch["metadata"], "resourceVersion": resource_version_of(vpod)}}
    await sides.virtual.patch(
        PODS, name_of(vpod), namespace_of(vpod), patch, kind=PatchType.STRATEGIC, subresource="status"
    )


async def _unlabel(sides: Sides, finding: Finding) -> str:
    live = await _read_same(sides, finding.about)
    if annotations_of(live).get(names.POLICY_APPLIED_BY_ANNOTATION) != sides.owner.annotation:
        raise Left("the label is not ours any more")
    await sides.physical.patch(NODES, name_of(live), "", {"metadata": {
        "resourceVersion": resource_version_of(live), "labels": {names.POLICY_APPLIED_LABEL: None},
        "annotations": {names.POLICY_APPLIED_BY_ANNOTATION: None},
    }})
    return "our label is off"


_MENDS: dict[Mend, Callable[[Sides, Finding], Awaitable[str]]] = {
    Mend.DELETE: _delete, Mend.UNMARK: _unmark, Mend.MARK: _mark, Mend.COPY: _copy, Mend.STEP: _do_step, Mend.MIRROR: _mirror,
    Mend.LOSE: _lose, Mend.UNLABEL: _unlabel, Mend.RELEASE: _release,
}
