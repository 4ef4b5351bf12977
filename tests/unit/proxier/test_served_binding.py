"""A binding that is no longer served is let go, whatever else happens at that moment."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from kubeocean.api.binding import ClusterBindingSpec, SecretReference
from kubeocean.kube.client import Client
from kubeocean.kube.errors import Forbidden, KubeError
from kubeocean.proxier import bindings
from kubeocean.proxier.bindings import ServedBinding
from kubeocean.proxier.sessions import Sessions

pytestmark = pytest.mark.looptime
SPEC = ClusterBindingSpec(cluster_id="edge", secret_ref=SecretReference(name="s", namespace="n"), mount_namespace="mount")


class FakeSecret:
    """A Secret that never changes, except when a test says so."""

    reference = "n/s"

    def __init__(self, *_: object, on_change: Callable[[], None], **__: object) -> None:
        self.change = on_change

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def read(self) -> None:
        return None


class FakeSide:
    """A cluster whose probe takes a while to end."""

    refused: KubeError | None = None

    def __init__(self, *_: object, **__: object) -> None:
        pass

    async def prove_access(self, *_: object) -> None:
        if self.refused:
            raise self.refused

    async def nothing(self, *_: object) -> None:
        return None

    prove_identity = learn_namespaces = close = nothing

    async def until_dead(self, *_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)


def serve(monkeypatch: pytest.MonkeyPatch) -> ServedBinding:
    """Return a binding with a fake Secret and a fake cluster."""
    async def no_kubeconfig(*_: Any, **__: Any) -> None:
        return None

    monkeypatch.setattr(bindings, "SecretWatch", FakeSecret)
    monkeypatch.setattr(bindings, "PhysicalSide", FakeSide)
    monkeypatch.setattr(bindings, "read_kubeconfig", no_kubeconfig)
    return ServedBinding("lender", SPEC, cast(Client, None), "uid", Sessions(), known_uid=str, user_agent="test")


async def test_a_binding_whose_pods_may_not_be_read_is_not_served_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSide, "refused", Forbidden("pods is forbidden"))
    served = serve(monkeypatch)
    task = asyncio.create_task(served.run())
    await asyncio.sleep(1)
    assert served.side is None
    assert served.trouble == "pods is forbidden"
    task.cancel()
    await asyncio.wait({task}, timeout=60)


async def test_a_binding_that_goes_while_its_secret_changes_is_not_served_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(monkeypatch)
    task = asyncio.create_task(served.run())
    await asyncio.sleep(1)
    assert served.side is not None
    cast(FakeSecret, served._secret).change()
    await asyncio.sleep(0.5)  # the old connection is being closed
    task.cancel()
    await asyncio.wait({task}, timeout=60)
    assert task.cancelled()
