"""A random walk through a day of leases on real control planes; after every step the virtual nodes are what the oracle says.

What is drawn depends on the seed alone, never on what the clusters answer, so a seed tells the same story again. Each round of
twenty steps deals every kind of step at least once. What the oracle judges is read from the API servers as it is.

The clock of leases is stepped, not raced: the manager runs with `--clock-file`, and a step of time puts it into the middle of
somewhere, or to a moment before the edge of a window, and lets it run across.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import NODES, PODS
from tests.integration import drawing
from tests.integration.federation import eventually
from tests.integration.lenderside import LenderSide, in_batches, remove
from tests.oracle.judgement import Physical, Record, Verdict, View, World, differences, judge

START, LENGTH = datetime(2026, 3, 28, 12, tzinfo=UTC), timedelta(days=1)  # Europe's clocks go forward in that night
BEFORE_EDGE = timedelta(seconds=1.5)  # time for the clock's step to be noticed; the edge then comes by itself
STEADY = 0.3  # seconds after which everything has to be as it was
BORROWER = 2  # the side of policies in the virtual cluster; 0 and 1 are those in the physical ones
UNCHECKED_SIDE = 1  # its CRD lets everything through
FIRST = {(BORROWER, "policy-1"), (BORROWER, "policy-2")}
DECK = ("time",) * 6 + ("edit",) * 3 + ("nodes", "pods", "create", "delete") * 2 + ("spoil", "replace", "binding")


@dataclass(frozen=True)
class Scale:
    """How far to go: nodes per cluster, foreign Pods in all, steps."""

    nodes: int
    pods: int
    steps: int
    seed: int


class SteppedClock:
    """The clock of leases, set through the file that the manager looks at."""

    def __init__(self, file: Path) -> None:
        self.file, self._ahead = file, timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def set(self, instant: datetime) -> None:
        self._ahead = instant - datetime.now(UTC)
        fresh = self.file.with_suffix(".new")
        fresh.write_text(str(self._ahead.total_seconds()))
        os.replace(fresh, self.file)


class Walk:
    """The walk. `story` tells what was done so far."""

    def __init__(
        self, scale: Scale, rng: Random, clock: SteppedClock, virtual: Client, virtual_uid: str, lenders: list[LenderSide]
    ) -> None:
        self.scale, self.story = scale, [f"seed {scale.seed}"]
        self._rng, self._clock = rng, clock
        self._virtual, self._virtual_uid, self._lenders = virtual, virtual_uid, lenders
        self._policies: dict[tuple[int, str], Json] = {}  # the last valid spec of what there is, by side and name
        self._spoilt: set[tuple[int, str]] = set()  # those that are invalid now
        self._last = (-1, "")  # the policy written last: perhaps without visible effect, so nobody knows if it was noticed
        self._made = 0
        self._deck: list[str] = []
        self._records: dict[str, Record] = {}

    # --- walking -----------------------------------------------------------------------------------------------------
    async def prepare(self) -> None:
        """Have nodes of different kinds with foreign Pods on them, and a policy for each binding."""
        for lender in self._lenders:
            await in_batches(lender.relabel(node) for node in lender.nodes)
            await lender.add_pods(self.scale.pods // 2)
            await self._write_policy(BORROWER, {"cluster": lender.binding, "timeWindows": [drawing.draw_window(self._rng)]})
        for side, lender in enumerate(self._lenders):
            await self._write_policy(side, drawing.draw_policy(self._rng, "*", lender.nodes))
        await self._check("at the beginning")

    async def step(self) -> None:
        """Take one step, and see that everything becomes as the oracle says."""
        if not self._deck:
            self._deck = self._rng.sample(DECK, len(DECK))
        steps: dict[str, Callable[[], Awaitable[str]]] = {
            "time": self._pass_time, "create": self._create_policy, "edit": self._edit_policy, "delete": self._delete_policy,
            "spoil": self._spoil_policy, "pods": self._change_pods, "nodes": self._change_nodes,
            "replace": self._replace_nodes, "binding": self._change_binding,
        }
        done = await steps[self._deck.pop()]()
        await self._check(f"{len(self.story) - 1}. {self._clock.now():%a %H:%M:%S} {done}")

    async def _check(self, what: str) -> None:
        """Wait until the virtual nodes equal the oracle's, and see that they stay so."""
        self.story.append(what)
        await eventually(self._compare, within=10 + self.scale.nodes / 2, what="\n".join(self.story))
        await asyncio.sleep(STEADY)
        verdicts = await eventually(self._compare, within=5, what="\n".join([*self.story, "and then"]))
        self._records = {name: record for name, (_, record) in verdicts.items()}
        self.story[-1] += f" -> {tell_shares([view for view, _ in verdicts.values()])}"

    async def _compare(self) -> dict[str, Verdict]:
        """Return what the oracle says of the virtual nodes that there are."""
        world = await self._read()
        expected = judge(world, self._clock.now(), self._records)
        different = differences(expected, (await self._virtual.list(NODES)).items)
        assert not different, f"{len(different)} of {len(expected)} nodes differ, the first is {different[0]}"
        return {name: verdict for name, verdict in expected.items() if verdict}

    async def _read(self) -> World:
        physical = {}
        for lender in self._lenders:
            nodes, pods, policies = await asyncio.gather(
                lender.client.list(NODES), lender.client.list(PODS), lender.client.list(RESOURCELEASINGPOLICIES)
            )
            physical[lender.binding] = Physical(nodes.items, pods.items, policies.items)
        bindings = await self._virtual.list(CLUSTERBINDINGS)
        policies = await self._virtual.list(RESOURCELEASINGPOLICIES)
        return World(self._virtual_uid, bindings.items, policies.items, physical)

    # --- time --------------------------------------------------------------------------------------------------------
    async def _pass_time(self) -> str:
        now, stride = self._clock.now(), LENGTH / (self.scale.steps * DECK.count("time") / len(DECK))
        specs = [self._policies[key] for key in sorted(self._policies)]
        edges = [edge for edge in drawing.edges_after(specs, now) if now + stride / 2 < edge < now + stride * 1.5]
        if edges and self._rng.random() < 0.6:
            edge = self._rng.choice(edges)
            self._clock.set(edge - BEFORE_EDGE)
            await asyncio.sleep(BEFORE_EDGE.total_seconds())
            return f"the clock has run across {edge:%H:%M}"
        self._clock.set(now + stride * self._rng.uniform(0.7, 1.3))
        return f"the clock is set, from {now:%H:%M:%S}"

    # --- policies ----------------------------------------------------------------------------------------------------
    async def _create_policy(self) -> str:
        side, cluster, lender = self._draw_side()
        spec = drawing.draw_policy(self._rng, cluster, lender.nodes)
        written = self._spoil(side, spec) if self._rng.random() < 0.2 else spec
        name = await self._write_policy(side, spec, written)
        return f"{tell(side)} creates {name}: {written}"

    async def _edit_policy(self) -> str:
        mended = self._spoilt if self._rng.random() < 0.6 else set()
        side, name = self._rng.choice(sorted(mended or self._policies))
        _, cluster, lender = self._draw_side(side)
        spec = drawing.draw_policy(self._rng, cluster, lender.nodes)
        await self._write_policy(side, spec, spec, name=name)
        return f"{tell(side)} edits {name}: {spec}"

    async def _spoil_policy(self) -> str:
        side, name = self._rng.choice(sorted(self._policies.keys() - {self._last}))
        spec = self._policies[side, name]
        written = self._spoil(side, spec)
        await self._write_policy(side, spec, written, name=name)
        return f"{tell(side)} makes {name} invalid: {written}"

    async def _delete_policy(self) -> str:
        side, name = self._rng.choice(sorted(self._policies))
        if (side, name) in FIRST:
            return await self._create_policy()  # each binding keeps one of its own, or there would soon be little to see
        del self._policies[side, name]
        self._spoilt.discard((side, name))
        client = self._client(side)
        await remove(client, RESOURCELEASINGPOLICIES, await client.get(RESOURCELEASINGPOLICIES, name))
        return f"{tell(side)} deletes {name}"

    def _draw_side(self, side: int | None = None) -> tuple[int, str, LenderSide]:
        """Return a side, whom a policy there is for, and whose nodes that are."""
        side = self._rng.choice((0, 1, BORROWER, BORROWER)) if side is None else side
        lender = self._rng.choice(self._lenders) if side == BORROWER else self._lenders[side]
        called = [lender.binding] if side == BORROWER else [lender.binding, lender.cluster_id, "*"]
        return side, self._rng.choice(called + [""] * (side == UNCHECKED_SIDE)), lender

    def _spoil(self, side: int, spec: Json) -> Json:
        return drawing.spoil(self._rng, spec, checked=side != UNCHECKED_SIDE)

    async def _write_policy(self, side: int, spec: Json, written: Json | None = None, *, name: str = "") -> str:
        """Create a policy, or edit the one of that name; `spec` is its last valid one, if that is not `written`."""
        client, written = self._client(side), written or spec
        if name:
            whole = {key: written.get(key) for key in drawing.FIELDS}
            await client.patch(RESOURCELEASINGPOLICIES, name, "", {"spec": whole})
        else:
            self._made += 1
            name = f"policy-{self._made}"
            await client.create(RESOURCELEASINGPOLICIES, {
                "apiVersion": RESOURCELEASINGPOLICIES.api_version, "kind": "ResourceLeasingPolicy", "metadata": {"name": name},
                "spec": written,
            })
        key = (side, name)
        self._policies[key], self._last = spec, key
        if written == spec:
            self._spoilt.discard(key)
        else:
            self._spoilt.add(key)
        return name

    def _client(self, side: int) -> Client:
        return self._virtual if side == BORROWER else self._lenders[side].client

    # --- everything else ---------------------------------------------------------------------------------------------
    async def _change_pods(self) -> str:
        return "; ".join([await lender.change_pods() for lender in self._lenders])

    async def _change_nodes(self) -> str:
        return "; ".join([await lender.change_nodes() for lender in self._lenders])

    async def _replace_nodes(self) -> str:
        return await self._rng.choice(self._lenders).replace_nodes()

    async def _change_binding(self) -> str:
        lender = self._rng.choice(self._lenders)
        selector = drawing.draw_selector(self._rng, lender.nodes) if self._rng.random() < 0.5 else None
        await self._virtual.patch(CLUSTERBINDINGS, lender.binding, "", {"spec": {"nodeSelector": selector}})
        return f"{lender.binding} is for {selector}"


def tell_shares(views: list[View]) -> str:
    shut = [view for view in views if view.out_of_window]
    forced = sum("NoExecute" in view.out_of_window for view in shut)
    return f"{len(views)} leased, {len(shut)} of them shut, {forced} by force"


def tell(side: int) -> str:
    return "the borrower" if side == BORROWER else f"lender {side + 1}"
