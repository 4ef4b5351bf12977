"""Which physical Pod answers: ours, for that very uid, of the right name, in one of the binding's own namespaces."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from kubeocean.api import names
from kubeocean.domain.kubeletapi import PodRequest, parse_pod_request
from kubeocean.domain.naming import physical_name
from kubeocean.domain.ownership import Owner
from kubeocean.kube.client import Client, Listing
from kubeocean.kube.errors import Forbidden, KubeError, NotFound, Unreachable
from kubeocean.kube.meta import Json, ObjectKey, name_of, namespace_of
from kubeocean.kube.resources import Resource
from kubeocean.proxier.measures import GOOD_FOR, Measures
from kubeocean.proxier.twins import NoTwin, Twins, find_uid, twin_on

pytestmark = pytest.mark.looptime
OWNER = Owner("virtual", "lender")
WEB = ObjectKey("team", "web")
NAME = physical_name("web", "team")


def _pod(namespace: str, *, name: str = NAME, uid: str = "uid-1", owner: Owner = OWNER, node: str = "node-1") -> Json:
    labels = {names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE, names.OWNER_LABEL: owner.label}
    annotations = {names.VIRTUAL_POD_UID_ANNOTATION: uid, names.OWNER_ANNOTATION: owner.annotation}
    metadata = {
        "name": name, "namespace": namespace, "uid": f"{namespace}-{name}-{uid}", "labels": labels, "annotations": annotations,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": node}}


@dataclass
class Server:
    """An API server with these Pods; `asked` are the selectors of its lists."""

    pods: tuple[Json, ...] = ()
    refuses: KubeError | None = None
    takes: float = 0.0  # seconds, for a list
    asked: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    cluster: str = "lender"

    async def get(self, resource: Resource, name: str, namespace: str, *, deadline: float) -> Json:
        if self.refuses:
            raise self.refuses
        for pod in self.pods:
            if (namespace_of(pod), name_of(pod)) == (namespace, name):
                return pod
        raise NotFound("nothing")

    async def list(
        self, resource: Resource, *, label_selector: str, field_selector: str, cached: bool, deadline: float
    ) -> Listing:
        self.asked.append(f"{label_selector} {field_selector}")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.takes)
        self.at_once -= 1
        return Listing([pod for pod in self.pods if field_selector == f"spec.nodeName={pod['spec']['nodeName']}"], "")


def _twins(*pods: Json, server: Server | None = None) -> Twins:
    twins = Twins(cast(Client, server or Server(pods)), OWNER)
    twins.namespaces = ("leased", "leased-before")
    return twins


async def test_the_one_in_the_bindings_namespace_answers_whatever_else_claims_to_be_it() -> None:
    assert await _twins(_pod("elsewhere"), _pod("leased")).of(WEB, "uid-1") == ("leased", NAME)


async def test_one_that_is_still_where_its_binding_had_them_before_answers() -> None:
    assert await _twins(_pod("leased", uid="uid-2"), _pod("leased-before")).of(WEB, "uid-1") == ("leased-before", NAME)


NONE = {
    "nothing": (),
    "only one elsewhere": (_pod("elsewhere"),),
    "one of another name": (_pod("leased", name="other"),),
    "the twin of a Pod that had the name before": (_pod("leased", uid="uid-0"),),
    "one of another borrower": (_pod("leased", owner=Owner("other", "lender")),),
}


@pytest.mark.parametrize("pods", NONE.values(), ids=NONE)
async def test_without_the_right_one_nobody_answers(pods: tuple[Json, ...]) -> None:
    with pytest.raises(NoTwin):
        await _twins(*pods).of(WEB, "uid-1")


async def test_a_cluster_that_refuses_is_no_proof_that_there_is_none() -> None:
    with pytest.raises(Forbidden):
        await _twins(server=Server(refuses=Forbidden("no"))).of(WEB, "uid-1")


@pytest.mark.parametrize("pods", NONE.values(), ids=NONE)
async def test_figures_are_of_the_same_ones_and_of_no_others(pods: tuple[Json, ...]) -> None:
    assert twin_on(await _twins(*pods, _pod("leased-before")).on("node-1"), WEB, "uid-1") == _pod("leased-before")
    assert twin_on(await _twins(*pods).on("node-1"), WEB, "uid-1") is None


async def test_of_two_twins_of_one_pod_figures_and_streams_mean_the_same() -> None:
    new, old = _pod("leased"), _pod("leased-before")
    for pods in ((new, old), (old, new)):
        assert await _twins(*pods).of(WEB, "uid-1") == ("leased", NAME)
        assert twin_on(await _twins(*pods).on("node-1"), WEB, "uid-1") == new


async def test_a_node_is_asked_about_once_in_ten_seconds_and_one_without_a_name_never() -> None:
    server = Server((_pod("leased"), _pod("leased", node="")))
    measures = Measures(cast(Client, server), _twins(server=server))
    for _ in range(2):
        assert len(await measures.twins_on("node-1")) == len(await measures.twins_on("node-1")) == 1
        await asyncio.sleep(GOOD_FOR + 0.1)
    assert server.asked == 2 * [f"{names.MANAGED_BY_LABEL}=kubeocean,{names.OWNER_LABEL}={OWNER.label} spec.nodeName=node-1"]
    with pytest.raises(Unreachable, match="does not say"):
        await measures.twins_on("")
    assert len(server.asked) == 2


async def test_a_crowd_of_nodes_takes_turns() -> None:
    server = Server(takes=1.0)
    measures = Measures(cast(Client, server), _twins(server=server))
    await asyncio.gather(*(measures.twins_on(f"node-{number}") for number in range(12)))
    assert server.most_at_once == 4


def _asked(path: str) -> PodRequest:
    request = parse_pod_request(path)
    assert request is not None
    return request


VIRTUAL = Server(({"metadata": {"namespace": "team", "name": "web", "uid": "uid-1"}, "spec": {"nodeName": "vnode-1"}},))
REQUESTS = {
    "by name": ("vnode-1", "/containerLogs/team/web/app", True),
    "by name and uid": ("vnode-1", "/exec/team/web/uid-1/app", True),
    "of an earlier Pod of that name": ("vnode-1", "/exec/team/web/uid-0/app", False),
    "at another node": ("vnode-2", "/containerLogs/team/web/app", False),
    "of a Pod that is not there": ("vnode-1", "/containerLogs/team/db/app", False),
}


@pytest.mark.parametrize(("vnode", "path", "found"), REQUESTS.values(), ids=REQUESTS)
async def test_a_pod_is_asked_for_at_its_own_node(vnode: str, path: str, found: bool) -> None:
    asked = find_uid(cast(Client, VIRTUAL), vnode, _asked(path))
    if found:
        assert await asked == "uid-1"
    else:
        with pytest.raises(NoTwin, match=f"is not on node {vnode}"):
            await asked
