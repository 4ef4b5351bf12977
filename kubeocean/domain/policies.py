"""Which policy speaks for a node: asked twice, once of the borrower's policies and once of the lender's.

A policy is read once per version (`read_policy`, made to be an informer's `summarise`) and asked for every node. Of
those that name the binding and select the node one is effective: highest priority, then oldest, then by name; the
others are told who won.

A policy that cannot be understood must neither evict anybody nor lease anything by accident. Every virtual node
therefore carries the last valid spec it was leased under (`Remembered`): while its policy is unreadable, that one
stays in force. A node that no such memory exists for gets nothing new: the unreadable policy still wins where its
selector is legible, so a typo in a strict policy does not let a generous one take its place.

A borrower's policy names its binding. The lender knows a borrower by the name of his binding or by his clusterID, and may
mean all of them: `cluster` is "*", or (where another CRD lets it through) empty.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from kubeocean.api.model import InvalidObject, Problem
from kubeocean.api.names import LAST_VALID_POLICY_ANNOTATION
from kubeocean.api.policy import ResourceLeasingPolicySpec, parse_policy
from kubeocean.kube.meta import Json, annotations_of, is_deleting, name_of, uid_of
from kubeocean.kube.selectors import InvalidSelector, compile_node_selector

ANY_BORROWER = "*"


@dataclass(frozen=True, slots=True)
class Policy:
    """A ResourceLeasingPolicy as read: `spec` is None exactly when `problems` says why it is not valid.

    Two readings are equal when they decide the same, whatever else (status, metadata) changed in between.
    """

    name: str
    uid: str
    created: str  # RFC 3339 as the server writes it, so that text order is time order
    deleting: bool
    cluster: str  # name of the ClusterBinding it is for; a lender's may say its clusterID or "*"
    priority: int
    spec: ResourceLeasingPolicySpec | None
    problems: tuple[Problem, ...]
    selector: object  # as it stands in the object, legible or not
    selects: Callable[[Json], bool] = field(compare=False)  # the same, compiled


@dataclass(frozen=True, slots=True)
class Remembered:
    """The last valid spec a virtual node was leased under, and the name of its policy."""

    name: str
    spec: ResourceLeasingPolicySpec

    def text(self) -> str:
        """Return what is kept in the annotation `last-valid-policy`."""
        spec = self.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return json.dumps({"name": self.name, "spec": spec}, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Choice:
    """Who speaks for a node. `winner` None: nobody; `spec` None with a winner: it is invalid and none is remembered.

    `losers` are the other policies that match, in their order. `reason` and `message` say how `spec` came about. `memory` is
    what the virtual node shall remember: what is in force or, while nothing valid is, what was before; it may come back.
    """

    winner: Policy | None
    spec: ResourceLeasingPolicySpec | None
    losers: tuple[Policy, ...]
    reason: str
    message: str
    memory: Remembered | None = None

    @property
    def heard(self) -> tuple[Policy, ...]:
        """Return every policy that was asked for the node, the winner first."""
        return (self.winner, *self.losers) if self.winner else ()


def read_policy(obj: Json) -> Policy:
    """Return `obj` as read; an invalid one (an older or a lender's CRD let it through) is an answer, not an error."""
    spec, problems = None, validate_policy(obj)
    selects: Callable[[Json], bool] = _nowhere
    raw = obj.get("spec") or {}
    try:
        selects = compile_node_selector(raw.get("nodeSelector"), field="spec.nodeSelector")
    except InvalidSelector as error:
        problems = problems or (Problem("spec.nodeSelector", str(error)),)
    except (AttributeError, TypeError):
        pass  # not even of the right shape, which `problems` tells already
    if not problems:
        spec = parse_policy(obj)
    priority = raw.get("priority")
    return Policy(
        name_of(obj), uid_of(obj), obj["metadata"].get("creationTimestamp") or "", is_deleting(obj),
        str(raw.get("cluster") or ""), priority if isinstance(priority, int) else 0, spec, problems,
        raw.get("nodeSelector"), selects,
    )


def read_lender_policy(obj: Json) -> Policy:
    """Return a policy of the physical cluster as read: one that names no borrower is for all of them."""
    spec = obj.get("spec")
    if isinstance(spec, dict) and not spec.get("cluster"):
        obj = {**obj, "spec": {**spec, "cluster": ANY_BORROWER}}
    return read_policy(obj)


def lender_aliases(cluster_id: str) -> frozenset[str]:
    """Return what a lender may call the binding besides its name."""
    return frozenset({cluster_id, ANY_BORROWER})


def validate_policy(obj: Json) -> tuple[Problem, ...]:
    """Return what is wrong with a ResourceLeasingPolicy, each problem with its field and remedy; empty = valid."""
    try:
        parse_policy(obj)
    except InvalidObject as error:
        return error.problems
    return ()


def remembered_policy(vnode: Json | None, annotation: str = LAST_VALID_POLICY_ANNOTATION) -> Remembered | None:
    """Return the last valid policy a virtual node was leased under; None when there is no (legible) record.

    `annotation` tells the borrower's from the lender's.
    """
    text = annotations_of(vnode).get(annotation) if vnode else None
    if not text:
        return None
    try:
        record = json.loads(text)
        return Remembered(str(record["name"]), parse_policy(record))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None  # anybody who may edit Nodes can have written it


def recall_policy(remembered: Remembered) -> Policy:
    """Return the policy a virtual node remembers: what to go by when policies cannot be read at all."""
    spec = remembered.spec
    try:
        selects = compile_node_selector(spec.node_selector)
    except InvalidSelector:
        selects = _nowhere
    return Policy(remembered.name, "", "", False, spec.cluster, spec.priority, spec, (), spec.node_selector, selects)


def choose_policy(
    node: Json, policies: Iterable[Policy], binding_name: str, remembered: Remembered | None = None, *,
    aliases: Collection[str] = (),
) -> Choice:
    """Return which of `policies` (of one side) is effective on physical `node`, and the spec that is in force.

    They are for the binding of that name; `aliases` are its other names.
    """
    known_as = {binding_name, *aliases}
    candidates = [_as_remembered(policy, remembered) for policy in policies]
    matching = sorted((policy for policy in candidates if _matches(policy, node, known_as)), key=_rank)
    if not matching:
        message = f"no ResourceLeasingPolicy for binding {binding_name} selects this node"
        return Choice(None, None, (), "NoPolicy", message)
    winner, losers = matching[0], tuple(matching[1:])
    if winner.spec is None:
        message = f"policy {winner.name} is not valid: {describe(winner.problems)}"
        return Choice(winner, None, losers, "PolicyInvalid", message, remembered)
    memory = Remembered(winner.name, winner.spec)
    if winner.problems:
        message = f"the last valid version of policy {winner.name} stays in force: {describe(winner.problems)}"
        return Choice(winner, winner.spec, losers, "LastValidPolicy", message, memory)
    return Choice(winner, winner.spec, losers, "Winning", f"policy {winner.name} is in force", memory)


def describe(problems: Sequence[Problem]) -> str:
    """Return problems as one line of text."""
    return "; ".join(map(str, problems))


def _as_remembered(policy: Policy, remembered: Remembered | None) -> Policy:
    """Return an invalid policy with what is remembered of it; `problems` stay, to tell it from a valid one."""
    if policy.spec is not None or remembered is None or remembered.name != policy.name:
        return policy
    try:
        selects = compile_node_selector(remembered.spec.node_selector)
    except InvalidSelector:
        return policy
    spec = remembered.spec
    return replace(policy, cluster=spec.cluster, priority=spec.priority, spec=spec, selects=selects)


def _matches(policy: Policy, node: Json, known_as: Collection[str]) -> bool:
    return not policy.deleting and policy.cluster in known_as and policy.selects(node)


def _rank(policy: Policy) -> tuple[int, str, str]:
    return -policy.priority, policy.created, policy.name


def _nowhere(_: Json) -> bool:
    return False
