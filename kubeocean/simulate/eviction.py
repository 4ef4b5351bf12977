"""Who has to leave at the next closing, node by node: the forecast of `domain.forecast` for a whole world."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kubeocean.domain.forecast import Forecast, forecast
from kubeocean.domain.naming import vnode_name
from kubeocean.kube.meta import name_of
from kubeocean.simulate.schedule import Week, facts_of
from kubeocean.simulate.world import World


@dataclass(frozen=True, slots=True)
class NodeForecast:
    """What happens to the Pods of one virtual node."""

    vnode: str
    forecast: Forecast


def forecast_evictions(world: World, week: Week, *, now: datetime) -> list[NodeForecast]:
    """Return what happens to the Pods of every virtual node that has any. `now`: when the world was seen as it is."""
    found = []
    for node in world.nodes:
        vnode = vnode_name(world.binding.cluster_id, name_of(node))
        if pods := world.pods.get(vnode):
            facts = facts_of(world, week, node, now)
            found.append(NodeForecast(vnode, forecast(facts, pods, week.begin, week.end)))
    return found
