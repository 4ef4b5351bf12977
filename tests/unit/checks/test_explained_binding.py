"""Which binding a Pod is explained with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.checks import explaining
from kubeocean.checks.explaining import explain_pod
from kubeocean.kube.client import Client
from kubeocean.kube.resources import NODES, PODS
from tests.unit.checks.test_opening import Cluster, binding
from tests.unit.domain.test_podfindings import VNODE, pair
from tests.unit.domain.test_verification import CLUSTER


@pytest.mark.parametrize(("older", "newer"), [("ant", "zebra"), ("zebra", "ant")])
async def test_a_pod_is_explained_with_the_binding_that_serves_its_node_not_with_a_duplicate(
    older: str, newer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    virtual = Cluster()
    virtual.put(PODS, pair()[0])
    virtual.put(NODES, {"metadata": {"name": VNODE, "labels": CLUSTER}})
    virtual.put(CLUSTERBINDINGS, binding(older, 1))
    virtual.put(CLUSTERBINDINGS, binding(newer, 2))

    @asynccontextmanager
    async def opened(_: object) -> AsyncIterator[Client]:
        yield cast(Client, virtual)

    monkeypatch.setattr(explaining, "open_virtual", opened)
    explanation = await explain_pod(None, "shop", "web-0")
    assert explanation.binding == older
    assert "Secret s/s" in explanation.trouble, "it went on to open that one's cluster"
