"""What metrics-server makes of a kubelet's /metrics/resource: its rules, read by another parser.

Checked against the source of v0.9.0: pkg/scraper/client/resource/decode.go (which samples, what makes a node or Pod
incomplete) and pkg/storage/{pod,types}.go (usage from two samples). Two differences, both stricter: there a sample without a
time counts as of now, while ours must have one; and a container that is younger than one round is there measured from its
start, out of a single sample. `tests/integration/test_node_figures.py` asks the real one.
"""

from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

_FIELDS = {"cpu_usage_seconds_total": "cpu", "memory_working_set_bytes": "memory", "start_time_seconds": "start"}
_READ = {"node": ("cpu", "memory"), "container": ("cpu", "memory", "start")}


@dataclass
class Point:
    time: float = 0.0
    cpu: float = 0.0  # seconds
    memory: float = 0.0
    start: float = 0.0

    @property
    def complete(self) -> bool:
        return self.time > 0 and int(self.cpu * 1e9) > 0 and int(self.memory) > 0


@dataclass
class Scrape:
    node: Point | None = None
    pods: dict[tuple[str, str], dict[str, Point]] = field(default_factory=dict)


def read_resource_metrics(text: str) -> Scrape:
    """Return the node, None if it is incomplete, and by namespace and name the containers of every complete Pod."""
    node, pods = Point(), dict[tuple[str, str], dict[str, Point]]()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            what, _, measure = sample.name.partition("_")
            if _FIELDS.get(measure) not in _READ.get(what, ()):
                continue
            labels = sample.labels
            point = node if what == "node" else (
                pods.setdefault((labels["namespace"], labels["pod"]), {}).setdefault(labels["container"], Point())
            )
            setattr(point, _FIELDS[measure], sample.value)
            if measure != "start_time_seconds":
                assert sample.timestamp is not None, f"{sample.name} has no time"
                point.time = float(sample.timestamp)
    complete = {pod: points for pod, points in pods.items() if all(point.complete for point in points.values())}
    return Scrape(node if node.complete else None, complete)


def cores(before: Point, after: Point) -> float | None:
    """Return the usage that `kubectl top` would show, None when two samples do not tell any."""
    restarted = after.start and after.start >= before.time
    if after.time <= before.time or restarted or after.start < before.start or after.cpu < before.cpu:
        return None
    return (after.cpu - before.cpu) / (after.time - before.time)
