from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from kubeocean.cli import app
from kubeocean.cli.options import process_flags, seconds
from kubeocean.kube.loopback import VNODE_LOOPBACK
from kubeocean.settings import ManagerSettings, ProxierSettings, SyncerSettings

DURATIONS = {"15s": 15.0, "500ms": 0.5, "2m": 120.0, "1h": 3600.0, "1.5s": 1.5, "10": 10.0}


@pytest.mark.parametrize("text", DURATIONS)
def test_durations_are_read_as_go_writes_them(text: str) -> None:
    assert seconds(text, flag="--x") == DURATIONS[text]


@pytest.mark.parametrize("text", ["", "soon", "5 s", "-5s", "1d"])
def test_a_bad_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="write it like 15s"):
        seconds(text, flag="--x")


def test_kube_client_qps_holds_for_both_sides_unless_one_says_otherwise() -> None:
    flags = process_flags(kube_client_qps=50, kube_client_burst=100, physical_client_qps=5)
    settings = ManagerSettings(**flags)
    assert (settings.virtual_client_qps, settings.virtual_client_burst) == (50, 100)
    assert (settings.physical_client_qps, settings.physical_client_burst) == (5, 100)


def test_each_binding_has_a_lease_of_its_own() -> None:
    assert SyncerSettings(cluster_binding_name="a").lease_name == "kubeocean-syncer-a"
    assert SyncerSettings(cluster_binding_name="a", leader_election_id="mine").lease_name == "mine"


ADDRESSES = {"": ("", ""), "10.0.0.1": ("10.0.0.1", "443"), "api.example:6443": ("api.example", "6443")}


