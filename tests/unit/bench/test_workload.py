from kubeocean.api import names
from kubeocean.bench.workload import build_bound, build_foreign, build_pod, build_running, build_unscheduled, pod_names
from kubeocean.domain.ownership import Owner
from kubeocean.domain.podcontext import PodContext
from kubeocean.domain.podmap import ForgedPod, build_physical_pod
from kubeocean.kube.codec import encode
from kubeocean.kube.meta import annotations_of, labels_of


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


def test_the_floors_physical_pods_have_as_many_words_as_a_twin_must_have_and_no_more_than_one_has() -> None:
    vpod = build_pod("fed-00001", "bench-123456-plain", token=False)
    vpod["metadata"]["uid"] = "x" * 36
    vpod["spec"]["nodeName"] = "vnode-bench1-node-1"
    context = PodContext(
        owner=Owner("x" * 36, "bench1"), cluster_id="bench1", mount_namespace="kubeocean-bench", physical_node="node-1",
        direct_scheduling=True, allow_privileged=False, priority_class="kubeocean-default", workload=("pod", "fed-00001"),
    )
    forged = build_physical_pod(vpod, context)
    assert isinstance(forged, ForgedPod)
    floor, twin = build_bound("floor-00001", "bench-123456-floor", "node-1"), forged.pod
    assert len(labels_of(floor)) == len(labels_of(twin))
    assert len(encode(annotations_of(floor))) <= len(encode(annotations_of(twin)))
    assert 0.75 < len(encode(floor)) / len(encode(twin)) < 1
    variables = [[each["name"] for each in pod["spec"]["containers"][0]["env"]] for pod in (floor, twin)]
    assert set(variables[0]) < set(variables[1])


def test_only_a_mirrored_status_maps_to_a_twin() -> None:
    assert "metadata" not in build_running(mapped=False)
    assert names.PHYSICAL_POD_UID_ANNOTATION in build_running(mapped=True)["metadata"]["annotations"]


def test_names_are_all_different() -> None:
    assert len(set(pod_names("pod", 1000))) == 1000


def test_a_lenders_own_pods_are_dealt_out_among_clusters_and_nodes() -> None:
    dealt = build_foreign(7, [["a", "b"], ["c"]], ["one", "two"])
    placed = [[(pod["metadata"]["namespace"], pod["spec"]["nodeName"]) for pod in pods] for pods in dealt]
    assert placed == [[("one", "a"), ("one", "b"), ("one", "a"), ("one", "b")], [("two", "c")] * 3]
    assert len({pod["metadata"]["name"] for pods in dealt for pod in pods}) == 7


def test_a_single_pod_of_a_lender_leaves_the_other_clusters_empty() -> None:
    assert [len(pods) for pods in build_foreign(1, [["a"], ["b"]], ["one", "two"])] == [1, 0]
