"""What of a physical node may be used now, and why no more.

    node, binding, both sides' policies, foreign Pods' requests, the time  ->  assess  ->  Lease

`assess` puts five questions together, each a function of its own: which policy of each side speaks for the node
(`policies`, `lender`), what do the two agree to (`terms`), may the node be leased at all (`is_leasable`), how much of it
(`lease_capacity`), and since when is the window shut (`reclaim`). All are recomputed from scratch in every pass; nothing
is accumulated, so nothing can drift.

Our own Pods are never subtracted: the virtual scheduler accounts for them against the capacity told here.

One side's policy is enough to lease a node; where both have one, both count, and what is in force is their intersection.
An invalid policy of either side with nothing valid to remember stops the whole node: half an agreement is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce

from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.api.names import (
    INSTANCE_TYPE_BETA_LABEL,
    INSTANCE_TYPE_LABEL,
    LAST_VALID_LENDER_POLICY_ANNOTATION,
    POLICY_APPLIED_BY_ANNOTATION,
    POLICY_APPLIED_LABEL,
    SKIPPED_INSTANCE_TYPES,
    VIRTUAL_KUBELET_LABEL,
    VIRTUAL_KUBELET_VALUE,
)
from kubeocean.api.policy import ResourceLeasingPolicySpec, ResourceLimit
from kubeocean.domain.lender import LenderView, choose_lender_policy
from kubeocean.domain.policies import Choice, Policy, Remembered, choose_policy, remembered_policy
from kubeocean.domain.reclaim import Closing, closed_at, decide_closing
from kubeocean.domain.terms import Terms, intersect, is_readable, terms_of, window_of
from kubeocean.domain.windows import WindowState
from kubeocean.kube.meta import Json, annotations_of, is_deleting, labels_of
from kubeocean.kube.quantity import ZERO, Quantity
from kubeocean.kube.selectors import InvalidSelector, compile_node_selector

_NANO_PER_MILLI = 10**6
_NOBODY = Choice(None, None, (), "NoPolicy", "")
LENDER_UNKNOWN = "LenderPoliciesUnknown"  # the reason of a decision that waits for the lender's side
LENDER_PREFIX = "lender:"  # before the name of a lender's policy, where both sides' are named


@dataclass(frozen=True, slots=True)
class LeaseFacts:
    """Everything that decides about one physical node. `existing` is its virtual node, `foreign` sums what others use.

    `owner` is the annotation of whom we mark leased nodes for ("" = not known). `policies` are the borrower's, `lender` what
    is known of the other side's. `now` is aware; `time_zone` is for policies whose spec and binding name none.
    """

    physical: Json
    existing: Json | None
    binding_name: str
    binding: ClusterBindingSpec
    policies: Sequence[Policy]
    foreign: Mapping[str, Quantity]
    now: datetime
    time_zone: str = "UTC"
    lender: LenderView = field(default_factory=LenderView)
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What is leased, by resource name in canonical text; and for each what set the limit: free, quantity, percent."""

    resources: dict[str, str]
    reasons: dict[str, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a virtual node should stand for the physical one, and why (not)."""

    leasable: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The answer for one node. Its other fields mean something only while `decision.leasable`.

    `choice` is the borrower's policy and `lender` the lender's, either of which may be nobody's; `terms` are what both
    agree to, None when a side has nothing valid to go by. `revisit_at` is when time alone may change the answer (None:
    never).
    """

    decision: Decision
    choice: Choice
    capacity: Capacity
    window: WindowState
    closing: Closing
    revisit_at: datetime | None
    lender: Choice = _NOBODY
    terms: Terms | None = None

    @property
    def remembered(self) -> Remembered | None:
        """Return what the virtual node should remember of the borrower's policy, None for nothing."""
        return self.choice.memory

    @property
    def lender_remembered(self) -> Remembered | None:
        """Return the same of the lender's policy."""
        return self.lender.memory

    @property
    def policies_applied(self) -> str:
        """Return the annotation `policies-applied`: who is in force, as `rlp`, `rlp,lender:night` or `lender:night`."""
        return ",".join(name for name, _ in self._in_force())

    @property
    def policy_details(self) -> str:
        """Return the annotation `policy-details`: what each of them asks, as `rlp(cpu=4/),lender:night(memory=/50%)`."""
        return ",".join(policy_details(name, spec.resource_limits) for name, spec in self._in_force())

    def _in_force(self) -> list[tuple[str, ResourceLeasingPolicySpec]]:
        sides = (("", self.choice), (LENDER_PREFIX, self.lender))
        return [(f"{prefix}{choice.winner.name}", choice.spec) for prefix, choice in sides if choice.winner and choice.spec]


def assess(facts: LeaseFacts) -> Lease:
    """Return what is leased of a node, and why."""
    physical = without_own_mark(facts.physical, facts.owner)
    choice = choose_policy(physical, facts.policies, facts.binding_name, remembered_policy(facts.existing))
    lender = choose_lender_policy(
        physical, facts.lender, facts.binding_name, facts.binding.cluster_id,
        remembered_policy(facts.existing, LAST_VALID_LENDER_POLICY_ANNOTATION),
    )
    decision = is_leasable(
        physical, facts.binding, choice, facts.existing, lender=lender, lender_trouble=facts.lender.trouble
    )
    terms = agree((choice, lender), facts.binding.time_zone or facts.time_zone)
    if not decision.leasable or terms is None:
        # Nothing to go by for an existing virtual node: it keeps its figures and takes nothing new.
        shut, closing = WindowState(open=False), Closing(closed_at(facts.existing))
        return Lease(decision, choice, kept_capacity(facts.existing), shut, closing, None, lender, terms)
    window = window_of(terms.schedules, facts.now)
    closing = decide_closing(terms, window_open=window.open, recorded=closed_at(facts.existing), now=facts.now)
    capacity = lease_capacity(facts.physical, terms.limits, facts.foreign)
    moments = [moment for moment in (window.revisit_at, closing.revisit_at) if moment]
    return Lease(decision, choice, capacity, window, closing, min(moments, default=None), lender, terms)


def without_own_mark(node: Json, owner: str) -> Json:
    """Return a physical node as it is to others: without the label `policy-applied`, where it is `owner`'s mark.

    That a node is leased must not decide whether it is: "nodes that nobody else leases" would be taken and given back for ever.
    """
    labels = labels_of(node)
    if POLICY_APPLIED_LABEL not in labels or annotations_of(node).get(POLICY_APPLIED_BY_ANNOTATION) != owner:
        return node
    bare = {key: value for key, value in labels.items() if key != POLICY_APPLIED_LABEL}
    return {**node, "metadata": {**node["metadata"], "labels": bare}}


def agree(choices: Iterable[Choice], zone: str) -> Terms | None:
    """Return what the effective policies of the sides agree to; None when there is none, or one without a valid spec.

    `zone` is for policies that name none. One whose windows are in a zone that nobody knows is as good as without a spec.
    """
    specs = [choice.spec for choice in choices if choice.winner]
    terms = [terms_of(spec, zone) for spec in specs if spec and is_readable(spec, zone)]
    return reduce(intersect, terms) if terms and len(terms) == len(specs) else None


# --- may it be leased? -----------------------------------------------------------------------------------------------
def is_leasable(
    node: Json, binding: ClusterBindingSpec, choice: Choice, existing: Json | None, *, lender: Choice = _NOBODY,
    lender_trouble: str = "",
) -> Decision:
    """Return whether a virtual node should stand for physical `node`; the first question with an opinion decides."""
    asked = _Asked(node, binding, choice, existing, lender, lender_trouble)
    for question in _QUESTIONS:
        if decision := question(asked):
            return decision
    messages = (choice.message if choice.winner else "", f"the lender's {lender.message}" if lender.winner else "")
    return Decision(True, "Leased", "; ".join(filter(None, messages)))


@dataclass(frozen=True, slots=True)
class _Asked:
    node: Json
    binding: ClusterBindingSpec
    choice: Choice
    existing: Json | None
    lender: Choice
    lender_trouble: str

    @property
    def sides(self) -> tuple[tuple[str, Choice], ...]:
        """The policy of each side, and what goes before its message."""
        return ("", self.choice), ("the lender's ", self.lender)


def _being_deleted(asked: _Asked) -> Decision | None:
    if is_deleting(asked.node):
        return Decision(False, "NodeDeleting", "the physical node is being deleted")
    return None


def _not_a_machine(asked: _Asked) -> Decision | None:
    # Leasing what is itself leased would chain clusters: no capacity of its own, and a Pod that is forged twice.
    labels = labels_of(asked.node)
    for label in (INSTANCE_TYPE_LABEL, INSTANCE_TYPE_BETA_LABEL):
        if labels.get(label) in SKIPPED_INSTANCE_TYPES:
            return Decision(False, "UnsupportedInstanceType", f"label {label}={labels[label]}: no machine of its own")
    if labels.get(VIRTUAL_KUBELET_LABEL) == VIRTUAL_KUBELET_VALUE:
        mark = f"{VIRTUAL_KUBELET_LABEL}={VIRTUAL_KUBELET_VALUE}"
        return Decision(False, "VirtualNode", f"label {mark}: no machine of its own")
    return None


def _out_of_scope(asked: _Asked) -> Decision | None:
    try:
        selects = compile_node_selector(asked.binding.node_selector)
    except InvalidSelector as error:
        # Doubt changes nothing: what is leased stays, and nothing new is.
        spoken_for = asked.choice.winner is not None or asked.lender.winner is not None
        return Decision(asked.existing is not None and spoken_for, "SelectorInvalid", str(error))
    if not selects(asked.node):
        return Decision(False, "NotSelected", "the binding's nodeSelector does not select this node")
    return None


def _lender_unknown(asked: _Asked) -> Decision | None:
    # An existing virtual node goes on under what was known last; a new one might be more than the lender allows.
    if asked.lender_trouble and asked.existing is None:
        return Decision(False, LENDER_UNKNOWN, f"nothing new is leased: {asked.lender_trouble}")
    return None


def _no_policy(asked: _Asked) -> Decision | None:
    if asked.choice.winner is None and asked.lender.winner is None:
        return Decision(False, asked.choice.reason, f"{asked.choice.message}, neither the borrower's nor the lender's")
    return None


def _invalid_policy(asked: _Asked) -> Decision | None:
    for prefix, choice in asked.sides:
        if choice.winner is not None and choice.spec is None:
            return Decision(asked.existing is not None, choice.reason, f"{prefix}{choice.message}")
    return None


def _unknown_zone(asked: _Asked) -> Decision | None:
    for prefix, choice in asked.sides:
        if choice.winner is not None and choice.spec and not is_readable(choice.spec, asked.binding.time_zone or ""):
            message = f"{prefix}policy {choice.winner.name} has windows in the binding's timeZone, which is no known time zone"
            return Decision(asked.existing is not None, "TimeZoneUnknown", message)
    return None


_QUESTIONS: tuple[Callable[[_Asked], Decision | None], ...] = (
    _being_deleted, _not_a_machine, _out_of_scope, _lender_unknown, _no_policy, _invalid_policy, _unknown_zone,
)


# --- how much of it? -------------------------------------------------------------------------------------------------
def lease_capacity(node: Json, limits: Iterable[ResourceLimit], foreign: Mapping[str, Quantity]) -> Capacity:
    """Return min(free, quantity, percent of free) per resource of `node`; free = allocatable - `foreign`, at least 0.

    A node that tells no allocatable has all of its capacity to give, as Kubernetes itself defaults it
    (SetDefaults_NodeStatus).

    A limit that is absent limits nothing, 0 means nothing is leased, and a resource without limits is leased whole.
    CPU is rounded down to a thousandth, memory to a byte, huge pages to a page, everything else to a whole number (the
    API server refuses a Node with a fraction of an extended resource).
    """
    limits = tuple(limits)
    resources, reasons = {}, {}
    status = node.get("status") or {}
    for name, text in (status.get("allocatable") or status.get("capacity") or {}).items():
        free = max(ZERO, Quantity.parse(text) - foreign.get(name, ZERO))
        amount, reason = _limited(free, [limit for limit in limits if limit.resource == name])
        resources[name], reasons[name] = str(_rounded(name, amount)), reason
    return Capacity(resources, reasons)


def _limited(free: Quantity, limits: Sequence[ResourceLimit]) -> tuple[Quantity, str]:
    least, reason = free, "free"
    for limit in limits:
        if limit.quantity is not None and (quantity := Quantity.parse(limit.quantity)) < least:
            least, reason = max(ZERO, quantity), "quantity"
        if limit.percent is not None and (share := free.percent(limit.percent)) < least:
            least, reason = share, "percent"
    return least, reason


def _rounded(name: str, amount: Quantity) -> Quantity:
    if name == "cpu":
        return Quantity(amount.nano // _NANO_PER_MILLI * _NANO_PER_MILLI, amount.form)
    if name.startswith("hugepages-") and (page := Quantity.parse(name.removeprefix("hugepages-"))):
        return page * (amount.nano // page.nano)
    return amount.floor()


def kept_capacity(existing: Json | None) -> Capacity:
    """Return the capacity a virtual node shows already: what holds while there is nothing valid to compute it from."""
    shown = ((existing or {}).get("status") or {}).get("allocatable") or {}
    return Capacity(dict(shown), dict.fromkeys(shown, "kept"))


def policy_details(name: str, limits: Iterable[ResourceLimit]) -> str:
    """Return the annotation `policy-details`: what the policy asks, as `rlp(cpu=96/90%,memory=/95%)`."""
    parts = (
        f"{limit.resource}={'' if limit.quantity is None else Quantity.parse(limit.quantity)}"
        f"/{'' if limit.percent is None else f'{limit.percent}%'}"
        for limit in limits
    )
    return f"{name}({','.join(parts)})"
