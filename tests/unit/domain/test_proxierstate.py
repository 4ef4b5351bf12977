import pytest

from kubeocean.domain.proxierstate import (
    PROXIER_FAILED,
    STARTS_WITHIN,
    ProxierReport,
    ProxierState,
    decide_proxier,
    parse_report,
)

SERVING = ProxierState(True, "answered at 127.0.0.1")
AWAY = ProxierState(False, "no answer", PROXIER_FAILED)
WELL = ProxierReport("", {"near": SERVING, "far": AWAY}, {"vnode-a": 20000}, "sessions 3\n")

PROMISES = {
    "one that serves is ready": (("near", WELL, "", 5.0), SERVING),
    "each binding has a state of its own": (("far", WELL, "", 5.0), AWAY),
    "one that is not served yet has nothing wrong with it": (
        ("new", WELL, "", 500.0), ProxierState(False, "the proxier does not serve this binding yet")),
    "a start is no failure": (
        ("near", ProxierReport("reading"), "", STARTS_WITHIN / 2), ProxierState(False, "reading")),
    "unless it takes too long": (
        ("near", ProxierReport("reading"), "", STARTS_WITHIN + 1), ProxierState(False, "reading", PROXIER_FAILED)),
    "of one that has died the last words do not count": (
        ("near", WELL, "it ended with SIGKILL", 0.0), ProxierState(False, "it ended with SIGKILL", PROXIER_FAILED)),
}


@pytest.mark.parametrize("promise", PROMISES)
def test_decide(promise: str) -> None:
    (binding, report, ended, age), expected = PROMISES[promise]
    assert decide_proxier(binding, report, ended=ended, age=age) == expected


def test_a_report_survives_its_way_through_a_pipe() -> None:
    assert parse_report(WELL.encode()) == WELL


@pytest.mark.parametrize("line", ["", "Traceback (most recent call last):", "[]", "{}", '{"trouble":"","bindings":{}}'])
def test_what_is_no_report_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_report(line)
