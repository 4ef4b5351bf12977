"""The random walk of tests/integration/test_oracle.py without servers: the pure decisions against the oracle, at full speed.

`World` and `drawing` are the same; in place of clusters and a syncer stand plain objects and one pass over every node.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from kubeocean.api.binding import parse_binding
from kubeocean.domain.leasing import LeaseFacts, assess
from kubeocean.domain.lender import LenderView
from kubeocean.domain.policies import read_lender_policy, read_policy
from kubeocean.domain.requests import pod_requests, sum_requests
from kubeocean.domain.takeback import stand
from kubeocean.domain.vnode import VnodeFacts, build_vnode
from kubeocean.kube.meta import Json
from tests.integration import drawing
from tests.oracle.judgement import Physical, Record, World, differences, judge

START, STEPS, NODES = datetime(2026, 3, 28, 12, tzinfo=UTC), 40, [f"node-{number}" for number in range(1, 5)]
WHOLE = {"cpu": "8", "memory": "32Gi", "pods": "110", "example.com/gpu": "8", "ephemeral-storage": "100Gi"}
BORROWER, LENDER = 0, 1
CALLED = (("lender",), ("lender", "c1", "*", ""))  # by the borrower, by the lender


class Walk:
    """One binding, four nodes, and the policies of both sides, at random."""

    def __init__(self, seed: int) -> None:
        self.rng, self.now, self.done = Random(seed), START, f"seed {seed}"
        self.nodes = {name: self.build_node(name) for name in NODES}
        self.pods = [drawing.draw_pod(self.rng, f"foreign-{number}", self.rng.choice(NODES)) for number in range(20)]
        self.binding: Json = {"metadata": {"name": "lender"}, "spec": {
            "clusterID": "c1", "secretRef": {"name": "a", "namespace": "b"}, "mountNamespace": "m",
        }}
        self.policies: tuple[dict[str, Json], dict[str, Json]] = ({}, {})
        self.made = 0
        self.vnodes: dict[str, Json] = {}
        self.records: dict[str, Record] = {}

    def build_node(self, name: str) -> Json:
        metadata = {"name": name, "uid": f"uid-{name}", "labels": drawing.draw_labels(self.rng)}
        return {"metadata": metadata, "spec": {}, "status": {"allocatable": WHOLE}}

    def step(self) -> None:
        changes: tuple[Callable[[], None], ...] = (self.create, self.edit, self.spoil, self.delete, self.bind)
        step = self.rng.choice((self.wait, self.wait, *changes))
        self.done = f"{self.done}, {step.__name__}"
        step()

    def wait(self) -> None:
        self.now += timedelta(minutes=self.rng.randint(20, 200), seconds=self.rng.randint(0, 59))

    def create(self) -> None:
        side = self.rng.choice((BORROWER, LENDER))
        if len(self.policies[side]) < 4:
            self.made += 1
            created = (START + timedelta(seconds=self.made // 2)).strftime("%Y-%m-%dT%H:%M:%SZ")  # two of each age
            name = f"policy-{self.made}"
            metadata = {"name": name, "uid": name, "creationTimestamp": created}
            self.policies[side][name] = {"metadata": metadata, "spec": self.draw_spec(side)}
            if self.rng.random() < 0.2:
                self.spoil_one(side, name)

    def edit(self) -> None:
        for side, name in self.draw_policy():
            self.policies[side][name] = {**self.policies[side][name], "spec": self.draw_spec(side)}

    def spoil(self) -> None:
        for side, name in self.draw_policy():
            self.spoil_one(side, name)

    def spoil_one(self, side: int, name: str) -> None:
        policy = self.policies[side][name]
        self.policies[side][name] = {**policy, "spec": drawing.spoil(self.rng, policy["spec"], checked=side == BORROWER)}

    def delete(self) -> None:
        for side, name in self.draw_policy():
            del self.policies[side][name]

    def bind(self) -> None:
        selector = drawing.draw_selector(self.rng, NODES) if self.rng.random() < 0.5 else None
        self.binding = {**self.binding, "spec": {**self.binding["spec"], "nodeSelector": selector}}

    def draw_spec(self, side: int) -> Json:
        return drawing.draw_policy(self.rng, self.rng.choice(CALLED[side]), NODES)

    def draw_policy(self) -> list[tuple[int, str]]:
        known = [(side, name) for side in (BORROWER, LENDER) for name in self.policies[side]]
        return [self.rng.choice(known)] if known else []

    # --- both answers ------------------------------------------------------------------------------------------------
    def compare(self) -> None:
        ours, theirs = (list(policies.values()) for policies in self.policies)
        physical = Physical(list(self.nodes.values()), self.pods, theirs)
        expected = judge(World("uid", [self.binding], ours, {"lender": physical}), self.now, self.records)
        self.vnodes = {name: vnode for name in NODES if (vnode := self.pass_over(name))}
        different = differences(expected, list(self.vnodes.values()))
        assert not different, f"{self.done}\n{self.now}: {different[0]}"
        self.records = {name: verdict[1] for name, verdict in expected.items() if verdict}

    def pass_over(self, name: str) -> Json | None:
        """Return the virtual node as the syncer would make it."""
        existing, spec, node = self.vnodes.get(name), parse_binding(self.binding), self.nodes[name]
        lease = assess(LeaseFacts(
            physical=node, existing=existing, binding_name="lender", binding=spec,
            policies=[read_policy(policy) for policy in self.policies[BORROWER].values()],
            foreign=sum_requests(pod_requests(pod) for pod in self.pods if pod["spec"]["nodeName"] == name), now=self.now,
            lender=LenderView([read_lender_policy(policy) for policy in self.policies[LENDER].values()]),
        ))
        if not lease.decision.leasable:
            return None
        situation, ours, theirs = stand(lease, existing, [], self.now), lease.remembered, lease.lender_remembered
        return build_vnode(VnodeFacts(
            physical=node, existing=existing, binding_name="lender", spec=spec, capacity=lease.capacity.resources,
            policy_name=lease.policies_applied, policy_details=lease.policy_details, window_open=lease.window.open,
            force_reclaim_now=situation.forced, unreachable=False, deleting=False, proxier_address="127.0.0.1", port=10250,
            last_valid_policy=ours.text() if ours else "", last_valid_lender_policy=theirs.text() if theirs else "",
            closed_at=situation.closing.text, conditions=situation.conditions,
        ))


@pytest.mark.parametrize("seed", [3, 15, 51, 109])
def test_step_by_step_both_say_the_same(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(STEPS):
        walk.step()
        walk.compare()
