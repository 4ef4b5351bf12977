"""What happens in the demo, as data: a step is a sentence and some acts, each shown and, where it can be, observed.

A new step is a new entry of `build_story`. Its commands are run as they are written here, so whoever reads one on the screen
can type it; its observations are functions of `kubeocean.demo.observations`.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubeocean.demo.cast import APP, HALF, HELLO, LENDERS, MOUNT_NAMESPACE, NAMESPACE, REPLICAS, SLICE
from kubeocean.demo.observations import (
    Observation,
    a_container_is_real,
    all_are_running,
    all_is_gone,
    both_are_bound,
    clusters_are_apart,
    leases_are_exact,
    nothing_left_of,
    twins_are_right,
)
from kubeocean.sandbox.kwok import POD_LOG


@dataclass(frozen=True, slots=True)
class Run:
    """A command line, shown, run and expected to succeed; its output is shown as it comes. `within` is in seconds."""

    line: str
    within: float = 60.0


@dataclass(frozen=True, slots=True)
class Hear:
    """A command line like `Run`, run again until its output has `part` in it; `what` tells what that shows."""

    line: str
    part: str
    what: str
    within: float = 30.0


@dataclass(frozen=True, slots=True)
class Forward:
    """A `kubectl port-forward` in the background, at whose end `path` must answer with `part`; then it is ended.

    `scheme` is what is spoken there; a certificate is not looked at.
    """

    line: str
    path: str
    part: str
    scheme: str = "http"
    within: float = 30.0


@dataclass(frozen=True, slots=True)
class StartManager:
    """`kubeocean manager`, started in the background as a part of the sandbox."""


@dataclass(frozen=True, slots=True)
class Observe:
    """Look at all clusters until `observation` has seen what it expects, at most `within` seconds."""

    observation: Observation
    within: float = 30.0


Act = Run | Hear | Forward | StartManager | Observe


@dataclass(frozen=True, slots=True)
class Step:
    """One chapter: a title, what happens in one sentence, and how."""

    title: str
    says: str
    acts: tuple[Act, ...]


_SIZES = "NODE:.metadata.name,CPU:.status.allocatable.cpu,MEMORY:.status.allocatable.memory"
_LEASES = _SIZES + r",LEASE:.metadata.annotations.kubeocean\.io/policy-details"
_MANIFESTS = " ".join(f"-f {lender.binding}.yaml" for lender in LENDERS)

_START = Step(
    "Start Kubeocean",
    "Two lenders have a cluster each; the virtual cluster, where users deploy, has no node. All that Kubeocean needs to "
    "start is the kubeconfig of the virtual cluster.",
    (
        *(Run(f"kubectl --context {lender.context} get nodes -o custom-columns={_SIZES}") for lender in LENDERS),
        Run("kubectl get nodes"),
        StartManager(),
        Observe(clusters_are_apart),
    ),
)

_BIND = Step(
    "Bind both clusters, each under a policy",
    "A lender's kubeconfig goes into a Secret, a ClusterBinding names it, a ResourceLeasingPolicy says how much of each "
    f"node is lent: {HALF.binding} {HALF.offer}; {SLICE.binding} {SLICE.offer}.",
    (
        *(
            Run(
                f"kubectl create secret generic {lender.context} "
                f"--from-file=kubeconfig=../../{lender.context}/kubeconfig"
            ) for lender in LENDERS
        ),
        Run(f"cat {HALF.binding}.yaml"),
        Run(f"kubectl apply {_MANIFESTS}"),
        Observe(both_are_bound),
        Run("kubectl get cb,rlp,nodes -o wide"),
        Run(f"kubectl get nodes -o custom-columns='{_LEASES}'"),
        Observe(leases_are_exact),
    ),
)

_DEPLOY = Step(
    f"Deploy {REPLICAS} code-servers",
    "To the virtual cluster this is any Deployment: it tolerates the taint of virtual nodes and asks to be spread over "
    "clusters; Kubernetes' own scheduler does the rest.",
    (
        Run(f"cat {APP}.yaml"),
        Run(f"kubectl apply -f {APP}.yaml"),
        Run(f"kubectl rollout status deployment/{APP} --timeout=60s", within=70.0),
        Observe(all_are_running),
        Run("kubectl get pods -o wide"),
    ),
)

_TWINS = Step(
    "The same Pods, as the lenders see them",
    f"Each Pod has a twin in namespace {MOUNT_NAMESPACE} of the cluster that really runs it, on the node that its virtual "
    "node stands for; what a Pod needs to talk to the virtual API server lies beside it in a Secret.",
    (
        *(Run(f"kubectl --context {lender.context} -n {MOUNT_NAMESPACE} get pods -o wide") for lender in LENDERS),
        Run(f"kubectl --context {HALF.context} -n {MOUNT_NAMESPACE} get secrets"),
        Observe(twins_are_right),
    ),
)

_REACH = Step(
    "Reach into a Pod with kubectl",
    "The proxier, a child process of the manager, is the kubelet of all virtual nodes. It asks the physical cluster about the "
    "twin: here KWOK, whose log has one line, which runs commands on this machine and forwards to its own port.",
    (
        Hear(f"kubectl logs deployment/{APP}", POD_LOG.partition("stdout F ")[2].strip(), "the log is the twin's"),
        Hear(f"kubectl exec deployment/{APP} -- echo 'as if from inside'", "as if from inside", "the command has run there"),
        Forward(f"kubectl port-forward deployment/{APP} :8080", "/healthz", "ok", scheme="https"),
    ),
)

_CONTAINER = Step(
    "Run a Pod in a real container",
    f"One node of {HALF.context} is not played: a kubelet with containerd. The container talks to the virtual API server, as "
    "the ServiceAccount that its Pod has there, and kubectl reaches it as on any other node.",
    (
        Run(f"cat {HELLO}.yaml"),
        Run(f"kubectl apply -f {HELLO}.yaml"),
        Observe(a_container_is_real),
        Hear(
            f"kubectl logs {HELLO}", f"system:serviceaccount:{NAMESPACE}:default",
            "the log is the container's, and the virtual API server knew it",
        ),
        Hear(f"kubectl exec {HELLO} -- hostname", HELLO, "the command has run in the container"),
        Forward(f"kubectl port-forward {HELLO} :8080", "/healthz", "ok"),
        Run(f"kubectl delete pod {HELLO}"),
    ),
)

_DELETE = Step(
    "Delete the Deployment",
    "What goes in the virtual cluster goes in the physical ones, Pods and Secrets.",
    (
        Run(f"kubectl delete deployment {APP}"),
        Observe(all_is_gone),
        Run("kubectl get pods"),
        *(Run(f"kubectl --context {lender.context} -n {MOUNT_NAMESPACE} get pods,secrets") for lender in LENDERS),
    ),
)

_UNBIND = Step(
    f"Take {SLICE.binding} out again",
    "Deleting the binding takes its virtual nodes away and everything of ours out of the lender's cluster.",
    (
        Run(f"kubectl delete -f {SLICE.binding}.yaml --timeout=60s", within=70.0),
        Observe(nothing_left_of(SLICE)),
        Run("kubectl get cb,rlp,nodes"),
        Run(f"kubectl --context {SLICE.context} get namespaces,priorityclasses"),
    ),
)


def build_story(*, real: bool) -> tuple[Step, ...]:
    """Return the steps; `real`: one of the nodes is a real one."""
    return (_START, _BIND, _DEPLOY, _TWINS, _REACH, *([_CONTAINER] if real else []), _DELETE, _UNBIND)
