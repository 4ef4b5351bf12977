"""What must be seen before the demo goes on. Pure: a snapshot of all clusters in, one sentence out.

An observation returns what it has seen as a sentence, or raises NotYet with what it expects and what is there instead.
`NotYet` is an answer, not an error: the caller looks again until a deadline, and the last one is what a user is told.

A snapshot is what `kubectl get -o json` said: nothing here asks Kubeocean about itself, so a demo that ends well has proved
it by what every other client of these clusters sees, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kubeocean.api import names
from kubeocean.demo.cast import (
    APP,
    HELLO,
    LEASED_RESOURCES,
    LENDERS,
    MOUNT_NAMESPACE,
    NAMESPACE,
    NODES,
    REPLICAS,
    VIRTUAL,
    Lender,
)
from kubeocean.domain.naming import physical_name
from kubeocean.kube.meta import Json, annotations_of, finalizers_of, labels_of, name_of, namespace_of, uid_of
from kubeocean.kube.quantity import Quantity


class NotYet(Exception):
    """What is `expected` is not there; `seen` tells what is."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; seen {seen}")
        self.expected, self.seen = expected, seen


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The objects of each cluster, by the name of its context."""

    objects: Mapping[str, Sequence[Json]]

    def of(self, context: str, kind: str, namespace: str | None = None) -> dict[str, Json]:
        """Return the objects of a kind by name, those of one namespace if it is given."""
        return {
            name_of(obj): obj for obj in self.objects[context]
            if obj["kind"] == kind and namespace in (None, namespace_of(obj))
        }

    def app_pods(self) -> list[Json]:
        """Return the Pods of the demo's Deployment in the virtual cluster."""
        return [pod for pod in self.of(VIRTUAL, "Pod", NAMESPACE).values() if labels_of(pod).get("app") == APP]

    def mounted(self, lender: Lender, kind: str) -> dict[str, Json]:
        """Return the objects of a kind in the mountNamespace of a lender's cluster, by name."""
        return self.of(lender.context, kind, MOUNT_NAMESPACE)


Observation = Callable[[Snapshot], str]


def clusters_are_apart(seen: Snapshot) -> str:
    """See Ready nodes in the physical clusters, none in the virtual one."""
    for lender in LENDERS:
        ready, count = sum(map(_is_ready, seen.of(lender.context, "Node").values())), _count_nodes(lender, seen)
        _expect(ready == count, f"{count} Ready nodes in {lender.context}", f"{ready}")
    virtual = seen.of(VIRTUAL, "Node")
    _expect(not virtual, "no node in the virtual cluster", _listed(virtual))
    physical = " + ".join(str(_count_nodes(lender, seen)) for lender in LENDERS)
    return f"{physical} physical nodes, no virtual one, and the virtual cluster serves the new kinds"


def _count_nodes(lender: Lender, seen: Snapshot) -> int:
    return max(NODES, len(seen.of(lender.context, "Node")))  # a real one may be there beside those that KWOK plays


def both_are_bound(seen: Snapshot) -> str:
    """See every binding Ready, with all nodes of its cluster, and every policy in force."""
    statuses = {lender: _status(seen.of(VIRTUAL, "ClusterBinding").get(lender.binding)) for lender in LENDERS}
    for lender, status in statuses.items():  # all of them first: a phase explains more than a count
        _expect(status.get("phase") == "Ready", f"{lender.binding} is Ready", f"{lender.binding} {_told(status)}")
    for lender, status in statuses.items():
        count, nodes = status.get("nodes", "none"), _count_nodes(lender, seen)
        _expect(count == nodes, f"{lender.binding} has {nodes} virtual nodes", f"its status counts {count}")
        policy = _status(seen.of(VIRTUAL, "ResourceLeasingPolicy").get(lender.policy))
        _expect(policy.get("phase") == "Active", f"policy {lender.policy} is Active", f"policy {lender.policy} {_told(policy)}")
    return f"{_and(lender.binding for lender in LENDERS)} are Ready, their policies Active"


def leases_are_exact(seen: Snapshot) -> str:
    """See one Ready virtual node for each physical node, whose figures are exactly what is lent."""
    said = [_lease_of(lender, seen) for lender in LENDERS]
    expected = sum(len(seen.of(lender.context, "Node")) for lender in LENDERS)
    virtual = seen.of(VIRTUAL, "Node")
    _expect(len(virtual) == expected, f"{expected} virtual nodes and no other", _listed(virtual))
    return ";\n  ".join(said)


