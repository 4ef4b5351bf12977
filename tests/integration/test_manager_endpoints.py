"""/healthz, /readyz and /metrics of a manager at work: what a kubelet asks, and what dashboards know by name."""

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kubeocean.kube.resources import PODS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.credentials import kubeconfig_of
from tests.integration.federation import Federation, Lender, Pool, build_pod, eventually, for_a_module
from tests.integration.programs import Program

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def lender(sandbox: Sandbox, manager: Program) -> Iterator[Lender]:
    limits = {"resourceLimits": [{"resource": "cpu", "percent": 50}, {"resource": "memory", "quantity": "1Gi"}]}
    with for_a_module(sandbox, lambda federation: federation.lend(nodes=2, policy=limits)) as lender:
        yield lender


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scrape(manager: Program) -> Samples:
    status, text = fetch(f"http://{manager.metrics}/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text) for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    key = (name, tuple(sorted(labels.items())))
    assert key in samples, f"{name} has {[found for found in samples if found[0] == name]}"
    return samples[key]


def test_a_manager_at_work_is_alive_and_ready(manager: Program, lender: Lender) -> None:
    assert fetch(f"http://{manager.health}/healthz") == (200, "ok\n")
    status, text = fetch(f"http://{manager.health}/readyz")
    assert (status, text.splitlines()[-1]) == (200, "ok")
    assert "[+] informers ok" in text


def test_nothing_else_is_served(manager: Program) -> None:
    assert fetch(f"http://{manager.health}/")[0] == 404
    assert fetch(f"http://{manager.health}/metrics")[0] == 404
    assert fetch(f"http://{manager.metrics}/debug")[0] == 404


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of somebody who takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


def test_a_manager_that_has_no_answer_yet_is_alive_but_not_ready(
    sandbox: Sandbox, tmp_path: Path, silent_server: str
) -> None:
    def point_to_it(cluster: dict[str, str], _: dict[str, str]) -> None:
        cluster["server"] = silent_server

    path = tmp_path / "kubeconfig"
    path.write_bytes(kubeconfig_of(sandbox.virtual, point_to_it))
    program = Program("manager", kubeconfig=path, log=tmp_path / "log").start()
    give_up = time.monotonic() + 20
    while not (answer := ask(f"http://{program.health}/healthz")):
        assert program.alive, program.tail()
        assert time.monotonic() < give_up, "no health server"
        time.sleep(0.05)
    assert answer == (200, "ok\n")
    assert fetch(f"http://{program.health}/readyz") == (503, "[-] informers failed: not started yet\ncheck failed\n")
    program.kill()


def ask(url: str) -> tuple[int, str] | None:
    try:
        return fetch(url)
    except OSError:
        return None


def test_the_names_that_controller_runtime_gives_are_there(manager: Program, lender: Lender) -> None:
    names = {name for name, _ in scrape(manager)}
    assert names >= {
        "controller_runtime_reconcile_total", "controller_runtime_reconcile_errors_total",
        "controller_runtime_reconcile_time_seconds_count", "controller_runtime_active_workers",
        "controller_runtime_max_concurrent_reconciles", "workqueue_depth", "workqueue_adds_total", "workqueue_retries_total",
        "workqueue_queue_duration_seconds_count", "workqueue_work_duration_seconds_count", "rest_client_requests_total",
        "process_resident_memory_bytes",
    }


def test_the_managers_own_metrics_tell_of_each_binding(manager: Program, lender: Lender) -> None:
    samples = scrape(manager)
    binding = {"clusterbinding": lender.binding}
    assert value(samples, "kubeocean_manager_sync_total", **binding) >= 2
    assert value(samples, "kubeocean_manager_sync_duration_seconds_count", **binding) >= 2
    assert value(samples, "kubeocean_clusterbindings_total", status="Ready") >= 1
    assert value(samples, "kubeocean_clusterbindings_total", status="Failed") >= 0


async def test_failed_bindings_are_counted(federation: Federation, manager: Program) -> None:
    before = value(scrape(manager), "kubeocean_clusterbindings_total", status="Failed")
    await federation.bind(Pool(0, "none", ()), kubeconfig=b"hello", ready=False)
    await eventually(
        lambda: value(scrape(manager), "kubeocean_clusterbindings_total", status="Failed") == before + 1, what="one more"
    )


async def test_the_syncers_metrics_count_nodes_pods_and_what_is_leased(
    federation: Federation, manager: Program, lender: Lender, namespace: str
) -> None:
    created = ("kubeocean_syncer_pod_created_total", "kubeocean_syncer_create_pod_total")
    for name in ("one", "two"):
        await federation.virtual.create(PODS, build_pod(name, namespace, lender))
    await federation.running(namespace, "one", "two")
    samples, binding = scrape(manager), lender.binding
    assert [value(samples, name, clusterbinding=binding) for name in created] == [2, 2]
    assert value(samples, "kubeocean_syncer_vnode_total", clusterbinding=binding) == 2
    for side in ("virtual", "physical"):
        assert value(samples, f"kubeocean_syncer_{side}_pod_total", clusterbinding=binding, phase="Running") == 2
        assert value(samples, f"kubeocean_syncer_{side}_pod_total", clusterbinding=binding, phase="Failed") == 0
    shown = {
        (kind, resource): value(
            samples, f"kubeocean_syncer_vnode_{kind}_resource", clusterbinding=binding, node=lender.vnode(0), resource=resource
        )
        for kind in ("origin", "available") for resource in ("cpu", "memory")
    }
    # cpu in millicores, memory in MiB
    assert shown == {
        ("origin", "cpu"): 8000, ("available", "cpu"): 4000, ("origin", "memory"): 32 * 1024, ("available", "memory"): 1024,
    }
    sums = [
        value(samples, f"kubeocean_syncer_cluster_{kind}_resource", clusterbinding=binding, resource="cpu")
        for kind in ("origin", "available")
    ]
    assert sums == [16000, 8000]


async def test_what_is_gone_is_not_shown_any_more(federation: Federation, manager: Program) -> None:
    lender = await federation.lend()
    assert value(scrape(manager), "kubeocean_syncer_vnode_total", clusterbinding=lender.binding) == 1
    await federation.unbind(lender)

    def forgotten() -> bool:
        left = {name for name, labels in scrape(manager) if ("clusterbinding", lender.binding) in labels}
        # Counters of what was done stay, as counters do.
        gauges = {name for name in left if "_pod_created" not in name and "_create_pod" not in name}
        assert not gauges, f"left: {gauges}"
        return True

    await eventually(forgotten, what="the gauges of a binding that is gone")
