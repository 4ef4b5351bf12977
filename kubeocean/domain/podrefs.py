"""Which other objects of the virtual cluster a Pod names.

The one place that knows where a PodSpec can refer to ConfigMaps, Secrets and claims. Mapping refuses a Pod that has
any; the mirroring of dependencies will walk the same list instead. `kube-root-ca.crt` in a projected volume is not a
reference: it is never copied, its text becomes a key of our token Secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kubeocean.api.names import ROOT_CA_CONFIGMAP
from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json


@dataclass(frozen=True, slots=True)
class Reference:
    """One mention: `where` is the field path, `optional` tells whether a kubelet would start the Pod without it."""

    kind: str
    name: str
    where: str
    optional: bool = False

    def __str__(self) -> str:
        return f'{self.kind} "{self.name}" ({self.where})'


# Volume sources that may carry a reference: source, key of the local reference, whether it is {name} or plain text.
_SECRET_REFS: Final = (
    ("iscsi", "secretRef"), ("cinder", "secretRef"), ("flexVolume", "secretRef"), ("csi", "nodePublishSecretRef"),
)


def check_references(vpod: Json) -> Refusal | None:
    """Return a refusal that names every reference of `vpod` to an object we do not mirror; None when there is none."""
    references = [str(reference) for reference in references_of(vpod)]
    if not references:
        return None
    return Refusal(
        "DependencyNotSupported",
        f"needs {', '.join(references)}; ConfigMaps, Secrets and claims reach physical clusters with a later version "
        "of Kubeocean, until then remove the reference or run the Pod on another node",
    )


def references_of(vpod: Json) -> Iterator[Reference]:
    """Yield every reference, mandatory or optional, in the order of the fields."""
    spec = vpod["spec"]
    for index, secret in enumerate(spec.get("imagePullSecrets") or ()):
        yield Reference("Secret", secret.get("name", ""), f"spec.imagePullSecrets[{index}]", optional=True)
    for index, volume in enumerate(spec.get("volumes") or ()):
        yield from _of_volume(vpod, volume, f"spec.volumes[{index}]")
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            yield from _of_container(container, f"spec.{kind}[{index}]")


def _of_volume(vpod: Json, volume: Json, where: str) -> Iterator[Reference]:
    if projected := volume.get("projected"):
        for index, source in enumerate(projected.get("sources") or ()):
            yield from _of_projection(source, f"{where}.projected.sources[{index}]")
    elif source := volume.get("configMap"):
        yield Reference("ConfigMap", source.get("name", ""), f"{where}.configMap", bool(source.get("optional")))
    elif source := volume.get("secret"):
        yield Reference("Secret", source.get("secretName", ""), f"{where}.secret", bool(source.get("optional")))
    elif source := volume.get("persistentVolumeClaim"):
        yield Reference("PersistentVolumeClaim", source["claimName"], f"{where}.persistentVolumeClaim")
    elif "ephemeral" in volume:
        # By Kubernetes' rule the claim of a generic ephemeral volume is called {pod}-{volume}.
        name = f"{vpod['metadata']['name']}-{volume['name']}"
        yield Reference("PersistentVolumeClaim", name, f"{where}.ephemeral")
    elif source := volume.get("azureFile"):
        yield Reference("Secret", source.get("secretName", ""), f"{where}.azureFile")
    else:
        yield from _inline_secret(volume, where)


def _inline_secret(volume: Json, where: str) -> Iterator[Reference]:
    for kind, field in _SECRET_REFS:
        if secret := (volume.get(kind) or {}).get(field):
            yield Reference("Secret", secret.get("name", ""), f"{where}.{kind}.{field}")


def _of_projection(source: Json, where: str) -> Iterator[Reference]:
    if (config := source.get("configMap")) and config.get("name") != ROOT_CA_CONFIGMAP:
        yield Reference("ConfigMap", config.get("name", ""), f"{where}.configMap", bool(config.get("optional")))
    if secret := source.get("secret"):
        yield Reference("Secret", secret.get("name", ""), f"{where}.secret", bool(secret.get("optional")))
    if bundle := source.get("clusterTrustBundle"):
        name = bundle.get("name") or bundle.get("signerName") or ""
        yield Reference("ClusterTrustBundle", name, f"{where}.clusterTrustBundle", bool(bundle.get("optional")))


def _of_container(container: Json, where: str) -> Iterator[Reference]:
    for index, source in enumerate(container.get("envFrom") or ()):
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if ref := source.get(field):
                path = f"{where}.envFrom[{index}].{field}"
                yield Reference(kind, ref.get("name", ""), path, bool(ref.get("optional")))
    for index, variable in enumerate(container.get("env") or ()):
        if source := variable.get("valueFrom"):
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if ref := source.get(field):
                    path = f"{where}.env[{index}].valueFrom.{field}"
                    yield Reference(kind, ref.get("name", ""), path, bool(ref.get("optional")))
