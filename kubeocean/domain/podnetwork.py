"""Who a container is and whom it asks: hostname, DNS, /etc/hosts, and the way to the *virtual* API server and Services.

What is known of the virtual cluster's addresses is frozen into a twin when it is created. What is not known must at
least not lead elsewhere: left alone, a kubelet tells every container the address of the *lender's* API server, and a
client library would send it the virtual token. Empty variables make such a client fail with a clear word instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from itertools import accumulate
from typing import Final

from kubeocean.domain.naming import pod_hostname
from kubeocean.domain.podcontext import Surroundings
from kubeocean.domain.podcopy import Copier
from kubeocean.domain.serviceenv import API_SERVICE, build_api_env, build_service_env
from kubeocean.kube.meta import Json, name_of, namespace_of

_CLUSTER_DOMAIN: Final = "cluster.local"
_API_NAMES: Final = (
    "kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{_CLUSTER_DOMAIN}",
)
# As the API server validates dnsConfig; a kubelet cuts what it merges at the same places.
_MOST_NAMESERVERS: Final = 3
_MOST_SEARCHES: Final = 32
_LONGEST_SEARCHES: Final = 2048  # characters, with a space between two


def hostname_of(vpod: Json) -> str:
    """Return the twin's spec.hostname: the Pod's own, else its virtual name (the twin's name would show otherwise)."""
    return vpod["spec"].get("hostname") or pod_hostname(name_of(vpod))


def build_env(vpod: Json, surroundings: Surroundings) -> list[Json]:
    """Return the variables every container gets unless it sets them itself: the API server's, the Services', HOSTNAME."""
    spec = vpod["spec"]
    links = spec.get("enableServiceLinks") is not False
    # By a kubelet's rule a Service called like the API server's is that one in namespace default, elsewhere it overrides.
    services = [
        service for service in surroundings.services if namespace_of(vpod) != "default" or name_of(service) != API_SERVICE
    ]
    api = build_api_env(surroundings.api_server_host, surroundings.api_server_port)
    env = {variable["name"]: variable for variable in api}
    env |= {variable["name"]: variable for variable in build_service_env(services, enable_service_links=links)}
    # On the host's network the hostname is the node's, and a full one is the kubelet's work: the runtime says so itself.
    if not (spec.get("hostNetwork") or spec.get("setHostnameAsFQDN")):
        hostname = spec.get("hostnameOverride") or hostname_of(vpod)
        env.setdefault("HOSTNAME", {"name": "HOSTNAME", "value": hostname})
    return list(env.values())


def map_host_aliases(vpod: Json, surroundings: Surroundings, copier: Copier) -> list[Json]:
    """Return the twin's hostAliases: the Pod's own, then the virtual API server's and the mirrored Services'."""
    aliases = copier.copy_all(vpod["spec"].get("hostAliases"), "HostAlias")
    if _is_ip(surroundings.api_server_host):
        aliases.append({"ip": surroundings.api_server_host, "hostnames": list(_API_NAMES)})
    aliases += [{"ip": ip, "hostnames": list(hostnames)} for ip, hostnames in surroundings.host_aliases]
    return aliases


def map_dns(vpod: Json, surroundings: Surroundings, copier: Copier) -> Json:
    """Return the twin's dnsPolicy and dnsConfig, as far as it has any.

    Only who would ask the cluster's DNS is sent to the virtual one. By a kubelet's rule a Pod on the host's network
    with plain ClusterFirst asks the node's.
    """
    spec = vpod["spec"]
    own = copier.copy(spec.get("dnsConfig") or {}, "PodDNSConfig")
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    asks_cluster = policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not spec.get("hostNetwork"))
    if not (surroundings.dns_server and asks_cluster):
        policies = {"dnsPolicy": spec["dnsPolicy"]} if "dnsPolicy" in spec else {}
        return policies | ({"dnsConfig": own} if "dnsConfig" in spec else {})
    searches = (f"{namespace_of(vpod)}.svc.{_CLUSTER_DOMAIN}", f"svc.{_CLUSTER_DOMAIN}", _CLUSTER_DOMAIN)
    options: dict[str, Json] = {"ndots": {"name": "ndots", "value": "5"}}
    options |= {option["name"]: option for option in own.get("options") or ()}
    config = {
        "nameservers": _merged((surroundings.dns_server,), own.get("nameservers"))[:_MOST_NAMESERVERS],
        "searches": _cut_searches(_merged(searches, own.get("searches"))),
        "options": list(options.values()),
    }
    return {"dnsPolicy": "None", "dnsConfig": config}


def _cut_searches(searches: list[str]) -> list[str]:
    """Leave out the last ones where an API server would refuse so many, or so long ones (core validation, MaxDNSSearch*)."""
    lengths = accumulate(len(domain) + 1 for domain in searches)
    fitting = sum(length - 1 <= _LONGEST_SEARCHES for length in lengths)
    return searches[: min(_MOST_SEARCHES, fitting)]


def _merged(first: Iterable[str], more: Iterable[str] | None) -> list[str]:
    return list(dict.fromkeys([*first, *(more or ())]))


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
