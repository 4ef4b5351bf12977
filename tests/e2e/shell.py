"""The Pods that kubectl reaches into.

`shell` has every kind of container, `looked-at` gets ephemeral ones, `stuck` never starts.
"""

from __future__ import annotations

from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import PODS
from tests.integration.federation import Lender, build_pod, eventually, is_running

IMAGE = "kubeocean.test/toolbox:1"
PORTS = (8080, 8081, 8082)
CLOSED_PORT = 9999
_UNSTEADY = "if [ -f /life/first ]; then echo second life; exec sleep 3600; fi; touch /life/first; echo first life; exit 1"
_CONTAINERS = {
    "main": "for n in $(seq 20); do echo line $n; done; echo a complaint >&2; touch /tmp/said; exec tail -f /tmp/said",
    "unsteady": _UNSTEADY,
    "listener": "while read line; do echo heard $line; done",
    **{f"web-{port}": f"exec toolbox serve -http :{port}" for port in PORTS},
}


def build_shell(namespace: str, lender: Lender) -> Json:
    containers = [
        {
            "name": name, "image": IMAGE, "command": ["sh", "-c", command],
            "volumeMounts": [{"name": "life", "mountPath": "/life"}], "stdin": name == "listener",
        } for name, command in _CONTAINERS.items()
    ]
    setup = {"name": "setup", "image": IMAGE, "command": ["sh", "-c", "echo setting up; echo done"]}
    return build_pod(
        "shell", namespace, lender, containers=containers, initContainers=[setup], terminationGracePeriodSeconds=0,
        volumes=[{"name": "life", "emptyDir": {}}],
    )


def build_looked_at(namespace: str, lender: Lender) -> Json:
    container = {
        "name": "main", "image": IMAGE, "command": ["sleep", "36000"], "env": [{"name": "SECRET", "value": "visible"}],
    }
    return build_pod("looked-at", namespace, lender, containers=[container], terminationGracePeriodSeconds=0)


def build_stuck(namespace: str, lender: Lender) -> Json:
    container = {"name": "main", "image": "kubeocean.test/nosuch:1", "imagePullPolicy": "Never"}
    return build_pod("stuck", namespace, lender, containers=[container], terminationGracePeriodSeconds=0)


async def set_up(client: Client, namespace: str, lender: Lender) -> None:
    """Create them and wait until there is everything to see."""
    for build in (build_shell, build_looked_at, build_stuck):
        await client.create(PODS, build(namespace, lender))

    async def settled() -> bool:
        found = [await client.get(PODS, name, namespace) for name in ("shell", "looked-at", "stuck")]
        shell, looked_at, stuck = [pod["status"] for pod in found]
        assert is_running(found[1]), looked_at
        states = {each["name"]: each for each in shell.get("containerStatuses") or ()}
        assert states, shell
        assert all("running" in each["state"] for each in states.values()), states
        assert states["unsteady"]["restartCount"] == 1, states["unsteady"]
        waiting = (stuck.get("containerStatuses") or [{}])[0].get("state", {}).get("waiting") or {}
        assert waiting.get("reason") == "ErrImageNeverPull", stuck
        return True

    await eventually(settled, within=60, what="the Pods are as they are to be")
