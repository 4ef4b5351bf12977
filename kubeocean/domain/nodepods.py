"""The Pods of a virtual node, each with its twin: under which names figures are known, and under which they are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kubeocean.domain.cpuledger import CounterKey
from kubeocean.kube.meta import Json, name_of, namespace_of, uid_of

_STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
_EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Run:
    """A container that runs: since when (RFC 3339), and the runtime's id of this run."""

    started: str
    id: str


@dataclass(frozen=True, slots=True)
class NodePod:
    """One virtual Pod and its twin, whose fields are "" while there is none.

    `claims`: the virtual claim behind a volume of that name. `runs`: its containers that run now.
    """

    namespace: str
    name: str
    uid: str
    phase: str = ""
    started: str = ""
    claims: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    runs: Mapping[str, Run] = field(default_factory=lambda: MappingProxyType({}))
    twin_namespace: str = ""
    twin_name: str = ""
    twin_uid: str = ""
    twin_node: str = ""

    @property
    def keys(self) -> list[CounterKey]:
        """Return the keys of every counter that this Pod has."""
        return [CounterKey(self.uid), *(CounterKey(self.uid, name, run.id) for name, run in self.runs.items())]


def describe_pod(vpod: Json, twin: Json | None) -> NodePod:
    """Return what figures need to know of a virtual Pod and the twin that was found for its uid.

    Without a twin what runs is what the virtual Pod says: its status is a copy of the twin's.
    """
    status = vpod.get("status") or {}
    pod = NodePod(
        namespace_of(vpod), name_of(vpod), uid_of(vpod), status.get("phase") or "", status.get("startTime") or "",
        _claims(vpod), _runs(status),
    )
    if twin is None:
        return pod
    return NodePod(
        pod.namespace, pod.name, pod.uid, pod.phase, pod.started, pod.claims, _runs(twin.get("status") or {}),
        namespace_of(twin), name_of(twin), uid_of(twin), twin["spec"].get("nodeName") or "",
    )


def _claims(vpod: Json) -> dict[str, str]:
    """Return the claim by volume; that of an ephemeral volume is named after Pod and volume."""
    claims = {}
    for volume in vpod["spec"].get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            claims[volume["name"]] = claim["claimName"]
        elif "ephemeral" in volume:
            claims[volume["name"]] = f"{name_of(vpod)}-{volume['name']}"
    return claims


def _runs(status: Json) -> dict[str, Run]:
    running = {}
    for each in (each for statuses in _STATUSES for each in status.get(statuses) or ()):
        if state := (each.get("state") or {}).get("running"):
            running[each["name"]] = Run(state.get("startedAt") or "", each.get("containerID") or "")
    return running
