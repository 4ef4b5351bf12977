"""When a call is made again, in virtual time and without a network."""

from __future__ import annotations

import asyncio

import pytest

from kubeocean.kube.answers import proves_absence
from kubeocean.kube.errors import (
    Conflict,
    KubeError,
    NotFound,
    NotLeading,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    UntrustedServer,
)
from kubeocean.kube.retry import ATTEMPTS, is_repeatable, repeat

TURNED_AWAY = TooManyRequests("slow down", status=429)
BUDGET = TooManyRequests("budget", status=429, details={"causes": [{"reason": "DisruptionBudget"}]})

REPEATABLE: dict[str, tuple[str, KubeError, bool]] = {
    "a read without answer": ("GET", Unreachable("reset"), True),
    "a read of a server in trouble": ("GET", ServerError("500", status=500), True),
    "a read that was turned away": ("GET", TURNED_AWAY, True),
    "a read from a server that is not trusted": ("GET", UntrustedServer("who?"), False),
    "a read that found nothing": ("GET", NotFound("404", status=404), False),
    "a read without rights": ("GET", Unauthorized("401", status=401), False),
    "a write that was turned away": ("POST", TURNED_AWAY, True),
    "a write without answer": ("POST", Unreachable("reset"), False),
    "a write to a server in trouble": ("PATCH", ServerError("500", status=500), False),
    "a deletion without answer": ("DELETE", Unreachable("reset"), False),
    "a write that lost a race": ("PUT", Conflict("409", status=409), False),
    "a write without leadership": ("PUT", NotLeading("no"), False),
    "an eviction that a budget blocks": ("POST", BUDGET, False),
}


@pytest.mark.parametrize("case", REPEATABLE)
def test_only_what_is_certainly_safe_is_repeated(case: str) -> None:
    method, error, expected = REPEATABLE[case]
    assert is_repeatable(method, error) is expected


class Attempts:
    """Fails with the given errors in turn, then answers; notes when it was asked."""

    def __init__(self, *failures: KubeError) -> None:
        self.failures = list(failures)
        self.at: list[float] = []

    async def __call__(self) -> bytes:
        self.at.append(asyncio.get_running_loop().time())
        if self.failures:
            raise self.failures.pop(0)
        return b"answer"


@pytest.mark.looptime
async def test_the_server_says_when_to_come_back() -> None:
    attempts, start = Attempts(), asyncio.get_running_loop().time()
    first = TooManyRequests("slow down", status=429, retry_after=3.0)
    assert await repeat("GET", attempts, first, within=10) == b"answer"
    assert 3.0 < attempts.at[0] - start < 3.5


@pytest.mark.looptime
async def test_pauses_grow_and_come_to_an_end() -> None:
    attempts, start = Attempts(*(ServerError(str(number), status=500) for number in range(9))), 0.0
    start = asyncio.get_running_loop().time()
    with pytest.raises(ServerError, match="2"):
        await repeat("GET", attempts, ServerError("first", status=500), within=60)
    assert len(attempts.at) == ATTEMPTS - 1
    pauses = [b - a for a, b in zip([start, *attempts.at], attempts.at, strict=False)]
    assert 0.1 <= pauses[0] <= 0.21
    assert 0.2 <= pauses[1] <= 0.31
    assert 0.4 <= pauses[2] <= 0.51


@pytest.mark.looptime
async def test_a_different_failure_on_the_way_ends_the_attempts() -> None:
    attempts = Attempts(NotFound("404", status=404))
    with pytest.raises(NotFound):
        await repeat("GET", attempts, Unreachable("reset"), within=60)
    assert len(attempts.at) == 1


ABSENCE = {
    "the API server names the object": (NotFound("", status=404, reason="NotFound", details={"name": "a"}), True),
    "the resource is unknown": (NotFound("", status=404), False),
    "the API server names no object": (NotFound("", status=404, reason="NotFound"), False),
}


@pytest.mark.parametrize("case", ABSENCE)
def test_a_404_proves_absence_only_if_it_names_the_object(case: str) -> None:
    error, expected = ABSENCE[case]
    assert proves_absence(error) is expected
