"""A manager to which events mean nothing for a while: as if every one of them had been missed.

While `file` is there, no key that anybody names reaches a queue. Caches go on to be true, as they do when a handler fails or
an event is lost between a cache and its listener.
"""

from collections.abc import Hashable
from datetime import timedelta
from pathlib import Path
from typing import Any

from kubeocean.domain import podfindings
from kubeocean.kube.workqueue import Workqueue
from kubeocean.syncer import patrol

EVERY, SETTLES = 4.0, 1.0  # seconds; the real patrol is in no such hurry


def install(file: str) -> None:
    """Make this process forgetful, and its patrol one that a test can wait for."""
    blindfold, add = Path(file), Workqueue.add

    def add_unless_forgetful(queue: Workqueue[Any], key: Hashable, *, low: bool = False) -> None:
        if not blindfold.exists():
            add(queue, key, low=low)

    Workqueue.add = add_unless_forgetful  # type: ignore[assignment,method-assign]  # the fault
    patrol.EVERY, patrol.SETTLES = EVERY, SETTLES
    podfindings.TOLD_AFTER = podfindings.SETTLES = timedelta(0)  # type: ignore[misc]  # for others they are as they are
