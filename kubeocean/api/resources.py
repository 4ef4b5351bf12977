"""Where the API server keeps our own kinds."""

from __future__ import annotations

from kubeocean.api.names import GROUP, VERSION
from kubeocean.kube.resources import Resource

CLUSTERBINDINGS = Resource(GROUP, VERSION, "clusterbindings", "ClusterBinding", False)
RESOURCELEASINGPOLICIES = Resource(GROUP, VERSION, "resourceleasingpolicies", "ResourceLeasingPolicy", False)
