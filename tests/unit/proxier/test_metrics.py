"""What a proxier counts: of open streams already, and of refusals by their status."""

import asyncio

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from kubeocean.proxier import metrics
from kubeocean.proxier.callers import Caller
from kubeocean.proxier.sessions import Sessions


def told(name: str, **labels: str) -> float:
    found = [
        sample.value for family in text_string_to_metric_families(metrics.as_text()) for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return found[0] if found else 0.0


def test_an_open_stream_counts_with_what_it_has_carried_so_far_and_its_end_by_how_it_came() -> None:
    sessions = Sessions()
    session = sessions.open(Caller("ann"), "counted", "exec")
    session.traffic.note_received(5)
    session.traffic.note_sent(7)
    assert told("kubeocean_proxier_sessions", clusterbinding="counted", action="exec") == 1
    assert told("kubeocean_proxier_stream_bytes_total", clusterbinding="counted", direction="received") == 5
    assert told("kubeocean_proxier_stream_bytes_total", clusterbinding="counted", direction="sent") == 7
    sessions.close(session, "refused: 404")
    assert told("kubeocean_proxier_sessions", clusterbinding="counted", action="exec") == 0
    assert told("kubeocean_proxier_stream_bytes_total", clusterbinding="counted", direction="sent") == 7
    assert told(
        "kubeocean_proxier_sessions_ended_total", clusterbinding="counted", action="exec", outcome="refused"
    ) == 1


def test_ends_have_few_names_however_many_errors_there_are() -> None:
    ends = ("closed", "cut", "refused: 403", "ConnectionResetError", "")
    assert [metrics.outcome_of(ended) for ended in ends] == ["closed", "cut", "refused", "failed", "failed"]


def test_a_process_that_carries_no_streams_tells_of_none() -> None:
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("kubeocean_proxier_session")]


async def test_the_tasks_of_the_loop_are_counted_when_somebody_asks() -> None:
    metrics.count_tasks()
    before = told("kubeocean_proxier_tasks")
    task = asyncio.create_task(asyncio.sleep(60))
    assert (before, told("kubeocean_proxier_tasks")) == (len(asyncio.all_tasks()) - 1, before + 1)
    task.cancel()
    metrics.TASKS.set_function(lambda: 0.0)  # others ask outside of any loop
