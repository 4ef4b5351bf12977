"""Which physical Pod answers: ours, for that very uid, of the right name, in the binding's own namespace."""

from types import SimpleNamespace
from typing import cast

import pytest

from kubeocean.api import names
from kubeocean.domain.naming import physical_name
from kubeocean.domain.ownership import Owner
from kubeocean.kube.client import Client
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.proxier.twins import NoTwin, Twins

WEB = ObjectKey("team", "web")
NAME = physical_name("web", "team")


def _pod(namespace: str, *, name: str = NAME, uid: str = "uid-1") -> Json:
    metadata = {
        "name": name, "namespace": namespace, "uid": f"{namespace}-{name}-{uid}", "resourceVersion": "1",
        "annotations": {names.VIRTUAL_POD_UID_ANNOTATION: uid},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}


def _twins(*pods: Json) -> Twins:
    twins = Twins(cast(Client, SimpleNamespace(cluster="lender")), Owner("virtual", "lender"), name="lender")
    twins.namespaces = frozenset({"leased"})
    for pod in pods:
        twins.informer.store.put(pod)
    return twins


@pytest.mark.parametrize("order", [1, -1])
def test_the_one_in_the_bindings_namespace_answers_whatever_else_claims_to_be_it(order: int) -> None:
    pods = [_pod("leased"), _pod("elsewhere")][::order]
    assert _twins(*pods).of(WEB, "uid-1") == ObjectKey("leased", NAME)


NONE = {
    "nothing": (),
    "only one elsewhere": (_pod("elsewhere"),),
    "one of another name": (_pod("leased", name="other"),),
    "the twin of a Pod that had the name before": (_pod("leased", uid="uid-0"),),
}


@pytest.mark.parametrize("pods", NONE.values(), ids=NONE)
def test_without_the_right_one_nobody_answers(pods: tuple[Json, ...]) -> None:
    with pytest.raises(NoTwin):
        _twins(*pods).of(WEB, "uid-1")
