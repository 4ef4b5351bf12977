"""From a virtual Pod to its twin.

The twin is *forged*, not copied: built field by field from the allow-list of `podfields`, so that what nobody thought
of stays behind. The steps, each in its own module:

1. May it? What Pod Security baseline forbids (`podsecurity`), sources we cannot carry (`podvolumes`) and references to
   objects that are not mirrored (`podrefs`) are refused, with every offending field named. Nothing is forged by halves.
2. Where? Straight onto the node (directScheduling), or by required affinity and the physical scheduler's consent. All
   other wishes about placement were the virtual scheduler's to grant, and it has granted them.
3. Who? It runs as nobody of the physical cluster: no ServiceAccount, no token, no Service variables of the lender's.
   Its virtual identity comes as Secrets of ours (`podtoken`), its names and addresses by `podnetwork` and
   `poddownward`.
4. What is it called? The name is a function of the virtual name; annotations tell the way back; labels say whose it is.

The result depends on the arguments alone, so a repeated pass forges the same twin. It shares unchanged parts with the
virtual Pod it came from: neither may be mutated.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubeocean.api import names
from kubeocean.domain.naming import physical_name
from kubeocean.domain.podchange import changeable_hash, copied_annotations, expected_metadata
from kubeocean.domain.podcontext import PodContext, Surroundings
from kubeocean.domain.poddownward import Downward, map_env_source
from kubeocean.domain.podfields import CONTAINER_SECURITY_CONTEXT, KEPT_CONTAINER, KEPT_POD_SPEC, POD_SECURITY_CONTEXT
from kubeocean.domain.podnetwork import build_env, hostname_of, map_dns, map_host_aliases
from kubeocean.domain.podrefs import check_references
from kubeocean.domain.podsecurity import check_baseline
from kubeocean.domain.podtoken import TokenSecret
from kubeocean.domain.podvolumes import check_sources, map_volumes
from kubeocean.domain.refusal import Refusal
from kubeocean.kube.meta import Json, labels_of, name_of, namespace_of, uid_of

__all__ = ["ForgedPod", "PodContext", "Surroundings", "build_physical_pod", "check_pod"]


@dataclass(frozen=True, slots=True)
class ForgedPod:
    """The twin to create, and the Secrets that must exist before it."""

    pod: Json
    tokens: tuple[TokenSecret, ...]


def build_physical_pod(vpod: Json, context: PodContext) -> ForgedPod | Refusal:
    """Return the twin of a virtual Pod that is bound to a node, or why it cannot have one."""
    if refusal := check_pod(vpod, allow_privileged=context.allow_privileged):
        return refusal
    ours = _labels(vpod, context)
    downward = Downward(vpod, ours)
    spec, tokens = _map_spec(vpod, context, downward)
    metadata = {
        "name": physical_name(name_of(vpod), namespace_of(vpod)), "namespace": context.mount_namespace,
        "labels": {**labels_of(vpod), **ours}, "annotations": _annotations(vpod, context) | downward.annotations,
    }
    return ForgedPod({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, tokens)


def check_pod(vpod: Json, *, allow_privileged: bool) -> Refusal | None:
    """Return why a virtual Pod cannot have a twin, every offending field named; None when it can."""
    baseline = None if allow_privileged else check_baseline(vpod)
    return baseline or check_references(vpod) or check_sources(vpod)


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


def _map_spec(vpod: Json, context: PodContext, downward: Downward) -> tuple[Json, tuple[TokenSecret, ...]]:
    spec = vpod["spec"]
    forged = {field: value for field, value in spec.items() if field in KEPT_POD_SPEC}
    forged |= _placement(context)
    forged |= {
        "priorityClassName": context.priority_class, "automountServiceAccountToken": False, "enableServiceLinks": False,
        "hostname": hostname_of(vpod),
    }
    forged |= map_dns(vpod, context.surroundings)
    if aliases := map_host_aliases(vpod, context.surroundings):
        forged["hostAliases"] = aliases
    if security := spec.get("securityContext"):
        forged["securityContext"] = {key: value for key, value in security.items() if key in POD_SECURITY_CONTEXT}
    volumes, tokens = map_volumes(vpod, downward)
    if volumes:
        forged["volumes"] = volumes
    env = build_env(vpod, context.surroundings)
    for kind in ("initContainers", "containers"):
        if containers := spec.get(kind):
            forged[kind] = [_map_container(container, env, downward) for container in containers]
    return forged, tuple(tokens)


def _placement(context: PodContext) -> Json:
    if context.direct_scheduling:
        return {"nodeName": context.physical_node}
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [context.physical_node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"affinity": {"nodeAffinity": required}}


def _map_container(container: Json, env: list[Json], downward: Downward) -> Json:
    forged = {field: value for field, value in container.items() if field in KEPT_CONTAINER}
    forged["env"] = _map_env(container.get("env") or [], env, downward)
    if security := container.get("securityContext"):
        forged["securityContext"] = {key: value for key, value in security.items() if key in CONTAINER_SECURITY_CONTEXT}
    return forged


def _map_env(own: list[Json], env: list[Json], downward: Downward) -> list[Json]:
    # Ours come first, so that the Pod's own may refer to them as $(NAME); what it sets itself it keeps.
    taken = {variable["name"] for variable in own}
    forged = [variable for variable in env if variable["name"] not in taken]
    for variable in own:
        if source := variable.get("valueFrom"):
            forged.append({"name": variable["name"], "valueFrom": map_env_source(source, downward.rewrite)})
        else:
            forged.append({key: variable[key] for key in ("name", "value") if key in variable})
    return forged
