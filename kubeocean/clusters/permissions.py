"""What Kubeocean must be allowed to do: tables, read by RBAC generation (`rbac`), the connection check and their tests.

The physical side is the lender's: nothing is asked for that no call of ours needs, and what touches Secrets or writes Pods
is asked for in the mountNamespace only, so a lender can see from the Role alone what a borrower may do. Not in the table:
the right to create namespaces. The lender makes the mountNamespace and keeps it; a user who may create it anyhow need not
wait for him.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from kubeocean.api import names
from kubeocean.domain.hashing import content_hash
from kubeocean.kube.client import Client
from kubeocean.kube.errors import ApiError
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import SELFSUBJECTACCESSREVIEWS, SELFSUBJECTRULESREVIEWS

CLIENT_CA_CONFIGMAP = "extension-apiserver-authentication"
KUBELET_SERVING_SIGNER = "kubernetes.io/kubelet-serving"


@dataclass(frozen=True, slots=True)
class Rule:
    """Some verbs on one resource; `why` is told to who grants it.

    `mounted` means only inside the mountNamespace (for `namespaces`: on that very one), `only` on the object of that name.
    `optional`: a binding works without it, and says what it does not do then.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    mounted: bool = False
    only: str = ""
    optional: bool = False


PHYSICAL_RULES: tuple[Rule, ...] = (
    Rule("", "nodes", ("get", "list", "watch", "patch"), "mirror nodes; label the leased ones policy-applied"),
    Rule("", "pods", ("get", "list", "watch"), "count what others use; follow our twins"),
    Rule("", "namespaces", ("get", "list"), "recognise the cluster; see whether a borrower is left"),
    Rule("scheduling.k8s.io", "priorityclasses", ("create",), "give twins the lowest priority"),
    Rule(
        "scheduling.k8s.io", "priorityclasses", ("get", "delete"), "remove it with the last borrower",
        only=names.DEFAULT_PRIORITY_CLASS,
    ),
    Rule("", "namespaces", ("patch",), "claim the mountNamespace, give it back", mounted=True),
    Rule("", "pods", ("create", "patch", "delete"), "run the twins", mounted=True),
    Rule("", "pods/ephemeralcontainers", ("patch",), "let `kubectl debug` reach the twins", mounted=True, optional=True),
    Rule("", "pods/resize", ("patch",), "resize the twins in place", mounted=True, optional=True),
    Rule(
        "", "secrets", ("get", "list", "watch", "create", "patch", "delete"), "hold tokens and copies of Secrets for the twins",
        mounted=True,
    ),
    Rule(
        "", "configmaps", ("get", "list", "watch", "create", "patch", "delete"), "hold copies of ConfigMaps for the twins",
        mounted=True,
    ),
    Rule(
        "", "events", ("list", "watch"), "tell users what happens to their Pods, in `kubectl describe`", mounted=True,
        optional=True,
    ),
    Rule(
        "", "services", ("get", "list", "watch", "create", "patch", "delete"), "mirror the Services of spec.serviceNamespaces",
        mounted=True, optional=True,
    ),
    Rule(
        "discovery.k8s.io", "endpointslices", ("get", "list", "watch", "create", "patch", "delete"), "say where they lead",
        mounted=True, optional=True,
    ),
    Rule(
        "networking.k8s.io", "networkpolicies", ("get", "list", "watch", "create", "patch", "delete"),
        "enforce the borrower's network policies; Pods they select do not start without", mounted=True, optional=True,
    ),
    # Volumes have no namespace, so there is no smaller right. A lender who grants none of these has Pods without claims only.
    Rule(
        "", "persistentvolumeclaims", ("get", "list", "watch", "create", "patch", "delete"),
        "hold and provision the claims of twins", mounted=True, optional=True,
    ),
    Rule(
        "", "persistentvolumes", ("get", "list", "watch", "create", "patch", "delete"),
        "bring the volumes of claims along (ours alone are changed); see where a provisioned one can be reached", optional=True,
    ),
    Rule("storage.k8s.io", "storageclasses", ("get",), "say why a claim cannot be provisioned", optional=True),
    Rule("", "pods/log", ("get",), "kubectl logs", mounted=True, optional=True),
    Rule("", "pods/exec", ("get", "create"), "kubectl exec and cp", mounted=True, optional=True),
    Rule("", "pods/attach", ("get", "create"), "kubectl attach and debug", mounted=True, optional=True),
    Rule("", "pods/portforward", ("get", "create"), "kubectl port-forward", mounted=True, optional=True),
    Rule("metrics.k8s.io", "pods", ("list",), "kubectl top: what the twins use", mounted=True, optional=True),
    Rule("storage.k8s.io", "csinodes", ("list", "watch"), "tell our scheduler how many volumes a node takes", optional=True),
    # The lender's own policies: he may have none, nor their kind. What he does not let us read, he cannot have honoured.
    Rule(
        "cloud.tencent.com", "resourceleasingpolicies", ("get", "list", "watch"), "honour the lender's own policies",
        optional=True,
    ),
    Rule("cloud.tencent.com", "resourceleasingpolicies/status", ("patch",), "tell the lender what they do", optional=True),
    Rule(
        "cloud.tencent.com", "resourceleasingpolicies", ("patch",),
        "remove the finalizer that the Go project left on one that is deleted", optional=True,
    ),
)

