from kubeocean.api import names
from kubeocean.bench.workload import build_bound, build_pod, build_running, build_unscheduled, pod_names


def test_a_pod_says_nothing_about_its_token_or_refuses_it() -> None:
    assert "automountServiceAccountToken" not in build_pod("a", "ns", token=True)["spec"]
    assert build_pod("a", "ns", token=False)["spec"]["automountServiceAccountToken"] is False


def test_a_pod_tolerates_virtual_nodes_and_is_left_to_the_real_scheduler() -> None:
    spec = build_pod("a", "ns", token=False)["spec"]
    assert names.VNODE_TAINT in [toleration["key"] for toleration in spec["tolerations"]]
    assert "schedulerName" not in spec


def test_the_floors_pods_are_nobody_elses_business() -> None:
    assert build_unscheduled("a", "ns", token=True)["spec"]["schedulerName"] == "kubeocean-bench"
    twin = build_bound("a", "ns", "node", token_secret="a")
    assert twin["spec"]["nodeName"] == "node"
    assert twin["spec"]["automountServiceAccountToken"] is False
    assert twin["spec"]["volumes"][0]["secret"]["secretName"] == "a"


def test_only_a_mirrored_status_maps_to_a_twin() -> None:
    assert "metadata" not in build_running(mapped=False)
    assert names.PHYSICAL_POD_UID_ANNOTATION in build_running(mapped=True)["metadata"]["annotations"]


def test_names_are_all_different() -> None:
    assert len(set(pod_names("pod", 1000))) == 1000
