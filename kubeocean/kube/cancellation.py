"""A cancellation that a TaskGroup swallows is not lost.

In Python 3.11 a group whose body or task has failed already, and which is cancelled while it waits for its other tasks, raises
the failure alone. Whoever takes that failure as a reason to try again would go on for ever, and whoever waits for its end
would, too.
"""

from __future__ import annotations

import asyncio


def heed_cancellation() -> None:
    """Raise CancelledError when the current task has been cancelled and something kept that from it.

    Only for groups whose body lasts as long as they do. One whose body has ended before a task of it fails cancels its parent
    and does not take that back: it would look as if somebody else had.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
