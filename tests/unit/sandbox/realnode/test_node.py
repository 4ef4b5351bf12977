"""Where a real node's things are, what is started for it, and the settings its programs read."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from kubeocean.sandbox.realnode.files import SYSCTLS, build_cni_config, build_containerd_config, build_kubelet_config
from kubeocean.sandbox.realnode.network import Network
from kubeocean.sandbox.realnode.node import (
    RealNode,
    containerd_command,
    ctr_command,
    forwarder_command,
    kubelet_command,
    plan_nodes,
    server_for_containers,
)
from kubeocean.sandbox.spec import InvalidSpec, SandboxSpec

NETWORK = Network(7, "cafe")
CLUSTERS = [("physical-1", Path("/sandbox/physical-1")), ("physical-2", Path("/sandbox/physical-2"))]


@pytest.fixture
def node() -> RealNode:
    return plan_nodes(NETWORK, 1, CLUSTERS)[0]


def test_nodes_are_dealt_out_to_the_clusters_in_turn() -> None:
    nodes = plan_nodes(NETWORK, 3, CLUSTERS)
    assert [(node.name, node.cluster, str(node.folder)) for node in nodes] == [
        ("real-1", "physical-1", "/sandbox/physical-1/real-1"), ("real-2", "physical-2", "/sandbox/physical-2/real-2"),
        ("real-3", "physical-1", "/sandbox/physical-1/real-3"),
    ]


def test_nodes_of_different_sandboxes_have_different_cgroups_and_namespaces(node: RealNode) -> None:
    (other,) = plan_nodes(Network(8, "beef"), 1, CLUSTERS)
    assert (node.cgroup, node.place.namespace) == ("kubeocean-cafe-real-1", "kubeocean-cafe-real-1")
    assert (other.cgroup, other.place.namespace) == ("kubeocean-beef-real-1", "kubeocean-beef-real-1")


@pytest.mark.parametrize(("count", "clusters", "remedy"), [(-1, 1, "0 to 15"), (16, 1, "0 to 15"), (1, 0, "at least one")])
def test_impossible_numbers_of_nodes_are_refused(count: int, clusters: int, remedy: str) -> None:
    with pytest.raises(InvalidSpec, match=remedy):
        SandboxSpec(real_nodes=count, clusters=clusters)


def test_containers_find_every_api_server_and_their_own_as_the_service(node: RealNode) -> None:
    own, other = "https://127.0.0.1:20001", "https://127.0.0.1:20002"
    assert server_for_containers(NETWORK, other) == "10.89.7.2:20002"
    script = forwarder_command(node, Path("/forwarder"), [own, other], own, [Path("/cgroup")]).argv[-1].splitlines()
    assert script[1:] == [
        "echo 0 > /cgroup/cgroup.procs",
        "exec /forwarder /run/netns/kubeocean-cafe-real-1 10.89.7.2:20001=127.0.0.1:20001 "
        "10.89.7.2:20002=127.0.0.1:20002 10.96.0.1:443=127.0.0.1:20001",
    ]


def test_containerd_joins_its_cgroups_hides_what_is_the_machines_and_stays_the_process_that_was_started(node: RealNode) -> None:
    command = containerd_command(node, [Path("/sys/fs/cgroup/pids/a b/daemons")])
    assert command.argv[:2] == ("/usr/bin/nsenter", "--net=/run/netns/kubeocean-cafe-real-1")
    script = command.argv[-1].splitlines()
    assert "echo 0 > '/sys/fs/cgroup/pids/a b/daemons/cgroup.procs'" in script
    mounts = [shlex.split(line)[2:] for line in script if line.startswith("mount --bind")]
    assert mounts == [
        ["/sandbox/physical-1/real-1/machine/run", "/run"],
        ["/sandbox/physical-1/real-1/machine/var/lib", "/var/lib"],
        ["/sandbox/physical-1/real-1/machine/var/log", "/var/log"],
        *([str(node.sysctl(name)), f"/proc/sys/{name}"] for name in SYSCTLS),
    ]
    assert script[-1].startswith("exec containerd "), "its pid is the one in the record"


def test_kubelet_and_client_go_where_containerd_is(node: RealNode) -> None:
    kubelet = kubelet_command(node, Path("/kubelet"), [], containerd=42)
    assert kubelet.address == "https://10.89.7.11:10250"
    for argv in (kubelet.argv, ctr_command(node, 42, "version")):
        assert argv[:3] == ("/usr/bin/nsenter", "--net=/run/netns/kubeocean-cafe-real-1", "--mount=/proc/42/ns/mnt")


def test_settings_use_only_what_is_the_nodes_own(node: RealNode) -> None:
    kubelet = yaml.safe_load(build_kubelet_config(
        node.place, cgroup=node.cgroup, pki=node.pki, certificate=node.certificate, resolv_conf=node.resolv_conf,
    ))
    assert (kubelet["address"], kubelet["cgroupRoot"]) == ("10.89.7.11", "/kubeocean-cafe-real-1")
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    (bridge, portmap) = json.loads(build_cni_config(node.place))["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.192.113.0/24"}]]
    assert portmap["capabilities"] == {"portMappings": True}
    containerd = build_containerd_config(plugins=Path("/usr/lib/cni"), networks=node.networks)
    assert 'conf_dir = "/sandbox/physical-1/real-1/cni"' in containerd
    assert "io.containerd.internal.v1.opt" in containerd, "or it makes /opt/containerd"
