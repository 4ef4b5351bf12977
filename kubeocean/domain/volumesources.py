"""Which sources a PersistentVolume may have for us to carry it, field by field, and where they name Secrets.

By allow-list, and unlike in a Pod an unknown field refuses the whole volume: mounted without an option that its user wrote,
a volume may be another one, or damage. Source of the table: core/v1 `PersistentVolumeSource` of 1.34.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json, ObjectKey

NOT_SUPPORTED: Final = "VolumeNotSupported"
NOT_ALLOWED: Final = "VolumeNotAllowed"


@dataclass(frozen=True, slots=True)
class Source:
    """What one kind of source may have: `fields` as they are, `secrets` that are {name, namespace} and get rewritten.

    `local` means a directory or device of a node itself, which the lender has to allow.
    """

    fields: frozenset[str]
    secrets: tuple[str, ...] = ()
    local: bool = False


def _of(fields: str, *, secrets: tuple[str, ...] = (), local: bool = False) -> Source:
    return Source(frozenset(fields.split()), secrets, local)


_ONE_SECRET: Final = ("secretRef",)
_CSI_SECRETS: Final = (
    "controllerPublishSecretRef", "nodeStageSecretRef", "nodePublishSecretRef", "controllerExpandSecretRef",
    "nodeExpandSecretRef",
)

SOURCES: Final[dict[str, Source]] = {
    "awsElasticBlockStore": _of("volumeID fsType partition readOnly"),
    "azureDisk": _of("diskName diskURI cachingMode fsType readOnly kind"),
    "azureFile": _of("shareName readOnly"),  # its Secret is two plain fields, see `_map_azure_file`
    "cephfs": _of("monitors path user secretFile readOnly", secrets=_ONE_SECRET),
    "cinder": _of("volumeID fsType readOnly", secrets=_ONE_SECRET),
    "csi": _of("driver volumeHandle readOnly fsType volumeAttributes", secrets=_CSI_SECRETS),
    "fc": _of("targetWWNs lun fsType readOnly wwids"),
    "flexVolume": _of("driver fsType readOnly options", secrets=_ONE_SECRET),
    "flocker": _of("datasetName datasetUUID"),
    "gcePersistentDisk": _of("pdName fsType partition readOnly"),
    "hostPath": _of("path type", local=True),
    "iscsi": _of(
        "targetPortal iqn lun iscsiInterface fsType readOnly portals chapAuthDiscovery chapAuthSession initiatorName",
        secrets=_ONE_SECRET,
    ),
    "local": _of("path fsType", local=True),
    "nfs": _of("server path readOnly"),
    "photonPersistentDisk": _of("pdID fsType"),
    "portworxVolume": _of("volumeID fsType readOnly"),
    "quobyte": _of("registry volume readOnly user group tenant"),
    "rbd": _of("monitors image fsType pool user keyring readOnly", secrets=_ONE_SECRET),
    "scaleIO": _of(
        "gateway system sslEnabled protectionDomain storagePool storageMode volumeName fsType readOnly", secrets=_ONE_SECRET
    ),
    "storageos": _of("volumeName volumeNamespace fsType readOnly", secrets=_ONE_SECRET),
    "vsphereVolume": _of("volumePath fsType storagePolicyName storagePolicyID"),
}
# What a PersistentVolumeSpec has beside its source.
_SPEC_FIELDS: Final = frozenset({
    "capacity", "accessModes", "claimRef", "persistentVolumeReclaimPolicy", "storageClassName", "mountOptions", "volumeMode",
    "nodeAffinity", "volumeAttributesClassName",
})


def check_source(spec: Json, *, allow_privileged: bool) -> Refusal | None:
    """Return why a PersistentVolumeSpec cannot be carried, naming every field in the way; None when it can."""
    if problems := list(_problems(spec)):
        return Refusal(NOT_SUPPORTED, f"cannot be carried to a physical cluster: {'; '.join(problems)}")
    kind = source_kind(spec)
    if SOURCES[kind].local and not allow_privileged:
        return Refusal(NOT_ALLOWED, (
            f"spec.{kind} lies on the lender's node itself (Pod Security baseline forbids that): use another kind of volume, "
            "or set spec.allowPrivileged on the ClusterBinding"
        ))
    return None


def source_kind(spec: Json) -> str:
    """Return the key of the source, "" when there is none that we know."""
    return next((kind for kind in SOURCES if kind in spec), "")


def _problems(spec: Json) -> Iterator[str]:
    if unknown := sorted(spec.keys() - SOURCES.keys() - _SPEC_FIELDS):
        yield from (f"spec.{field} (unknown to this version of Kubeocean)" for field in unknown)
    elif not (kind := source_kind(spec)):
        yield "no source that this version of Kubeocean knows"
    else:
        allowed = SOURCES[kind].fields | set(SOURCES[kind].secrets) | (_AZURE_FIELDS if kind == "azureFile" else set())
        unknown = sorted(spec[kind].keys() - allowed)
        yield from (f"spec.{kind}.{field} (unknown to this version of Kubeocean)" for field in unknown)


_AZURE_FIELDS: Final = frozenset({"secretName", "secretNamespace"})


def storage_of(spec: Json) -> Json:
    """Return {kind: source} without the Secrets: the same for two volumes that describe the same storage."""
    kind = source_kind(spec)
    return {kind: {key: value for key, value in spec[kind].items() if key in SOURCES[kind].fields}} if kind else {}


def secrets_of(spec: Json, default_namespace: str = "") -> tuple[ObjectKey, ...]:
    """Return the Secrets that the driver of a volume reads, each once; () for a source that we do not know.

    A reference without namespace means the claim's own (as the volume plugins read it).
    """
    kind = source_kind(spec)
    if not kind:
        return ()
    fields = spec[kind]
    references = [fields[field] for field in SOURCES[kind].secrets if fields.get(field)]
    if kind == "azureFile":
        references.append({"name": fields.get("secretName"), "namespace": fields.get("secretNamespace")})
    found = (ObjectKey(each.get("namespace") or default_namespace, each.get("name") or "") for each in references)
    return tuple(dict.fromkeys(found))


def map_source(spec: Json, claim_namespace: str, rename: Callable[[ObjectKey], ObjectKey]) -> Json:
    """Return {kind: source} with every Secret renamed; `spec` has passed `check_source`."""
    kind = source_kind(spec)
    fields = spec[kind]
    mapped = {key: fields[key] for key in fields if key in SOURCES[kind].fields}

    def renamed(name: str | None, namespace: str | None) -> ObjectKey:
        return rename(ObjectKey(namespace or claim_namespace, name or ""))

    for field in SOURCES[kind].secrets:
        if reference := fields.get(field):
            secret = renamed(reference.get("name"), reference.get("namespace"))
            mapped[field] = {"name": secret.name, "namespace": secret.namespace}
    if kind == "azureFile":
        secret = renamed(fields.get("secretName"), fields.get("secretNamespace"))
        mapped |= {"secretName": secret.name, "secretNamespace": secret.namespace}
    return {kind: mapped}
