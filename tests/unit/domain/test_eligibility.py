"""Whose Pods run on virtual nodes."""

from typing import Any

import pytest

from kubeocean.api import names
from kubeocean.domain.eligibility import check_eligible
from kubeocean.kube.meta import Json


def pod(namespace: str = "shop", kind: str = "", **metadata: Any) -> Json:
    owners = [{"apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": "x", "controller": True}] if kind else []
    own = {"name": "web-0", "namespace": namespace, "uid": "v-1", "ownerReferences": owners}
    return {"metadata": {**own, **metadata}, "spec": {}}


PLACEHOLDER = {names.HOSTPORT_PLACEHOLDER_LABEL: "true"}
ALLOWED = {names.RUNNING_DAEMONSET_ANNOTATION: "true"}

TABLE: dict[str, tuple[Json, bool, str | None]] = {
    "a user's Pod may": (pod(), False, None),
    "a Deployment's Pod may": (pod(kind="ReplicaSet"), False, None),
    **{
        f"a Pod of {namespace} may not": (pod(namespace), True, "NamespaceExcluded")
        for namespace in sorted(names.EXCLUDED_NAMESPACES)
    },
    "a placeholder may not": (pod(labels=PLACEHOLDER), True, "HostPortPlaceholder"),
    "a DaemonSet's Pod may not": (pod(kind="DaemonSet"), False, "DaemonSetNotAllowed"),
    "unless it says that it wants to": (pod(kind="DaemonSet", annotations=ALLOWED), False, None),
    "or the binding allows all of them": (pod(kind="DaemonSet"), True, None),
    "wanting to means true and nothing else": (
        pod(kind="DaemonSet", annotations={names.RUNNING_DAEMONSET_ANNOTATION: "yes"}), False, "DaemonSetNotAllowed",
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_check_eligible(case: str) -> None:
    virtual, running_daemonsets, reason = TABLE[case]
    refusal = check_eligible(virtual, running_daemonsets=running_daemonsets)
    assert (refusal and refusal.reason) == reason
