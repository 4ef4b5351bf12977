"""Which objects a Pod names: every place of the API, and what looks like a reference but is none."""

from typing import Any

import pytest
from hypothesis import given

from kubeocean.domain.fieldrules import Treatment
from kubeocean.domain.naming import physical_name
from kubeocean.domain.podfields import TABLES
from kubeocean.domain.podmap import ForgedPod, build_physical_pod
from kubeocean.domain.podrefs import references_of
from kubeocean.kube.meta import Json
from tests.forge import pairs
from tests.forge.drawn import MANY, fields_of, pods

INJECTED = {"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [
    {"serviceAccountToken": {"path": "token"}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
]}}


def pod(**spec: Any) -> Json:
    return {"metadata": {"name": "web-0", "namespace": "shop"}, "spec": {"containers": [{"name": "app"}], **spec}}


def volume(**source: Json) -> Json:
    return pod(volumes=[{"name": "v", **source}])


def container(**fields: Any) -> Json:
    return pod(containers=[{"name": "app", **fields}])


def variable(**source: Json) -> Json:
    return container(env=[{"name": "A", "value": "1"}, {"name": "B", "valueFrom": source}])


FOUND: dict[str, tuple[Json, str]] = {
    "a ConfigMap volume": (volume(configMap={"name": "a"}), 'ConfigMap "a" (spec.volumes[0].configMap)'),
    "a Secret volume": (volume(secret={"secretName": "a"}), 'Secret "a" (spec.volumes[0].secret)'),
    "a projected ConfigMap": (
        volume(projected={"sources": [{"configMap": {"name": "a"}}]}),
        'ConfigMap "a" (spec.volumes[0].projected.sources[0].configMap)',
    ),
    "a projected Secret": (
        volume(projected={"sources": [{"secret": {"name": "a"}}]}),
        'Secret "a" (spec.volumes[0].projected.sources[0].secret)',
    ),
    "a claim": (
        volume(persistentVolumeClaim={"claimName": "a"}), 'PersistentVolumeClaim "a" (spec.volumes[0].persistentVolumeClaim)',
    ),
    "the claim of an ephemeral volume": (volume(ephemeral={}), 'PersistentVolumeClaim "web-0-v" (spec.volumes[0].ephemeral)'),
    "an Azure file share": (volume(azureFile={"secretName": "a"}), 'Secret "a" (spec.volumes[0].azureFile)'),
    "an iSCSI disk": (volume(iscsi={"secretRef": {"name": "a"}}), 'Secret "a" (spec.volumes[0].iscsi.secretRef)'),
    "a Cinder disk": (volume(cinder={"secretRef": {"name": "a"}}), 'Secret "a" (spec.volumes[0].cinder.secretRef)'),
    "a flex volume": (volume(flexVolume={"secretRef": {"name": "a"}}), 'Secret "a" (spec.volumes[0].flexVolume.secretRef)'),
    "a CSI volume": (
        volume(csi={"nodePublishSecretRef": {"name": "a"}}), 'Secret "a" (spec.volumes[0].csi.nodePublishSecretRef)',
    ),
    "a pull secret": (pod(imagePullSecrets=[{"name": "a"}]), 'Secret "a" (spec.imagePullSecrets[0])'),
    "a variable of a ConfigMap": (
        variable(configMapKeyRef={"name": "a", "key": "k"}),
        'ConfigMap "a" (spec.containers[0].env[1].valueFrom.configMapKeyRef)',
    ),
    "a variable of a Secret": (
        variable(secretKeyRef={"name": "a", "key": "k"}), 'Secret "a" (spec.containers[0].env[1].valueFrom.secretKeyRef)',
    ),
    "all variables of a ConfigMap": (
        container(envFrom=[{"configMapRef": {"name": "a"}}]), 'ConfigMap "a" (spec.containers[0].envFrom[0].configMapRef)',
    ),
    "all variables of a Secret": (
        container(envFrom=[{"prefix": "P_", "secretRef": {"name": "a"}}]),
        'Secret "a" (spec.containers[0].envFrom[0].secretRef)',
    ),
    "an init container": (
        pod(initContainers=[{"envFrom": [{"secretRef": {"name": "a"}}]}]),
        'Secret "a" (spec.initContainers[0].envFrom[0].secretRef)',
    ),
    "an ephemeral container": (
        pod(ephemeralContainers=[{"envFrom": [{"secretRef": {"name": "a"}}]}]),
        'Secret "a" (spec.ephemeralContainers[0].envFrom[0].secretRef)',
    ),
}


@pytest.mark.parametrize("case", FOUND)
def test_found(case: str) -> None:
    virtual, reference = FOUND[case]
    assert [str(found) for found in references_of(virtual)] == [reference]


NONE: dict[str, Json] = {
    "nothing": pod(),
    "what every Pod has": pod(volumes=[INJECTED, {"name": "scratch", "emptyDir": {}}]),
    "the root certificate in a volume": volume(configMap={"name": "kube-root-ca.crt"}),
    "the root certificate in a variable": variable(configMapKeyRef={"name": "kube-root-ca.crt", "key": "ca.crt"}),
    "inline volumes without secrets": volume(csi={"driver": "a"}),
    "an empty pull secret": pod(imagePullSecrets=[{}, {"name": ""}]),
    "downward API and resources": variable(fieldRef={"fieldPath": "metadata.name"}),
}


@pytest.mark.parametrize("case", NONE)
def test_no_reference(case: str) -> None:
    assert list(references_of(NONE[case])) == []


OPTIONAL: dict[str, tuple[Json, bool]] = {
    "a volume is mandatory": (volume(configMap={"name": "a"}), False),
    "a volume may be optional": (volume(secret={"secretName": "a", "optional": True}), True),
    "a variable may be optional": (variable(secretKeyRef={"name": "a", "key": "k", "optional": True}), True),
    "all variables may be optional": (container(envFrom=[{"configMapRef": {"name": "a", "optional": True}}]), True),
    "a pull secret is optional": (pod(imagePullSecrets=[{"name": "a"}]), True),
    "a claim is mandatory": (volume(persistentVolumeClaim={"claimName": "a"}), False),
}


@pytest.mark.parametrize("case", OPTIONAL)
def test_optional(case: str) -> None:
    virtual, optional = OPTIONAL[case]
    assert [found.optional for found in references_of(virtual)] == [optional]


@MANY
@given(pods())
def test_the_twin_names_the_copies_and_nothing_else_but_token_secrets(virtual: Json) -> None:
    forged = build_physical_pod(virtual, pairs.CONTEXT)
    assert isinstance(forged, ForgedPod)
    ours = {("Secret", token.name) for token in forged.tokens}
    copies = {(found.kind, physical_name(found.name, "shop")) for found in references_of(virtual)}
    assert {(found.kind, found.name) for found in references_of(forged.pod)} - ours == copies


@MANY
@given(pods())
def test_every_renamed_field_is_a_reference(virtual: Json) -> None:
    renamed = [
        path for table, field, path in fields_of(virtual["spec"], "PodSpec", "spec")
        if TABLES[table].get(field, TABLES["EnvVar"]["name"]).treatment is Treatment.RENAME
    ]
    walked = [found for found in references_of(virtual) if not found.where.endswith(".ephemeral")]
    roots = str(virtual).count("'name': 'kube-root-ca.crt'")
    assert len(renamed) == len(walked) + roots
