"""The settings files of a real node: containerd's, its network plugins' and the kubelet's. Pure.

The programs use the paths they would use on any machine: below /run, /var/lib and /var/log a node sees folders of its own
(see `commands`), so two of them never meet, and nothing of them is found outside of the sandbox's folder.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from kubeocean.sandbox.realnode.network import NodePlace

KUBELET_PORT = 10250
REAL_LABEL = "sandbox.kubeocean.test/real"  # tells the real nodes from those that KWOK plays
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "kubeocean.test/pause:1"

# The kubelet insists on these of a machine that it has for itself. This machine stays as it is: the node sees files with
# these values in their places (see `commands`), finds nothing to change, and nothing else reads them.
SYSCTLS = {
    "vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000, "kernel/keys/root_maxbytes": 25_000_000,
}

_CONTAINERD = """\
version = 2
# The first would make /opt/containerd, the others look for devices and file systems that a sandbox has no use for.
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE (a container, many a sandbox) runc could not lower it and would die.
  restrict_oom_score_adj = true
  disable_tcp_service = true
  enable_selinux = false
  # Where it goes with the node, not below /run/netns of the machine.
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{networks}"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def build_containerd_config(*, plugins: Path, networks: Path) -> str:
    """Return containerd's settings; `plugins` and `networks` are the folders of the CNI's programs and settings."""
    return _CONTAINERD.format(socket=CONTAINERD_SOCKET, pause=PAUSE_IMAGE, plugins=plugins, networks=networks)


def build_cni_config(place: NodePlace) -> str:
    """Return the settings of the Pods' network: a bridge per node, addresses of the node's own range, host ports."""
    return json.dumps({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True,
                # No masquerading: everybody who can reach a Pod's node knows the way to the Pod.
                "ipMasq": False,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": place.pods}]], "routes": [{"dst": "0.0.0.0/0"}]},
            },
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
        ],
    }, indent=2)


def build_kubelet_config(place: NodePlace, *, cgroup: str, pki: Path, certificate: Path, resolv_conf: Path) -> str:
    """Return the kubelet's settings: `certificate` is its serving certificate without the `.crt`."""
    return yaml.safe_dump({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": place.address,
        "port": KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzBindAddress": place.address,
        "tlsCertFile": f"{certificate}.crt",
        "tlsPrivateKeyFile": f"{certificate}.key",
        "authentication": {
            "anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,  # to lower it takes a right that root need not have
        "makeIPTablesUtilChains": False,  # there is no kube-proxy that would use them
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",  # instead of below /usr
        # Nobody answers there; a name is refused at once, and a Pod's resolv.conf looks as it does everywhere.
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolv_conf),
        "serializeImagePulls": False,
        "syncFrequency": "10s",  # so soon a mounted ConfigMap is what it has become, instead of after a minute
        # There is no registry to get an image back from, and the disk is the machine's own to watch.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "100Mi", "imagefs.available": "100Mi"},
        "shutdownGracePeriod": "0s",
        "registerNode": True,
    }, sort_keys=False)


RESOLV_CONF = "nameserver 10.96.0.10\n"
