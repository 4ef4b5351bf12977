"""What the random walk against the oracle may come up with: policies, foreign Pods, selectors, edges of windows. Pure."""

from datetime import datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

Json = dict[str, Any]
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
DAYS = ("Monday", "tuesday", "WEDNESDAY", "Thursday", "Friday", "Saturday", "sunday")
LIMITED = ("cpu", "memory", "pods", "example.com/gpu", "ephemeral-storage")
QUANTITIES: dict[str, tuple[str | int, ...]] = {
    "cpu": (0, 1, "2500m", "3.25", 7), "memory": (0, "4Gi", "20e9", "1.5Gi", "9000M"), "pods": (0, 7, "60"),
    "example.com/gpu": (0, 1, "3"), "ephemeral-storage": (0, "10Gi", "50G"),
}
OTHER_BORROWER = {"kubeocean.io/managed-by": "kubeocean", "kubeocean.io/owner": "f" * 16}
OVERHEAD_CLASS = "boxed"  # a RuntimeClass whose Pods cost something beside their containers
ANOTHERS_TAINT: Json = {"key": "kubeocean.io/out-of-time-windows", "value": "true", "effect": "NoSchedule"}
FIELDS = (  # of a policy, so that an edit can take those away that it does not set
    "cluster", "nodeSelector", "timeWindows", "resourceLimits", "forceReclaim", "gracefulReclaimPeriodSeconds", "priority",
    "timeZone",
)
# What no policy can mean. Our CRD cannot tell a zone that does not exist; the Go project's lets everything through.
UNKNOWN_ZONE: Json = {"timeZone": "Mars/Phobos"}
UNCHECKED: tuple[Json, ...] = (
    UNKNOWN_ZONE,
    {"timeWindows": [{"start": "25:00", "end": "06:00"}]},
    {"timeWindows": [{"start": "08:00", "end": "09:00", "days": ["Someday"]}]},
    {"resourceLimits": [{"resource": "cpu", "percent": 150}]},
    {"resourceLimits": [{"resource": "cpu", "quantity": "lots"}]},
)


def draw_labels(rng: Random) -> dict[str, str]:
    return {"zone": rng.choice("abc"), "tier": str(rng.randint(1, 9))}


def draw_selector(rng: Random, nodes: list[str]) -> Json:
    """Return a node selector that means some of `nodes`, which carry the labels of `draw_labels`."""
    def term() -> Json:
        asked: list[Json] = [
            {"key": "zone", "operator": rng.choice(("In", "NotIn")), "values": rng.sample("abc", rng.randint(1, 2))},
            {"key": "tier", "operator": rng.choice(("Gt", "Lt")), "values": [str(rng.randint(2, 8))]},
            {"key": "zone", "operator": "Exists"},
            {"key": "quarantine", "operator": "DoesNotExist"},
        ]
        if rng.random() < 0.2:
            one = [rng.choice(nodes)]
            return {"matchFields": [{"key": "metadata.name", "operator": rng.choice(("In", "NotIn")), "values": one}]}
        return {"matchExpressions": rng.sample(asked, rng.randint(1, 2))}

    return {"nodeSelectorTerms": [term() for _ in range(rng.randint(1, 3))]}