# Granted apart, and asked for only with spec.nodeProxy: nodes have no smaller right, and this one also runs commands in
# every Pod of a node.
NODE_PROXY_RULES: tuple[Rule, ...] = (
    Rule("", "nodes/proxy", ("get",), "read usage from the nodes' own kubelets", optional=True),
)

VIRTUAL_MANAGER_RULES: tuple[Rule, ...] = (
    Rule("cloud.tencent.com", "clusterbindings", ("get", "list", "watch", "patch"), "serve bindings"),
    Rule("cloud.tencent.com", "clusterbindings/status", ("patch",), "tell their state"),
    Rule("cloud.tencent.com", "resourceleasingpolicies", ("get", "list", "watch", "patch"), "serve policies"),
    Rule("cloud.tencent.com", "resourceleasingpolicies/status", ("patch",), "tell their state"),
    Rule("", "secrets", ("get", "list", "watch"), "read the kubeconfigs that bindings name"),
    Rule("", "namespaces", ("get",), "know which cluster this is"),
    Rule("", "events", ("create", "patch"), "say why"),
    Rule("coordination.k8s.io", "leases", ("get", "create", "update", "patch"), "elect a leader"),
)

VIRTUAL_SYNCER_RULES: tuple[Rule, ...] = (
    *VIRTUAL_MANAGER_RULES,
    Rule("", "nodes", ("get", "list", "watch", "create", "patch", "delete"), "keep virtual nodes"),
    Rule("", "nodes/status", ("patch",), "mirror node status"),
    Rule("", "pods", ("get", "list", "watch", "patch", "delete"), "follow Pods bound to virtual nodes"),
    Rule("", "pods", ("create",), f"mark host ports as taken, in namespace {names.PLACEHOLDER_NAMESPACE}"),
    Rule("", "namespaces", ("create",), "make that namespace"),
    Rule("", "namespaces", ("delete",), "remove it when nobody needs it", only=names.PLACEHOLDER_NAMESPACE),
    Rule(
        "storage.k8s.io", "csinodes", ("list", "watch", "create", "patch", "delete"),
        "tell the scheduler how many volumes a virtual node takes",
    ),
    Rule("", "pods/status", ("patch",), "mirror Pod status"),
    Rule("", "events", ("list", "watch"), "know which of a twin's Events are told already"),
    Rule("", "pods/eviction", ("create",), "drain a virtual node before it goes"),
    Rule("", "persistentvolumeclaims", ("get", "list", "watch", "patch"), "follow the claims of Pods, hold those in use"),
    Rule("", "persistentvolumeclaims/status", ("patch",), "tell how a claim grew"),
    Rule(
        "", "persistentvolumes", ("get", "list", "watch", "create", "patch", "delete"),
        "follow the volumes of claims; make those whose data a physical claim holds",
    ),
    Rule("storage.k8s.io", "storageclasses", ("list", "watch"), "know how a class binds and reclaims"),
    Rule("", "serviceaccounts/token", ("create",), "mint the token a Pod would get"),
    Rule("", "configmaps", ("get", "list", "watch", "patch"), "copy and mark those that Pods name; the root CA beside tokens"),
    Rule("", "secrets", ("patch",), "mark those that Pods name"),
    Rule("", "services", ("get", "list", "watch"), "tell Pods of their namespace's Services; find API server and DNS"),
    Rule("discovery.k8s.io", "endpointslices", ("get", "list", "watch"), "mirror those of spec.serviceNamespaces"),
    Rule("networking.k8s.io", "networkpolicies", ("get", "list", "watch"), "carry those that select Pods of ours along"),
    Rule("", "namespaces", ("list", "watch"), "know which ones a network policy's namespaceSelector means"),
    Rule("coordination.k8s.io", "leases", ("get", "create", "update", "patch", "delete"), "heartbeats of virtual nodes"),
)

INSTALL_RULES: tuple[Rule, ...] = (
    Rule("apiextensions.k8s.io", "customresourcedefinitions", ("get", "create", "patch"), "apply our two kinds at the start"),
)

