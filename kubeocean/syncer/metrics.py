"""What a syncer does, counted under the names of the Go project (dashboards rely on them); what it holds: `gauges`."""

from __future__ import annotations

from prometheus_client import Counter

_BINDING = ("clusterbinding",)

create_pod_total = Counter("kubeocean_syncer_create_pod_total", "Physical Pods we tried to create", _BINDING)
create_pod_errors_total = Counter("kubeocean_syncer_create_pod_errors_total", "Tries that failed", _BINDING)
pod_created_total = Counter("kubeocean_syncer_pod_created_total", "Physical Pods created", _BINDING)
orphans_total = Counter(
    "kubeocean_syncer_orphans_total", "Disagreements of both sides that lasted until the patrol came by",
    ("clusterbinding", "kind"),
)
pod_created_failed_total = Counter("kubeocean_syncer_pod_created_failed_total", "Virtual Pods that will get no twin", _BINDING)
