"""What bindings that are gone may have left, and whose marks are whose."""

import pytest

from kubeocean.api import names
from kubeocean.domain.abandoned import check_abandoned, check_lent, ids_marked
from kubeocean.domain.findings import Kind, Mend
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import CONFIGMAPS, CSINODES, NODES, PERSISTENTVOLUMES, PODS, Resource

THERE = frozenset({"edge", "core"})
MANAGED = {names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE}


def config(**metadata: object) -> Json:
    return {"metadata": {"name": "settings", "namespace": "shop", "uid": "u", **metadata}}


MARKS: dict[str, tuple[Json, set[str]]] = {
    "nothing": (config(labels={"app": "web"}, finalizers=["his"]), set()),
    "a label": (config(labels={"kubeocean.io/synced-by-gone": "true"}), {"gone"}),
    "a finalizer": (config(finalizers=["his", "kubeocean.io/finalizer-gone"]), {"gone"}),
    "an annotation": (config(annotations={"kubeocean.io/deleting-gone": "lender"}), {"gone"}),
    "of several": (config(labels={"kubeocean.io/synced-by-edge": "true"}, finalizers=["kubeocean.io/finalizer-old"]), {
        "edge", "old",
    }),
}


@pytest.mark.parametrize("case", MARKS)
def test_whose_marks_are_on_an_object(case: str) -> None:
    obj, ids = MARKS[case]
    assert ids_marked(obj) == ids


@pytest.mark.parametrize("case", MARKS)
@pytest.mark.parametrize("resource", [CONFIGMAPS, PERSISTENTVOLUMES])
def test_marks_of_a_binding_that_there_is_are_in_order(case: str, resource: Resource) -> None:
    obj, ids = MARKS[case]
    found = list(check_abandoned({resource: [obj]}, THERE))
    assert len(found) == bool(ids - THERE)
    for finding in found:
        assert (finding.kind, finding.reason, finding.mend) == (Kind.STALE_MARK, "NoSuchBinding", Mend.UNMARK)
        assert all(unknown in finding.cause for unknown in ids - THERE)
        assert "edge" not in finding.cause


def of(cluster_id: str, labels: dict[str, str] = MANAGED) -> Json:
    metadata = {"name": "vnode-x-1", "uid": "n", "labels": {**labels, names.PHYSICAL_CLUSTER_ID_LABEL: cluster_id}}
    return {"metadata": metadata | {"finalizers": [names.VNODE_FINALIZER]}}


@pytest.mark.parametrize(("resource", "kind"), [
    (NODES, Kind.ORPHAN_NODE), (CSINODES, Kind.ORPHAN_CSINODE), (PODS, Kind.ORPHAN_PLACEHOLDER),
])
def test_nodes_of_nobodys_and_what_is_beside_them_are_told_and_left_to_people(resource: Resource, kind: Kind) -> None:
    (finding,) = check_abandoned({resource: [of("gone"), of("edge"), of("gone", {"app": "his"})]}, THERE)
    assert (finding.kind, finding.mend) == (kind, Mend.NOTHING)


_CLEAR = """--type=merge -p '{"metadata":{"finalizers":null}}'"""
COMMANDS: dict[str, tuple[Resource, list[str], str, str]] = {
    "a node that our finalizer holds": (
        NODES, [names.VNODE_FINALIZER], "", f"kubectl delete node x --wait=false && kubectl patch node x {_CLEAR}; or",
    ),
    "a node that others hold as well": (
        NODES, ["his", names.VNODE_FINALIZER], "",
        "kubectl delete node x --wait=false, then take finalizer kubeocean.io/vnode off with kubectl edit node x; or",
    ),
    "a node that only others hold": (NODES, ["his"], "", "kubectl delete node x; or"),
    "a CSINode": (CSINODES, [], "", "kubectl delete csinode x; or"),
    "a placeholder": (PODS, [], "ports", "kubectl delete pod x -n ports; or"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_what_is_left_to_people_comes_with_the_command_that_removes_it(case: str) -> None:
    resource, finalizers, namespace, command = COMMANDS[case]
    obj = of("gone")
    obj["metadata"] |= {"name": "x", "namespace": namespace, "finalizers": finalizers}
    (finding,) = check_abandoned({resource: [obj]}, THERE)
    assert finding.remedy.startswith(command)


def test_what_a_lender_keeps_noted_of_a_binding_that_is_gone() -> None:
    def noted(name: str, annotation: str, owner: str) -> Json:
        return {"metadata": {"name": name, "uid": name, "annotations": {annotation: owner}}}

    by, claimed = names.POLICY_APPLIED_BY_ANNOTATION, names.CLAIMED_BY_ANNOTATION
    nodes = [noted("lent", by, "me/edge"), noted("left", by, "me/gone"), noted("theirs", by, "another/gone")]
    namespaces = [noted("mount", claimed, "me/core"), noted("old-mount", claimed, "me/gone"), {"metadata": {"name": "his"}}]
    going = noted("going", claimed, "me/gone")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    namespaces.append(going)
    found = list(check_lent(nodes, namespaces, "me", THERE))
    assert [(finding.about.resource.kind, finding.about.key.name, finding.mend) for finding in found] == [
        ("Node", "left", Mend.NOTHING), ("Namespace", "old-mount", Mend.NOTHING),
    ]
    assert [finding.remedy.partition(": ")[2] for finding in found] == [
        f"kubectl annotate node left {by}-", f"kubectl annotate namespace old-mount {claimed}-",
    ]
