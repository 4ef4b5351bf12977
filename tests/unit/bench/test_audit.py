from pathlib import Path
from typing import Any

import orjson
import pytest

from kubeocean.bench.audit import AuditTail, Write, count_writes, own_writes, parse_line, program_of


def line(**changed: Any) -> bytes:
    event = {
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "stage": "ResponseComplete", "verb": "patch",
        "userAgent": "kubeocean-manager/0.1.0",
        "objectRef": {"resource": "pods", "subresource": "status", "namespace": "ns", "name": "web-0", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": "2026-11-22T08:50:39.000250Z", "stageTimestamp": "2026-11-22T08:50:39.001750Z",
    }
    return orjson.dumps(event | changed)


def write(program: str = "kubeocean-manager", verb: str = "create", resource: str = "pods", code: int = 201) -> Write:
    return Write(program, verb, resource, "ns", "web-0", code, 10.0, 10.002)


def test_a_line_is_read_to_the_microsecond() -> None:
    found = parse_line(line())
    assert found is not None
    assert (found.program, found.verb, found.resource) == ("kubeocean-manager", "patch", "pods/status")
    assert (found.namespace, found.name, found.code) == ("ns", "web-0", 200)
    assert found.completed - found.received == pytest.approx(0.0015, abs=1e-6)


NO_WRITES = {
    "a read": line(verb="get"),
    "a watch": line(verb="watch"),
    "a stage before the answer": line(stage="RequestReceived"),
}


@pytest.mark.parametrize("text", NO_WRITES.values(), ids=NO_WRITES)
def test_what_is_no_write_is_left_out(text: bytes) -> None:
    assert parse_line(text) is None


def test_a_request_for_no_object_is_a_write_all_the_same() -> None:
    found = parse_line(line(objectRef=None, responseStatus=None))
    assert found is not None
    assert (found.resource, found.name, found.code) == ("", "", 0)


PROGRAMS = {
    "kube-scheduler/v1.34.4 (linux/amd64) kubernetes/d1c2/scheduler": "kube-scheduler",
    "kubeocean-manager/0.1.0 leader-election": "kubeocean-manager",
    "kubeocean-bench": "kubeocean-bench",
    "Go http client": "Go",
    "": "unknown",
}


@pytest.mark.parametrize(("user_agent", "program"), PROGRAMS.items())
def test_a_program_is_known_by_the_first_word_of_its_user_agent(user_agent: str, program: str) -> None:
    assert program_of(user_agent) == program


def test_a_tail_reads_only_what_was_added(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(line() + b"\n")
    tail = AuditTail(log)
    assert tail.read() == []
    with log.open("ab") as file:
        file.write(line(verb="create") + b"\n" + line(verb="get") + b"\n")
    assert [each.verb for each in tail.read()] == ["create"]
    assert tail.read() == []


def test_an_unfinished_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.touch()
    tail, text = AuditTail(log), line(verb="delete") + b"\n"
    log.write_bytes(text[:40])
    assert tail.read() == []
    log.write_bytes(text)
    assert [each.verb for each in tail.read()] == ["delete"]


def test_a_tail_may_begin_while_a_line_is_being_written(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    old, fresh = line() + b"\n", line(verb="delete") + b"\n"
    log.write_bytes(old + fresh[:40])
    tail = AuditTail(log)
    log.write_bytes(old + fresh)
    assert [each.verb for each in tail.read()] == ["delete"]


def test_writes_are_counted_by_side_program_verb_and_resource() -> None:
    counts = count_writes({"virtual": [write(), write(code=409), write(verb="delete")], "physical": [write()]})
    first = counts[0]
    assert (first.side, first.verb, first.count, first.failed) == ("virtual", "create", 2, 1)
    assert first.mean_ms == pytest.approx(2.0)
    assert sorted((each.side, each.verb, each.count) for each in counts[1:]) == [
        ("physical", "create", 1), ("virtual", "delete", 1),
    ]


def test_own_writes_are_those_of_kubeocean_that_pods_are_the_cause_of() -> None:
    counts = count_writes({"virtual": [
        write(), write("kubeocean-syncer"), write("kube-scheduler"), write("kubeocean-bench"),
        write(resource="leases", verb="update"), write(resource="selfsubjectaccessreviews"),
    ]})
    assert own_writes(counts, "virtual") == 2
    assert own_writes(counts, "physical") == 0