@pytest.mark.parametrize("text", ADDRESSES)
def test_the_virtual_api_server_is_read_as_host_and_port(text: str) -> None:
    assert ManagerSettings(virtual_api_server=text).api_server == ADDRESSES[text]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings of the programs that were to be started."""
    seen: list[Any] = []
    for command in ("manager", "proxier"):
        monkeypatch.setattr(f"kubeocean.cli.{command}.start", lambda make, _, **__: seen.append(make()))
    return seen


VNODE_ADDRESSES: dict[str, tuple[dict[str, str], list[str], str]] = {
    "on a laptop it is a loopback address from which nothing connects": ({}, [], VNODE_LOOPBACK),
    "in a Pod that knows its IP it is that": ({"POD_IP": "10.1.2.3"}, [], "10.1.2.3"),
    "unless it is said otherwise, of a Service perhaps": (
        {"POD_IP": "10.1.2.3", "KUBEOCEAN_VNODE_ADDRESS": "10.96.0.7"}, [], "10.96.0.7"),
    "a flag has the last word": ({"KUBEOCEAN_VNODE_ADDRESS": "10.96.0.7"}, ["--vnode-address=10.9.9.9"], "10.9.9.9"),
}


@pytest.mark.parametrize("sentence", VNODE_ADDRESSES)
def test_where_virtual_nodes_are_served(sentence: str, started: list[Any]) -> None:
    environment, flags, address = VNODE_ADDRESSES[sentence]
    result = CliRunner(env={"POD_IP": None, "KUBEOCEAN_VNODE_ADDRESS": None, **environment}).invoke(app, ["manager", *flags])
    assert result.exit_code == 0, result.output
    assert started[0].vnode_address == address


def test_the_managers_proxier_goes_by_the_managers_settings(started: list[Any]) -> None:
    flags = ["--kubeconfig=virtual.kubeconfig", "--vnode-address=10.96.0.7", "--proxier-bind-address=0.0.0.0",
             "--proxier-linger=20m", "--log-level=debug", "--log-format=console"]
    assert CliRunner().invoke(app, ["manager", *flags]).exit_code == 0
    result = CliRunner().invoke(app, ["proxier", "--supervised", *started[0].proxier_flags])
    assert result.exit_code == 0, result.output
    assert started[1] == ProxierSettings(
        kubeconfig=Path("virtual.kubeconfig").absolute(), vnode_address="10.96.0.7", bind_address="0.0.0.0", log_level="debug",
        log_format="console", metrics_bind_address="0", health_probe_bind_address="0", supervised=True,
        linger=1200.0,
    )


def test_leader_election_times_that_cannot_work_are_refused() -> None:
    result = CliRunner().invoke(app, ["manager", "--leader-election-lease-duration", "5s"])
    assert result.exit_code == 2
    assert "lease duration > renew deadline" in result.output


@pytest.mark.parametrize("command", ["manager", "syncer", "proxier", "sandbox", "crds", "rbac", "version"])
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_a_clock_that_is_not_the_real_one_is_nothing_help_offers() -> None:
    assert "clock" not in CliRunner().invoke(app, ["manager", "--help"]).output


def test_the_printed_rbac_can_be_applied() -> None:
    result = CliRunner().invoke(app, ["rbac", "--mount-namespace", "team-a"])
    assert result.exit_code == 0
    assert "kind: ClusterRoleBinding" in result.output


MISTYPED = {
    "an unknown flag": (["--nonsense"], "--nonsense"),
    "an unknown zone": (["--time-zone=Mars/Phobos"], "--time-zone: 'Mars/Phobos' is no known time zone; write an IANA"),
    "a folder of zones": (["--time-zone=Europe"], "--time-zone: 'Europe' is no known time zone; write an IANA time zone"),
    "a name for the DNS": (["--virtual-dns=dns.local"], "--virtual-dns: 'dns.local' is no IP address; write one such as"),
    "no address to bind": (["--proxier-bind-address=here"], "--proxier-bind-address: 'here' is no IP address"),
    "the name of a Service": (["--vnode-address=proxier.kubeocean-system.svc"], "of a Service, write its ClusterIP"),
    "no vnode address": (["--vnode-address="], "--vnode-address: '' is no IP address"),
    "a URL as API server": (["--virtual-api-server=https://x"], "--virtual-api-server: 'https://x' is no address; write HOST"),
    "no number as port": (["--virtual-api-server=x:y"], "--virtual-api-server: 'x:y' is no address; write HOST or HOST:PORT"),
    "port 0": (["--virtual-api-server=x:0"], "--virtual-api-server: 'x:0' is no address"),
    "a negative rate": (["--physical-client-qps=-1"], "--physical-client-qps: Input should be greater than or equal to 0"),
    "no rate": (["--kube-client-qps=abc"], "--kube-client-qps"),
    "a lease of no length": (["--leader-election-lease-duration=0s"], "--leader-election-lease-duration: Input should be"),
    "a maybe": (["--leader-elect=maybe"], "--leader-elect"),
    "an unknown launcher": (["--launcher=kubernetes"], "--launcher"),
    "an unknown level": (["--log-level=loud"], "--log-level"),
    "no clock": (["--clock-file=/nonexistent"], "--clock-file: cannot read /nonexistent: No such file or directory"),
    "a clock without hands": (["--clock-file=/dev/null"], "--clock-file: /dev/null says ''; write how many seconds"),
    "no address": (["--health-probe-bind-address=foo", "--kubeconfig=/nonexistent"], "--health-probe-bind-address: 'foo'"),
}


@pytest.mark.parametrize("sentence", MISTYPED)
def test_a_mistyped_flag_is_named_and_ends_the_program(sentence: str) -> None:
    flags, said = MISTYPED[sentence]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["manager", *flags])
    assert result.exit_code in (1, 2)
    assert said in result.output
    assert "Traceback" not in result.output


def test_rbac_for_a_name_that_no_namespace_has_is_refused() -> None:
    result = CliRunner().invoke(app, ["rbac", "--mount-namespace", "Not_Valid"])
    assert result.exit_code == 2
    assert "lower-case letters" in result.output
