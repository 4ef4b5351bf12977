"""Which failed calls are made again, and when: the only place where a call is repeated on purpose.

Reading again is always allowed. A call that changes something is repeated only when the server certainly did not
execute it (429: turned away at the door); after a lost answer nobody knows, and the work queue, which looks at the
state before it acts, is the better place to try again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import tenacity

from kubeocean.kube.answers import blocked_by_disruption_budget
from kubeocean.kube.errors import KubeError, ServerError, TooManyRequests, Unreachable, UntrustedServer

ATTEMPTS = 4
_BACKOFF = tenacity.wait_exponential(multiplier=0.1, max=2.0) + tenacity.wait_random(0, 0.1)  # seconds
READS = frozenset(("GET", "HEAD"))


def is_repeatable(method: str, error: BaseException) -> bool:
    """Tell whether the call may be made again."""
    if isinstance(error, TooManyRequests):
        return not blocked_by_disruption_budget(error)
    return method in READS and isinstance(error, (Unreachable, ServerError)) and not isinstance(error, UntrustedServer)


async def repeat(method: str, attempt: Callable[[], Awaitable[bytes]], first: KubeError, *, within: float) -> bytes:
    """Make a call again whose first attempt failed with `first`; raise the last failure when nothing helped.

    At most ATTEMPTS in all, and none that would begin later than `within` seconds from now.
    """
    failed: list[KubeError] = [first]

    async def again() -> bytes:
        if failed:
            raise failed.pop()
        return await attempt()

    # A fresh object per call: tenacity keeps its state per thread, and all our calls share one.
    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_any(tenacity.stop_after_attempt(ATTEMPTS), tenacity.stop_before_delay(within)),
        wait=_wait, retry=tenacity.retry_if_exception(lambda error: is_repeatable(method, error)), reraise=True,
    )
    return await retrying(again)


def _wait(state: tenacity.RetryCallState) -> float:
    """Return the seconds to wait: what the server asked for, plus backoff with jitter, lest all return at once."""
    failure = state.outcome.exception() if state.outcome else None
    return _BACKOFF(state) + (getattr(failure, "retry_after", None) or 0.0)
