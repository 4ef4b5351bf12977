"""Drops findings that nobody can mend: what a server does not keep, however often it is written.

An API server older than the one on the other side drops fields that it does not know, and a status or a mirror that lacks them
would be told for ever. So the patch that would mend is sent as a dry run; when what would be stored is what is there, the
finding is none. Whatever else the server answers, a refusal above all, proves nothing, and the finding stays.

A copy of a ConfigMap or Secret that somebody's admission webhook rewrites is told all the same: its Pods read something else.
So is a NetworkPolicy: one that is not what it should be is no protection, whoever made it so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kubeocean.checks.opening import Sides
from kubeocean.checks.repairing import patch_status
from kubeocean.domain.findings import Finding, Mend
from kubeocean.domain.mirrors import Change
from kubeocean.domain.podstatus import diff_pod_status
from kubeocean.kube.errors import KubeError
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import NETWORKPOLICIES, PODS

_AT_ONCE = 8  # findings whose patches are tried
_OF_NO_WRITE = frozenset({"resourceVersion", "managedFields"})


async def without_futile(sides: Sides, findings: Iterable[Finding]) -> list[Finding]:
    """Return those whose mend would change something, as far as that can be tried without mending."""
    found, gate = list(findings), asyncio.Semaphore(_AT_ONCE)

    async def is_futile(finding: Finding) -> bool:
        async with gate:
            return await _is_futile(sides, finding)

    futile = await asyncio.gather(*map(is_futile, found))
    return [finding for finding, drop in zip(found, futile, strict=True) if not drop]


async def _is_futile(sides: Sides, finding: Finding) -> bool:
    try:
        if finding.mend is Mend.MIRROR:
            return await _status_would_stay(sides, finding)
        if isinstance(finding.step, Change) and finding.about.resource != NETWORKPOLICIES:
            return await _mirror_would_stay(sides, finding, finding.step)
    except KubeError:
        pass  # gone, changed, not allowed, no answer: nothing is known
    return False


async def _status_would_stay(sides: Sides, finding: Finding) -> bool:
    about, twin = finding.about.key, finding.origin
    if twin is None:
        return False
    vpod = await sides.virtual.get(PODS, about.name, about.namespace)
    patch = diff_pod_status(vpod, await sides.physical.get(PODS, twin.key.name, twin.key.namespace))
    return patch is not None and _same(await patch_status(sides, vpod, patch, dry_run=True), vpod)


async def _mirror_would_stay(sides: Sides, finding: Finding, change: Change) -> bool:
    about = finding.about
    live = await sides.physical.get(about.resource, change.name, about.key.namespace)
    stored = await sides.physical.patch(about.resource, change.name, about.key.namespace, change.patch, dry_run=True)
    return _same(stored, live)


def _same(one: Json, other: Json) -> bool:
    return _without_bookkeeping(one) == _without_bookkeeping(other)


def _without_bookkeeping(obj: Json) -> Json:
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key not in _OF_NO_WRITE}}
