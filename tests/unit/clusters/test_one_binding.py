"""A process of one binding keeps that binding's Pods and no others, whatever happens to them: against keeping all of them."""

from typing import NamedTuple

import orjson
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.api import names
from kubeocean.clusters.podsummary import VirtualPod
from kubeocean.clusters.virtual import VirtualCluster
from kubeocean.domain.naming import vnode_name, vnode_prefix
from kubeocean.kube.config import ServerConfig
from kubeocean.kube.informer import Handler, Informer
from kubeocean.kube.meta import Json

OURS, THEIRS = "vnode-edge-node-1", "vnode-edge2-node-1"


class Step(NamedTuple):
    """What somebody does to the Pod of a name."""

    action: str
    name: str
    node: str
    note: str


def build(only: str = "") -> Informer[VirtualPod]:
    """Return the Pod informer of a virtual cluster, with the watch begun and nothing listed."""
    cluster = VirtualCluster(ServerConfig("https://virtual.invalid"), user_agent="test")
    if only:
        cluster.show_only(only)
    tell(cluster.pods, "BOOKMARK", {"metadata": {"resourceVersion": "1", "annotations": {"k8s.io/initial-events-end": "true"}}})
    return cluster.pods


def tell(informer: Informer[VirtualPod], kind: str, obj: Json) -> None:
    machine = informer._reflector.machine
    if not machine.position:
        machine.begin()
    machine.receive(orjson.dumps({"type": kind, "object": obj}))


def pod(step: Step, uid: str, rv: int) -> Json:
    metadata = {"name": step.name, "namespace": "ns", "uid": uid, "resourceVersion": str(rv)}
    spec = {"nodeName": step.node} if step.node else {}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata | {"annotations": {"note": step.note}}, "spec": spec}


steps = st.lists(st.builds(
    Step, st.sampled_from(["change", "change", "bind", "delete"]), st.sampled_from(["a", "b"]),
    st.sampled_from([OURS, THEIRS]), st.sampled_from(["", OURS, THEIRS, "<>"]),
), max_size=25)


def kept(informer: Informer[VirtualPod]) -> dict[str, tuple[str, int]]:
    return {
        entry.key.name: (entry.uid, entry.revision) for entry in informer.store.entries() if entry.summary.node == OURS
    }


@given(steps)
def test_the_pods_of_one_binding_are_those_that_decoding_all_would_find(history: list[Step]) -> None:
    narrow, broad = build("edge"), build()
    there: dict[str, Json] = {}
    gone: list[str] = []
    for rv, step in enumerate(history, start=10):
        before = there.get(step.name)
        uid = before["metadata"]["uid"] if before else f"{step.name}-{rv}"
        node = before["spec"].get("nodeName", "") if before else ""  # a Pod that is bound stays where it is
        kind, now = "MODIFIED" if node else "ADDED", pod(step._replace(node=node), uid, rv)
        if step.action == "bind" and not node:
            now["spec"]["nodeName"] = step.node
        if step.action == "delete":
            if before is None:
                continue
            kind = "DELETED"
            del there[step.name]
            gone += [uid] if node == OURS else []
        else:
            there[step.name] = now
        if not now["spec"].get("nodeName"):
            continue  # the watch selects those that have one
        for informer in (narrow, broad):
            tell(informer, kind, now)
        assert kept(narrow) == kept(broad)
        assert len(narrow.store) == len(kept(narrow)), "somebody else's Pod is kept"
        assert narrow.latest_revision == broad.latest_revision == rv
        assert narrow._reflector.machine.position == str(rv)
    assert all(narrow.was_deleted(uid) for uid in gone)


def test_the_watch_of_pods_selects_those_that_have_a_node() -> None:
    for informer in (build("edge"), build()):
        assert informer._reflector._field_selector == "spec.nodeName!="


def test_an_event_is_told_to_the_binding_whose_node_a_pod_is_on_and_to_all_if_that_is_nobodys() -> None:
    cluster = VirtualCluster(ServerConfig("https://virtual.invalid"), user_agent="test")
    for node, of in (("vnode-edge-1", "edge"), ("vnode-core-1", "core"), ("control-plane", "")):
        labels = {names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE, names.PHYSICAL_CLUSTER_ID_LABEL: of} if of else {}
        cluster.nodes.store.put({"metadata": {"name": node, "uid": node, "resourceVersion": "1", "labels": labels}})
    heard: dict[str, list[str]] = {"edge": [], "core": []}

    def listener(binding: str) -> Handler[VirtualPod]:
        return lambda old, new: heard[binding].append(entry.key.name if (entry := new or old) else "")

    for binding in heard:
        cluster.pods.add_handler(listener(binding), binding)
    for rv, node in enumerate(("vnode-edge-1", "vnode-core-1", "control-plane", "not-seen-yet"), start=5):
        cluster.pods.put(pod(Step("", f"on-{node}", node, ""), f"uid-{rv}", rv))
    to_all = ["on-control-plane", "on-not-seen-yet"]
    assert heard == {"edge": ["on-vnode-edge-1", *to_all], "core": ["on-vnode-core-1", *to_all]}


def test_a_list_after_a_gap_ends_what_is_ours_no_more() -> None:
    informer = build("edge")
    tell(informer, "ADDED", pod(Step("", "web", OURS, ""), "first", 5))
    informer._reflector.machine._start_over()
    informer._reflector.machine.begin()
    tell(informer, "ADDED", pod(Step("", "web", THEIRS, ""), "second", 9))
    end = {"resourceVersion": "10", "annotations": {"k8s.io/initial-events-end": "true"}}
    tell(informer, "BOOKMARK", {"metadata": end})
    assert informer.store.keys() == []
    assert informer.dropped("first")
    assert not informer.was_deleted("first"), "a list proves nothing"
    assert informer.latest_revision == 10


def test_a_process_shows_the_binding_it_was_told_of_or_else_all() -> None:
    cluster = VirtualCluster(ServerConfig("https://virtual.invalid"), user_agent="test")
    assert cluster.shows("edge")
    assert cluster.shows("core")
    cluster.show_only("edge")
    assert cluster.shows("edge")
    assert not cluster.shows("core")


cluster_ids = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,22}[a-z0-9])?", fullmatch=True)
node_names = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,80}[a-z0-9])?", fullmatch=True)


@given(cluster_ids, node_names)
def test_the_names_of_all_virtual_nodes_of_a_binding_begin_alike(cluster_id: str, node: str) -> None:
    assert vnode_name(cluster_id, node).startswith(vnode_prefix(cluster_id))
