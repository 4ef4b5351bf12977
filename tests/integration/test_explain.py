"""`kubeocean explain pod` on real API servers: one timeline of both clusters, what became of each field, what it waits for."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeocean.kube.meta import parse_time
from kubeocean.kube.resources import CONFIGMAPS, PODS, SECRETS
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


async def make_settings(federation: Federation, namespace: str) -> None:
    metadata = {"name": "settings", "namespace": namespace}
    await federation.virtual.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}})


def naming(config: str) -> list[dict[str, Any]]:
    return [{"name": "main", "image": "busybox", "envFrom": [{"configMapRef": {"name": config}}]}]


async def test_a_pod_that_runs_is_told_from_its_creation_to_ready_with_every_field(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    await make_settings(federation, namespace)
    await federation.virtual.create(PODS, build_pod("web", namespace, lender, containers=naming("settings")))
    await federation.running(namespace, "web")
    story = explain(federation, f"{namespace}/web")
    assert (story["phase"], story["binding"], story["node"]) == ("Running", lender.binding, lender.vnode())
    assert story["twin"] == f"{lender.mount_namespace}/{twin_name('web', namespace)}"
    assert story["waitsFor"] == []
    assert_a_life_in_order(story["timeline"])
    needed = [step["detail"] for step in story["timeline"] if step["what"] == "dependency ready"]
    assert f"ConfigMap {twin_name('settings', namespace)}" in needed
    assert any(each.startswith("Secret ") for each in needed), "its token"

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


def assert_a_life_in_order(timeline: list[dict[str, Any]]) -> None:
    steps = [step["what"] for step in timeline]
    in_order = [
        "created", "scheduled", "dependency ready", "twin created", "mapped", "twin scheduled", "accepted by the kubelet",
        "started", "ready", "ready in the virtual cluster",
    ]
    assert list(dict.fromkeys(steps)) == in_order
    timed = [step for step in timeline if step["at"]]
    moments = [parse_time(step["at"]) for step in timed]
    assert timed[0]["secondsAfterTheLast"] is None
    for step, before, now in zip(timed[1:], moments, moments[1:], strict=False):
        assert step["secondsAfterTheLast"] == (now - before).total_seconds()


async def test_what_another_pod_needed_long_before_does_not_precede_a_pods_life(
    federation: Federation, lender: Lender, namespace: str
) -> None:
    await make_settings(federation, namespace)
    await federation.virtual.create(PODS, build_pod("early", namespace, lender, containers=naming("settings")))
    await federation.running(namespace, "early")
    await asyncio.sleep(2)  # API servers write times in whole seconds
    late = await federation.virtual.create(PODS, build_pod("late", namespace, lender, containers=naming("settings")))
    await federation.running(namespace, "late")
    timeline = explain(federation, f"{namespace}/late")["timeline"]
    assert_a_life_in_order(timeline)
    assert timeline[0]["at"] == late["metadata"]["creationTimestamp"]
    assert any(f"{twin_name('settings', namespace)}, there since" in step["detail"] for step in timeline)


async def test_without_the_physical_side_the_virtual_one_is_told_and_what_is_in_the_way(
    federation: Federation, namespace: str
) -> None:
    lender = await federation.lend()
    await federation.virtual.create(PODS, build_pod("web", namespace, lender))
    await federation.running(namespace, "web")
    secret = await federation.virtual.get(SECRETS, lender.secret, "default")
    await federation.virtual.patch(SECRETS, lender.secret, "default", {"data": {"kubeconfig": "bm9uZQ=="}})
    try:
        done = kubeocean(federation, "explain", "pod", f"{namespace}/web", "--output=json")
        assert done.returncode == 0, done.stderr
        story = json.loads(done.stdout)
        assert f"Secret default/{lender.secret}" in story["trouble"]
        assert [step["what"] for step in story["timeline"]][:2] == ["created", "scheduled"]
        assert story["waitsFor"] == [], "nothing is claimed of what was not seen"
    finally:
        await federation.virtual.patch(SECRETS, lender.secret, "default", {"data": secret["data"]})


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
