"""What is known of one Pod on both sides, as `kubeocean explain` has read it, and the readers of its status."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kubeocean.kube.meta import Json, parse_time


@dataclass(frozen=True, slots=True)
class NamedClaim:
    """A claim of the virtual cluster that the Pod names. `storage_class` None: it names none, or what it is was not seen.

    `class_gone`: the server says that there is no such class.
    """

    claim: Json
    storage_class: Json | None = None
    class_gone: bool = False


@dataclass(frozen=True, slots=True)
class PodStory:
    """What is known of a Pod. `ours`: it sits on a virtual node of the binding; `copies` are what it needs, beside the twin.

    `missing` are the mandatory references whose original does not exist. `refusal` is why it can have no twin, "" if it can.
    `node_gone`: the node it sits on does not exist. `binding` is the name of the ClusterBinding it belongs to, by its node's
    labels, or by its name when that is gone; "" none. `unbound_cluster` is the clusterID of its virtual node when there is no
    such binding. `predecessor` is the twin of an earlier Pod that still has the twin's name, `taken` a foreign Pod that has.
    `now` None: nothing is said of how long ago something was. `unbinding`: the ClusterBinding is being deleted; `binding_says`
    is what its conditions complain of.
    """

    vpod: Json
    ppod: Json | None = None
    ours: bool = False
    running_daemonsets: bool = False
    copies: tuple[Json, ...] = ()
    missing: tuple[str, ...] = ()
    refusal: str = ""
    node_gone: bool = False
    binding: str = ""
    unbound_cluster: str = ""
    predecessor: Json | None = None
    taken: Json | None = None
    claims: tuple[NamedClaim, ...] = ()
    now: datetime | None = None
    unbinding: bool = False
    binding_says: str = ""

    @property
    def node(self) -> str:
        """The node of the virtual Pod, "" when it has none yet."""
        return self.vpod["spec"].get("nodeName") or ""


def phase_of(pod: Json) -> str:
    """Return the phase of a Pod, Pending when nobody has written one."""
    return (pod.get("status") or {}).get("phase") or "Pending"


def created_at(obj: Json) -> datetime:
    """Return when an object was created."""
    return parse_time(obj["metadata"]["creationTimestamp"])


def asked_to_go_at(pod: Json) -> datetime | None:
    """Return when the deletion of a Pod was asked for, None if it was not."""
    # deletionTimestamp is the moment the grace ends.
    text = pod["metadata"].get("deletionTimestamp")
    return parse_time(text) - timedelta(seconds=grace_of(pod)) if text else None


def grace_of(pod: Json) -> int:
    """Return the grace in seconds that the deletion of a Pod was given."""
    return pod["metadata"].get("deletionGracePeriodSeconds") or 0


def conditions_of(pod: Json) -> dict[str, Json]:
    """Return the conditions of a Pod, or of anything that has some, by type."""
    return {item["type"]: item for item in (pod.get("status") or {}).get("conditions") or ()}


def reason_and_message(said: Json) -> str:
    """Return why a condition (or a status) is as it is, as far as it says."""
    return ": ".join(filter(None, (said.get("reason"), said.get("message"))))


def complaints_of(binding: Json) -> str:
    """Return which conditions of a ClusterBinding that matter to Pods are False, and why; "" when none is."""
    found = conditions_of(binding)
    return "; ".join(
        f"{kind}=False ({reason_and_message(found[kind])})"
        for kind in ("Connected", "Ready") if (found.get(kind) or {}).get("status") == "False"
    )


def is_true(pod: Json, kind: str) -> bool:
    """Tell whether a condition is there and True."""
    return (conditions_of(pod).get(kind) or {}).get("status") == "True"


def became_true(pod: Json, kind: str) -> datetime | None:
    """Return since when a condition is True, None if it is not."""
    moment = (conditions_of(pod).get(kind) or {}).get("lastTransitionTime")
    return parse_time(moment) if moment and is_true(pod, kind) else None


def container_statuses(pod: Json) -> list[Json]:
    """Return the statuses of all containers but ephemeral ones, those of init containers first."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def restarts_of(status: Json) -> str:
    """Return how often a container was restarted, to be put behind something; "" never."""
    count = status.get("restartCount") or 0
    return f", restarted {'once' if count == 1 else f'{count} times'}" if count else ""


def begun_at(status: Json) -> datetime | None:
    """Return when the present run of a container began, or its last one if it has ended; None if it never ran."""
    state = status.get("state") or {}
    text = (state.get("running") or {}).get("startedAt") or (state.get("terminated") or {}).get("startedAt")
    return parse_time(text) if text else None
