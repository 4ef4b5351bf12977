"""The field tables and what is forged by them, before real API servers: no field without a verdict, no twin that is refused."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from kubeocean.domain.fieldrules import Treatment
from kubeocean.domain.podchange import is_pushed
from kubeocean.domain.podcontext import PodContext
from kubeocean.domain.podfields import TABLES
from kubeocean.domain.podmap import ForgedPod, build_physical_pod
from kubeocean.domain.podpush import build_last_patch, build_resize_patch
from kubeocean.kube.client import Client
from kubeocean.kube.errors import AlreadyExists, ApiError
from kubeocean.kube.meta import Json, name_of
from kubeocean.kube.resources import NAMESPACES, PODS, PRIORITYCLASSES, Resource
from tests.forge import pairs
from tests.forge.drawn import pods
from tests.integration.federation import discard, make_namespace

RUNTIMECLASSES = Resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", False)
AT_ONCE = 16
ORDINARY, PRIVILEGED = 150, 50  # Pods drawn
# What these pairs show is behind feature gates that this server has off; it leaves such fields out, which makes them invalid.
GATED = {"volumes-of-images-are-kept", "variables-from-files-are-kept"}


# --- every field has a verdict -----------------------------------------------------------------------------------------

class Schema:
    """The types of the core API, as the server itself tells them."""

    def __init__(self, document: Json) -> None:
        self._types = {name.rpartition(".")[2]: schema for name, schema in document["components"]["schemas"].items()}

    def fields(self, kind: str) -> dict[str, str]:
        """Return the fields of a type: for each the type below it, "" for plain values and lists and maps of them."""
        properties = self._types[kind].get("properties") or {}
        return {field: self._below(schema) for field, schema in properties.items()}

    def _below(self, schema: Json) -> str:
        parts = [schema, *schema.get("allOf", ()), schema.get("items") or {}, schema.get("additionalProperties") or {}]
        parts += [part for inner in parts[1:] for part in inner.get("allOf", ())]
        kinds = [part["$ref"].rpartition(".")[2] for part in parts if "$ref" in part]
        return next((kind for kind in kinds if self._types[kind].get("properties")), "")


def verdicts(schema: Schema, kind: str, where: str, seen: set[tuple[str, str]]) -> Iterator[str]:
    """Yield what is wrong with the tables at and below one type; `seen` collects the rows that are of use."""
    for field, below in schema.fields(kind).items():
        path, rule = f"{where}.{field}", TABLES[kind].get(field)
        if rule is None:
            yield f"{path} is in no table"
            continue
        new = (kind, field) not in seen
        seen.add((kind, field))
        if rule.of:
            if rule.of != below:
                yield f"{path} is a {below or 'plain value'}, its row speaks of {rule.of}"
            elif new:
                yield from verdicts(schema, below, path, seen)
        elif rule.treatment in (Treatment.KEEP, Treatment.RENAME) and below:
            yield f"{path} is kept whole, but a {below} has fields that need a verdict each"


async def test_every_field_of_the_servers_schema_has_a_verdict_and_every_row_a_field(physical_clients: list[Client]) -> None:
    schema = Schema(orjson.loads(await physical_clients[0].raw("GET", "/openapi/v3/api/v1")))
    seen: set[tuple[str, str]] = set()
    assert list(verdicts(schema, "PodSpec", "spec", seen)) == []
    unused = {
        f"{kind}.{field}" for kind, table in TABLES.items() for field, rule in table.items()
        if (kind, field) not in seen and not rule.since
    }
    assert unused == set(), "rows for fields that do not exist, or that no path leads to"


# --- what is forged is accepted ----------------------------------------------------------------------------------------

@pytest.fixture
async def around(physical_clients: list[Client]) -> AsyncIterator[PodContext]:
    """A context whose namespace, classes and node exist as far as an API server asks for them."""
    client = physical_clients[0]
    namespace = await make_namespace(client)
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": namespace}, "value": -10000}
    await client.create(PRIORITYCLASSES, priority)
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}, "handler": "runsc"}
    with suppress(AlreadyExists):
        await client.create(RUNTIMECLASSES, runtime)
    yield replace(pairs.CONTEXT, mount_namespace=namespace, priority_class=namespace)
    await discard(client, PRIORITYCLASSES, namespace)
    await discard(client, RUNTIMECLASSES, "gvisor")
    await discard(client, NAMESPACES, namespace)


async def try_out(client: Client, forged: Json) -> Json | str:
    """Return the Pod as the server would store it, or why it would not."""
    try:
        return await client.create(PODS, forged, dry_run=True)
    except ApiError as error:
        return f"{error} {orjson.dumps(forged['spec']).decode()}"


async def at_once(work: list[Any]) -> list[Any]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def in_turn(each: Any) -> Any:
        async with turns:
            return await each

    return await asyncio.gather(*map(in_turn, work))


async def test_the_twin_of_every_golden_pair_is_accepted(physical_clients: list[Client], around: PodContext) -> None:
    forged = {}
    for case in pairs.INPUTS:
        situation, title = pairs.read(case), pairs.title(case)
        for direct in (False, True):
            context = replace(pairs.context(situation.get("context") or {}), direct_scheduling=direct)
            context = replace(context, mount_namespace=around.mount_namespace, priority_class=around.priority_class)
            twin = build_physical_pod(situation["pod"], context)
            if isinstance(twin, ForgedPod) and title not in GATED:
                forged[title, direct] = try_out(physical_clients[0], twin.pod)
    answers = dict(zip(forged, await at_once(list(forged.values())), strict=True))
    refused = [f"{case}: {answer}" for case, answer in answers.items() if isinstance(answer, str)]
    assert not refused, "\n".join(refused)


async def test_twins_of_drawn_pods_are_accepted_whole_and_need_no_further_write(
    virtual_client: Client, physical_clients: list[Client], namespace: str, around: PodContext
) -> None:
    drawn = draw_pods(ORDINARY, privileged=False) + draw_pods(PRIVILEGED, privileged=True)
    answers = await at_once([try_out(virtual_client, with_namespace(pod, namespace)) for pod, _ in drawn])
    wrong = [answer for answer in answers if isinstance(answer, str)]
    assert not wrong, "the drawn Pods themselves are wrong:\n" + "\n".join(wrong)

    async def check(vpod: Json, context: PodContext) -> list[str]:
        forged = build_physical_pod(vpod, context)
        assert isinstance(forged, ForgedPod), forged
        stored = await try_out(physical_clients[0], forged.pod)
        if isinstance(stored, str):
            return [stored]
        problems = [f"{name_of(vpod)}: the server changed {path}" for path in lost(forged.pod, stored, "pod")]
        if not is_pushed(vpod, stored) or build_resize_patch(vpod, stored) or (patch := build_last_patch(vpod, stored)):
            problems.append(f"{name_of(vpod)}: not done, still to write: {patch}")
        return problems

    contexts = [
        replace(around, direct_scheduling=bool(index % 2), allow_privileged=privileged)
        for index, (_, privileged) in enumerate(drawn)
    ]
    found = await at_once([check(vpod, context) for vpod, context in zip(answers, contexts, strict=True)])
    problems = [problem for each in found for problem in each]
    assert not problems, "\n".join(problems)


def draw_pods(number: int, *, privileged: bool) -> list[tuple[Json, bool]]:
    """Return Pods, the same ones each time, and whether they need privileges."""
    drawn: list[tuple[Json, bool]] = []

    @seed(5)
    @settings(
        max_examples=number, phases=[Phase.generate], database=None, deadline=None, suppress_health_check=list(HealthCheck),
    )
    @given(pods(privileged=privileged))
    def collect(pod: Json) -> None:
        drawn.append((pod, privileged))

    collect()
    return drawn


def with_namespace(pod: Json, namespace: str) -> Json:
    return pod | {"metadata": {key: value for key, value in pod["metadata"].items() if key != "uid"} | {"namespace": namespace}}


def lost(meant: Any, stored: Any, path: str) -> Iterator[str]:
    """Yield what was sent and is not stored as it was sent; what the server adds is its own business."""
    if isinstance(meant, dict) and isinstance(stored, dict):
        for key, value in meant.items():
            yield from lost(value, stored.get(key), f"{path}.{key}")
    elif isinstance(meant, list) and isinstance(stored, list) and len(meant) <= len(stored):
        for index, value in enumerate(meant):
            yield from lost(value, stored[index], f"{path}[{index}]")
    elif meant != stored and meant not in ("", [], {}, False, 0):  # the server leaves out what is empty
        yield f"{path}: {meant} -> {stored}"
