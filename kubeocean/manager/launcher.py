"""How a binding gets its syncer and its proxier: the manager asks, an implementation (wired in `runtime.py`) does it."""

from __future__ import annotations

from typing import Protocol

from kubeocean.domain.bindingstatus import SyncerState
from kubeocean.domain.proxierstate import ProxierState


class Launcher(Protocol):
    """Starts, stops and observes the syncer of each binding. All calls are idempotent."""

    def ensure(self, binding: str) -> None:
        """Have a syncer running for the binding."""

    def state(self, binding: str) -> SyncerState | None:
        """Return how the binding's syncer is doing; None when none was asked for, or it has finished."""

    def proxier(self, binding: str) -> ProxierState | None:
        """Return how the binding's virtual nodes are served; None when that is no concern of this launcher."""

    async def stop(self, binding: str) -> None:
        """End the binding's syncer and wait until it has ended."""


class NoLauncher:
    """Somebody else starts the syncers (`--launcher none`): one is believed to run when it says so on the binding."""

    def __init__(self, is_reported: Reported) -> None:
        self._is_reported = is_reported

    def ensure(self, binding: str) -> None:
        """Do nothing: an operator or another program starts it."""

    def state(self, binding: str) -> SyncerState | None:
        """Return ready once a syncer has put its finalizer on the binding, which it does before its first write."""
        if self._is_reported(binding):
            return SyncerState(True, "a syncer started by others serves this binding")
        return SyncerState(False, f"waiting for: kubeocean syncer --cluster-binding-name {binding}")

    def proxier(self, binding: str) -> ProxierState | None:
        """Return None: whoever starts the syncers starts proxiers, too."""

    async def stop(self, binding: str) -> None:
        """Do nothing."""


class Reported(Protocol):
    """Tells whether a syncer has put its finalizer on a binding."""

    def __call__(self, binding: str) -> bool:
        """Tell whether one has."""
