"""What of a physical node may be used now, and why no more.

    node, binding, policies, foreign Pods' requests, the time  ->  assess  ->  Lease

`assess` puts four questions together, each a function of its own: which policy speaks for the node (`policies`), may
it be leased at all (`is_leasable`), how much of it (`lease_capacity`), and since when is the window shut (`reclaim`).
All are recomputed from scratch in every pass; nothing is accumulated, so nothing can drift.

Our own Pods are never subtracted: the virtual scheduler accounts for them against the capacity told here.

A lender's own policies come in as a second `Choice` of the same kind: limits of both go into one `lease_capacity` (the
smallest counts), and the lease is open while both windows are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from kubeocean.api.binding import ClusterBindingSpec
from kubeocean.api.names import (
    INSTANCE_TYPE_BETA_LABEL,
    INSTANCE_TYPE_LABEL,
    SKIPPED_INSTANCE_TYPES,
    VIRTUAL_KUBELET_LABEL,
    VIRTUAL_KUBELET_VALUE,
)
from kubeocean.api.policy import ResourceLimit
from kubeocean.domain.policies import Choice, Policy, Remembered, choose_policy, remembered_policy
from kubeocean.domain.reclaim import Closing, closed_at, decide_closing
from kubeocean.domain.windows import WindowState, state
from kubeocean.kube.meta import Json, is_deleting, labels_of
from kubeocean.kube.quantity import ZERO, Quantity
from kubeocean.kube.selectors import InvalidSelector, compile_node_selector

_NANO_PER_MILLI = 10**6


@dataclass(frozen=True, slots=True)
class LeaseFacts:
    """Everything that decides about one physical node. `existing` is its virtual node, `foreign` sums what others use.

    `now` is aware; `time_zone` is for policies whose spec and binding name none.
    """

    physical: Json
    existing: Json | None
    binding_name: str
    binding: ClusterBindingSpec
    policies: Sequence[Policy]
    foreign: Mapping[str, Quantity]
    now: datetime
    time_zone: str = "UTC"


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

    `revisit_at` is when time alone may change the answer (None: never).
    """

    decision: Decision
    choice: Choice
    capacity: Capacity
    window: WindowState
    closing: Closing
    revisit_at: datetime | None

    @property
    def remembered(self) -> Remembered | None:
        """Return what the virtual node should remember of its policy; None when there is nothing valid."""
        winner, spec = self.choice.winner, self.choice.spec
        return Remembered(winner.name, spec) if winner and spec else None


def assess(facts: LeaseFacts) -> Lease:
    """Return what is leased of a node, and why."""
    choice = choose_policy(facts.physical, facts.policies, facts.binding_name, remembered_policy(facts.existing))
    decision = is_leasable(facts.physical, facts.binding, choice, facts.existing)
    if not decision.leasable or choice.spec is None:
        # Nothing to go by for an existing virtual node: it keeps its figures and takes nothing new.
        shut = WindowState(open=False)
        return Lease(decision, choice, kept_capacity(facts.existing), shut, Closing(closed_at(facts.existing)), None)
    spec = choice.spec
    window = state(spec.time_windows, spec.time_zone or facts.binding.time_zone or facts.time_zone, facts.now)
    closing = decide_closing(spec, window_open=window.open, recorded=closed_at(facts.existing), now=facts.now)
    capacity = lease_capacity(facts.physical, spec.resource_limits, facts.foreign)
    moments = [moment for moment in (window.revisit_at, closing.revisit_at) if moment]
    return Lease(decision, choice, capacity, window, closing, min(moments, default=None))


# --- may it be leased? -----------------------------------------------------------------------------------------------
def is_leasable(node: Json, binding: ClusterBindingSpec, choice: Choice, existing: Json | None) -> Decision:
    """Return whether a virtual node should stand for physical `node`; the first question with an opinion decides."""
    asked = _Asked(node, binding, choice, existing)
    for question in _QUESTIONS:
        if decision := question(asked):
            return decision
    return Decision(True, "Leased", choice.message)


@dataclass(frozen=True, slots=True)
class _Asked:
    node: Json
    binding: ClusterBindingSpec
    choice: Choice
    existing: Json | None


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
        return Decision(asked.existing is not None and asked.choice.winner is not None, "SelectorInvalid", str(error))
    if not selects(asked.node):
        return Decision(False, "NotSelected", "the binding's nodeSelector does not select this node")
    return None


def _no_policy(asked: _Asked) -> Decision | None:
    if asked.choice.winner is None:
        return Decision(False, asked.choice.reason, asked.choice.message)
    return None


def _invalid_policy(asked: _Asked) -> Decision | None:
    if asked.choice.spec is None:
        return Decision(asked.existing is not None, asked.choice.reason, asked.choice.message)
    return None


_QUESTIONS: tuple[Callable[[_Asked], Decision | None], ...] = (
    _being_deleted, _not_a_machine, _out_of_scope, _no_policy, _invalid_policy,
)


# --- how much of it? -------------------------------------------------------------------------------------------------
def lease_capacity(node: Json, limits: Iterable[ResourceLimit], foreign: Mapping[str, Quantity]) -> Capacity:
    """Return min(free, quantity, percent of free) per resource of `node`; free = allocatable - `foreign`, at least 0.

    A limit that is absent limits nothing, 0 means nothing is leased, and a resource without limits is leased whole.
    CPU is rounded down to a thousandth, memory to a byte, huge pages to a page, everything else to a whole number (the
    API server refuses a Node with a fraction of an extended resource).
    """
    limits = tuple(limits)
    resources, reasons = {}, {}
    for name, text in ((node.get("status") or {}).get("allocatable") or {}).items():
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
