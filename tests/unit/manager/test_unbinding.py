"""What the manager does about a binding that is being deleted."""

from typing import Any
from unittest.mock import AsyncMock, Mock

from kubeocean.api import names
from kubeocean.kube.meta import ObjectKey
from kubeocean.manager.bindings import BindingController


async def test_a_binding_that_only_the_syncer_holds_still_gets_its_syncer() -> None:
    binding = {
        "kind": "ClusterBinding", "spec": {},
        "metadata": {
            "name": "lender", "uid": "u", "resourceVersion": "1", "deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": [names.BINDING_SYNCER_FINALIZER],
        },
    }
    virtual: Any = Mock()
    virtual.calls.patch = AsyncMock(return_value=binding)
    virtual.bindings.store.object = {ObjectKey("", "lender"): binding}.get
    launcher: Any = Mock(stop=AsyncMock(), state=Mock(return_value=None), proxier=Mock(return_value=None))
    await BindingController(virtual, launcher, Mock(), user_agent="test").reconcile("lender")
    launcher.ensure.assert_called_once_with("lender")
    launcher.stop.assert_not_called()
