"""Services of the virtual cluster as physical Pods reach them: the copy, its endpoints, its names and variables.

The copy is a Service without a selector, for what it leads to is decided in the virtual cluster: each EndpointSlice of the
original is copied beside it, under a manager's name that no controller there answers to. Addresses stay as they are (a virtual
Pod's are its twin's). A node is told by its physical name where it is one of ours; zones, hints and references to Pods speak of
a cluster that nobody knows there, and are dropped.

Not copied: `default/kubernetes`, whose endpoints lead to wherever the API server happens to listen (settings or the intranet
Service say where Pods reach it), and type ExternalName, which has no address, only a name for a DNS to answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from kubeocean.api import names
from kubeocean.domain.mirrors import build_copy
from kubeocean.domain.naming import physical_name
from kubeocean.domain.ownership import Owner
from kubeocean.kube.meta import Json, ObjectKey, key_of, labels_of, namespace_of
from kubeocean.kube.resources import ENDPOINTSLICES, SERVICES

API_SERVICE: Final = ObjectKey("default", "kubernetes")
SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
_MANAGED_BY_LABEL: Final = "endpointslice.kubernetes.io/managed-by"
_MANAGER: Final = "kubeocean.io"
# By these kube-proxy passes a Service over, and its slices; both must tell.
_PROXY_LABELS: Final = ("service.kubernetes.io/headless", "service.kubernetes.io/service-proxy-name")
_CLUSTER_DOMAIN: Final = "cluster.local"
_HEADLESS: Final = "None"

_PORT: Final = ("name", "protocol", "port", "appProtocol")
_ENDPOINT: Final = ("addresses", "conditions", "hostname", "nodeName")
_SPEC: Final = (
    "type", "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "ports", "sessionAffinity", "sessionAffinityConfig",
    "internalTrafficPolicy",
)
# What must be absent in the copy: each would send traffic where the virtual cluster did not.
_FOREIGN: Final = ("selector", "externalIPs", "loadBalancerIP", "loadBalancerSourceRanges", "externalName")


# --- what is kept of a virtual Service ----------------------------------------------------------------------------------
def trim_service(service: Json) -> Json:
    """Return what anybody reads of a virtual Service; a cache of all of them must be small."""
    metadata = service["metadata"]
    labels = {label: text for label, text in labels_of(service).items() if label in _PROXY_LABELS}
    kept = {field: metadata[field] for field in ("name", "namespace", "uid", "resourceVersion") if field in metadata}
    spec = {field: value for field, value in (service.get("spec") or {}).items() if field in _SPEC}
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress")
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": kept | ({"labels": labels} if labels else {}), "spec": spec,
        **({"status": {"loadBalancer": {"ingress": ingress}}} if ingress else {}),
    }


def trim_slice(endpoints: Json) -> Json:
    """Return what anybody reads of a virtual EndpointSlice."""
    metadata = endpoints["metadata"]
    kept = {field: metadata[field] for field in ("name", "namespace", "uid", "resourceVersion", "labels") if field in metadata}
    return {"metadata": kept, **slice_content(endpoints)}


def service_of_slice(endpoints: Json) -> str:
    """Return the name of the Service an EndpointSlice belongs to, "" when it does not tell."""
    return labels_of(endpoints).get(SERVICE_NAME_LABEL) or ""


# --- the copies ---------------------------------------------------------------------------------------------------------
def is_mirrored(service: Json) -> bool:
    """Tell whether a Service of a namespace in spec.serviceNamespaces is copied."""
    return key_of(service) != API_SERVICE and service["spec"].get("type") != "ExternalName"


def is_headless(service: Json) -> bool:
    """Tell whether a Service has no cluster IP by its own wish."""
    return bool(service["spec"].get("clusterIP") == _HEADLESS)


def cluster_ips_of(service: Json) -> tuple[str, ...]:
    """Return the cluster IPs of a Service, the primary one first; () when it has none (yet)."""
    spec = service["spec"]
    return tuple(ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip and ip != _HEADLESS)


def map_service(service: Json, owner: Owner, mount_namespace: str) -> Json:
    """Return the physical copy of a virtual Service (as `trim_service` leaves it)."""
    spec = service["spec"]
    wanted: Json = {
        "type": "ClusterIP", "sessionAffinity": spec.get("sessionAffinity") or "None",
        "internalTrafficPolicy": spec.get("internalTrafficPolicy") or "Cluster",
        "ports": [_picked(port, _PORT) for port in spec.get("ports") or ()], **_families(spec),
    }
    if affinity := spec.get("sessionAffinityConfig"):
        wanted["sessionAffinityConfig"] = affinity
    if is_headless(service):
        wanted["clusterIP"] = _HEADLESS
    return build_copy(SERVICES, service, {"spec": wanted}, owner, mount_namespace, labels=labels_of(service))


def _families(spec: Json) -> Json:
    """Return the copy's IP families: those of the endpoints it will have.

    One family is asked for by name. Of two, a cluster with one stack gives what it has; there it would refuse to be told both.
    """
    families = spec.get("ipFamilies") or ()
    if len(families) > 1:
        return {"ipFamilyPolicy": "PreferDualStack"}
    return {"ipFamilyPolicy": "SingleStack", **({"ipFamilies": list(families)} if families else {})}


def service_content(service: Json) -> Json:
    """Return the fields of a physical Service that are ours to say."""
    spec = service["spec"]
    content = {field: spec[field] for field in (*_FOREIGN, "type", "sessionAffinity", "ipFamilyPolicy") if spec.get(field)}
    content["internalTrafficPolicy"] = spec.get("internalTrafficPolicy") or "Cluster"
    content["ports"] = [_picked(port, _PORT) for port in spec.get("ports") or ()]
    if affinity := spec.get("sessionAffinityConfig"):
        content["sessionAffinityConfig"] = affinity
    return {"spec": content}


def replaces_service(existing: Json, wanted: Json) -> bool:
    """Tell whether a Service cannot become the wanted one: the primary family and being headless cannot change."""
    families = wanted["spec"].get("ipFamilies") or ()
    other_family = bool(families) and list(families[:1]) != (existing["spec"].get("ipFamilies") or [])[:1]
    return is_headless(existing) != is_headless(wanted) or other_family


def map_slice(
    endpoints: Json, owner: Owner, mount_namespace: str, physical_node_of: Callable[[str], str | None]
) -> Json:
    """Return the physical copy of a virtual EndpointSlice, which names its Service.

    `physical_node_of` translates the name of one of our virtual nodes, and returns None for any other node.
    """
    key = ObjectKey(namespace_of(endpoints), service_of_slice(endpoints))
    content = slice_content(endpoints)
    content["endpoints"] = [_map_endpoint(endpoint, physical_node_of) for endpoint in content["endpoints"]]
    labels = {label: text for label, text in labels_of(endpoints).items() if label in _PROXY_LABELS}
    labels |= {SERVICE_NAME_LABEL: physical_name(key.name, key.namespace), _MANAGED_BY_LABEL: _MANAGER}
    return build_copy(
        ENDPOINTSLICES, endpoints, content, owner, mount_namespace, labels=labels,
        annotations={names.VIRTUAL_SERVICE_ANNOTATION: key.name},
    )


def _map_endpoint(endpoint: Json, physical_node_of: Callable[[str], str | None]) -> Json:
    mapped = {field: value for field, value in endpoint.items() if field != "nodeName"}
    if node := physical_node_of(endpoint.get("nodeName") or ""):
        mapped["nodeName"] = node
    return mapped


def slice_content(endpoints: Json) -> Json:
    """Return the fields of an EndpointSlice that are ours to say."""
    return {
        "addressType": endpoints["addressType"],
        "endpoints": [_picked(endpoint, _ENDPOINT) for endpoint in endpoints.get("endpoints") or ()],
        "ports": [_picked(port, _PORT) for port in endpoints.get("ports") or ()],
    }


def replaces_slice(existing: Json, wanted: Json) -> bool:
    """Tell whether a slice cannot become the wanted one: its addressType cannot change."""
    return bool(existing["addressType"] != wanted["addressType"])


# --- what a Pod is told -------------------------------------------------------------------------------------------------
def build_host_aliases(
    mirrored: Mapping[ObjectKey, tuple[str, ...]], namespace: str
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return (IP, names) for a Pod of `namespace`: every mirrored Service under the names by which the Pod may call it.

    `mirrored` has the physical cluster IPs by virtual Service. Only one of the Pod's own namespace has a name without it.
    """
    return tuple((ip, _names_of(key, namespace)) for key, ips in sorted(mirrored.items()) for ip in ips)


