"""What no event told is found by the patrol, and mended by those whose it is: shown with a manager that misses all of them."""

import re
from pathlib import Path

import pytest

from kubeocean.bench.restart import is_steady
from kubeocean.kube.meta import labels_of, uid_of
from kubeocean.kube.resources import CONFIGMAPS, NODES, PODS, SECRETS, SERVICES
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration import forgetful
from tests.integration.everything import use_everything
from tests.integration.federation import Federation, Lender, build_pod, discard, eventually, find, twin_name
from tests.integration.programs import Program

pytestmark = pytest.mark.timeout(240)
ROUNDS = 3 * (forgetful.EVERY + forgetful.SETTLES)  # seconds
TOLD = re.compile(r'^kubeocean_syncer_orphans_total\{clusterbinding="([^"]+)",kind="([^"]+)"\} [1-9]', re.MULTILINE)
TOKENS = "kubeocean.io/service-account-token=true"


def told(program: Program, lender: Lender) -> set[str]:
    """Return the kinds of what the patrol of one binding has found."""
    return {kind for binding, kind in TOLD.findall(program.scrape()) if binding == lender.binding}


async def test_what_every_event_failed_to_tell_is_found_and_mended(
    federation: Federation, namespace: str, manager: Program, sandbox: Sandbox, tmp_path: Path
) -> None:
    blindfold = tmp_path / "forgetful"
    lender = await use_everything(federation, namespace)
    manager.stop()
    program = Program(
        "manager", "--leader-elect=false", kubeconfig=sandbox.virtual.kubeconfig, log=tmp_path / "log",
        preamble=f"from tests.integration.forgetful import install; install({str(blindfold)!r})",
    )
    try:
        program.ensure()
        await eventually(lambda: is_steady(program.scrape(), 2), within=30, what="it has looked at both Pods")
        twin = await federation.twin(lender, await federation.virtual.get(PODS, "web", namespace))
        blindfold.touch()
        await disagree(federation, lender, namespace)

        def all_found() -> bool:
            missing = {"OrphanTwin", "LeftoverToken", "MissingTwin", "Copy", "Mirror", "VirtualNode"} - told(program, lender)
            assert not missing, f"not found: {missing}\n{program.tail()}"
            return True

        await eventually(all_found, within=ROUNDS, what="the patrol has found everything")
        followed = await mended(federation, lender, namespace)
        assert not any(followed.values()), f"somebody was told of it: {followed}"

        blindfold.unlink()

        async def all_mended() -> bool:
            followed = await mended(federation, lender, namespace)
            assert all(followed.values()), f"{followed}\n{program.tail()}"
            return True

        await eventually(all_mended, within=ROUNDS + 30, what="all of it is mended")
        web = await federation.virtual.get(PODS, "web", namespace)
        same = await federation.twin(lender, web)
        assert twin
        assert same
        assert uid_of(same) == uid_of(twin), "what was in order stays"
    finally:
        program.stop()


async def disagree(federation: Federation, lender: Lender, namespace: str) -> None:
    """Have both sides differ in every way that the patrol looks for."""
    virtual, physical = federation.virtual, federation.physical[0]
    await discard(virtual, PODS, "other", namespace, grace_seconds=0)
    late = build_pod("late", namespace, lender, nodeName=lender.vnode(), automountServiceAccountToken=False)
    await virtual.create(PODS, late)
    await virtual.patch(CONFIGMAPS, "settings", namespace, {"data": {"colour": "red"}})
    changed = {"spec": {"sessionAffinity": "ClientIP"}}
    await physical.patch(SERVICES, twin_name("web", namespace), lender.mount_namespace, changed)
    await physical.patch(NODES, lender.pool.nodes[0], "", {"metadata": {"labels": {"tests/disk": "fast"}}})


async def mended(federation: Federation, lender: Lender, namespace: str) -> dict[str, bool]:
    """Tell of everything that `disagree` did whether the other side has followed."""
    virtual, physical, mount = federation.virtual, federation.physical[0], lender.mount_namespace
    names = {kind: twin_name(kind, namespace) for kind in ("other", "late", "settings", "web")}
    late, vnode = await find(physical, PODS, names["late"], mount), await virtual.get(NODES, lender.vnode())
    settings, web = await physical.get(CONFIGMAPS, names["settings"], mount), await physical.get(SERVICES, names["web"], mount)
    return {
        "orphan": await find(physical, PODS, names["other"], mount) is None,
        "token": len((await physical.list(SECRETS, mount, label_selector=TOKENS)).items) == 1,
        "late": late is not None,
        "settings": settings["data"] == {"colour": "red"},
        "web": web["spec"]["sessionAffinity"] == "None",
        "node": labels_of(vnode).get("tests/disk") == "fast",
    }
