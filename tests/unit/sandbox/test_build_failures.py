"""What a person reads when Go fails."""

from __future__ import annotations

import pytest

from kubeocean.sandbox.build_failures import explain

FAILURES = {
    "no network": ('go: k8s.io/api@v0.34.4: Get "https://proxy.example/k8s.io/api": dial tcp: lookup: no such host',
                   "the Go module proxy cannot be reached"),
    "a proxy that is down": ("go: example.com/a@v1: reading https://proxy.example/a: 503 Service Unavailable",
                             "the Go module proxy cannot be reached"),
    "a full disk, even when it looks like a broken compiler": (
        "# k8s.io/api\nwrite /cache/x: no space left on device\nsignal: killed", "the disk is full"),
    "a linker that the kernel killed": ("link: signal: killed", "memory ran out"),
    "a module that is not the pinned one": (
        "verifying example.com/a@v1: checksum mismatch\nSECURITY ERROR", "a module is not the one that was pinned"),
    "a folder that cannot be written": ("mkdir /nowhere/go: permission denied", "a folder cannot be written"),
    "stale module files": ("go: updates to go.mod needed", "go.mod and go.sum do not agree; run hack/update-"),
    "anything else": ("a.go:1:1: undefined: x", "the cause is in Go's own words"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_the_cause_and_the_remedy_are_named_and_go_is_quoted(case: str) -> None:
    said, cause = FAILURES[case]
    message = explain(said.splitlines(), "compiling for kwok")
    assert message.startswith(f"compiling for kwok failed: {cause}")
    assert message.endswith(said.splitlines()[-1])


def test_a_version_number_is_no_status_of_a_proxy() -> None:
    assert "Go's own words" in explain(["a.go:500:1: undefined: x"], "compiling")
