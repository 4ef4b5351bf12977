"""From a virtual Pod to its twin.

The twin is *forged*, not copied: built field by field from the allow-list of `podfields`, so that what nobody thought
of stays behind. The steps, each in its own module:

1. May it? What Pod Security baseline forbids (`podsecurity`) and what no twin can have (`podcopy`, `rootca`) is refused,
   with every offending field named. Nothing is forged by halves.
2. Where? Straight onto the node (directScheduling), or by required affinity and the physical scheduler's consent. All
   other wishes about placement were the virtual scheduler's to grant, and it has granted them.
3. Who? It runs as nobody of the physical cluster: no ServiceAccount, no token, no Service variables of the lender's.
   Its virtual identity comes as Secrets of ours (`podtoken`), its names and addresses by `podnetwork`, `serviceenv` and
   `poddownward`.
4. With what? ConfigMaps, Secrets and claims are named as their copies are (`podrefs` tells which must be there first).
5. What is it called? The name is a function of the virtual name; annotations tell the way back; labels say whose it is.

The result depends on the arguments alone, so a repeated pass forges the same twin. It shares unchanged parts with the
virtual Pod it came from: neither may be mutated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orjson import dumps

from kubeocean.api import names
from kubeocean.domain.naming import physical_name
from kubeocean.domain.podchange import changeable_hash, copied_annotations, expected_metadata
from kubeocean.domain.podcontainers import map_container, resolve_variables
from kubeocean.domain.podcontext import PodContext, Surroundings
from kubeocean.domain.podcopy import Copier, check_ephemeral_fields, check_fields
from kubeocean.domain.poddownward import Downward
from kubeocean.domain.podnetwork import build_env, hostname_of, map_dns, map_host_aliases
from kubeocean.domain.podsecurity import check_baseline, check_ephemeral_baseline
from kubeocean.domain.podtoken import TokenSecret
from kubeocean.domain.podvolumes import map_volumes
from kubeocean.domain.refusal import Refusal
from kubeocean.domain.rootca import check_root_ca, check_root_ca_variables
from kubeocean.kube.meta import Json, labels_of, name_of, namespace_of, uid_of

__all__ = [
    "ForgedPod", "PodContext", "Surroundings", "build_physical_pod", "check_pod", "forge_volumes", "map_ephemeral_container",
]

_MOST_ANNOTATIONS: Final = 256 * 1024  # bytes of keys and values together, as the API server counts them
_MOST_VARIABLES: Final = 1024 * 1024  # bytes in a whole Pod; an API server stores no object of more than 1.5 MiB


@dataclass(frozen=True, slots=True)
class ForgedPod:
    """The twin to create, and the Secrets that must exist before it."""

    pod: Json
    tokens: tuple[TokenSecret, ...]


def build_physical_pod(vpod: Json, context: PodContext) -> ForgedPod | Refusal:
    """Return the twin of a virtual Pod that is bound to a node, or why it cannot have one."""
    if refusal := check_pod(vpod, allow_privileged=context.allow_privileged):
        return refusal
    forged = _forge(vpod, context)
    return _check_annotations(forged.pod["metadata"]["annotations"]) or _check_variables(forged.pod["spec"]) or forged


def forge_volumes(vpod: Json, context: PodContext) -> ForgedPod:
    """Return what a twin that runs already would have of volumes, and its Secrets; no check is asked, for there it is."""
    volumes, tokens = map_volumes(vpod, Copier(namespace_of(vpod), Downward(vpod, _labels(vpod, context))))
    return ForgedPod({"spec": {"volumes": volumes}}, tuple(tokens))


def map_ephemeral_container(vpod: Json, container: Json, context: PodContext) -> Json | Refusal:
    """Return an ephemeral container of `vpod` for the `ephemeralcontainers` subresource of its twin, or why it has none.

    What it names (`podrefs.references_of_container`) must be there first, as for any container.
    """
    where = f"spec.ephemeralContainers[{container['name']}]"
    baseline = None if context.allow_privileged else check_ephemeral_baseline(container, where)
    if refusal := baseline or check_ephemeral_fields(container, where) or check_root_ca_variables(container, where):
        return refusal
    downward = Downward(vpod, _labels(vpod, context))
    copier = Copier(namespace_of(vpod), downward)
    mapped = map_container(container, build_env(vpod, context.surroundings), copier, "EphemeralContainer")
    # The twin may lack annotations that only this container asks for; its variables are read but once, when it starts.
    return mapped | {"env": resolve_variables(mapped["env"], downward.annotations)}


def check_pod(vpod: Json, *, allow_privileged: bool) -> Refusal | None:
    """Return why a virtual Pod cannot have a twin, every offending field named; None when it can."""
    baseline = None if allow_privileged else check_baseline(vpod)
    return baseline or check_fields(vpod) or check_root_ca(vpod)


def _check_annotations(annotations: dict[str, str]) -> Refusal | None:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size <= _MOST_ANNOTATIONS:
        return None
    return Refusal(
        "AnnotationsTooLarge",
        f"the annotations of the physical Pod would have {size} bytes, more than the {_MOST_ANNOTATIONS} an API server "
        "takes: it has the virtual ones, and what was last meant by them. Shorten metadata.annotations",
    )


def _check_variables(spec: Json) -> Refusal | None:
    containers = (*spec["containers"], *spec.get("initContainers", ()))
    if sum(len(container["env"]) for container in containers) < 1000:  # nearly always: not worth the exact size
        return None
    size = sum(len(dumps(container["env"])) for container in containers)
    if size <= _MOST_VARIABLES:
        return None
    return Refusal(
        "VariablesTooLarge",
        f"the variables of the physical Pod would take {size} bytes, more than the {_MOST_VARIABLES} there is room for: each "
        "container has one set for every Service of the namespace. Set enableServiceLinks: false in the Pod",
    )


def _forge(vpod: Json, context: PodContext) -> ForgedPod:
    ours = _labels(vpod, context)
    downward = Downward(vpod, ours)
    spec, tokens = _map_spec(vpod, context, Copier(namespace_of(vpod), downward))
    metadata = {
        "name": physical_name(name_of(vpod), namespace_of(vpod)), "namespace": context.mount_namespace,
        "labels": {**labels_of(vpod), **ours}, "annotations": _annotations(vpod, context) | downward.annotations,
    }
    return ForgedPod({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, tokens)


def _labels(vpod: Json, context: PodContext) -> dict[str, str]:
    kind, name = context.workload
    return {
        **context.owner.labels(),
        names.VIRTUAL_NAMESPACE_LABEL: namespace_of(vpod),
        names.WORKLOAD_TYPE_LABEL: kind,
        names.WORKLOAD_NAME_LABEL: name,
    }


def _annotations(vpod: Json, context: PodContext) -> dict[str, str]:
    return {
        **copied_annotations(vpod),
        **context.owner.annotations(),
        names.VIRTUAL_POD_NAMESPACE_ANNOTATION: namespace_of(vpod),
        names.VIRTUAL_POD_NAME_ANNOTATION: name_of(vpod),
        names.VIRTUAL_POD_UID_ANNOTATION: uid_of(vpod),
        names.VIRTUAL_NODE_NAME_ANNOTATION: vpod["spec"]["nodeName"],
        names.EXPECTED_METADATA_ANNOTATION: expected_metadata(vpod),
        names.CONTENT_HASH_ANNOTATION: changeable_hash(vpod),
    }


def _map_spec(vpod: Json, context: PodContext, copier: Copier) -> tuple[Json, tuple[TokenSecret, ...]]:
    spec = vpod["spec"]
    forged = copier.copy(spec, "PodSpec")
    forged |= _placement(context)
    forged |= {
        "priorityClassName": context.priority_class, "automountServiceAccountToken": False, "enableServiceLinks": False,
        "hostname": hostname_of(vpod),
    }
    forged |= map_dns(vpod, context.surroundings, copier)
    if aliases := map_host_aliases(vpod, context.surroundings, copier):
        forged["hostAliases"] = aliases
    volumes, tokens = map_volumes(vpod, copier)
    if volumes:
        forged["volumes"] = volumes
    env = build_env(vpod, context.surroundings)
    for kind in ("initContainers", "containers"):
        if containers := spec.get(kind):
            forged[kind] = [map_container(container, env, copier) for container in containers]
    return forged, tuple(tokens)


def _placement(context: PodContext) -> Json:
    if context.direct_scheduling:
        return {"nodeName": context.physical_node}
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [context.physical_node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"affinity": {"nodeAffinity": required}}
