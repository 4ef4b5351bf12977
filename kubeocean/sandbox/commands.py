"""The command line of every server: what was asked for in, arguments out. Pure.

The flags are those that were tried (Kubernetes 1.34, etcd 3.6, KWOK 0.7); only what would surprise has a comment.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.nodes import KWOK_ANNOTATION

LOOPBACK = "127.0.0.1"
_AUDIT_POLICY = """\
# Who wrote what, and nothing of its contents: benchmarks count the writes of each client in this log. What merely says
# that the rig itself is alive is left out, or a long run would fill the disk with it; and who reads what, unless asked for.
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    users: [kwok, "system:apiserver"]
    resources: [{{group: coordination.k8s.io, resources: [leases]}}]
  - level: {reads}
    verbs: [get, list, watch]
  - level: Metadata
"""


def build_audit_policy(*, reads: bool) -> str:
    """Return what an API server is to write down: every write, and with `reads` every read, which costs it some time."""
    return _AUDIT_POLICY.format(reads="Metadata" if reads else "None")


# The benchmarks are to measure Kubeocean, not the limits of the rig.
_READS_IN_FLIGHT, _WRITES_IN_FLIGHT = 2000, 1000
_QPS, _BURST = 2000, 4000

# Controllers without anything to do here: addresses and routes of nodes, load balancers, a cloud.
_CONTROLLERS = "*,-node-ipam-controller,-node-route-controller,-service-lb-controller,-cloud-node-lifecycle-controller"


@dataclass(frozen=True, slots=True)
class Command:
    """One server to start: `address` is its URL, `readiness` the path below it that answers 200 once it works."""

    name: str
    argv: tuple[str, ...]
    address: str
    readiness: str


@dataclass(frozen=True, slots=True)
class Files:
    """Where the files of one cluster are; all of them below its folder."""

    folder: Path

    @property
    def pki(self) -> Path:
        """Certificates and keys, of the authority (ca), the servers and the clients."""
        return self.folder / "pki"

    @property
    def logs(self) -> Path:
        """One log per component."""
        return self.folder / "logs"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON line per write that the API server answered."""
        return self.folder / "audit.log"

    @property
    def audit_policy(self) -> Path:
        """What the audit log is to hold."""
        return self.folder / "audit-policy.yaml"

    @property
    def kwok_config(self) -> Path:
        """KWOK's settings."""
        return self.folder / "kwok.yaml"

    @property
    def pod_log(self) -> Path:
        """What KWOK shows as the log of every container."""
        return self.folder / "pod.log"

    def kubeconfig_of(self, component: str) -> Path:
        """Return where a component finds the API server and its own certificate."""
        return self.folder / f"{component}.kubeconfig"


def etcd_command(assets: Assets, data: Path, port: int, peer_port: int) -> Command:
    """Return the command of an etcd on loopback. Its data does not survive a crash of the machine, on purpose."""
    url, peer_url = f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{peer_port}"
    return Command("etcd", (
        str(assets.etcd),
        f"--data-dir={data}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
        "--unsafe-no-fsync",
        "--quota-backend-bytes=8589934592",  # a long benchmark writes more than the default 2 GiB
        "--log-level=warn",
    ), url, "/readyz")


def apiserver_command(assets: Assets, files: Files, *, etcd: str, prefix: str, listen: str, port: int) -> Command:
    """Return the command of an API server that listens at `listen` and keeps its objects in `etcd` below `prefix`."""
    pki = files.pki
    reachable = LOOPBACK if listen == "0.0.0.0" else listen
    return Command("kube-apiserver", (
        str(assets.kube_apiserver),
        f"--etcd-servers={etcd}",
        f"--etcd-prefix=/{prefix}",
        f"--bind-address={listen}",
        f"--secure-port={port}",
        f"--advertise-address={reachable}",
        "--endpoint-reconciler-type=none",  # a Service endpoint on loopback is refused by validation
        f"--tls-cert-file={pki}/server.crt",
        f"--tls-private-key-file={pki}/server.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--service-account-key-file={pki}/tokens.crt",
        f"--service-account-signing-key-file={pki}/tokens.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=Node,RBAC",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP,Hostname",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy.crt",
        f"--proxy-client-key-file={pki}/front-proxy.key",
        "--allow-privileged=true",
        f"--audit-policy-file={files.audit_policy}",
        f"--audit-log-path={files.audit_log}",
        "--audit-log-maxsize=100000",  # MB: one file, as whoever counts the writes reads it whole
        f"--max-requests-inflight={_READS_IN_FLIGHT}",
        f"--max-mutating-requests-inflight={_WRITES_IN_FLIGHT}",
        "--profiling=false",
        "--v=1",
    ), _url(reachable, port), "/readyz")


def controller_manager_command(assets: Assets, files: Files, *, port: int) -> Command:
    """Return the command of a kube-controller-manager that also signs certificates with the cluster's authority."""
    return Command("kube-controller-manager", (
        str(assets.kube_controller_manager),
        *_client_flags(files, "kube-controller-manager", port),
        f"--service-account-private-key-file={files.pki}/tokens.key",
        f"--root-ca-file={files.pki}/ca.crt",
        f"--cluster-signing-cert-file={files.pki}/ca.crt",
        f"--cluster-signing-key-file={files.pki}/ca.key",
        "--use-service-account-credentials=true",  # its own user may not do half of its work
        f"--controllers={_CONTROLLERS}",
        f"--flex-volume-plugin-dir={files.folder}/volume-plugins",  # else it makes a folder below /usr
    ), _url(LOOPBACK, port), "/healthz")


def scheduler_command(assets: Assets, files: Files, *, port: int) -> Command:
    """Return the command of a kube-scheduler."""
    return Command("kube-scheduler", (
        str(assets.kube_scheduler), *_client_flags(files, "kube-scheduler", port),
    ), _url(LOOPBACK, port), "/readyz")


def kwok_command(assets: Assets, files: Files, *, port: int) -> Command:
    """Return the command of a KWOK that plays the annotated nodes, their Pods and their kubelets' port."""
    return Command("kwok", (
        str(assets.kwok),
        f"--kubeconfig={files.kubeconfig_of('kwok')}",
        f"--config={files.kwok_config}",
        f"--manage-nodes-with-annotation-selector={KWOK_ANNOTATION}=fake",
        "--node-lease-duration-seconds=40",
        f"--node-ip={LOOPBACK}",
        f"--node-port={port}",
        f"--server-address={LOOPBACK}:{port}",
        f"--tls-cert-file={files.pki}/component.crt",
        f"--tls-private-key-file={files.pki}/component.key",
        "--v=WARN",
    ), _url(LOOPBACK, port), "/healthz")


def _client_flags(files: Files, component: str, port: int) -> tuple[str, ...]:
    kubeconfig = files.kubeconfig_of(component)
    return (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        f"--tls-cert-file={files.pki}/component.crt",
        f"--tls-private-key-file={files.pki}/component.key",
        "--leader-elect=false",
        f"--kube-api-qps={_QPS}",
        f"--kube-api-burst={_BURST}",
        "--profiling=false",
        "--v=1",
    )


def _url(host: str, port: int) -> str:
    return f"https://{host}:{port}"
