"""A question to a kubelet, read strictly and put to the physical API server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.domain.kubeletapi import (
    Access,
    Action,
    BadPath,
    PodRequest,
    access_needed,
    build_physical_target,
    parse_pod_request,
)

READ = {
    "logs name namespace, Pod and container": (
        "/containerLogs/team/web-0/app", PodRequest(Action.LOGS, "team", "web-0", container="app")
    ),
    "exec may name the uid": (
        "/exec/team/web-0/5f1c8a90-0000-4000-8000-000000000001/app",
        PodRequest(Action.EXEC, "team", "web-0", "5f1c8a90-0000-4000-8000-000000000001", "app"),
    ),
    "exec without uid": ("/exec/team/web.example/app", PodRequest(Action.EXEC, "team", "web.example", container="app")),
    "attach": ("/attach/team/web/app", PodRequest(Action.ATTACH, "team", "web", container="app")),
    "port-forward names no container": ("/portForward/team/web", PodRequest(Action.PORT_FORWARD, "team", "web")),
    "an encoded letter is that letter": ("/exec/te%61m/web/app", PodRequest(Action.EXEC, "team", "web", container="app")),
}


@pytest.mark.parametrize(("path", "expected"), READ.values(), ids=READ)
def test_a_path_about_a_pod_is_understood(path: str, expected: PodRequest) -> None:
    assert parse_pod_request(path) == expected


@pytest.mark.parametrize("path", ["/", "/healthz", "/pods", "/stats/summary", "/EXEC/team/web/app", "/run/team/web/app"])
def test_other_paths_are_about_no_pod(path: str) -> None:
    assert parse_pod_request(path) is None


BAD = {
    "a name too few": "/exec/team/app",
    "a name too many": "/containerLogs/team/web/app/more",
    "up a folder": "/exec/../web/app",
    "up a folder, encoded": "/exec/%2e%2e/web/app",
    "a slash, encoded": "/exec/team/web%2f..%2fother/app",
    "a query, encoded": "/exec/team/web%3fcommand=sh/app",
    "an empty name": "/exec//web/app",
    "capital letters": "/exec/Team/web/app",
    "a line break": "/exec/team/web%0d%0aX:/app",
    "a name beyond all length": "/exec/team/" + "a" * 254 + "/app",
}


@pytest.mark.parametrize("path", BAD.values(), ids=BAD)
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(BadPath):
        parse_pod_request(path)


@given(st.text(max_size=60))
def test_whatever_the_path_only_kubernetes_names_come_out(text: str) -> None:
    try:
        request = parse_pod_request(f"/exec/{text}")
    except BadPath:
        return
    assert request is not None
    for name in (request.namespace, request.pod, request.container):
        assert name.replace("-", "").replace(".", "").isalnum()
        assert name == name.lower()


def test_streams_are_asked_for_in_the_api_servers_words() -> None:
    query = [("input", "1"), ("output", "1"), ("tty", "1"), ("command", "sh"), ("command", "-c"), ("command", "a b&c")]
    target = build_physical_target(PodRequest(Action.EXEC, "team", "web", container="app"), query, "leased", "web-123")
    assert target == (
        "/api/v1/namespaces/leased/pods/web-123/exec?stdin=true&stdout=true&tty=true&command=sh&command=-c"
        "&command=a+b%26c&container=app"
    )


def test_nothing_that_is_not_understood_is_passed_on() -> None:
    request = PodRequest(Action.LOGS, "team", "web", container="app")
    query = [("follow", "true"), ("container", "other"), ("insecureSkipTLSVerifyBackend", "true"), ("tailLines", "5")]
    target = build_physical_target(request, query, "leased", "web-123")
    assert target == "/api/v1/namespaces/leased/pods/web-123/log?follow=true&tailLines=5&container=app"


def test_ports_keep_their_order() -> None:
    request = PodRequest(Action.PORT_FORWARD, "team", "web")
    assert build_physical_target(request, [("port", "80"), ("port", "443")], "leased", "w").endswith("?ports=80&ports=443")
    assert build_physical_target(request, [], "leased", "w").endswith("/portforward")


ACCESS = {
    "a log is read through the proxy": ("GET", "/containerLogs/a/b/c", Access("get", ("proxy",))),
    "exec creates": ("POST", "/exec/a/b/c", Access("create", ("proxy",))),
    "exec by WebSocket creates too": ("GET", "/exec/a/b/c", Access("create", ("proxy",))),
    "stats": ("GET", "/stats/summary", Access("get", ("stats",))),
    "metrics": ("GET", "/metrics/resource", Access("get", ("metrics",))),
    "pods, finely or coarsely": ("GET", "/pods", Access("get", ("pods", "proxy"))),
    "healthz, finely or coarsely": ("GET", "/healthz", Access("get", ("healthz", "proxy"))),
    "anything else needs the proxy": ("GET", "/configz", Access("get", ("proxy",))),
    "an unknown verb is a change": ("BREW", "/configz", Access("create", ("proxy",))),
}


@pytest.mark.parametrize(("method", "path", "access"), ACCESS.values(), ids=ACCESS)
def test_callers_need_what_a_kubelet_would_ask_for(method: str, path: str, access: Access) -> None:
    assert access_needed(method, path) == access