def draw_policy(rng: Random, cluster: str, nodes: list[str]) -> Json:
    """Return the valid spec of a policy."""
    spec: Json = {"cluster": cluster, "priority": rng.choice((0, 0, 0, 1, 2, -1))}
    if rng.random() < 0.5:
        spec["nodeSelector"] = draw_selector(rng, nodes)
    if rng.random() < 0.5:
        spec["timeWindows"] = [draw_window(rng) for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.5:
        spec["timeZone"] = rng.choice(ZONES)
    if rng.random() < 0.7:
        spec["resourceLimits"] = [draw_limit(rng) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.4:
        spec |= {"forceReclaim": True, "gracefulReclaimPeriodSeconds": rng.choice((0, 0, 1800, 7200))}
    return spec


def draw_window(rng: Random) -> Json:
    """Return a window of 4 to 18 hours, or now and then one of a minute."""
    start = rng.randrange(0, 24 * 60, 5)
    length = rng.randrange(4 * 60, 18 * 60) if rng.random() < 0.9 else 0
    window: Json = {"start": clock(start), "end": clock(start + length)}
    if rng.random() < 0.3:
        window["days"] = rng.sample(DAYS, rng.randint(3, 6))
    return window


def clock(minutes: int) -> str:
    return f"{minutes // 60 % 24:02}:{minutes % 60:02}"


def draw_limit(rng: Random) -> Json:
    limit: Json = {"resource": rng.choice(LIMITED)}
    if rng.random() < 0.6:
        limit["percent"] = rng.choice((0, 10, 33, 50, 67, 90, 100))
    if rng.random() < 0.6:
        limit["quantity"] = rng.choice(QUANTITIES[limit["resource"]])
    return limit


def spoil(rng: Random, spec: Json, *, checked: bool) -> Json:
    """Return what becomes of a valid spec that is edited badly; `checked` is whether a CRD of ours looks at it.

    Its selector and priority stay legible, and its limits change too: nothing of that may come into force.
    """
    return {**spec, "resourceLimits": [draw_limit(rng)], **(UNKNOWN_ZONE if checked else rng.choice(UNCHECKED))}


def draw_pod(rng: Random, name: str, node: str) -> Json:
    """Return a foreign Pod bound to `node`: what it asks for takes all forms there are."""
    containers: list[Json] = [draw_container(rng, f"c{number}") for number in range(rng.choice((1, 1, 2)))]
    spec: Json = {"nodeName": node, "containers": containers, "terminationGracePeriodSeconds": 0}
    labels = dict(OTHER_BORROWER) if rng.random() < 0.1 else {}
    if rng.random() < 0.3:
        spec["initContainers"] = [draw_container(rng, "init", wide=True)]
        if rng.random() < 0.5:
            sidecar = {**draw_container(rng, "sidecar"), "restartPolicy": "Always"}
            spec["initContainers"].insert(rng.randint(0, 1), sidecar)
    if rng.random() < 0.1:
        spec["runtimeClassName"] = OVERHEAD_CLASS
    elif rng.random() < 0.1:
        spec["resources"] = {"requests": {"cpu": "4", "memory": "9Gi"}}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": labels}, "spec": spec,
    }


def draw_container(rng: Random, name: str, *, wide: bool = False) -> Json:
    requests = {"cpu": rng.choice(("1500m", "2") if wide else ("10m", "0.1", "250m", "333m", "1"))}
    if rng.random() < 0.7:
        requests["memory"] = rng.choice(("64Mi", "100M", "1Gi", "1e8", "0.3Gi"))
    resources: Json = {"requests": requests}
    if rng.random() < 0.1:
        requests["example.com/gpu"] = "1"
        resources["limits"] = {"example.com/gpu": "1"}
    return {"name": name, "image": "busybox", "resources": resources}


def edges_after(specs: list[Json], now: datetime) -> list[datetime]:
    """Return the instants within a day after `now` at which a window of a policy begins or is over, in their order."""
    edges = set()
    for spec in specs:
        tz = ZoneInfo(spec.get("timeZone") or "UTC")
        today = now.astimezone(tz).replace(second=0, microsecond=0)
        for window in spec.get("timeWindows") or []:
            for text, later in ((window["start"], 0), (window["end"], 1)):  # the end minute is inside
                hour, minute = map(int, text.split(":"))
                for days in (0, 1):
                    wall = today.replace(hour=hour, minute=minute) + timedelta(days=days)
                    edges.add(wall.astimezone(ZoneInfo("UTC")) + timedelta(minutes=later))
    return sorted(edge for edge in edges if now < edge < now + timedelta(days=1))
