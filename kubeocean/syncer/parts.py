"""The controllers of one session and what works beside them: what there is, how it starts, and what wakes all of it at once.

Each looks by itself at what changes. Here is what no change of an object tells: an edited binding, a clock that has stepped,
a physical cluster that answers again.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from kubeocean.kube.controller import Controller
from kubeocean.syncer.bottomup.clockwatch import watch_clock
from kubeocean.syncer.bottomup.csinodes import CsiNodeController
from kubeocean.syncer.bottomup.leases import LeaseKeeper
from kubeocean.syncer.bottomup.lenderpolicies import LenderPolicyController
from kubeocean.syncer.bottomup.nodes import NodeController
from kubeocean.syncer.bottomup.placeholders import PlaceholderController
from kubeocean.syncer.bottomup.policies import PolicyController
from kubeocean.syncer.bottomup.report import BindingReporter
from kubeocean.syncer.bottomup.silence import watch_silence
from kubeocean.syncer.bottomup.twinevents import TwinEvents
from kubeocean.syncer.pairing import Pairing
from kubeocean.syncer.patrol import Patrol
from kubeocean.syncer.pods import PodController
from kubeocean.syncer.topdown.strays import StrayController
from kubeocean.syncer.topdown.tokenkeeper import TokenKeeper
from kubeocean.syncer.topdown.twins import TwinMaker


class _Part(Protocol):
    """A controller, and how it comes to listen."""

    @property
    def controller(self) -> Controller[Any]: ...

    def attach(self) -> None: ...


class Parts:
    """Everything that works on one pairing. `pairing.unbinding` is settled before."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing, self._leases = pairing, LeaseKeeper(pairing)
        self.pods = PodController(pairing)
        self._policies, self._lenders = PolicyController(pairing), LenderPolicyController(pairing)
        self.nodes = NodeController(pairing, self._leases, self._policies.lease_changed, self._lenders.lease_changed)
        self._strays = StrayController(pairing, self.pods.controller.enqueue)
        self._tokens, self._csi_nodes = TokenKeeper(pairing, TwinMaker(pairing)), CsiNodeController(pairing)
        self._listening: list[_Part] = [
            self.nodes, self.pods, self._policies, self._lenders, self._strays, self._tokens, PlaceholderController(pairing),
        ]

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Have all of it listen and work, in tasks of their own."""
        pairing, pods, name = self._pairing, self.pods, self._pairing.binding_name
        for part in self._listening:
            part.attach()
            tasks.create_task(part.controller.run(), name=part.controller.name)
        for source in pods.dependencies.sources:
            tasks.create_task(source.run(), name=source.name)
        for gate in pods.dependencies.gates:
            tasks.create_task(gate.run(), name=gate.name)
        self._csi_nodes.attach()
        patrol = Patrol(pairing, pods, self._strays, self.nodes)
        twin_events = TwinEvents(pairing, pods_wait=lambda: len(pods.controller.queue) > 0)
        for work, title in (
            (patrol.run(), patrol.name), (twin_events.run(), twin_events.name),
            (self._csi_nodes.run(), self._csi_nodes.controller.name),
            (self.nodes.reclaim.controller.run(), self.nodes.reclaim.controller.name),
            (watch_clock(pairing.clock, self.look_again), f"clock of {name}"),
            (watch_silence(pairing, self.enqueue_all), f"silence of {name}"),
            (self._leases.run(), f"leases of {name}"), (BindingReporter(pairing).run(), f"report of {name}"),
        ):
            tasks.create_task(work, name=title)

    def enqueue_all(self) -> None:
        """Look at every node and every Pod again."""
        self.nodes.enqueue_all()
        self.pods.enqueue_all()

    def spec_changed(self) -> None:
        """Take notice that the binding's spec is another."""
        self.enqueue_all()
        for gate in self.pods.dependencies.gates:
            gate.spec_changed()

    def reachability_changed(self, reachable: bool) -> None:
        """Tell it on the nodes; when the physical cluster answers again, have tried anew whatever it kept from succeeding."""
        self.nodes.enqueue_all()
        if reachable:
            self.nodes.reclaim.controller.hasten()
            for part in self._listening:
                part.controller.hasten()
            for controller in self.pods.dependencies.controllers:
                controller.hasten()

    def look_again(self) -> None:
        """Decide everything anew that depends on the time."""
        self.nodes.enqueue_all()
        self._tokens.look_again()
        for entry in self._pairing.virtual.policies.store.entries():
            self._policies.controller.enqueue(entry.key.name)
        for policy in self._pairing.physical.lender.entries():
            self._lenders.controller.enqueue(policy.key.name)
