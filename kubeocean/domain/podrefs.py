"""Which other objects of the virtual cluster a Pod names.

The one place that knows where a PodSpec can refer to ConfigMaps, Secrets and claims. Their copies in the mountNamespace have
other names, which `podcopy` puts in at the same places (the tables' RENAME). `kube-root-ca.crt` is no reference: it is never
copied. In a volume its text becomes a key of a Secret of ours, in variables it is refused (`podtoken`).

It is asked for every Pod event of the virtual cluster, so what most Pods have (an emptyDir, the injected token volume, plain
variables) is passed over with as little as possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kubeocean.api.names import ROOT_CA_CONFIGMAP
from kubeocean.kube.meta import Json, ObjectKey, namespace_of


@dataclass(frozen=True, slots=True)
class Reference:
    """One mention: `where` is the field path, `optional` tells whether a kubelet would start the Pod without it."""

    kind: str
    name: str
    where: str
    optional: bool = False

    def __str__(self) -> str:
        return f'{self.kind} "{self.name}" ({self.where})'


CONFIGMAP: Final = "ConfigMap"
SECRET: Final = "Secret"
CLAIM: Final = "PersistentVolumeClaim"
_CONTAINERS: Final = ("initContainers", "containers", "ephemeralContainers")


def references_of(vpod: Json) -> Iterator[Reference]:
    """Yield every reference, mandatory or optional, in the order of the fields; one object as often as it is named."""
    spec = vpod["spec"]
    if "imagePullSecrets" in spec:
        yield from _of_pull_secrets(spec["imagePullSecrets"])
    if "volumes" in spec:
        yield from _of_volumes(vpod, spec["volumes"])
    for kind in _CONTAINERS:
        if containers := spec.get(kind):
            for index, container in enumerate(containers):
                if "envFrom" in container or "env" in container:
                    yield from references_of_container(container, f"spec.{kind}[{index}]")


def mandatory_references(vpod: Json) -> Sequence[tuple[str, ObjectKey, str]]:
    """Return kind, key and field path of what the Pod cannot start without, each object once."""
    found = {
        (each.kind, ObjectKey(namespace_of(vpod), each.name)): each.where for each in references_of(vpod) if not each.optional
    }
    return [(kind, key, where) for (kind, key), where in found.items()]


def _of_pull_secrets(secrets: list[Json]) -> Iterator[Reference]:
    for index, secret in enumerate(secrets):
        if name := secret.get("name"):  # an empty one is legal and means nothing
            yield Reference(SECRET, name, f"spec.imagePullSecrets[{index}]", optional=True)


def _of_volumes(vpod: Json, volumes: list[Json]) -> Iterator[Reference]:
    for index, volume in enumerate(volumes):
        for source in volume:
            if find := _IN_VOLUMES.get(source):
                yield from find(vpod, volume, f"spec.volumes[{index}].{source}")


def references_of_container(container: Json, where: str) -> Iterator[Reference]:
    """Yield the references of one container of any kind, whose field path is `where`."""
    for index, source in enumerate(container.get("envFrom") or ()):
        for field, kind in (("configMapRef", CONFIGMAP), ("secretRef", SECRET)):
            if ref := source.get(field):
                yield from _named(kind, ref, f"{where}.envFrom[{index}].{field}")
    for index, variable in enumerate(container.get("env") or ()):
        if "valueFrom" in variable:
            source = variable["valueFrom"]
            for field, kind in (("configMapKeyRef", CONFIGMAP), ("secretKeyRef", SECRET)):
                if ref := source.get(field):
                    yield from _named(kind, ref, f"{where}.env[{index}].valueFrom.{field}")


def ephemeral_claim(vpod: Json, volume: Json) -> str:
    """Return the name of the claim that the virtual cluster makes for a generic ephemeral volume of a Pod."""
    return f"{vpod['metadata']['name']}-{volume['name']}"


def is_root_ca(source: Json | None) -> bool:
    """Tell whether a mention of a ConfigMap means the one with the cluster's root certificate."""
    return source is not None and source.get("name") == ROOT_CA_CONFIGMAP


def _named(kind: str, source: Json, where: str, field: str = "name") -> Iterator[Reference]:
    name = source.get(field)
    if name and not (kind == CONFIGMAP and name == ROOT_CA_CONFIGMAP):
        yield Reference(kind, name, where, bool(source.get("optional")))


def _of_configmap(_: Json, volume: Json, where: str) -> Iterator[Reference]:
    return _named(CONFIGMAP, volume["configMap"], where)


def _of_secret(_: Json, volume: Json, where: str) -> Iterator[Reference]:
    return _named(SECRET, volume["secret"], where, "secretName")


def _of_projected(_: Json, volume: Json, where: str) -> Iterator[Reference]:
    for index, source in enumerate(volume["projected"].get("sources") or ()):
        if config := source.get("configMap"):
            yield from _named(CONFIGMAP, config, f"{where}.sources[{index}].configMap")
        elif secret := source.get("secret"):
            yield from _named(SECRET, secret, f"{where}.sources[{index}].secret")


def _of_claim(_: Json, volume: Json, where: str) -> Iterator[Reference]:
    return _named(CLAIM, volume["persistentVolumeClaim"], where, "claimName")


def _of_ephemeral(vpod: Json, volume: Json, where: str) -> Iterator[Reference]:
    yield Reference(CLAIM, ephemeral_claim(vpod, volume), where)


def _of_azure_file(_: Json, volume: Json, where: str) -> Iterator[Reference]:
    return _named(SECRET, volume["azureFile"], where, "secretName")


def _in_source(kind: str, field: str) -> Callable[[Json, Json, str], Iterator[Reference]]:
    """Return what finds the reference to a Secret that stands in `field` of an inline source."""
    def find(_: Json, volume: Json, where: str) -> Iterator[Reference]:
        if ref := volume[kind].get(field):
            yield from _named(SECRET, ref, f"{where}.{field}")

    return find


_IN_VOLUMES: Final[dict[str, Callable[[Json, Json, str], Iterator[Reference]]]] = {
    "azureFile": _of_azure_file,
    "cinder": _in_source("cinder", "secretRef"),
    "configMap": _of_configmap,
    "csi": _in_source("csi", "nodePublishSecretRef"),
    "ephemeral": _of_ephemeral,
    "flexVolume": _in_source("flexVolume", "secretRef"),
    "iscsi": _in_source("iscsi", "secretRef"),
    "persistentVolumeClaim": _of_claim,
    "projected": _of_projected,
    "secret": _of_secret,
}
