"""KWOK's settings: how nodes and Pods that it plays behave, and what kubectl logs, exec, attach and port-forward find. Pure.

Pods run at once, those of a Job then end well, and all are gone as soon as they are deleted. In its own stages KWOK takes the
last word of the API server on a Pod (its grace is 0, it goes this moment) for another deletion to play, and every Pod costs
a DELETE of nothing. A kubelet does not do that, so the stages here do not either.
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

_NOT_DELETED = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
_HAS_NO_ADDRESS = {"key": ".status.podIP", "operator": "DoesNotExist"}
_RUNS = "{running: {startedAt: {{ Now | Quote }}}}"
_ENDED = "{terminated: {exitCode: 0, reason: Completed, startedAt: {{ Now | Quote }}, finishedAt: {{ Now | Quote }}}}"
_POD_RUNS = """\
phase: Running
startTime: {{ Now | Quote }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName (or .spec.hostNetwork false) .metadata.uid .metadata.name .metadata.namespace | Quote }}
conditions:
{{ range list "Initialized" "Ready" "ContainersReady" }}
- {type: {{ . }}, status: "True", lastTransitionTime: {{ Now | Quote }}}
{{ end }}
{{ range .spec.readinessGates }}
- {type: {{ .conditionType | Quote }}, status: "True", lastTransitionTime: {{ Now | Quote }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- {name: {{ .name | Quote }}, image: {{ .image | Quote }}, restartCount: 0, ready: true, started: true, state: RUNS}
{{ end }}
{{ if .spec.initContainers }}
initContainerStatuses:
{{ range .spec.initContainers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  restartCount: 0
  ready: true
  started: {{ eq (or .restartPolicy "") "Always" }}
  state: {{ if eq (or .restartPolicy "") "Always" }}RUNS{{ else }}ENDED{{ end }}
{{ end }}
{{ end }}
""".replace("RUNS", _RUNS).replace("ENDED", _ENDED)
_POD_HAS_ENDED = """\
phase: Succeeded
containerStatuses:
{{ range .spec.containers }}
- {name: {{ .name | Quote }}, image: {{ .image | Quote }}, restartCount: 0, ready: false, started: false, state: ENDED}
{{ end }}
""".replace("ENDED", _ENDED)
_GOES = ".metadata | select(.deletionTimestamp and (.deletionGracePeriodSeconds != 0 or .finalizers))"
_SHOULD_HAVE_GONE = ".metadata | select(.deletionTimestamp and .deletionGracePeriodSeconds == 0)"
_GO = {"finalizers": {"empty": True}, "delete": True}

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
        _stage("Node", "node-ready", [_ready("NotIn")], {"next": {"statusTemplate": _BECOMES_READY}}),
        # KWOK's own stage writes every Node's status twice a minute (0.7 has its two sets, with and without Leases,
        # mixed up). A kubelet with a Lease does so every five minutes, and the noise of the rig should not hide ours.
        _stage("Node", "node-heartbeat", [_ready("In")], {
            "delay": {"durationMilliseconds": 300_000, "jitterDurationMilliseconds": 360_000},
            "next": {"statusTemplate": _STAYS_READY},
        }),
        *_POD_STAGES,
        _for_all_pods("ClusterLogs", {"logs": [{"logsFile": str(pod_log)}]}),
        _for_all_pods("ClusterAttach", {"attaches": [{"logsFile": str(pod_log)}]}),
        # The command runs on this machine, as the user who started the sandbox.
        _for_all_pods("ClusterExec", {"execs": [{"local": {}}]}),
        _for_all_pods("ClusterPortForward", {"forwards": [{"target": {"address": "127.0.0.1", "port": port}}]}),
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def _stage(kind: str, name: str, expressions: list[Json], rest: Json) -> Json:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind}, "selector": {"matchExpressions": expressions}, **rest,
        },
    }


def _ready(operator: str) -> Json:
    return {"key": _READY, "operator": operator, "values": ["True"]}


def _for_all_pods(kind: str, spec: Json) -> Json:
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": kind, "metadata": {"name": "all"}, "spec": spec}


_POD_STAGES = (
    _stage("Pod", "pod-runs", [_NOT_DELETED, _HAS_NO_ADDRESS], {"next": {"statusTemplate": _POD_RUNS}}),
    _stage(
        "Pod", "pod-of-job-ends",
        [
            _NOT_DELETED, {"key": ".status.phase", "operator": "In", "values": ["Running"]},
            {"key": ".metadata.ownerReferences.[].kind", "operator": "In", "values": ["Job"]},
        ],
        {"next": {"statusTemplate": _POD_HAS_ENDED}},
    ),
    _stage("Pod", "pod-goes", [{"key": _GOES, "operator": "Exists"}], {"next": _GO}),
    # The API server may have died between its two writes for one deletion.
    _stage("Pod", "pod-should-have-gone", [{"key": _SHOULD_HAVE_GONE, "operator": "Exists"}], {
        "delay": {"durationMilliseconds": 3_000}, "next": _GO,
    }),
)
