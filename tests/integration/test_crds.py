"""The API server enforces what kubeocean.api says, in the same words.

The tables (refused.yaml, accepted.yaml) are those of tests/unit/api, where they are held against our own models.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeocean.api.binding import parse_binding
from kubeocean.api.crd import crds
from kubeocean.api.model import ApiModel
from kubeocean.api.policy import parse_policy
from kubeocean.api.resources import CLUSTERBINDINGS, RESOURCELEASINGPOLICIES
from kubeocean.kube.client import Client, PatchType
from kubeocean.kube.errors import Invalid
from kubeocean.kube.meta import Json, name_of, uid_of
from kubeocean.kube.resources import CUSTOMRESOURCEDEFINITIONS
from kubeocean.sandbox.assets import Assets
from kubeocean.sandbox.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[2]
REFUSED: dict[str, Json] = yaml.safe_load((ROOT / "tests/unit/api/refused.yaml").read_text())
ACCEPTED: dict[str, Json] = yaml.safe_load((ROOT / "tests/unit/api/accepted.yaml").read_text())
RESOURCES = {resource.kind: resource for resource in (CLUSTERBINDINGS, RESOURCELEASINGPOLICIES)}
SAMPLES = [
    obj for path in sorted((ROOT / "config/samples").glob("*.yaml"))
    for obj in yaml.safe_load_all(path.read_text()) if obj["kind"] in RESOURCES
]
PARSE: dict[str, Callable[[Json], ApiModel]] = {"ClusterBinding": parse_binding, "ResourceLeasingPolicy": parse_policy}
SMALLEST: dict[str, Json] = {
    "ClusterBinding": {
        "clusterID": "cls-1", "secretRef": {"name": "kubeconfig", "namespace": "kubeocean-system"},
        "mountNamespace": "kubeocean-worker",
    },
    "ResourceLeasingPolicy": {"cluster": "cluster-a"},
}
Create = Callable[[Json], Awaitable[Json]]


@pytest.fixture(scope="module")
def sandbox(start_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """A virtual cluster without a manager: what a test writes into a status stays there until it is read."""
    return start_sandbox("crds", clusters=0)


@pytest.fixture
async def client(virtual_client: Client, eventually: Callable[..., Awaitable[Any]]) -> Client:
    """A client of a cluster that knows our kinds."""
    for crd in crds():
        await virtual_client.patch(
            CUSTOMRESOURCEDEFINITIONS, name_of(crd), "", crd, kind=PatchType.APPLY, field_manager="test", force=True
        )

    async def served() -> bool:
        return all(conditions.get("Established") == "True" for conditions in [
            await crd_conditions(virtual_client, crd) for crd in crds()
        ])

    await eventually(served, what="both CRDs Established")
    return virtual_client


@pytest.fixture
async def create(client: Client) -> AsyncIterator[Create]:
    """Create an object that is gone after the test."""
    async with AsyncExitStack() as stack:

        async def create(obj: Json) -> Json:
            resource = RESOURCES[obj["kind"]]
            created = await client.create(resource, obj)
            stack.push_async_callback(client.delete, resource, name_of(created), uid=uid_of(created))
            return created

        yield create


async def crd_conditions(client: Client, crd: Json) -> dict[str, str]:
    live = await client.get(CUSTOMRESOURCEDEFINITIONS, name_of(crd))
    return {each["type"]: each["status"] for each in (live.get("status") or {}).get("conditions") or ()}


def build(kind: str, **fields: Any) -> Json:
    resource = RESOURCES[kind]
    metadata = {"name": f"test-{uuid.uuid4().hex[:10]}"}
    return {
        "apiVersion": resource.api_version, "kind": kind, "metadata": metadata, "spec": {**SMALLEST[kind], **fields}
    }


async def test_the_api_server_finds_the_schemas_structural(client: Client) -> None:
    for crd in crds():
        conditions = await crd_conditions(client, crd)
        assert conditions["NamesAccepted"] == "True"
        assert conditions.get("NonStructuralSchema", "False") == "False"


@pytest.mark.parametrize("sentence", REFUSED)
async def test_refused(client: Client, sentence: str) -> None:
    case = REFUSED[sentence]
    obj = build(case["kind"], **case["set"])
    with pytest.raises(Invalid) as refusal:
        await client.create(RESOURCES[case["kind"]], obj, dry_run=True)
    assert f"{case['field']}: " in str(refusal.value)
    assert case["says"] in str(refusal.value)


@pytest.mark.parametrize("sentence", ACCEPTED)
async def test_accepted_and_read_back_as_it_was_meant(client: Client, sentence: str) -> None:
    # The defaults the API server fills in are those the models have.
    case = ACCEPTED[sentence]
    obj = build(case["kind"], **case.get("set", {}))
    stored = await client.create(RESOURCES[case["kind"]], obj, dry_run=True)
    parse = PARSE[case["kind"]]
    assert parse(stored) == parse(obj)


async def test_nulls_are_not_stored(client: Client) -> None:
    binding = build("ClusterBinding", nodeSelector=None, timeZone=None)
    stored = await client.create(CLUSTERBINDINGS, binding, dry_run=True)
    assert not {"nodeSelector", "timeZone"} & stored["spec"].keys()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample['kind']} {name_of(sample)}")
async def test_the_samples_are_accepted(client: Client, sample: Json) -> None:
    await client.create(RESOURCES[sample["kind"]], {**sample, "metadata": {"name": "sample"}}, dry_run=True)


async def test_a_cluster_id_cannot_change_but_the_rest_can(client: Client, create: Create) -> None:
    binding = await create(build("ClusterBinding"))
    with pytest.raises(Invalid, match=r"spec\.clusterID: .* cannot change; make a new ClusterBinding instead"):
        await client.patch(CLUSTERBINDINGS, name_of(binding), "", {"spec": {"clusterID": "cls-2"}})
    changed = await client.patch(CLUSTERBINDINGS, name_of(binding), "", {"spec": {"mountNamespace": "elsewhere"}})
    assert changed["spec"]["mountNamespace"] == "elsewhere"


def condition(kind: str, status: str) -> Json:
    return {
        "type": kind, "status": status, "reason": "Testing", "message": "for the test",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


async def test_status_is_written_apart_from_the_spec(client: Client, create: Create) -> None:
    binding = await create({**build("ClusterBinding"), "status": {"phase": "Ready"}})
    assert "status" not in binding
    patch = {"status": {"phase": "Failed", "conditions": [condition("Ready", "False")]}, "spec": {"nodeProxy": True}}
    written = await client.patch(CLUSTERBINDINGS, name_of(binding), "", patch, subresource="status")
    assert written["status"] == patch["status"]
    assert written["spec"] == binding["spec"]
    with pytest.raises(Invalid, match=r"status\.phase: Unsupported value: .*Pending"):
        await client.patch(CLUSTERBINDINGS, name_of(binding), "", {"status": {"phase": "Odd"}}, subresource="status")


async def test_borrowers_of_a_lenders_policy_do_not_overwrite_each_other(client: Client, create: Create) -> None:
    policy = await create(build("ResourceLeasingPolicy"))
    for borrower in ("uid-a", "uid-b"):
        state = {"virtualClusterUID": borrower, "phase": "Active", "conditions": [condition("Valid", "True")]}
        status = {
            "apiVersion": policy["apiVersion"], "kind": policy["kind"], "metadata": {"name": name_of(policy)},
            "status": {"borrowers": [state]},
        }
        policy = await client.patch(
            RESOURCELEASINGPOLICIES, name_of(policy), "", status, kind=PatchType.APPLY, subresource="status",
            field_manager=f"borrower-{borrower}",
        )
    assert [state["virtualClusterUID"] for state in policy["status"]["borrowers"]] == ["uid-a", "uid-b"]


async def kubectl(assets: Assets, sandbox: Sandbox, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        assets.kubectl, "--kubeconfig", sandbox.virtual.kubeconfig, *arguments, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    return stdout.decode()


async def test_kubectl_get_tells_the_story(client: Client, create: Create, assets: Assets, sandbox: Sandbox) -> None:
    binding = await create(build("ClusterBinding"))
    status = {"phase": "Ready", "nodes": 3, "pods": 12, "conditions": [condition("Connected", "True")]}
    await client.patch(CLUSTERBINDINGS, name_of(binding), "", {"status": status}, subresource="status")
    header, line = map(str.split, (await kubectl(assets, sandbox, "get", "cb", name_of(binding))).splitlines())
    assert header == ["NAME", "CLUSTERID", "PHASE", "NODES", "PODS", "CONNECTED", "AGE"]
    assert line[:-1] == [name_of(binding), "cls-1", "Ready", "3", "12", "True"]

    policy = await create(build("ResourceLeasingPolicy"))
    status = {"phase": "Active", "activeTimeWindow": True, "nextChangeTime": "2099-01-01T08:00:00Z"}
    await client.patch(RESOURCELEASINGPOLICIES, name_of(policy), "", {"status": status}, subresource="status")
    header, line = map(str.split, (await kubectl(assets, sandbox, "get", "rlp", name_of(policy))).splitlines())
    assert header == ["NAME", "CLUSTER", "PHASE", "ACTIVE", "NEXTCHANGE", "AGE"]
    assert line[:-1] == [name_of(policy), "cluster-a", "Active", "true", "2099-01-01T08:00:00Z"]


async def test_kubectl_explain_says_what_a_field_is_for(
    client: Client, assets: Assets, sandbox: Sandbox, eventually: Callable[..., Awaitable[Any]]
) -> None:
    async def published() -> bool:  # a moment after the CRD is Established
        explained = await kubectl(assets, sandbox, "explain", "clusterbindings")
        return "Joins one physical cluster to this virtual one." in explained

    await eventually(published, within=30.0, what="the schema published")
    explained = await kubectl(assets, sandbox, "explain", "clusterbindings.spec.mountNamespace")
    assert "The physical namespace for everything Kubeocean creates" in explained
