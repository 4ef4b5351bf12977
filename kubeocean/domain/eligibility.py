"""Whether a virtual Pod may run on one of our nodes at all: a chain of questions; the first objection counts.

This is about *whose* Pod it is, not about what is in it (`podmap.check_pod` looks at that).
"""

from __future__ import annotations

from kubeocean.api import names
from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json, annotations_of, controller_of, labels_of, namespace_of


def check_eligible(vpod: Json, *, running_daemonsets: bool) -> Refusal | None:
    """Return why a Pod bound to one of our virtual nodes gets no twin; None when it may.

    `running_daemonsets` is the binding's runningDaemonsetByDefault.
    """
    return _of_the_system(vpod) or _placeholder(vpod) or _daemonset(vpod, running_daemonsets)


def _of_the_system(vpod: Json) -> Refusal | None:
    namespace = namespace_of(vpod)
    if namespace not in names.EXCLUDED_NAMESPACES:
        return None
    message = f"Pods of namespace {namespace} serve the virtual cluster itself and run on no virtual node"
    return Refusal("NamespaceExcluded", message)


def _placeholder(vpod: Json) -> Refusal | None:
    if labels_of(vpod).get(names.HOSTPORT_PLACEHOLDER_LABEL) != "true":
        return None
    return Refusal("HostPortPlaceholder", "this Pod only marks host ports as taken; it never runs")


def _daemonset(vpod: Json, running_daemonsets: bool) -> Refusal | None:
    owner = controller_of(vpod)
    if running_daemonsets or owner is None or owner.get("kind") != "DaemonSet":
        return None
    if annotations_of(vpod).get(names.RUNNING_DAEMONSET_ANNOTATION) == "true":
        return None
    return Refusal(
        "DaemonSetNotAllowed",
        f'Pods of DaemonSets run on virtual nodes only with annotation {names.RUNNING_DAEMONSET_ANNOTATION}: "true" '
        "in the Pod template, or with spec.runningDaemonsetByDefault of the ClusterBinding",
    )
