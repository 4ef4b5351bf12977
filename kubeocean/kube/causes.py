"""What ended a TaskGroup, in one exception: of many tasks that fail of one cause, the first that was seen says it best."""

from __future__ import annotations


def first_cause(error: BaseException) -> BaseException:
    """Return the first exception in a group, however deep; an exception that is no group is itself.

    >>> first_cause(BaseExceptionGroup("outer", [ExceptionGroup("inner", [KeyError(1), KeyError(2)]), KeyError(3)]))
    KeyError(1)
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
