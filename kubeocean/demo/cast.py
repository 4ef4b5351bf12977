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
NODES: Final = 3  # of each lender


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
      containers:
      - name: code-server
        image: codercom/code-server:4.100.3
        ports: [{{containerPort: 8080}}]
        resources: {{requests: {{cpu: 500m, memory: 1Gi}}}}
"""


def lender_manifest(lender: Lender) -> str:
    """Return the YAML of a lender's binding and policy."""
    limits = [f"  - {{resource: {name}, percent: {share}}}" for name, share in lender.percent.items()]
    limits += [f'  - {{resource: {name}, quantity: "{amount}"}}' for name, amount in lender.quantity.items()]
    return _LENDER.format(
        binding=lender.binding, cluster_id=lender.cluster_id, context=lender.context, policy=lender.policy,
        mount_namespace=MOUNT_NAMESPACE, limits="\n".join(limits),
    )


def deployment_manifest() -> str:
    """Return the YAML of the Deployment that a user of the virtual cluster applies."""
    return _CODE_SERVER.format(app=APP, replicas=REPLICAS)


def manifests() -> dict[str, str]:
    """Return every manifest by its file's name."""
    return {f"{lender.binding}.yaml": lender_manifest(lender) for lender in LENDERS} | {f"{APP}.yaml": deployment_manifest()}
