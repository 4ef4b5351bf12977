"""What a kubelet says about a twin, as a kubelet of the virtual cluster would have said it about the virtual Pod.

Every Event of the physical cluster becomes at most one of the virtual cluster. Its name follows from the physical Event's uid,
so that a restart, or two leaders one after the other, find what is there instead of writing it again; its times and counts are
the physical ones. `reportingComponent` says through which binding it came, and is how those that we wrote are found again: no
label of ours is left on anything. `source` is what `kubectl describe` shows: a kubelet is that of the virtual node. Of other
components there is one in the virtual cluster too, so their messages begin with the binding's name.

Names in the message: those that we made up (of the twin and of what was copied for it, each ending in 32 hex digits) and the
twin's uid become the virtual ones, with the namespace beside them. Nothing else is touched: names of the lender's nodes, his
volumes and quotas are his own, and whoever wants to ask him needs them as he knows them.

Not mirrored is what the virtual cluster says itself: that the Pod is scheduled, that its node is not ready.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kubeocean.domain.naming import physical_name, token_secret_name
from kubeocean.domain.ownership import Owner
from kubeocean.domain.podrefs import references_of
from kubeocean.kube.meta import Json, name_of, namespace_of, uid_of

WARNING: Final = "Warning"
LONGEST_MESSAGE: Final = 1024  # bytes; the API server refuses more where an Event has an eventTime
_LONGEST_NAME: Final = 230  # of the Pod's name within the Event's, which ends in a dot and 16 hex digits (253 in all)
_SAID_IN_THE_VIRTUAL_CLUSTER: Final = frozenset({"Scheduled", "NodeNotReady"})
_CARRIED: Final = ("type", "reason", "count", "firstTimestamp", "lastTimestamp", "eventTime", "series", "action")
_GROWING: Final = ("count", "lastTimestamp", "series", "message")  # what a repeat changes on an Event
_READ: Final = (*_CARRIED, "message", "involvedObject", "source", "reportingComponent", "reportingInstance")


@dataclass(frozen=True, slots=True)
class EventRoute:
    """The binding that Events come through: its name, and whom it writes for."""

    binding: str
    owner: Owner

    @property
    def component(self) -> str:
        """Return the reportingComponent of all Events mirrored for this binding; it must be a qualified name."""
        return f"kubeocean.io/{self.owner.label}"


def trim_event(event: Json) -> Json | None:
    """Return what is read of a physical Event, None for one that is not mirrored at all."""
    if not event["involvedObject"].get("uid") or event.get("reason") in _SAID_IN_THE_VIRTUAL_CLUSTER:
        return None
    metadata = {key: event["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    return {"metadata": metadata, **{key: event[key] for key in _READ if event.get(key) is not None}}


def map_event(event: Json, vpod: Json, route: EventRoute) -> Json:
    """Return the virtual Event for a physical one about the twin of `vpod`."""
    about, said_by = event["involvedObject"], event.get("source") or {}
    component = said_by.get("component") or event.get("reportingComponent") or ""
    of_node = component == "kubelet"
    place = vpod["spec"].get("nodeName", "") if of_node else route.binding
    namespace = namespace_of(vpod)
    regarding = {
        "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name_of(vpod), "uid": uid_of(vpod),
        "fieldPath": about.get("fieldPath"),
    }
    said = rename(event.get("message") or "", vpod, about, event["metadata"]["namespace"])
    message = said if of_node else f"{route.binding}: {said}"
    return {
        "apiVersion": "v1", "kind": "Event", "metadata": {"namespace": namespace, "name": mirror_name(vpod, uid_of(event))},
        "involvedObject": {key: value for key, value in regarding.items() if value},
        "source": {"component": component, "host": place},
        "reportingComponent": route.component, "reportingInstance": place[:128],
        **{key: event[key] for key in _CARRIED if event.get(key) is not None},
        "message": _cut(message) if event.get("eventTime") else message,
    }


def mirror_name(vpod: Json, event_uid: str) -> str:
    """Return the name of the virtual Event that stands for the physical one with this uid."""
    return f"{name_of(vpod)[:_LONGEST_NAME].rstrip('.-')}.{hashlib.sha256(event_uid.encode()).hexdigest()[:16]}"


def fingerprint(event: Json) -> int:
    """Return what tells whether an Event says what another does; comparable within one process only."""
    series = event.get("series") or {}
    last = event.get("lastTimestamp"), series.get("count"), series.get("lastObservedTime")
    return hash((event.get("count"), *last, event.get("message") or ""))


def build_repeat_patch(uid: str, wanted: Json) -> Json:
    """Return the merge patch that brings the virtual Event with this uid up to `wanted`."""
    return {"metadata": {"uid": uid}, **{key: wanted.get(key) for key in _GROWING}}


def _cut(message: str) -> str:
    return message.encode()[:LONGEST_MESSAGE].decode(errors="ignore")


def rename(message: str, vpod: Json, twin: Json, mount_namespace: str) -> str:
    """Return `message` with virtual names in place of those we made up; `twin` is a reference with name and uid."""
    namespace = namespace_of(vpod)
    for physical, virtual in _renamings(vpod, twin):
        if physical in message:
            for together in ("{}/{}", '"{}"/"{}"'):
                message = message.replace(together.format(mount_namespace, physical), together.format(namespace, virtual))
            message = message.replace(f"{physical}_{mount_namespace}", f"{virtual}_{namespace}").replace(physical, virtual)
    return message


def _renamings(vpod: Json, twin: Json) -> Iterator[tuple[str, str]]:
    name, namespace, uid = name_of(vpod), namespace_of(vpod), uid_of(vpod)
    yield twin["name"], name
    yield twin["uid"], uid
    for reference in references_of(vpod):
        yield physical_name(reference.name, namespace), reference.name
    for volume in vpod["spec"].get("volumes") or ():
        if "projected" in volume:
            yield token_secret_name(name, volume["name"], uid), volume["name"]
