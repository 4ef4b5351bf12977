"""Reads of which one may be refused: what may not be read is told, with the right that is missing, and not called absent."""

from __future__ import annotations

from typing import NamedTuple

from kubeocean.kube.client import Client
from kubeocean.kube.errors import Forbidden, KubeError, NotFound
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.resources import Resource


class Found(NamedTuple):
    """What a read gave: an object, or that it is `gone`, or neither: it may not be read."""

    obj: Json | None = None
    gone: bool = False


class PartialReader:
    """Reads single objects, each once, and remembers in `unread` what it was not allowed to."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Resource, ObjectKey], Found] = {}
        self._unread: dict[str, None] = {}

    @property
    def unread(self) -> tuple[str, ...]:
        """What may not be read, each once and in the order it was asked for."""
        return tuple(self._unread)

    async def find(self, client: Client, resource: Resource, key: ObjectKey, side: str) -> Found:
        """Look for an object of one side ("virtual" or "physical"). Raises KubeError for anything but absence and refusal."""
        asked = side, resource, key
        if asked not in self._found:
            self._found[asked] = await self._read(client, resource, key, side)
        return self._found[asked]

    async def _read(self, client: Client, resource: Resource, key: ObjectKey, side: str) -> Found:
        try:
            return Found(await client.get(resource, key.name, key.namespace))
        except NotFound:
            return Found(gone=True)
        except Forbidden:
            where = f" in namespace {key.namespace}" if key.namespace else ""
            name = f"{key}" if key.namespace else key.name
            remedy = (
                f"grant it, `kubeocean rbac --mount-namespace {key.namespace}` prints how" if side == "physical"
                else "ask with a kubeconfig that has it"
            )
            self._unread[(
                f"{resource.kind} {name} of the {side} cluster may not be read, so whether it is there is unknown: the right "
                f"to get {resource.plural}{where} is missing; {remedy}"
            )] = None
            return Found()


def name_right(error: KubeError, virtual: Client, mount_namespace: str) -> str:
    """Return an error in words; a refusal with who has to grant what."""
    if not isinstance(error, Forbidden):
        return str(error)
    if error.cluster == virtual.cluster:
        return f"{error}; ask with a kubeconfig that has this right in the virtual cluster"
    return (
        f"{error}; the lender has to grant this right to the user of the binding's kubeconfig, which the syncer needs as well: "
        f"`kubeocean rbac --mount-namespace {mount_namespace}` prints how"
    )