def _lease_of(lender: Lender, seen: Snapshot) -> str:
    figures: dict[str, None] = {}  # a set that keeps its order
    for node, physical in seen.of(lender.context, "Node").items():
        name = lender.vnode(node)
        vnode = seen.of(VIRTUAL, "Node").get(name)
        if vnode is None:
            raise NotYet(f"virtual node {name}", _listed(seen.of(VIRTUAL, "Node")))
        _expect(_is_ready(vnode), f"{name} is Ready", "it is not")
        figures[" / ".join(_figure(lender, resource, physical, vnode) for resource in LEASED_RESOURCES)] = None
    return f"each {lender.vnode('*')} has exactly what is lent of its physical node ({lender.offer}): {_and(figures)}"


def _figure(lender: Lender, resource: str, physical: Json, vnode: Json) -> str:
    whole = Quantity.parse(physical["status"]["allocatable"][resource])
    share = lender.share(resource, whole)
    for part in ("allocatable", "capacity"):
        there = vnode["status"].get(part, {}).get(resource, "0")
        _expect(
            Quantity.parse(there) == share, f"{part} {resource} of {name_of(vnode)} is {share} of {whole}", f"it is {there}",
        )
    return str(share)


def all_are_running(seen: Snapshot) -> str:
    """See every replica Ready on a virtual node, and some of them in each cluster."""
    pods = seen.app_pods()
    running = [pod for pod in pods if pod["status"].get("phase") == "Running" and _is_ready(pod)]
    _expect(
        len(running) == len(pods) == REPLICAS, f"{REPLICAS} Pods, all Running and Ready",
        f"{len(pods)} Pods, {len(running)} of them so: {_phases(pods)}",
    )
    spread = Counter(_lender_of(pod, seen).binding for pod in running)
    for lender in LENDERS:
        _expect(spread[lender.binding] > 0, f"some Pods on {lender.vnode('*')}", "none")
    return f"{REPLICAS} Pods are Running: {_and(f'{count} in {binding}' for binding, count in sorted(spread.items()))}"


def twins_are_right(seen: Snapshot) -> str:
    """See for each Pod one twin, under its name, Running on the right node of the right cluster, and no twin else."""
    for pod in seen.app_pods():
        _expect_twin(pod, seen)
    total = sum(len(seen.mounted(lender, "Pod")) for lender in LENDERS)
    _expect(total == REPLICAS, f"{REPLICAS} twins in all", f"{total}")
    return f"each of the {REPLICAS} Pods has one twin, on the right node of the right cluster, with its token Secret beside it"


def a_container_is_real(seen: Snapshot) -> str:
    """See the Pod on the virtual node of a real one, Ready, its twin in containerd."""
    pod = seen.of(VIRTUAL, "Pod", NAMESPACE).get(HELLO)
    if pod is None or not _is_ready(pod):
        raise NotYet(f"Pod {HELLO} is Ready", _phases([pod] if pod else []))
    _expect_twin(pod, seen)
    container = pod["status"]["containerStatuses"][0].get("containerID", "none")
    _expect(container.startswith("containerd://"), f"a container of containerd in {HELLO}", container)
    return f"{HELLO} is Ready on {pod['spec']['nodeName']}: its twin is a container of containerd, its status the container's"


def _expect_twin(pod: Json, seen: Snapshot) -> None:
    lender, name = _lender_of(pod, seen), physical_name(name_of(pod), namespace_of(pod))
    twins = seen.mounted(lender, "Pod")
    twin = twins.get(name)
    if twin is None:
        raise NotYet(f"Pod {name} in {lender.context}, the twin of {name_of(pod)}", _listed(twins))
    node = twin["spec"].get("nodeName", "")
    _expect(
        lender.vnode(node) == pod["spec"].get("nodeName"), f"the twin of {name_of(pod)} on the node that stands for "
        f"{pod['spec'].get('nodeName')}", f"it is on {node or 'none'} of {lender.context}",
    )
    recorded = {key: annotations_of(pod).get(key) for key in _recorded(twin)}
    _expect(recorded == _recorded(twin), f"{name_of(pod)} names its twin in annotations {_recorded(twin)}", str(recorded))
    back = annotations_of(twin).get(names.VIRTUAL_POD_UID_ANNOTATION)
    _expect(back == uid_of(pod), f"twin {name} names Pod uid {uid_of(pod)}", str(back))
    for key in ("phase", "podIP", "startTime"):
        mine, its = pod["status"].get(key), twin["status"].get(key)
        _expect(mine == its, f"{key} of {name_of(pod)} is its twin's, {its}", str(mine))
    mounted = {volume["secret"]["secretName"] for volume in twin["spec"].get("volumes", ()) if "secret" in volume}
    there = seen.mounted(lender, "Secret")
    _expect(mounted <= set(there), f"Secret {_listed(mounted)}, which twin {name} mounts", _listed(there))


