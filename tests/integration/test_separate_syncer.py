"""Syncers as programs of their own: the same job as inside the manager, and of several for one binding only one acts."""

import base64
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from kubeocean.api.resources import CLUSTERBINDINGS
from kubeocean.kube.meta import Json, uid_of
from kubeocean.kube.resources import CLUSTERROLEBINDINGS, LEASES, PODS, SERVICEACCOUNTS
from kubeocean.sandbox.sandbox import Sandbox
from tests.integration.audit import AuditLog, summary
from tests.integration.federation import (
    Federation,
    Lender,
    Made,
    build_pod,
    condition,
    discard,
    eventually,
    find,
    make_namespace,
    opened,
)
from tests.integration.programs import Program
from tests.integration.scan import find_left

LEADER_FLAGS = (
    "--leader-election-lease-duration=4s", "--leader-election-renew-deadline=3s", "--leader-election-retry-period=500ms",
)
Start = Callable[..., Program]
OTHERS = 20  # Pods


@pytest.fixture
def start(sandbox: Sandbox, manager: Program, tmp_path: Path) -> Iterator[Start]:
    """Starts a program against the virtual cluster; the session's own manager rests meanwhile."""
    manager.stop()
    programs: list[Program] = []

    def start(*args: str, kubeconfig: Path | None = None) -> Program:
        log = tmp_path / f"{len(programs)}-{args[0]}.log"
        program = Program(*args, kubeconfig=kubeconfig or sandbox.virtual.kubeconfig, log=log)
        programs.append(program)
        return program.start()

    yield start
    for program in programs:
        program.kill()
    manager.ensure()


async def lend(federation: Federation, start_syncers: Callable[[Lender], None], *, nodes: int = 1) -> Lender:
    """As Federation.lend, but with syncers that are started once their binding exists."""
    lender = await federation.bind(await federation.pool(nodes=nodes), ready=False)
    await federation.policy(lender)
    start_syncers(lender)
    await eventually(lambda: federation.is_ready(lender), within=40, what="the binding is Ready")
    await federation.vnodes(lender)
    return lender


async def test_a_syncer_of_its_own_does_the_same_job(sandbox: Sandbox, start: Start) -> None:
    async with opened(sandbox, Made()) as federation:
        namespace = await make_namespace(federation.virtual)
        manager = start("manager", "--launcher=none", "--leader-elect=false").wait_ready()
        syncers: list[Program] = []

        def start_syncer(lender: Lender) -> None:
            flag = f"--cluster-binding-name={lender.binding}"
            syncers.append(start("syncer", flag))

        lender = await lend(federation, start_syncer)
        served = condition(await federation.virtual.get(CLUSTERBINDINGS, lender.binding), "ProxierReady")
        assert (served["status"], served["reason"]) == ("Unknown", "NotDeployed"), "nobody here knows whether a proxier runs"
        log = AuditLog(sandbox.physical[0])
        await federation.virtual.create(PODS, build_pod("web", namespace, lender))
        (vpod,) = await federation.running(namespace, "web")
        assert await federation.twin(lender, vpod) is not None
        assert {write.agent.partition("/")[0] for write in log.ours()} == {"kubeocean-syncer"}
        await assert_the_pods_of_others_are_passed_over(federation, lender, namespace, syncers[0])
        await discard(federation.virtual, PODS, "web", namespace)

        async def gone() -> bool:
            assert await find(federation.virtual, PODS, "web", namespace) is None, "virtual Pod"
            return await federation.twin(lender, vpod) is None

        await eventually(gone, what="both are gone")
        await federation.unbind(lender)
        await eventually(lambda: syncers[0].exit_code == 0, within=15, what="the syncer ends with its binding")
        assert manager.alive
        await eventually(lambda: nothing_is_left(federation, lender), within=30, what="no trace of it is left")
        await federation.undo()


async def nothing_is_left(federation: Federation, lender: Lender) -> bool:
    """Search both clusters whole for what speaks of the binding, but for what people wrote themselves."""
    for client in (federation.virtual, federation.physical[0]):
        words = (lender.binding, lender.cluster_id, lender.mount_namespace)
        left = await find_left(client, *words, names=(f"secrets default/{lender.secret}",), kinds=("resourceleasingpolicies",))
        assert not left, f"left in {client.cluster}: {left}"
    return True


