from kubeocean.api import names
from kubeocean.clusters.podsummary import summarise_physical_pod, summarise_virtual_pod, trim_foreign_pod
from kubeocean.domain.ownership import Owner
from kubeocean.domain.requests import pod_requests
from kubeocean.kube.meta import Json, ObjectKey

OWNER = Owner("virtual-uid", "a")


def pod(*, labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None, **status: object) -> Json:
    container: Json = {
        "name": "main", "image": "busybox", "env": [{"name": "SECRET", "value": "x"}],
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}},
    }
    return {
        "metadata": {
            "name": "web", "namespace": "lender", "uid": "u", "resourceVersion": "5", "labels": labels or {"app": "web"},
            "annotations": annotations or {"note": "long text"},
        },
        "spec": {"nodeName": "node-1", "containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]},
        "status": {"phase": "Running", **status},
    }


def twin() -> Json:
    return pod(labels=OWNER.labels(), annotations={
        names.VIRTUAL_POD_NAMESPACE_ANNOTATION: "team", names.VIRTUAL_POD_NAME_ANNOTATION: "web",
        names.VIRTUAL_POD_UID_ANNOTATION: "v",
    })


def test_a_twin_is_kept_whole_and_names_its_virtual_pod() -> None:
    assert trim_foreign_pod(twin(), OWNER) == twin()
    head = summarise_physical_pod(twin(), OWNER)
    assert (head.ours, head.virtual, head.virtual_uid, head.requests) == (True, ObjectKey("team", "web"), "v", {})


def test_a_foreign_pod_shrinks_to_what_leasing_reads() -> None:
    trimmed = trim_foreign_pod(pod(), OWNER)
    assert "annotations" not in trimmed["metadata"]
    assert "volumes" not in trimmed["spec"]
    assert trimmed["spec"]["containers"] == [{"name": "main", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]


def test_trimming_changes_nothing_about_what_a_pod_takes() -> None:
    resized = pod(
        resources={"requests": {"cpu": "3"}}, allocatedResources={"cpu": "3"},
        containerStatuses=[{"name": "main", "allocatedResources": {"cpu": "2"}, "image": "busybox"}],
    )
    for whole in (pod(), resized, pod(phase="Succeeded")):
        assert pod_requests(trim_foreign_pod(whole, OWNER)) == pod_requests(whole)


def test_trimming_keeps_host_ports_and_no_others() -> None:
    ports = [{"name": "http", "containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]
    for host_network, taken in ((False, [8080]), (True, [81, 8080])):
        whole = pod()
        whole["spec"] |= {"hostNetwork": host_network}
        whole["spec"]["containers"][0]["ports"] = ports
        trimmed = trim_foreign_pod(whole, OWNER)
        assert len(trimmed["spec"]["containers"][0]["ports"]) == len(taken)
        assert [port.port for port in summarise_physical_pod(trimmed, OWNER).host_ports] == taken
        assert summarise_physical_pod(trimmed, OWNER) == summarise_physical_pod(whole, OWNER)


def test_another_bindings_twin_is_foreign_here() -> None:
    head = summarise_physical_pod(twin(), Owner("virtual-uid", "b"))
    assert not head.ours
    assert head.requests


def test_trimming_keeps_whose_a_pod_is() -> None:
    somebody = Owner("virtual-uid", "b").annotations()
    for labels in (OWNER.labels(), {names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE}):
        whole = pod(labels=labels, annotations=somebody)
        head = summarise_physical_pod(trim_foreign_pod(whole, OWNER), OWNER)
        assert head == summarise_physical_pod(whole, OWNER)
        assert (head.ours, head.unowned_of) == (False, None)
        assert head.requests


def test_a_virtual_pods_head_tells_node_phase_and_deletion() -> None:
    head = summarise_virtual_pod(pod())
    assert (head.node, head.phase, head.deleting, head.finished) == ("node-1", "Running", False, False)
    assert summarise_virtual_pod(pod(phase="Failed")).finished
