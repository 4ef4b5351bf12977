"""More runs on a virtual node than is leased of it: a limit was lowered, or foreign Pods took their share.

The virtual scheduler only looks at a node when it places a Pod, so nothing gives way by itself. The overhang is always
told (condition `LeaseExceeded`, Events); with `forceReclaim` just enough Pods have to leave, after the same grace as when a
window shuts. They are asked through the Eviction API, and deleted once the policy's timeout is over: NoExecute would hit
everybody on the node.

Only a *limit* makes Pods leave. Where the node itself has less than runs on it (a device plugin restarts, somebody binds
Pods by hand), the physical cluster's own means decide who gives way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kubeocean.domain.reclaim import NodePod, give_up_asking, grace_over, next_to_ask, not_after, rank
from kubeocean.domain.refusal import BEYOND_LEASE, Refusal
from kubeocean.domain.requests import Requests, sum_requests
from kubeocean.domain.terms import ReclaimTerms
from kubeocean.kube.quantity import ZERO, Quantity

# What `Capacity.reasons` says where no limit is at work.
_NO_LIMIT = ("free", "kept")


@dataclass(frozen=True, slots=True)
class OverhangFacts:
    """What decides about overhang. `leased` and `reasons` are those of `Capacity`, `terms` None = nothing valid in force.

    `since` is when overhang was first seen, as noted on the node; None: not noted. `asked` as in `ReclaimFacts`.
    """

    terms: ReclaimTerms | None
    window_open: bool
    leased: Mapping[str, str]
    reasons: Mapping[str, str]
    pods: Sequence[NodePod]
    since: datetime | None
    now: datetime
    asked: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Overhang:
    """The answer. `excess` maps resources to (what runs, what is leased); empty: all fits. `since` None = not exceeded.

    `evict` are to be asked to leave now, `delete` to be deleted now. `revisit_at`: when time alone may change this.
    """

    excess: Mapping[str, tuple[Quantity, Quantity]] = field(default_factory=dict)
    since: datetime | None = None
    evict: tuple[NodePod, ...] = ()
    delete: tuple[NodePod, ...] = ()
    revisit_at: datetime | None = None

    @property
    def text(self) -> str:
        """Return the amounts in words, "" when all fits."""
        return ", ".join(f"{name}: {runs} requested, {leased} leased" for name, (runs, leased) in self.excess.items())


def decide_overhang(facts: OverhangFacts) -> Overhang:
    """Return by how much the node is overbooked, and which Pods have to leave for that now."""
    leased = {name: Quantity.parse(text) for name, text in facts.leased.items()}
    excess = find_excess((pod for pod in facts.pods if not pod.finished), leased)
    if not excess:
        return Overhang()
    terms, since = facts.terms, not_after(facts.since, facts.now)
    if terms is None or not terms.force_reclaim or not facts.window_open:  # shut: `reclaim` moves everybody anyway
        return Overhang(excess, since)
    due = grace_over(terms, since)
    if facts.now < due:
        return Overhang(excess, since, revisit_at=due)
    limited = {name: amount for name, amount in leased.items() if facts.reasons.get(name, "free") not in _NO_LIMIT}
    victims = choose_victims(facts.pods, limited)
    if not victims:
        return Overhang(excess, since)
    batch, revisit_at = next_to_ask(victims, facts.asked, facts.now)
    deadline = give_up_asking(terms, since)
    if facts.now >= deadline:
        return Overhang(excess, since, delete=batch, revisit_at=revisit_at)
    return Overhang(excess, since, batch, revisit_at=min(revisit_at, deadline))


def find_excess(pods: Iterable[NodePod], leased: Mapping[str, Quantity]) -> dict[str, tuple[Quantity, Quantity]]:
    """Return of which resources `pods` request more than is leased: (requested, leased). Unleased names do not count."""
    total = sum_requests(pod.requests for pod in pods)
    return {
        name: (total[name], amount) for name, amount in sorted(leased.items()) if name in total and total[name] > amount
    }


def refuse_growth(
    before: Requests, wanted: Requests, others: Requests, leased: Mapping[str, str], machine: Mapping[str, str]
) -> Refusal | None:
    """Return why a Pod may not grow from `before` to `wanted`: with what `others` have, more than is `leased` of their node.

    A kubelet holds a resize back in the same way (pkg/kubelet/allocation, canResizePod); that of the physical node knows only
    what the `machine` has. What exceeds even that it calls Infeasible for good, in words that users and schedulers know, and
    gives nothing: that is left to it. Whatever the Pod does not take more of, it may have too much of already.
    """
    total, beyond = sum_requests((others, wanted)), {}
    for name in sorted(wanted):
        lent = Quantity.parse(leased.get(name, "0"))
        if wanted[name] > Quantity.parse(machine.get(name, "0")):
            return None
        if wanted[name] > before.get(name, ZERO) and total[name] > lent:
            beyond[name] = (total[name], lent)
    if not beyond:
        return None
    amounts = ", ".join(f"{name}: {asked} requested, {lent} leased" for name, (asked, lent) in beyond.items())
    return Refusal(
        BEYOND_LEASE, f"the resize waits: with it more would run on its virtual node than is leased of it ({amounts}); ask for "
        "less, or delete this Pod to have it placed anew",
    )


def choose_victims(pods: Sequence[NodePod], leased: Mapping[str, Quantity]) -> tuple[NodePod, ...]:
    """Return just enough Pods to make the rest fit: lowest priority and youngest first, and none that could be spared.

    First as many as it takes, in that order, passing over those that take nothing of what is short; then, from the most to
    the least valuable, whoever turns out not to be needed is spared. Pods that leave already count as gone, those that
    tolerate being out of the window are never chosen; where that leaves too much, all who take of it are.
    """
    present = [pod for pod in pods if not (pod.finished or pod.leaving)]
    total = sum_requests(pod.requests for pod in present)
    over = {name: total[name] - amount for name, amount in leased.items() if name in total and total[name] > amount}
    victims = []
    for pod in rank(pod for pod in present if pod.must_go):
        if any(over[name] > ZERO and pod.requests.get(name, ZERO) > ZERO for name in over):
            victims.append(pod)
            over = {name: amount - pod.requests.get(name, ZERO) for name, amount in over.items()}
    chosen = []
    for pod in reversed(victims):
        back = {name: amount + pod.requests.get(name, ZERO) for name, amount in over.items()}
        if all(back[name] <= ZERO or pod.requests.get(name, ZERO) == ZERO for name in back):
            over = back
        else:
            chosen.append(pod)
    return tuple(reversed(chosen))
