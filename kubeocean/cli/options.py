"""The flags that manager and syncer share; the ones a Pod template would set also read a KUBEOCEAN_* variable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from kubeocean.api.names import KUBEOCEAN_NAMESPACE
from kubeocean.kube.causes import first_cause
from kubeocean.kube.errors import KubeError
from kubeocean.kube.loopback import VNODE_LOOPBACK
from kubeocean.obs.health import InvalidAddress
from kubeocean.obs.log import configure_logging
from kubeocean.settings import ProcessSettings
from kubeocean.signals import run


class LogFormat(StrEnum):
    """How a log line looks."""

    JSON = "json"
    CONSOLE = "console"


class Switch(StrEnum):
    """A boolean as Go's flag package takes it: --flag, --flag=true or --flag=false."""

    TRUE = "true"
    FALSE = "false"


class LogLevel(StrEnum):
    """What is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_LEADER, _RATE, _LOG = "Leader election", "Request rates", "Logs"

Kubeconfig = Annotated[Path | None, typer.Option(
    envvar="KUBEOCEAN_KUBECONFIG",
    help="Of the virtual cluster; left out: $KUBECONFIG, ~/.kube/config, or the Pod's own account.",
)]
MetricsAddress = Annotated[str, typer.Option(help="Where /metrics is served; 0 turns it off.")]
HealthAddress = Annotated[str, typer.Option(help="Where /healthz and /readyz are served; 0 turns it off.")]
LeaderElect = Annotated[Switch, typer.Option(
    rich_help_panel=_LEADER,
    help="Work only while holding a Lease, so that several replicas may run; --leader-elect=false: work alone, at once.",
)]
LeaderId = Annotated[str, typer.Option(rich_help_panel=_LEADER, help="Name of the Lease.")]
LeaderNamespace = Annotated[str, typer.Option(rich_help_panel=_LEADER, help="Namespace of the Lease.")]
LeaseDuration = Annotated[str, typer.Option(
    rich_help_panel=_LEADER, help="How long others wait before they take over, such as 15s.",
)]
RenewDeadline = Annotated[str, typer.Option(rich_help_panel=_LEADER, help="How long a renewal is trusted, such as 10s.")]
RetryPeriod = Annotated[str, typer.Option(rich_help_panel=_LEADER, help="Time between renewals, such as 2s.")]
KubeQps = Annotated[float, typer.Option(
    rich_help_panel=_RATE, help="Calls per second to each cluster unless said otherwise; 0: no limit.",
)]
KubeBurst = Annotated[int, typer.Option(rich_help_panel=_RATE, help="Calls that may come at once.")]
VirtualQps = Annotated[float | None, typer.Option(rich_help_panel=_RATE, help="The same for the virtual cluster.")]
VirtualBurst = Annotated[int | None, typer.Option(rich_help_panel=_RATE)]
PhysicalQps = Annotated[float | None, typer.Option(rich_help_panel=_RATE, help="The same for physical clusters.")]
PhysicalBurst = Annotated[int | None, typer.Option(rich_help_panel=_RATE)]
VnodeAddress = Annotated[str, typer.Option(
    envvar=["KUBEOCEAN_VNODE_ADDRESS", "POD_IP"],
    help="InternalIP of virtual nodes: where the virtual API server reaches the proxier, such as its Pod's IP.",
)]
VirtualApiServer = Annotated[str, typer.Option(
    envvar="KUBEOCEAN_VIRTUAL_API_SERVER",
    help="HOST[:PORT] at which Pods in physical clusters reach the virtual API server. Left out: the load balancer of "
    "Service default/kubernetes-intranet, if there is one.",
)]
VirtualDns = Annotated[str, typer.Option(
    envvar="KUBEOCEAN_VIRTUAL_DNS",
    help="IP of the virtual cluster's DNS for Pods in physical clusters. Left out: the load balancer of Service "
    "kube-system/kube-dns-intranet, if there is one.",
)]
TimeZone = Annotated[str, typer.Option(
    envvar="KUBEOCEAN_TIME_ZONE", help="IANA zone of policies and bindings that name none.",
)]
ClockFile = Annotated[Path | None, typer.Option(
    hidden=True,  # no variable either: nobody may come to a wrong clock by accident
    help="For tests and trials only: a file with the number of seconds that the clock of leases is ahead of the real one.",
)]
Level = Annotated[LogLevel, typer.Option(rich_help_panel=_LOG, help="What is logged at least.")]
Format = Annotated[LogFormat | None, typer.Option(rich_help_panel=_LOG, help="Left out: console on a terminal, else json.")]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str, *, flag: str) -> float:
    """Read a duration as Go writes simple ones (15s, 500ms, 2m), or plain seconds. Raises typer.BadParameter."""
    for unit in sorted(_UNITS, key=len, reverse=True):
        number = text.removesuffix(unit)
        if text.endswith(unit) and number.replace(".", "", 1).isdigit():
            return float(number) * _UNITS[unit]
    if text.replace(".", "", 1).isdigit():
        return float(text)
    raise typer.BadParameter(f"{text!r} is no duration; write it like 15s, 500ms or 2m", param_hint=flag)


def process_flags(
    kubeconfig: Kubeconfig = None, metrics_bind_address: MetricsAddress = ":8080",
    health_probe_bind_address: HealthAddress = ":8081",
    leader_elect: LeaderElect = Switch.TRUE, leader_election_id: LeaderId = "",
    leader_election_namespace: LeaderNamespace = KUBEOCEAN_NAMESPACE, leader_election_lease_duration: LeaseDuration = "15s",
    leader_election_renew_deadline: RenewDeadline = "10s", leader_election_retry_period: RetryPeriod = "2s",
    kube_client_qps: KubeQps = 0, kube_client_burst: KubeBurst = 0,
    virtual_client_qps: VirtualQps = None, virtual_client_burst: VirtualBurst = None,
    physical_client_qps: PhysicalQps = None, physical_client_burst: PhysicalBurst = None,
    vnode_address: VnodeAddress = VNODE_LOOPBACK, virtual_api_server: VirtualApiServer = "", virtual_dns: VirtualDns = "",
    time_zone: TimeZone = "UTC", clock_file: ClockFile = None, log_level: Level = LogLevel.INFO, log_format: Format = None,
) -> dict[str, Any]:
    """Return the fields of ProcessSettings that these flags mean; what was left out is left to the model."""
    fields = locals()
    for name in ("lease_duration", "renew_deadline", "retry_period"):
        key = f"leader_election_{name}"
        fields[key] = seconds(fields[key], flag="--" + key.replace("_", "-"))
    for general in ("qps", "burst"):
        value = fields.pop(f"kube_client_{general}")
        for cluster in ("virtual", "physical"):
            if fields[f"{cluster}_client_{general}"] is None:
                fields[f"{cluster}_client_{general}"] = value
    if not leader_election_id:
        del fields["leader_election_id"]
    fields["leader_elect"] = leader_elect is Switch.TRUE
    return fields | {"log_level": log_level.value, "log_format": log_format.value if log_format else None}


def process_command(own: Callable[..., None]) -> Callable[..., None]:
    """Make a command of `own`, whose first parameter takes what `process_flags` returns and whose others are flags too."""
    (first, *flags) = inspect.signature(own, eval_str=True).parameters.values()
    shared = inspect.signature(process_flags, eval_str=True).parameters

    def command(**given: Any) -> None:
        fields = process_flags(**{name: given.pop(name) for name in shared})
        own(**{first.name: fields}, **given)

    merged = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*flags, *shared.values())]
    command.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]  # what typer reads instead of **given
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in merged}
    command.__name__, command.__doc__ = own.__name__, own.__doc__
    return command


S = TypeVar("S", bound=ProcessSettings)


def start(make: Callable[[], S], program: Callable[[S], Coroutine[Any, Any, None]], *, uvloop: bool = True) -> None:
    """Check the settings, set up logs, run the program; what goes wrong is one clear line and exit code 1."""
    try:
        settings = make()
    except ValidationError as error:
        for problem in error.errors():
            flag = "--" + "-".join(map(str, problem["loc"])).replace("_", "-") if problem["loc"] else "flags"
            typer.secho(f"Error: {flag}: {problem['msg'].removeprefix('Value error, ')}", fg="red", err=True)
        raise typer.Exit(2) from None
    configure_logging(level=settings.log_level, format=settings.log_format)
    try:
        run(lambda: program(settings), uvloop=uvloop)
    except (KubeError, InvalidAddress, OSError) as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        raise typer.Exit(1) from None
    except BaseExceptionGroup as group:
        known = group.subgroup((KubeError, OSError))
        if known is None:
            raise
        typer.secho(f"Error: {first_cause(known)}", fg="red", err=True)
        raise typer.Exit(1) from None