VIRTUAL_PROXIER_RULES: tuple[Rule, ...] = (
    Rule("cloud.tencent.com", "clusterbindings", ("list", "watch"), "know whose nodes to serve"),
    Rule("", "nodes", ("list", "watch"), "know where each is served"),
    Rule("", "pods", ("get", "list"), "know whose Pod is asked for, and what runs on a node"),
    Rule("", "secrets", ("list", "watch"), "read the kubeconfigs that bindings name"),
    Rule("", "namespaces", ("get",), "know which cluster this is"),
    # The authorizer lets `only` hold for a list or watch that selects this very name.
    Rule("", "configmaps", ("list", "watch"), "know whose client certificates to trust", only=CLIENT_CA_CONFIGMAP),
    Rule("authentication.k8s.io", "tokenreviews", ("create",), "ask who a caller is"),
    Rule("authorization.k8s.io", "subjectaccessreviews", ("create",), "ask what a caller may do"),
    Rule("certificates.k8s.io", "certificatesigningrequests", ("create", "get"), "ask for a serving certificate"),
    Rule("certificates.k8s.io", "certificatesigningrequests/approval", ("update",), "approve that request"),
    Rule("certificates.k8s.io", "signers", ("approve",), "the same", only=KUBELET_SERVING_SIGNER),
)

VIRTUAL_RULES: dict[str, tuple[Rule, ...]] = {
    "manager": VIRTUAL_MANAGER_RULES, "syncer": VIRTUAL_SYNCER_RULES, "proxier": VIRTUAL_PROXIER_RULES,
}


class KnownRights:
    """Knows under which rules nothing was missing, and asks all the questions again only when the rules are others.

    What the server lists of a user's rules is not taken for an answer (it may be incomplete, and what a rule means is the
    server's to say), but it shows by one call whether there is anything to ask. Where it is incomplete, all is asked each time.
    """

    def __init__(self) -> None:
        self._sufficient = ""

    async def find_missing(self, client: Client, mount_namespace: str) -> list[str]:
        """See `find_missing`."""
        rules = await _read_rules(client, mount_namespace)  # first: what is taken back meanwhile shows at the next look
        if rules and rules == self._sufficient:
            return []
        missing = await find_missing(client, mount_namespace)
        self._sufficient = "" if missing else rules
        return missing


async def _read_rules(client: Client, mount_namespace: str) -> str:
    """Return a hash of all rules that hold for us in the mountNamespace and cluster-wide; "" when not all are known."""
    try:
        review = await client.create(SELFSUBJECTRULESREVIEWS, {
            "apiVersion": SELFSUBJECTRULESREVIEWS.api_version, "kind": SELFSUBJECTRULESREVIEWS.kind,
            "metadata": {}, "spec": {"namespace": mount_namespace},
        })
    except ApiError:
        return ""  # not for us to ask, or not known there
    status = review.get("status") or {}
    if status.get("incomplete") or status.get("evaluationError"):
        return ""
    rules = sorted(content_hash(rule) for rule in status.get("resourceRules") or ())  # they come in any order
    return content_hash({"namespace": mount_namespace, "rules": rules})


async def find_missing(
    client: Client, mount_namespace: str, wanted: Callable[[str, Rule], bool] = lambda verb, rule: True
) -> list[str]:
    """Ask the physical API server what of PHYSICAL_RULES we must do and may not; [] means nothing is missing.

    Asks for what is `wanted` (verb, rule) only. Each entry reads like `create pods in namespace team-a`. Raises KubeError when
    the server cannot be asked.
    """
    rules = [rule for rule in PHYSICAL_RULES if not rule.optional]
    questions = [(verb, rule) for rule in rules for verb in rule.verbs if wanted(verb, rule)]
    answers = await asyncio.gather(*(_may(client, verb, rule, mount_namespace) for verb, rule in questions))
    return [
        describe(verb, rule, mount_namespace) for (verb, rule), allowed in zip(questions, answers, strict=True) if not allowed
    ]


def describe(verb: str, rule: Rule, mount_namespace: str) -> str:
    """Return one permission in words, e.g. `patch namespaces/team-a`."""
    if rule.mounted and rule.resource == "namespaces":
        return f"{verb} namespaces/{mount_namespace}"
    name, place = f"/{rule.only}" if rule.only else "", f" in namespace {mount_namespace}" if rule.mounted else ""
    return f"{verb} {rule.resource}{name}{place}"


async def _may(client: Client, verb: str, rule: Rule, mount_namespace: str) -> bool:
    namespace = mount_namespace if rule.mounted else ""
    # To the API server's authorizer, a namespace lies inside itself.
    name = rule.only or (namespace if rule.resource == "namespaces" else "")
    attributes: Json = {
        "verb": verb, "group": rule.group, "resource": rule.resource, "namespace": namespace, "name": name,
    }
    review = await client.create(SELFSUBJECTACCESSREVIEWS, {
        "apiVersion": SELFSUBJECTACCESSREVIEWS.api_version, "kind": SELFSUBJECTACCESSREVIEWS.kind,
        "metadata": {}, "spec": {"resourceAttributes": attributes},
    })
    return bool(review["status"].get("allowed"))
