"""Our two CustomResourceDefinitions, built from the models.

The models are the source; `config/crd/*.yaml` (hack/update-crds) and `kubeocean crds` are what this module says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import yaml

from kubeocean.api.binding import ClusterBindingSpec, ClusterBindingStatus
from kubeocean.api.model import ApiModel
from kubeocean.api.policy import ResourceLeasingPolicySpec, ResourceLeasingPolicyStatus
from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.api.structural import build_schema
from kubeocean.kube.meta import Json
from kubeocean.kube.resources import CUSTOMRESOURCEDEFINITIONS, Resource

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


@dataclass(frozen=True, slots=True)
class _Definition:
    resource: Resource
    short_name: str
    description: str
    spec: type[ApiModel]
    status: type[ApiModel]
    columns: tuple[Json, ...]


def _column(name: str, kind: str, path: str, *, wide: bool = False) -> Json:
    return {"name": name, "type": kind, "jsonPath": path, **({"priority": 1} if wide else {})}


_DEFINITIONS = (
    _Definition(
        CLUSTERBINDINGS, "cb", "Joins one physical cluster to this virtual one.",
        ClusterBindingSpec, ClusterBindingStatus,
        (
            _column("ClusterID", "string", ".spec.clusterID"),
            _column("Phase", "string", ".status.phase"),
            _column("Nodes", "integer", ".status.nodes"),
            _column("Pods", "integer", ".status.pods"),
            _column("Connected", "string", '.status.conditions[?(@.type=="Connected")].status'),
            _column("Version", "string", ".status.kubernetesVersion", wide=True),
            _column("LastSync", "date", ".status.lastSyncTime", wide=True),
            _column("Message", "string", '.status.conditions[?(@.type=="Ready")].message', wide=True),
            _AGE,
        ),
    ),
    _Definition(
        RESOURCELEASINGPOLICIES, "rlp", "Says which share of which nodes may be used, and when.",
        ResourceLeasingPolicySpec, ResourceLeasingPolicyStatus,
        (
            _column("Cluster", "string", ".spec.cluster"),
            _column("Phase", "string", ".status.phase"),
            _column("Active", "boolean", ".status.activeTimeWindow"),
            # A date column shows an age, which for the future is "<invalid>"; a string column shows the time itself.
            _column("NextChange", "string", ".status.nextChangeTime"),
            _AGE,
        ),
    ),
)


def crds() -> list[Json]:
    """Return the CustomResourceDefinitions of ClusterBinding and ResourceLeasingPolicy, ready to be applied."""
    return [_build(definition) for definition in _DEFINITIONS]


def render_yaml(definitions: Iterable[Json] | None = None) -> str:
    """Return `definitions` (default: all of ours) as one YAML stream for `kubectl apply -f -`."""
    documents = crds() if definitions is None else definitions
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120, explicit_start=True, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes lists that are used twice in full: anchors do not read well, and not every tool follows them."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _build(definition: _Definition) -> Json:
    resource = definition.resource
    return {
        "apiVersion": CUSTOMRESOURCEDEFINITIONS.api_version,
        "kind": CUSTOMRESOURCEDEFINITIONS.kind,
        "metadata": {"name": f"{resource.plural}.{resource.group}"},
        "spec": {
            "group": resource.group,
            "names": {
                "kind": resource.kind, "listKind": f"{resource.kind}List", "plural": resource.plural,
                "singular": resource.kind.lower(), "shortNames": [definition.short_name],
            },
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [_build_version(definition)],
        },
    }


def _build_version(definition: _Definition) -> Json:
    return {
        "name": definition.resource.version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": list(definition.columns),
        "schema": {
            "openAPIV3Schema": {
                "description": definition.description,
                "type": "object",
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                    "spec": build_schema(definition.spec),
                    "status": build_schema(definition.status),
                },
            }
        },
    }
