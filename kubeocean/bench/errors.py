"""Why a benchmark gave no figures."""

from __future__ import annotations


class BenchError(Exception):
    """A figure could not be measured; the message is one for the user and says what was waited for."""


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return one exception out of a group: many calls fail of one cause, and the first says it best."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
