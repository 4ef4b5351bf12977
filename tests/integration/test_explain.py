"""`kubeocean explain pod` on real API servers: one timeline of both clusters, what became of each field, what it waits for."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeocean.kube.resources import CONFIGMAPS, PODS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.federation import (
    Federation,
    Lender,
    build_pod,
    condition,
    eventually,
    for_a_module,
    twin_name,
)
from tests.integration.programs import Program


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    with for_a_module(sandbox, lambda federation: federation.lend(nodes=1)) as lender:
        yield lender


def kubeocean(federation: Federation, *args: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("kubeocean")
    given = [*args, f"--kubeconfig={federation.sandbox.virtual.kubeconfig}"]
    return subprocess.run([program, *given], capture_output=True, text=True, check=False, timeout=60)


def explain(federation: Federation, pod: str) -> dict[str, Any]:
    done = kubeocean(federation, "explain", "pod", pod, "--output=json")
    assert done.returncode == 0, done.stderr
    story: dict[str, Any] = json.loads(done.stdout)
    return story


def naming(config: str) -> list[dict[str, Any]]:
    return [{"name": "main", "image": "busybox", "envFrom": [{"configMapRef": {"name": config}}]}]


async def test_a_pod_that_runs_is_told_from_its_creation_to_ready_with_every_field(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    metadata = {"name": "settings", "namespace": namespace}
    await federation.virtual.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}})
    await federation.virtual.create(PODS, build_pod("web", namespace, lender, containers=naming("settings")))
    await federation.running(namespace, "web")
    story = explain(federation, f"{namespace}/web")
    assert (story["phase"], story["binding"], story["node"]) == ("Running", lender.binding, lender.vnode())
    assert story["twin"] == f"{lender.mount_namespace}/{twin_name('web', namespace)}"
    assert story["waitsFor"] == []
    steps = [step["what"] for step in story["timeline"]]
    in_order = ["created", "scheduled", "twin created", "mapped", "twin scheduled", "started", "ready"]
    assert [step for step in dict.fromkeys(steps) if step in in_order] == in_order
    assert {step["detail"] for step in story["timeline"] if step["what"] == "dependency ready"} >= {
        f"ConfigMap {twin_name('settings', namespace)}"
    }
    assert any(step["detail"].startswith("Secret ") for step in story["timeline"]), "its token"
    timed = [step for step in story["timeline"] if step["at"]]
    assert all(step["secondsAfterTheLast"] is not None and step["secondsAfterTheLast"] >= 0 for step in timed[1:])

    fields = {each["path"]: each for each in story["fields"]}
    assert not story["fieldsAreForecast"]
    assert fields["spec.nodeName"]["fate"] == "rewritten"
    assert (fields["spec.nodeName"]["before"], fields["spec.nodeName"]["after"]) == (lender.vnode(), lender.pool.nodes[0])
    assert fields["spec.nodeSelector"]["fate"] == "dropped"
    assert "virtual scheduler" in fields["spec.nodeSelector"]["why"]
    renamed = fields["spec.containers[main].envFrom[0].configMapRef.name"]
    assert (renamed["fate"], renamed["before"], renamed["after"]) == ("renamed", "settings", twin_name("settings", namespace))
    assert fields["spec.containers[main].image"]["fate"] == "kept"
    assert "lender" in fields["spec.automountServiceAccountToken"]["why"]
    assert fields["spec.containers[main].env[KUBERNETES_SERVICE_HOST]"]["fate"] == "added"
    assert all(each["why"] for each in story["fields"] if each["fate"] != "kept"), "every change has its reason"

    done = kubeocean(federation, "explain", "pod", f"{namespace}/web")
    assert done.returncode == 0, done.stderr
    kept = "kept as they are: containers[main].name"
    for text in (f"Pod {namespace}/web: Running", lender.binding, "twin created", "spec.containers[main].env", kept):
        assert text in done.stdout


async def test_a_pod_that_waits_says_what_for(federation: Federation, lender: Lender, namespace: str) -> None:
    await federation.virtual.create(PODS, build_pod("early", namespace, lender, containers=naming("absent")))

    async def told() -> bool:
        pod = await federation.virtual.get(PODS, "early", namespace)
        return condition(pod, "PhysicalPodCreated").get("reason") == "MandatoryConfigMapNotFound"

    await eventually(told, within=20, what="the Pod waits")
    story = explain(federation, f"{namespace}/early")
    assert story["twin"] == ""
    assert any("ConfigMap" in each and "absent" in each for each in story["waitsFor"]), story["waitsFor"]
    assert story["fieldsAreForecast"]
    fates = {each["path"]: each["fate"] for each in story["fields"]}
    assert fates["spec.containers[main].envFrom[0].configMapRef.name"] == "renamed"

    root = [{"name": "main", "image": "busybox", "securityContext": {"privileged": True}}]
    await federation.virtual.create(PODS, build_pod("root", namespace, lender, containers=root))
    await eventually(
        lambda: "privileged" in str(explain(federation, f"{namespace}/root")["waitsFor"]), within=20, what="the refusal"
    )
    nowhere = build_pod("nowhere", namespace, lender, nodeSelector={"no": "such-node"})
    await federation.virtual.create(PODS, nowhere)
    await eventually(
        lambda: "virtual scheduler" in str(explain(federation, f"{namespace}/nowhere")["waitsFor"]), what="unscheduled"
    )


def test_what_is_mistyped_is_one_clear_line(sandbox: Sandbox) -> None:
    program, kubeconfig = Path(sys.executable).with_name("kubeocean"), f"--kubeconfig={sandbox.virtual.kubeconfig}"
    wide = {**os.environ, "COLUMNS": "200"}
    for pod, says in (("web", "write NAMESPACE/NAME"), ("default/nobody", "there is no Pod default/nobody")):
        argv = [str(program), "explain", "pod", pod, kubeconfig]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=wide)
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr
