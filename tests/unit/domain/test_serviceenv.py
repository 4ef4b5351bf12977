"""The variables of Services, as a kubelet would write them (its own table: pkg/kubelet/envvars/envvars_test.go)."""

import pytest

from kubeocean.domain.serviceenv import build_api_env, build_service_env
from kubeocean.kube.meta import Json


def service(name: str, ip: str | None, *ports: Json) -> Json:
    address = {} if ip is None else {"clusterIP": ip}
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": {"ports": list(ports), **address}}


def told(*services: Json, links: bool = True) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in build_service_env(services, enable_service_links=links)}


def test_one_port_gives_seven_variables() -> None:
    assert told(service("foo-bar", "1.2.3.4", {"port": 8080, "protocol": "TCP"})) == {
        "FOO_BAR_SERVICE_HOST": "1.2.3.4",
        "FOO_BAR_SERVICE_PORT": "8080",
        "FOO_BAR_PORT": "tcp://1.2.3.4:8080",
        "FOO_BAR_PORT_8080_TCP": "tcp://1.2.3.4:8080",
        "FOO_BAR_PORT_8080_TCP_PROTO": "tcp",
        "FOO_BAR_PORT_8080_TCP_PORT": "8080",
        "FOO_BAR_PORT_8080_TCP_ADDR": "1.2.3.4",
    }


def test_named_ports_are_told_by_name_and_the_first_is_the_services() -> None:
    env = told(service("abc", "1.2.3.4", {"port": 8081, "name": "u-d-p", "protocol": "UDP"}, {"port": 8082, "name": "t"}))
    assert env["ABC_SERVICE_PORT"] == env["ABC_SERVICE_PORT_U_D_P"] == "8081"
    assert env["ABC_SERVICE_PORT_T"] == "8082"
    assert env["ABC_PORT"] == "udp://1.2.3.4:8081"
    assert env["ABC_PORT_8082_TCP_PROTO"] == "tcp"


SILENT: dict[str, Json] = {
    "a headless Service": service("a", "None", {"port": 80}),
    "a Service that has no address yet": service("a", "", {"port": 80}),
    "an ExternalName": service("a", None),
}


@pytest.mark.parametrize("case", SILENT)
def test_not_told(case: str) -> None:
    assert told(SILENT[case]) == {}


def test_an_address_of_version_six_stands_in_brackets_in_urls_only() -> None:
    env = told(service("a", "2001:DB8::", {"port": 80}))
    assert env["A_SERVICE_HOST"] == env["A_PORT_80_TCP_ADDR"] == "2001:DB8::"
    assert env["A_PORT"] == "tcp://[2001:DB8::]:80"


def test_without_service_links_there_are_none() -> None:
    assert told(service("a", "1.2.3.4", {"port": 80}), links=False) == {}


def test_the_order_is_that_of_the_names() -> None:
    one, other = service("a", "1.1.1.1", {"port": 80}), service("b", "1.1.1.2", {"port": 80})
    assert list(told(one, other)) == list(told(other, one))


def test_names_that_older_api_servers_refuse_are_left_out() -> None:
    assert told(service("9lives", "1.2.3.4", {"port": 80})) == {}


API = {
    "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT_HTTPS", "KUBERNETES_PORT",
    "KUBERNETES_PORT_443_TCP", "KUBERNETES_PORT_443_TCP_PROTO", "KUBERNETES_PORT_443_TCP_PORT", "KUBERNETES_PORT_443_TCP_ADDR",
}


def api(host: str, port: str) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in build_api_env(host, port)}


def test_the_api_server_is_told_as_its_own_service_would_be() -> None:
    env = api("10.0.0.9", "443")
    assert set(env) == API
    assert (env["KUBERNETES_SERVICE_PORT_HTTPS"], env["KUBERNETES_PORT"]) == ("443", "tcp://10.0.0.9:443")


def test_on_another_port_nothing_of_the_lenders_api_server_is_left() -> None:
    env = api("10.0.0.9", "6443")
    assert set(env) == API | {name.replace("443", "6443") for name in API if "443" in name}
    assert env["KUBERNETES_PORT_443_TCP"] == env["KUBERNETES_PORT_6443_TCP"] == "tcp://10.0.0.9:6443"
    assert env["KUBERNETES_PORT_443_TCP_PORT"] == "6443"


@pytest.mark.parametrize("port", ["", "443", "6443"])
def test_an_unknown_api_server_empties_what_a_kubelet_would_fill_in(port: str) -> None:
    assert api("", port) == dict.fromkeys(API, "")
