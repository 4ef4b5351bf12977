"""CPU counters: whatever the sources do, they never go back."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeocean.domain.cpuledger import LEAST_SECONDS, CounterKey, Ledger, Reading, advance

APP, POD = CounterKey("uid-1", "app", "run-1"), CounterKey("uid-1")
AGAIN = CounterKey("uid-1", "app", "run-2")

RATE = Reading(APP, 1000.0, cores=0.5, window=30.0, started=900.0)
EXACT = Reading(APP, 1000.0, cores=0.5, seconds=40.0, started=900.0)

# what was read, in order; then what the counter of `app` is, and the node's
CASES: dict[str, tuple[list[Reading], float, float]] = {
    "the first rate held for its window": ([RATE], 15.0, 15.0),
    "but not for longer than the container lives": ([replace(RATE, started=990.0)], 5.0, 5.0),
    "an idle container has used a little": ([replace(RATE, cores=0.0)], LEAST_SECONDS, LEAST_SECONDS),
    "a rate holds since the sample before": ([RATE, replace(RATE, time=1060.0, cores=2.0)], 135.0, 135.0),
    "the same sample again changes nothing": ([RATE, RATE], 15.0, 15.0),
    "nor does an older one": ([RATE, replace(RATE, time=999.0, cores=9.0)], 15.0, 15.0),
    "a negative rate is none": ([RATE, replace(RATE, time=1060.0, cores=-2.0)], 15.0, 15.0),
    "a counter is told as it is": ([EXACT, replace(EXACT, time=1010.0, seconds=43.0)], 43.0, 43.0),
    "a counter that began anew goes on": ([EXACT, replace(EXACT, time=1010.0, seconds=1.0)], 41.0, 41.0),
    "from rates to a counter there is no jump": (
        [RATE, replace(EXACT, time=1010.0), replace(EXACT, time=1020.0, seconds=42.0)], 22.0, 22.0,
    ),
    "nor back": ([EXACT, replace(RATE, time=1010.0)], 45.0, 45.0),
}


@pytest.mark.parametrize(("readings", "app", "total"), CASES.values(), ids=CASES.keys())
def test_counters(readings: list[Reading], app: float, total: float) -> None:
    ledger = Ledger()
    for reading in readings:
        ledger = advance(ledger, [reading], [APP])
    assert ledger.counters[APP].seconds == pytest.approx(app)
    assert ledger.total == pytest.approx(total, abs=2 * LEAST_SECONDS)


def test_what_a_pod_used_stays_with_the_node_when_it_goes() -> None:
    before = advance(Ledger(), [EXACT], [APP])
    after = advance(before, [], [])
    assert after.counters == {}
    assert after.total == before.total > 40


def test_a_pod_counts_apart_from_its_containers_and_is_not_added_to_the_node() -> None:
    ledger = advance(Ledger(), [replace(EXACT, key=POD, seconds=41.0), EXACT], [POD, APP])
    assert ledger.counters[POD].seconds == 41.0
    assert ledger.total == pytest.approx(40.0)


def test_a_container_that_starts_again_begins_a_counter_and_the_node_adds_it() -> None:
    first = advance(Ledger(), [EXACT], [APP])
    second = advance(first, [Reading(AGAIN, 1020.0, seconds=2.0, started=1001.0)], [AGAIN])
    assert second.counters[AGAIN].seconds == 2.0
    assert second.total == pytest.approx(42.0)


def test_what_a_container_used_before_we_saw_it_is_no_burst_of_the_node() -> None:
    first = advance(Ledger(), [EXACT], [APP])
    stranger = Reading(CounterKey("uid-2", "old", "run"), 1010.0, seconds=5000.0, started=10.0)
    second = advance(first, [stranger], [APP, stranger.key])
    assert second.total == first.total
    third = advance(second, [replace(stranger, time=1020.0, seconds=5001.0)], [APP, stranger.key])
    assert third.total == pytest.approx(first.total + 1)


amounts = st.floats(min_value=-10, max_value=1e6)
readings = st.builds(
    Reading, st.sampled_from([APP, AGAIN, POD]), time=st.floats(min_value=0, max_value=2e9), cores=amounts,
    window=st.floats(min_value=0, max_value=600), seconds=st.none() | st.floats(min_value=0, max_value=1e6),
    started=st.floats(min_value=0, max_value=2e9),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(readings, max_size=20), st.lists(st.sampled_from([APP, AGAIN, POD]), max_size=3))
def test_no_counter_ever_goes_back(told: list[Reading], alive: list[CounterKey]) -> None:
    ledger = Ledger()
    for reading in told:
        before, ledger = ledger, advance(ledger, [reading], alive)
        assert ledger.total >= before.total > 0
        for key, counter in ledger.counters.items():
            assert counter.seconds > 0
            if key in before.counters:
                assert counter.seconds >= before.counters[key].seconds
                assert counter.time >= before.counters[key].time
