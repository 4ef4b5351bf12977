from urllib.parse import parse_qsl, urlsplit

import pytest

from kubeocean.bench.execframes import build_api_target, build_kubelet_target, build_stdin, parse_exit, parse_frame
from kubeocean.domain.kubeletapi import Action, build_physical_target, parse_pod_request

COMMAND = ("sh", "-c", "echo a&b; exit 3")

EXITS = {
    "success is 0": (b'{"metadata":{},"status":"Success"}', 0),
    "a code is told among the causes": (
        b'{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}', 3),
    "what broke off has none": (b'{"status":"Failure","reason":"InternalError","message":"error executing command"}', None),
    "neither has one without details": (b'{"status":"Failure","details":null}', None),
    "a code that is no number is none": (
        b'{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"x"}]}}', None),
    "what is no status is none": (b"boom", None),
}


@pytest.mark.parametrize("case", EXITS)
def test_exit_codes(case: str) -> None:
    status, code = EXITS[case]
    assert parse_exit(status) == code


def test_a_frame_is_a_channel_and_its_bytes() -> None:
    assert parse_frame(b"\x01hello") == (1, b"hello")
    assert parse_frame(b"\x03") == (3, b"")
    assert parse_frame(build_stdin(b"\x00x")) == (0, b"\x00x")
    with pytest.raises(ValueError, match="without a channel"):
        parse_frame(b"")


@pytest.mark.parametrize("stdin", [True, False])
def test_what_we_ask_the_proxier_becomes_what_we_ask_the_physical_api_server(stdin: bool) -> None:
    asked = urlsplit(build_kubelet_target("team", "web", "app", COMMAND, stdin=stdin))
    request = parse_pod_request(asked.path)
    assert request is not None
    assert (request.action, request.namespace, request.pod, request.container) == (Action.EXEC, "team", "web", "app")
    forwarded = urlsplit(build_physical_target(request, parse_qsl(asked.query), "lent", "twin"))
    straight = urlsplit(build_api_target("lent", "twin", "app", COMMAND, stdin=stdin))
    assert forwarded.path == straight.path
    assert sorted(parse_qsl(forwarded.query)) == sorted(parse_qsl(straight.query))
