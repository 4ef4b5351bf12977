"""KWOK's settings: how the nodes it plays behave, and what kubectl logs, exec, attach and port-forward find. Pure.

For Pods there is no Stage here, so KWOK uses its own: they run at once and are gone as soon as they are deleted.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from kubeocean.kube.meta import Json

_READY = ".status.conditions.[] | select( .type == \"Ready\" ) | .status"
_CONDITIONS = """\
{{{{ $now := Now }}}}
conditions:
{{{{ range NodeConditions }}}}
- type: {{{{ .type | Quote }}}}
  status: {{{{ .status | Quote }}}}
  reason: {{{{ .reason | Quote }}}}
  message: {{{{ .message | Quote }}}}
  lastHeartbeatTime: {{{{ $now | Quote }}}}{since}
{{{{ end }}}}
"""
_BECOMES_READY = _CONDITIONS.format(since="\n  lastTransitionTime: {{ $now | Quote }}")
_STAYS_READY = _CONDITIONS.format(since="")

# In the format of the container runtime interface, which is what a kubelet reads.
POD_LOG = "2026-01-01T00:00:00.000000000Z stdout F KWOK plays this container: it prints nothing else.\n"


def build_kwok_config(*, pod_network: int, pod_log: Path, port: int) -> str:
    """Return the file; Pods get addresses of 10.`pod_network`.0.0/16, and port-forward leads to `port` of loopback."""
    documents = [
        {
            "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
            "kind": "KwokConfiguration",
            "options": {
                "cidr": f"10.{pod_network}.0.1/16", "podPlayStageParallelism": 16, "nodePlayStageParallelism": 16,
            },
        },
        _stage("node-ready", "NotIn", {"next": {"statusTemplate": _BECOMES_READY}}),
        # KWOK's own stage writes every Node's status twice a minute (0.7 has its two sets, with and without Leases,
        # mixed up). A kubelet with a Lease does so every five minutes, and the noise of the rig should not hide ours.
        _stage("node-heartbeat", "In", {
            "delay": {"durationMilliseconds": 300_000, "jitterDurationMilliseconds": 360_000},
            "next": {"statusTemplate": _STAYS_READY},
        }),
        _for_all_pods("ClusterLogs", {"logs": [{"logsFile": str(pod_log)}]}),
        _for_all_pods("ClusterAttach", {"attaches": [{"logsFile": str(pod_log)}]}),
        # The command runs on this machine, as the user who started the sandbox.
        _for_all_pods("ClusterExec", {"execs": [{"local": {}}]}),
        _for_all_pods("ClusterPortForward", {"forwards": [{"target": {"address": "127.0.0.1", "port": port}}]}),
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def _stage(name: str, operator: str, rest: Json) -> Json:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Node"},
            "selector": {"matchExpressions": [{"key": _READY, "operator": operator, "values": ["True"]}]},
            **rest,
        },
    }


def _for_all_pods(kind: str, spec: Json) -> Json:
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": kind, "metadata": {"name": "all"}, "spec": spec}
