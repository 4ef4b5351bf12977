"""A virtual node is cut off with a taint that the next pass takes for our own."""

from kubeocean.domain.vnode import build_vnode
from kubeocean.domain.vnode_cutoff import build_cut_off_patch
from kubeocean.domain.vnode_diff import diff_vnode
from kubeocean.kube.meta import Json
from kubeocean.kube.patch import apply_merge
from tests.unit.domain.test_vnode_diff import facts, stored

TAINT = {"key": "kubeocean.io/cluster-unreachable", "value": "true", "effect": "NoSchedule"}
USERS = {"key": "team", "value": "a", "effect": "NoSchedule"}


def cut_off(vnode: Json) -> Json:
    patch = build_cut_off_patch(vnode)
    assert patch is not None
    assert patch["metadata"]["resourceVersion"] == vnode["metadata"]["resourceVersion"]
    return apply_merge(vnode, patch)


def test_the_taint_joins_the_others() -> None:
    vnode = stored(build_vnode(facts()), {"spec": {"taints": [USERS]}})
    assert cut_off(vnode)["spec"]["taints"] == [USERS, TAINT]


def test_a_pass_that_finds_the_cluster_out_of_reach_as_well_changes_nothing() -> None:
    after = cut_off(stored(build_vnode(facts())))
    assert diff_vnode(after, build_vnode(facts(existing=after, unreachable=True))) == (None, None)
    assert build_cut_off_patch(after) is None


def test_a_pass_that_finds_it_well_takes_the_taint_off_again() -> None:
    vnode = stored(build_vnode(facts()))
    after = cut_off(vnode)
    patch, _ = diff_vnode(after, build_vnode(facts(existing=after)))
    assert patch is not None
    assert apply_merge(after, patch)["spec"]["taints"] == vnode["spec"]["taints"]


def test_a_record_that_cannot_be_read_does_not_make_the_taint_a_users() -> None:
    broken = stored(build_vnode(facts()), {"metadata": {"annotations": {"kubeocean.io/expected-metadata": "?"}}})
    after = cut_off(broken)
    patch, _ = diff_vnode(after, build_vnode(facts(existing=after)))
    assert patch is not None
    assert TAINT not in apply_merge(after, patch)["spec"]["taints"]
