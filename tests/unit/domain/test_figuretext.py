"""Prometheus text of a virtual node: a physical node's cadvisor under virtual names, and /metrics."""

import pytest

from kubeocean.domain.figuretext import map_cadvisor, write_cadvisor_metrics, write_kubelet_metrics
from kubeocean.domain.nodepods import NodePod

WEB = NodePod("team", "web", "virtual-uid", twin_namespace="mount", twin_name="web-5d41", twin_uid="physical-uid")
OURS = {("mount", "web-5d41"): WEB}

PHYSICAL = r"""# HELP cadvisor_version_info A metric with a constant '1' value
# TYPE cadvisor_version_info gauge
cadvisor_version_info{kernelVersion="6.18",osVersion="Debian"} 1
# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed in seconds.
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="",id="/",image="",name="",namespace="",pod=""} 999 1767268800000
container_cpu_usage_seconds_total{container="app",id="/kubepods/podphysical-uid/aa11",image="busybox",name="aa11",namespace="mount",pod="web-5d41"} 12.5 1767268800250
container_cpu_usage_seconds_total{container="",id="/kubepods.slice/kubepods-podphysical_uid.slice",image="",name="",namespace="mount",pod="web-5d41"} 13 1767268800250
container_cpu_usage_seconds_total{container="app",id="/kubepods/podother/bb22",image="busybox",name="bb22",namespace="mount",pod="another-borrowers"} 7 1767268800250
container_cpu_usage_seconds_total{container="app",id="/kubepods/podother/cc33",image="busybox",name="cc33",namespace="kube-system",pod="web-5d41"} 8 1767268800250
# HELP container_fs_limit_bytes Number of bytes that can be consumed by the container on this filesystem.
# TYPE container_fs_limit_bytes gauge
container_fs_limit_bytes{container="app",device="/dev/vda",id="/kubepods/podphysical-uid/aa11",namespace="mount",pod="web-5d41"} 5e+11 1767268800250
# HELP container_network_receive_bytes_total Cumulative count of bytes received
# TYPE container_network_receive_bytes_total counter
container_network_receive_bytes_total{container="",id="/kubepods/podphysical-uid",image="pause",interface="eth0",name="dd44",namespace="mount",pod="web-5d41"} 77 1767268800250
# HELP machine_cpu_cores Number of logical CPU cores.
# TYPE machine_cpu_cores gauge
machine_cpu_cores 64
"""  # noqa: E501  a scrape is not ours to wrap

VIRTUAL = r"""# exact
# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed in seconds.
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="app",id="/kubepods/podvirtual-uid/aa11",image="busybox",name="aa11",namespace="team",pod="web"} 12.5 1767268800250
container_cpu_usage_seconds_total{container="",id="/kubepods/podvirtual-uid",image="",name="",namespace="team",pod="web"} 13.0 1767268800250
# HELP container_network_receive_bytes_total Cumulative count of bytes received
# TYPE container_network_receive_bytes_total counter
container_network_receive_bytes_total{container="",id="/kubepods/podvirtual-uid",image="pause",interface="eth0",name="dd44",namespace="team",pod="web"} 77.0 1767268800250
"""  # noqa: E501


def test_of_a_nodes_cadvisor_our_pods_are_told_under_virtual_names_and_nothing_else() -> None:
    assert map_cadvisor(PHYSICAL, OURS, note="exact") == VIRTUAL


def test_the_pages_of_two_nodes_are_one() -> None:
    twice = map_cadvisor(PHYSICAL + "\n" + PHYSICAL.replace("web-5d41", "web-77aa"), {
        **OURS, ("mount", "web-77aa"): NodePod("team", "web-2", "virtual-2", twin_uid="physical-2"),
    }, note="exact")
    assert twice.count("# TYPE container_cpu_usage_seconds_total") == 1
    assert 'pod="web-2"' in twice


def test_what_is_no_prometheus_text_is_refused() -> None:
    with pytest.raises(ValueError, match=r".*"):
        map_cadvisor('container_cpu{namespace="mount",pod="web-5d41" 12', OURS, note="exact")


CLAIM = {"name": "data", "usedBytes": 11, "capacityBytes": 33, "pvcRef": {"namespace": "team", "name": "web-data"}}
SUMMARY = {
    "node": {"nodeName": "vnode-1"},
    "pods": [
        {
            "podRef": {"name": "web", "namespace": "team", "uid": "u1"}, "volume": [CLAIM, {"name": "scratch", "usedBytes": 1}],
            "containers": [{
                "name": "app", "cpu": {"time": "2026-01-01T12:00:00Z", "usageCoreNanoSeconds": 1_500_000_000},
                "memory": {"time": "2026-01-01T12:00:00Z", "workingSetBytes": 4096},
            }],
        },
        {"podRef": {"name": "too", "namespace": "team", "uid": "u2"}, "volume": [CLAIM], "containers": [{"name": "app"}]},
    ],
}


def test_metrics_tell_the_node_what_runs_and_each_claim_once() -> None:
    lines = [line for line in write_kubelet_metrics(SUMMARY, note="n").splitlines() if not line.startswith("#")]
    assert lines == [
        'kubelet_node_name{node="vnode-1"} 1.0',
        "kubelet_running_pods 2.0",
        'kubelet_running_containers{container_state="running"} 2.0',
        'kubelet_volume_stats_capacity_bytes{namespace="team",persistentvolumeclaim="web-data"} 33.0',
        'kubelet_volume_stats_used_bytes{namespace="team",persistentvolumeclaim="web-data"} 11.0',
    ]


def test_without_a_nodes_cadvisor_the_figures_that_are_known_are_told() -> None:
    text = write_cadvisor_metrics(SUMMARY, note="two\nlines")
    assert text.splitlines()[0] == "# two lines", "a note cannot break the text"
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'container_cpu_usage_seconds_total{container="app",namespace="team",pod="web"} 1.5 1767268800000',
        'container_memory_working_set_bytes{container="app",namespace="team",pod="web"} 4096.0 1767268800000',
    ]