def _recorded(twin: Json) -> dict[str, str]:
    return {
        names.PHYSICAL_POD_NAMESPACE_ANNOTATION: namespace_of(twin),
        names.PHYSICAL_POD_NAME_ANNOTATION: name_of(twin),
        names.PHYSICAL_POD_UID_ANNOTATION: uid_of(twin),
    }


def all_is_gone(seen: Snapshot) -> str:
    """See no Pod of the Deployment in the virtual cluster, no twin and no token Secret in any physical one."""
    pods = seen.app_pods()
    _expect(not pods, f"no {APP} Pod in the virtual cluster", f"{len(pods)}: {_phases(pods)}")
    for lender in LENDERS:
        for kind in ("Pod", "Secret"):
            left = seen.mounted(lender, kind)
            _expect(not left, f"no {kind} of ours in {lender.context}", f"{len(left)}: {_listed(left)}")
    return "no Pod is left in the virtual cluster, no twin and no token Secret in the physical ones"


def nothing_left_of(gone: Lender) -> Observation:
    """Return the observation that `gone` is unbound without a trace, and that nobody else lost anything."""

    def observe(seen: Snapshot) -> str:
        left = [*_virtual_traces(gone, seen), *_physical_traces(gone, seen)]
        _expect(not left, f"nothing of {gone.binding} on either side", ", ".join(left))
        staying = {vnode for other in LENDERS if other != gone for vnode in map(other.vnode, seen.of(other.context, "Node"))}
        nodes = set(seen.of(VIRTUAL, "Node"))
        _expect(nodes == staying, f"virtual nodes {_listed(staying)}", _listed(nodes))
        return (
            f"nothing of {gone.binding} is left: no virtual node or lease, no policy, and in {gone.context} no namespace, "
            f"PriorityClass, label or annotation; the other {len(staying)} virtual nodes stay"
        )

    return observe


def _virtual_traces(gone: Lender, seen: Snapshot) -> list[str]:
    prefix = gone.vnode("")
    return [
        f"{obj['kind']} {name_of(obj)}" for obj in seen.objects[VIRTUAL]
        if name_of(obj).startswith(prefix)
        or (obj["kind"], name_of(obj)) in (("ClusterBinding", gone.binding), ("ResourceLeasingPolicy", gone.policy))
        or labels_of(obj).get(names.CLUSTER_BINDING_LABEL) == gone.binding
    ]


def _physical_traces(gone: Lender, seen: Snapshot) -> list[str]:
    return [f"{obj['kind']} {name_of(obj)} in {gone.context}" for obj in seen.objects[gone.context] if _is_trace(obj)]


def _is_trace(obj: Json) -> bool:
    marks = (*labels_of(obj), *annotations_of(obj), *finalizers_of(obj))
    return (
        any(names.PREFIX in mark for mark in marks)
        or MOUNT_NAMESPACE in (name_of(obj), namespace_of(obj))
        or name_of(obj) == names.DEFAULT_PRIORITY_CLASS
    )


def _lender_of(pod: Json, seen: Snapshot) -> Lender:
    node = pod["spec"].get("nodeName", "")
    for lender in LENDERS:
        if node in map(lender.vnode, seen.of(lender.context, "Node")):
            return lender
    raise NotYet(f"{name_of(pod)} on a virtual node", f"it is on {node or 'none'}")


def _is_ready(obj: Json) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in _status(obj).get("conditions", ()))


def _status(obj: Json | None) -> Json:
    return (obj or {}).get("status") or {}


def _told(status: Json) -> str:
    """Say a phase with what the object itself says about it: that is where a user would look."""
    false = [each for each in status.get("conditions", ()) if each["status"] == "False"]
    why = "".join(f" ({each['reason']}: {each.get('message', '')})" for each in false[:1])
    return f"is {status['phase']}{why}" if "phase" in status else "has no phase yet"


def _phases(pods: Iterable[Json]) -> str:
    counts = Counter(pod["status"].get("phase", "unknown") for pod in pods)
    return _and(f"{count} {phase}" for phase, count in sorted(counts.items())) or "none"


def _expect(true: bool, expected: str, seen: str) -> None:
    if not true:
        raise NotYet(expected, seen)


def _listed(found: Iterable[str], most: int = 8) -> str:
    ordered = sorted(found)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return (", ".join(ordered[:most]) or "none") + more


def _and(words: Iterable[str]) -> str:
    return " and ".join(words)
