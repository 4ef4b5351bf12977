"""Who plays in the demo and what is handed to kubectl. Pure.

The manifests are text, not dumped objects: they are read on the screen, and by whoever copies them for a first binding of
his own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from kubeocean.kube.quantity import Quantity

VIRTUAL: Final = "virtual"  # names of contexts in the kubeconfig
MOUNT_NAMESPACE: Final = "kubeocean-demo"  # in both physical clusters
NAMESPACE: Final = "default"  # in the virtual one
APP: Final = "code-server"
REPLICAS: Final = 8
NODES: Final = 3  # of each lender, played by KWOK
HELLO: Final = "hello"  # the Pod in a real container, where there can be one


@dataclass(frozen=True, slots=True, eq=False)  # there is one of each, which may be a key
class Lender:
    """One physical cluster and what of each of its nodes it lends: `percent` or `quantity` per resource name."""

    number: int
    policy: str
    percent: Mapping[str, int] = field(default_factory=dict)
    quantity: Mapping[str, str] = field(default_factory=dict)

    @property
    def binding(self) -> str:
        """The ClusterBinding's name."""
        return f"lender-{self.number}"

    @property
    def cluster_id(self) -> str:
        """The binding's clusterID."""
        return f"c{self.number}"

    @property
    def context(self) -> str:
        """The context of its cluster, which also names the Secret with its kubeconfig."""
        return f"physical-{self.number}"

    def vnode(self, node: str) -> str:
        """Return the name of the virtual node that stands for `node`."""
        return f"vnode-{self.cluster_id}-{node}"

    def share(self, resource: str, whole: Quantity) -> Quantity:
        """Return what it lends of a node that has `whole` and runs nothing else."""
        if resource in self.percent:
            whole = whole.percent(self.percent[resource])
        return min(whole, Quantity.parse(self.quantity[resource])) if resource in self.quantity else whole

    @property
    def offer(self) -> str:
        """The lease in a few words, such as `cpu 50 %, memory 8Gi`."""
        words = [f"{resource} {share} %" for resource, share in self.percent.items()]
        return ", ".join([*words, *(f"{resource} {amount}" for resource, amount in self.quantity.items())])


HALF: Final = Lender(1, "half", percent={"cpu": 50, "memory": 50})
SLICE: Final = Lender(2, "slice", quantity={"cpu": "3", "memory": "8Gi"})
LENDERS: Final = (HALF, SLICE)
LEASED_RESOURCES: Final = ("cpu", "memory")

_LENDER = """\
apiVersion: cloud.tencent.com/v1beta1
kind: ClusterBinding
metadata: {{name: {binding}}}
spec:
  clusterID: {cluster_id}
  secretRef: {{name: {context}, namespace: default}}
  mountNamespace: {mount_namespace}
---
apiVersion: cloud.tencent.com/v1beta1
kind: ResourceLeasingPolicy
metadata: {{name: {policy}}}
spec:
  cluster: {binding}
  resourceLimits:
{limits}
"""

_CODE_SERVER = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {app}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {app}}}}}
  template:
    metadata: {{labels: {{app: {app}}}}}
    spec:
      tolerations:
      - {{key: kubeocean.io/vnode, operator: Exists, effect: NoSchedule}}
      topologySpreadConstraints:
      - topologyKey: kubeocean.io/cluster-id
        maxSkew: 1
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {{matchLabels: {{app: {app}}}}}
{affinity}      containers:
      - name: code-server
        image: codercom/code-server:4.100.3
        ports: [{{containerPort: 8080}}]
        resources: {{requests: {{cpu: 500m, memory: 1Gi}}}}
"""

# KWOK plays any image; a real node has only its own, there is no registry to get others from.
_PLAYED_NODES = """\
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms: [{matchExpressions: [{key: sandbox.kubeocean.test/real, operator: DoesNotExist}]}]
"""

_HELLO = """\
apiVersion: v1
kind: Pod
metadata: {name: hello}
spec:
  nodeSelector: {sandbox.kubeocean.test/real: "true"}
  tolerations:
  - {key: kubeocean.io/vnode, operator: Exists, effect: NoSchedule}
  containers:
  - name: hello
    image: kubeocean.test/toolbox:1
    command:
    - sh
    - -c
    - |
      who='{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}'
      toolbox call POST /apis/authentication.k8s.io/v1/selfsubjectreviews "$who" > /tmp/answer
      echo "Hello from a real container: user $(id -un), address $(hostname -i)."
      echo "The virtual API server knows me as $(grep -o 'system:serviceaccount:[a-z:]*' /tmp/answer)."
      exec toolbox serve -http :8080
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
"""


def lender_manifest(lender: Lender) -> str:
    """Return the YAML of a lender's binding and policy."""
    limits = [f"  - {{resource: {name}, percent: {share}}}" for name, share in lender.percent.items()]
    limits += [f'  - {{resource: {name}, quantity: "{amount}"}}' for name, amount in lender.quantity.items()]
    return _LENDER.format(
        binding=lender.binding, cluster_id=lender.cluster_id, context=lender.context, policy=lender.policy,
        mount_namespace=MOUNT_NAMESPACE, limits="\n".join(limits),
    )


def deployment_manifest(*, real: bool = False) -> str:
    """Return the YAML of the Deployment that a user of the virtual cluster applies; not for nodes that are `real`."""
    return _CODE_SERVER.format(app=APP, replicas=REPLICAS, affinity=_PLAYED_NODES if real else "")


def manifests(*, real: bool = False) -> dict[str, str]:
    """Return every manifest by its file's name; `real`: there is a real node, too."""
    lenders = {f"{lender.binding}.yaml": lender_manifest(lender) for lender in LENDERS}
    hello = {f"{HELLO}.yaml": _HELLO} if real else {}
    return {**lenders, f"{APP}.yaml": deployment_manifest(real=real), **hello}
