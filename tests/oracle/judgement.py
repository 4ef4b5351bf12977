"""The oracle: what every virtual node has to be, from plain JSON of both sides and an instant.

Written from the specification alone (design §5-7, contract §1-2), by the shortest way there is and without regard to speed.
Nothing of `kubeocean` is imported: what both get wrong, both have to get wrong on their own.

    World, instant, what was before  ->  judge  ->  for every virtual node: View (None: there must not be one)

What was before matters in three places: a policy that has become invalid leaves its last valid version in force, a grace runs
from the moment the window was found shut, and a node with nothing valid to go by keeps its figures. `Record` is all of that.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from tests.oracle.amounts import amount, round_down
from tests.oracle.requests import taken
from tests.oracle.selectors import selects
from tests.oracle.windows import is_open, is_window, is_zone

Json = dict[str, Any]
OUT_OF_WINDOW = "kubeocean.io/out-of-time-windows"
CORDONED, CORDON = "kubeocean.io/physical-node-unschedulable", "node.kubernetes.io/unschedulable"
INSTANCE_TYPES = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
BORROWER, LENDER = "borrower", "lender"


@dataclass(frozen=True)
class Physical:
    """One physical cluster as its API server tells it."""

    nodes: list[Json]
    pods: list[Json]
    policies: list[Json]


@dataclass(frozen=True)
class World:
    """Everything that decides. `physical` is by name of the binding that leads there."""

    virtual_uid: str  # of kube-system in the virtual cluster
    bindings: list[Json]
    policies: list[Json]
    physical: Mapping[str, Physical]
    time_zone: str = "UTC"  # where neither policy nor binding names one


@dataclass(frozen=True)
class View:
    """What of a virtual node is judged: amounts by resource, and the effects its taints have."""

    capacity: dict[str, Fraction]
    allocatable: dict[str, Fraction]
    out_of_window: frozenset[str]
    cordoned: frozenset[str]

    def __str__(self) -> str:
        amounts = " ".join(f"{name}={float(much):.12g}" for name, much in sorted(self.allocatable.items()))
        same = "" if self.capacity == self.allocatable else f" (capacity differs: {self.capacity})"
        return f"{amounts}{same}; out of window {sorted(self.out_of_window)}; cordoned {sorted(self.cordoned)}"


@dataclass(frozen=True)
class Record:
    """What an existing virtual node goes by beside what can be read now.

    `last_valid` holds, by side, the policy it was leased under and the last valid spec of that. `machine` is the uid of the
    physical node it stands for.
    """

    machine: str = ""
    last_valid: dict[str, tuple[str, Json]] = field(default_factory=dict)
    closed_since: datetime | None = None
    shown: dict[str, Fraction] = field(default_factory=dict)


Verdict = tuple[View, Record]


def judge(world: World, now: datetime, before: Mapping[str, Record]) -> dict[str, Verdict | None]:
    """Return by name what each virtual node has to be, None where there must not be any."""
    verdicts: dict[str, Verdict | None] = {}
    for binding in world.bindings:
        for node in world.physical[binding["metadata"]["name"]].nodes:
            name = f"vnode-{binding['spec']['clusterID']}-{node['metadata']['name']}"
            verdicts[name] = judge_node(world, binding, node, now, before.get(name))
    return verdicts


def judge_node(world: World, binding: Json, node: Json, now: datetime, before: Record | None) -> Verdict | None:
    physical = world.physical[binding["metadata"]["name"]]
    if node["metadata"].get("deletionTimestamp") or is_skipped(node) or not selects(binding["spec"].get("nodeSelector"), node):
        return None
    machine = node["metadata"].get("uid", "")
    if before and before.machine != machine:
        before = None  # another machine has that name: its virtual node is made anew
    last_valid = before.last_valid if before else {}
    name, cluster_id = binding["metadata"]["name"], binding["spec"]["clusterID"]
    chosen = {
        BORROWER: choose(world.policies, {name}, node, last_valid.get(BORROWER)),
        LENDER: choose(physical.policies, {name, cluster_id, "*", ""}, node, last_valid.get(LENDER)),
    }
    sides = {side: choice for side, choice in chosen.items() if choice is not None}
    specs = [spec for _, spec in sides.values() if spec is not None]
    if not sides or (len(specs) < len(sides) and before is None):
        return None
    remembered = {side: (policy, spec) for side, (policy, spec) in sides.items() if spec is not None}
    for side in sides.keys() - remembered.keys():
        if side in last_valid:
            remembered[side] = last_valid[side]
    cordoned = frozenset(taint["effect"] for taint in node["spec"].get("taints") or [] if taint["key"] == CORDON)
    if len(specs) < len(sides) and before is not None:
        # Nothing valid to go by: it takes nothing new, nobody is moved, the figures stay.
        view = View(before.shown, before.shown, frozenset({"NoSchedule"}), cordoned)
        return view, Record(machine, remembered, before.closed_since, before.shown)
    zone = binding["spec"].get("timeZone") or world.time_zone
    since = None
    if not all(is_open(spec.get("timeWindows") or [], spec.get("timeZone") or zone, now) for spec in specs):
        since = (before.closed_since if before else None) or now
    leased = lease(node, specs, foreign(world, binding, physical.pods, node))
    view = View(leased, leased, effects(specs, since, now), cordoned)
    return view, Record(machine, remembered, since, leased)


def is_skipped(node: Json) -> bool:
    labels = node["metadata"].get("labels") or {}
    kinds = {labels.get(each) for each in INSTANCE_TYPES}
    return bool(kinds & {"external", "vnode", "eklet"}) or labels.get("type") == "virtual-kubelet"


def choose(
    policies: list[Json], called: set[str], node: Json, last_valid: tuple[str, Json] | None
) -> tuple[str, Json | None] | None:
    """Return which policy of one side is effective, and what of it is in force; None in its place: nothing is valid."""
    matching = []
    for policy in policies:
        name, spec, valid = policy["metadata"]["name"], policy["spec"], is_valid(policy["spec"])
        if not valid and last_valid and last_valid[0] == name:
            spec, valid = last_valid[1], True
        applies = (spec.get("cluster") or "") in called and selects(spec.get("nodeSelector"), node)
        if applies and not policy["metadata"].get("deletionTimestamp"):
            rank = (-(spec.get("priority") or 0), policy["metadata"]["creationTimestamp"], name)
            matching.append((rank, name, spec if valid else None))
    if not matching:
        return None
    _, name, in_force = min(matching, key=lambda each: each[0])
    return name, in_force


def is_valid(spec: Json) -> bool:
    if spec.get("timeZone") and not is_zone(spec["timeZone"]):
        return False
    limits = spec.get("resourceLimits") or []
    return all(is_window(window) for window in spec.get("timeWindows") or []) and all(is_limit(limit) for limit in limits)


def is_limit(limit: Json) -> bool:
    percent, quantity = limit.get("percent"), limit.get("quantity")
    try:
        measurable = quantity is None or amount(quantity) >= 0
    except ValueError:
        return False
    return measurable and (percent is None or 0 <= percent <= 100)


def foreign(world: World, binding: Json, pods: list[Json], node: Json) -> dict[str, Fraction]:
    """Return what Pods on the node take that are not ours."""
    owner = hashlib.sha256(f"{world.virtual_uid}/{binding['spec']['clusterID']}".encode()).hexdigest()[:16]
    ours = {"kubeocean.io/managed-by": "kubeocean", "kubeocean.io/owner": owner}
    total: dict[str, Fraction] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        if pod["spec"].get("nodeName") == node["metadata"]["name"] and not ours.items() <= labels.items():
            for resource, much in taken(pod).items():
                total[resource] = total.get(resource, Fraction(0)) + much
    return total


def lease(node: Json, specs: list[Json], used: dict[str, Fraction]) -> dict[str, Fraction]:
    """Return min(free, every quantity, every percentage of free), per resource of the node."""
    leased = {}
    for resource, text in (node["status"].get("allocatable") or node["status"]["capacity"]).items():
        free = max(Fraction(0), amount(text) - used.get(resource, Fraction(0)))
        bounds = [free]
        for spec in specs:
            for limit in spec.get("resourceLimits") or []:
                if limit["resource"] == resource and limit.get("quantity") is not None:
                    bounds.append(amount(limit["quantity"]))
                if limit["resource"] == resource and limit.get("percent") is not None:
                    bounds.append(free * limit["percent"] / 100)
        leased[resource] = round_down(resource, min(bounds))
    return leased


def effects(specs: list[Json], closed_since: datetime | None, now: datetime) -> frozenset[str]:
    """Return what being out of the window does: nothing new comes, and under the stricter reclaim nobody stays."""
    if closed_since is None:
        return frozenset()
    for spec in specs:
        grace = timedelta(seconds=spec.get("gracefulReclaimPeriodSeconds") or 0)
        if spec.get("forceReclaim") and now >= closed_since + grace:
            return frozenset({"NoSchedule", "NoExecute"})
    return frozenset({"NoSchedule"})


def read(vnode: Json) -> View:
    """Return what a virtual node shows."""
    status, taints = vnode["status"], vnode["spec"].get("taints") or []
    capacity, allocatable = (
        {name: amount(text) for name, text in (status.get(each) or {}).items()} for each in ("capacity", "allocatable")
    )
    out = frozenset(taint["effect"] for taint in taints if taint["key"] == OUT_OF_WINDOW)
    return View(capacity, allocatable, out, frozenset(taint["effect"] for taint in taints if taint["key"] == CORDONED))


def differences(expected: Mapping[str, Verdict | None], vnodes: list[Json]) -> list[str]:
    """Return for every virtual node that is not as it has to be a text with both views, in order of name."""
    found = {vnode["metadata"]["name"]: vnode for vnode in vnodes}
    texts = []
    for name in sorted(expected.keys() | found.keys()):
        verdict, vnode = expected.get(name), found.get(name)
        wanted, shown = verdict[0] if verdict else None, read(vnode) if vnode else None
        if wanted != shown:
            texts.append(f"{name}\n   oracle: {wanted or 'no such node'}\n  cluster: {shown or 'no such node'}")
    return texts
