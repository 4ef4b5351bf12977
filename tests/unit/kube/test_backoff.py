"""Waits double, stop growing, and differ."""

from hypothesis import given
from hypothesis import strategies as st

from kubeocean.kube.backoff import Backoff


@given(st.integers(1, 10_000))
def test_a_delay_is_never_below_the_base_nor_above_the_cap(failures: int) -> None:
    assert 1.0 <= Backoff(base=1.0, cap=300.0, jitter=0.3).delay(failures) <= 300.0


def test_without_jitter_it_doubles_up_to_the_cap() -> None:
    backoff = Backoff(base=1.0, cap=10.0, jitter=0.0)
    assert [backoff.delay(failures) for failures in range(1, 7)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_two_clients_do_not_come_back_together() -> None:
    backoff = Backoff(base=1.0, cap=300.0, jitter=0.3)
    assert len({backoff.delay(3) for _ in range(20)}) > 1
