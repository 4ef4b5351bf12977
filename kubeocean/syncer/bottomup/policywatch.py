"""Which nodes a change of a policy concerns, of either side: those, all of those, and no others are looked at again.

A policy concerns a node when its selector selects the node, before the change or after it. An invalid policy may stay in force
by what nodes remember of it while its own selector is illegible, so the nodes that follow it are concerned as well.
"""

from __future__ import annotations

from collections.abc import Callable

from kubeocean.domain.leasing import Lease, without_own_mark
from kubeocean.domain.lender import Standing
from kubeocean.domain.policies import Choice, Policy, lender_aliases
from kubeocean.kube.store import Entry
from kubeocean.syncer.pairing import Pairing


class PolicyWatch:
    """Calls `wake` with the name of every physical node that a policy's change concerns."""

    def __init__(self, pairing: Pairing, wake: Callable[[str], None]) -> None:
        self._pairing, self._wake = pairing, wake

    def attach(self) -> None:
        """Listen to the policies of both sides, and to how we stand with the lender's."""
        self._pairing.listen(self._pairing.virtual.policies, self._borrowers_policy_changed)
        self._pairing.physical.lender.add_handler(self._lenders_policy_changed)
        self._pairing.physical.lender.subscribe(self._standing_changed)

    def _borrowers_policy_changed(self, old: Entry[Policy] | None, new: Entry[Policy] | None) -> None:
        self._changed(old, new, lambda policy: policy.cluster == self._pairing.binding_name, lambda lease: lease.choice)

    def _lenders_policy_changed(self, old: Entry[Policy] | None, new: Entry[Policy] | None) -> None:
        self._changed(old, new, lambda policy: is_for(policy, self._pairing), lambda lease: lease.lender)

    def _changed(
        self, old: Entry[Policy] | None, new: Entry[Policy] | None, is_ours: Callable[[Policy], bool],
        side: Callable[[Lease], Choice],
    ) -> None:
        if old and new and old.summary == new.summary:
            return  # its status or metadata only
        selecting = [entry.summary for entry in (old, new) if entry and is_ours(entry.summary)]
        name = next(entry.key.name for entry in (old, new) if entry)
        for node in self._pairing.physical.nodes.store.entries():
            lease = self._pairing.leases.get(node.key.name)
            winner = side(lease).winner if lease else None
            seen = without_own_mark(node.object(), self._pairing.owner.annotation)
            if (winner and winner.name == name) or any(policy.selects(seen) for policy in selecting):
                self._wake(node.key.name)

    def _standing_changed(self, standing: Standing, _: str) -> None:
        """Wake who waited for word of the lender, and who went on under what the virtual node remembers of it."""
        if standing in (Standing.UNREAD, Standing.UNKNOWN):
            return  # what is leased goes on as it was
        for node in self._pairing.physical.nodes.store.entries():
            lease = self._pairing.leases.get(node.key.name)
            recalled = lease is not None and lease.lender.winner is not None and not lease.lender.winner.uid
            if lease is None or recalled:
                self._wake(node.key.name)


def is_for(policy: Policy, pairing: Pairing) -> bool:
    """Tell whether a lender's policy is for this binding."""
    return policy.cluster in {pairing.binding_name, *lender_aliases(pairing.spec.cluster_id)}