def _names_of(key: ObjectKey, namespace: str) -> tuple[str, ...]:
    qualified = f"{key.name}.{key.namespace}"
    told = (qualified, f"{qualified}.svc", f"{qualified}.svc.{_CLUSTER_DOMAIN}")
    return (key.name, *told) if key.namespace == namespace else told


def with_physical_addresses(services: Iterable[Json], mirrored: Mapping[ObjectKey, tuple[str, ...]]) -> tuple[Json, ...]:
    """Return the Services as a Pod's variables tell them: the mirrored ones with their physical cluster IPs."""
    return tuple(_readdressed(service, mirrored.get(key_of(service))) for service in services)


def _readdressed(service: Json, ips: tuple[str, ...] | None) -> Json:
    if not ips:
        return service
    return {**service, "spec": {**service["spec"], "clusterIP": ips[0], "clusterIPs": list(ips)}}


def balancer_address(service: Json) -> tuple[str, str]:
    """Return (host, port) at which the load balancer of a Service answers: an IP, else a name; ("", "") while it has none.

    The port is the one called `https`, else the first.
    """
    ports = service["spec"].get("ports") or [{}]
    port = next((port for port in ports if port.get("name") == "https"), ports[0]).get("port") or ""
    host = balancer_ip(service) or next((each["hostname"] for each in _ingress(service) if each.get("hostname")), "")
    return (str(host), str(port)) if host else ("", "")


def balancer_ip(service: Json) -> str:
    """Return the first IP of the load balancer of a Service, "" while it has none."""
    return next((str(each["ip"]) for each in _ingress(service) if each.get("ip")), "")


def _ingress(service: Json) -> list[Json]:
    return ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []


def _picked(value: Json, fields: Iterable[str]) -> Json:
    return {field: value[field] for field in fields if value.get(field) is not None}
