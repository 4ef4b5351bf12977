import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.bench.percentiles import percentile, spread

CASES: dict[str, tuple[list[float], float, float]] = {
    "the median of an odd number is the middle one": ([1, 2, 3], 50, 2),
    "the median of an even number is the lower middle one": ([1, 2, 3, 4], 50, 2),
    "the 99th of a hundred is the last but one": ([float(number) for number in range(1, 101)], 99, 99),
    "the 99th of a few is the largest": ([1, 2, 3], 99, 3),
    "of one value all percentiles are that value": ([7], 1, 7),
    "the 100th is the largest": ([1, 2], 100, 2),
    "the 0th is the smallest": ([1, 2], 0, 1),
}


@pytest.mark.parametrize(("ordered", "percent", "expected"), CASES.values(), ids=CASES)
def test_a_percentile_is_a_value_that_happened(ordered: list[float], percent: float, expected: float) -> None:
    assert percentile(ordered, percent) == expected


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
def test_enough_values_are_not_above_a_percentile(values: list[float], percent: float) -> None:
    found = percentile(sorted(values), percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-9


def test_a_spread_is_in_milliseconds() -> None:
    found = spread([0.002, 0.001, 0.004])
    assert found is not None
    assert (found.count, found.p50, found.p99, found.highest) == (3, 2.0, 4.0, 4.0)


def test_nothing_has_no_spread() -> None:
    assert spread([]) is None