async def assert_the_pods_of_others_are_passed_over(
    federation: Federation, lender: Lender, namespace: str, syncer: Program
) -> None:
    """Have Pods of another binding come and go; of what a real API server says of them the syncer decodes nothing."""
    taken, passed = pod_events(syncer, "informer_events_total"), pod_events(syncer, "informer_events_passed_over_total")
    for number in range(OTHERS):
        pod = build_pod(f"other-{number}", namespace, lender, nodeName=f"vnode-another-{number}", nodeSelector={})
        await federation.virtual.create(PODS, pod)
        await discard(federation.virtual, PODS, f"other-{number}", namespace, grace_seconds=0)

    def all_passed_over() -> bool:
        now = pod_events(syncer, "informer_events_passed_over_total") - passed
        assert now >= 2 * OTHERS, f"{now:g} of at least {2 * OTHERS}"  # added and deleted
        return True

    await eventually(all_passed_over, what="events of other Pods are passed over")
    assert pod_events(syncer, "informer_events_total") - taken < OTHERS, "but for what its own Pods still have to tell"


def pod_events(program: Program, metric: str) -> float:
    """Return a counter of the informer of virtual Pods."""
    lines = program.scrape().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f'{metric}{{informer="virtual-pods"}}'))


async def another_user(federation: Federation, folder: Path) -> tuple[str, Path]:
    """Return a user of the virtual cluster that the audit log tells from the administrator, and its kubeconfig."""
    name = f"syncer-{uuid.uuid4().hex[:6]}"
    await federation.create(SERVICEACCOUNTS, {
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"},
    })
    await federation.create(CLUSTERROLEBINDINGS, {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
    })
    request: Json = {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": {"audiences": []},
    }
    answer = await federation.virtual.create(
        SERVICEACCOUNTS, request, subresource="token", name=name, namespace="default"
    )
    path = folder / "kubeconfig"
    write_kubeconfig(federation.sandbox, answer["status"]["token"], path)
    return f"system:serviceaccount:default:{name}", path


def write_kubeconfig(sandbox: Sandbox, token: str, path: Path) -> None:
    config = yaml.safe_load(sandbox.virtual.kubeconfig.read_bytes())
    for user in config["users"]:
        user["user"] = {"token": token}
    ca = (sandbox.virtual.folder / "pki" / "ca.crt").read_bytes()
    for cluster in config["clusters"]:
        cluster["cluster"]["certificate-authority-data"] = base64.b64encode(ca).decode()
    path.write_text(yaml.safe_dump(config))


async def test_of_two_syncers_only_one_acts_and_the_other_takes_over(
    sandbox: Sandbox, start: Start, tmp_path: Path
) -> None:
    async with opened(sandbox, Made()) as federation:
        namespace = await make_namespace(federation.virtual)
        start("manager", "--launcher=none", "--leader-elect=false").wait_ready()
        user, kubeconfig = await another_user(federation, tmp_path)
        programs: dict[str, Program] = {}

        def start_both(lender: Lender) -> None:
            flags = ("syncer", f"--cluster-binding-name={lender.binding}", *LEADER_FLAGS)
            programs["kubeocean-sandbox-admin"] = start(*flags)
            programs[user] = start(*flags, kubeconfig=kubeconfig)

        above, below = AuditLog(sandbox.virtual), AuditLog(sandbox.physical[0])
        lender = await lend(federation, start_both)

        async def leader() -> str:
            lease = await find(federation.virtual, LEASES, f"kubeocean-syncer-{lender.binding}", "kubeocean-system")
            holder = str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")
            return next((name for name, program in programs.items() if f"_{program.pid}_" in holder), "")

        def actors(log: AuditLog) -> set[str]:
            own = [write for write in log.ours() if write.agent.startswith("kubeocean-syncer")]
            return {write.user for write in own if "leader-election" not in write.agent}

        first = await leader()
        names = [f"first-{number}" for number in range(10)]
        for name in names:
            await federation.virtual.create(PODS, build_pod(name, namespace, lender))
        await federation.running(namespace, *names)
        assert actors(above) == {first}, "somebody acted who does not lead"
        above.restart()
        programs[first].kill()

        async def handed_over() -> bool:
            return await leader() not in ("", first)

        later = [f"later-{number}" for number in range(10)]
        for name in later:
            await federation.virtual.create(PODS, build_pod(name, namespace, lender))
        await eventually(handed_over, within=15, what="the other one leads")
        pods = await federation.running(namespace, *names, *later)
        assert len({uid_of(pod) for pod in pods}) == 20
        assert actors(above) == set(programs) - {first}
        made = summary(write for write in below.ours() if write.resource == "pods")
        assert made == {"create pods 201": 20}, "one twin each, and none was touched at the change of leader"
        await federation.undo()
