"""What is started for which wish."""

import re
from pathlib import Path
from typing import Any

import pytest

from kubeocean.sandbox.assets import Assets, Binary
from kubeocean.sandbox.nodes import NodeTemplate
from kubeocean.sandbox.plan import Plan, build_plan, count_ports
from kubeocean.sandbox.spec import InvalidSpec, SandboxSpec

NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "kubectl")
ASSETS = Assets({name: Binary(name, Path("/opt") / name, "test") for name in NAMES})


def plan_of(**wishes: Any) -> tuple[Plan, list[int]]:
    spec = SandboxSpec(**wishes)
    ports = [20000 + number for number in range(count_ports(spec))]
    return build_plan(spec, Path("/sandbox"), ASSETS, ports), ports


def commands_of(plan: Plan) -> list[tuple[str, ...]]:
    own = [command for each in plan.clusters for command in (each.storage, each.apiserver, *each.controllers) if command]
    return [command.argv for command in ([plan.storage] if plan.storage else []) + own]


@pytest.mark.parametrize("etcd", ["shared", "per-cluster"])
@pytest.mark.parametrize("clusters", [0, 1, 3])
def test_every_port_is_used_by_exactly_one_component(clusters: int, etcd: str) -> None:
    plan, ports = plan_of(clusters=clusters, etcd=etcd)
    assert plan.storage is None or etcd == "shared"
    listening = [
        {int(port) for flag in argv for port in re.findall(r":(\d+)$|-port=(\d+)$", flag) for port in port if port}
        & set(ports)
        for argv in commands_of(plan)
        if not argv[0].endswith("apiserver")  # names its etcd's port too
    ]
    apiservers = [int(cluster.apiserver.address.rpartition(":")[2]) for cluster in plan.clusters]
    used = [port for group in listening for port in group] + apiservers
    assert sorted(used) == sorted(ports)


def test_the_virtual_cluster_has_no_kwok() -> None:
    plan, _ = plan_of(clusters=1)
    names = {cluster.name: [command.name for command in cluster.controllers] for cluster in plan.clusters}
    assert names == {
        "virtual": ["kube-controller-manager", "kube-scheduler"],
        "physical-1": ["kube-controller-manager", "kube-scheduler", "kwok"],
    }


def test_clusters_that_share_an_etcd_have_key_prefixes_of_their_own() -> None:
    plan, _ = plan_of(clusters=2)
    prefixes = [flag for each in plan.clusters for flag in each.apiserver.argv if flag.startswith("--etcd-prefix")]
    assert prefixes == ["--etcd-prefix=/virtual", "--etcd-prefix=/physical-1", "--etcd-prefix=/physical-2"]


ADDRESSES = {
    "loopback": ("127.0.0.1", "127.0.0.1"),
    "one address of the machine": ("10.89.1.1", "10.89.1.1"),
    "every address is reached through loopback": ("0.0.0.0", "127.0.0.1"),
}


@pytest.mark.parametrize("sentence", ADDRESSES)
def test_listen_addresses(sentence: str) -> None:
    listen, reached = ADDRESSES[sentence]
    plan, _ = plan_of(clusters=0, listen=listen)
    apiserver = plan.clusters[0].apiserver
    assert f"--bind-address={listen}" in apiserver.argv
    assert apiserver.address.startswith(f"https://{reached}:")


def test_certificates_are_valid_for_what_was_asked_for_and_for_loopback() -> None:
    names = SandboxSpec(listen="10.89.1.1", certificate_names=("api.test", "10.89.2.1")).server_names
    assert {"localhost", "127.0.0.1", "kubernetes.default.svc", "10.89.1.1", "api.test", "10.89.2.1"} <= set(names)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a name that climbs out of the folder": ({"name": "../x"}, "lower-case letters"),
    "an empty name": ({"name": ""}, "lower-case letters"),
    "a name with a trailing hyphen": ({"name": "a-"}, "lower-case letters"),
    "too many clusters": ({"clusters": 51}, "0 to 50"),
    "fewer than none": ({"clusters": -1}, "0 to 50"),
    "too many nodes": ({"nodes": NodeTemplate(count=5001)}, "0 to 5000"),
    "a host name to listen at": ({"listen": "localhost"}, "such as 127.0.0.1"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_impossible_wishes_are_refused_with_the_remedy(sentence: str) -> None:
    wishes, remedy = WRONG[sentence]
    with pytest.raises(InvalidSpec, match=remedy):
        SandboxSpec(**wishes)
