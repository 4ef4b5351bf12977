"""Services and their endpoints as physical Pods reach them: golden pairs, and the decisions around them."""

import copy
from pathlib import Path

import pytest
import yaml

from kubeocean.domain.mirrors import Change, Create, Remove, decide_copy, origin_of, origin_uid_of
from kubeocean.domain.ownership import Owner
from kubeocean.domain.servicemap import (
    balancer_address,
    balancer_ip,
    build_host_aliases,
    is_mirrored,
    map_service,
    map_slice,
    replaces_service,
    replaces_slice,
    service_content,
    slice_content,
    trim_service,
    trim_slice,
    with_physical_addresses,
)
from kubeocean.kube.meta import Json, ObjectKey
from kubeocean.kube.patch import apply_merge

GOLDEN = sorted(Path(__file__).with_name("servicemap").glob("*.input.yaml"))
OWNER = Owner("uid", "edge")
NODES = {"vnode-edge-node-1": "node-1"}
METADATA = {"name": "web", "namespace": "team", "uid": "u", "resourceVersion": "5"}


def mapped(situation: Json) -> Json:
    if service := situation.get("service"):
        original = {**service, "metadata": METADATA | (service.get("metadata") or {})}
        assert trim_service(trim_service(original)) == trim_service(original)
        return map_service(trim_service(original), OWNER, "mount")
    endpoints = situation["slice"]
    original = {**endpoints, "metadata": METADATA | {"name": "web-x1"} | endpoints["metadata"]}
    return map_slice(trim_slice(original), OWNER, "mount", NODES.get)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda path: path.name.split(".")[0])
def test_a_copy(case: Path) -> None:
    situation = yaml.safe_load(case.read_text())
    before = copy.deepcopy(situation)
    built = mapped(situation)
    assert built == yaml.safe_load(case.with_name(case.name.replace("input", "output")).read_text())
    assert situation == before
    original = ObjectKey("team", "web" if "service" in situation else "web-x1")
    assert (origin_of(built), origin_uid_of(built)) == (original, "u")
    content = service_content if "service" in situation else slice_content
    assert decide_copy(built, stored(built), content) is None


def stored(built: Json, **spec: object) -> Json:
    """Return the copy as a server tells it, with what it defaults, and `spec` changed by a lender."""
    kept = apply_merge(built, {"metadata": {"uid": "p", "resourceVersion": "9", "labels": {"lenders": "own"}}})
    if kept["kind"] == "Service":
        defaults = {"clusterIPs": [kept["spec"].get("clusterIP", "10.0.0.1")], "clusterIP": "10.0.0.1"} | kept["spec"]
        defaults["ports"] = [{"targetPort": port["port"], **port} for port in defaults["ports"]]
        kept = {**kept, "spec": defaults | spec}
    return kept


SERVICE: Json = {"metadata": METADATA, "spec": {
    "type": "ClusterIP", "clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"], "ports": [{"protocol": "TCP", "port": 80}],
}}
WANTED = map_service(SERVICE, OWNER, "mount")
HEADLESS = map_service({**SERVICE, "spec": {**SERVICE["spec"], "clusterIP": "None"}}, OWNER, "mount")
SIXTH = map_service({**SERVICE, "spec": {**SERVICE["spec"], "ipFamilies": ["IPv6"]}}, OWNER, "mount")
STEPS = {
    "one is made": (WANTED, None, Create),
    "none is wanted and none is there": (None, None, None),
    "a selector somebody gave it is taken off": (WANTED, stored(WANTED, selector={"app": "lenders"}), Change),
    "a changed type is changed back": (WANTED, stored(WANTED, type="NodePort"), Change),
    "an added port goes": (WANTED, stored(WANTED, ports=[{"port": 80, "protocol": "TCP"}, {"port": 81}]), Change),
    "headless cannot change": (HEADLESS, stored(WANTED), Remove),
    "nor can the family": (SIXTH, stored(WANTED), Remove),
    "unwanted, it goes": (None, stored(WANTED), Remove),
    "one that goes already is waited for": (
        None, apply_merge(stored(WANTED), {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), None
    ),
}


@pytest.mark.parametrize("sentence", STEPS)
def test_the_one_step(sentence: str) -> None:
    wanted, existing, kind = STEPS[sentence]
    step = decide_copy(wanted, existing, service_content, replaces=replaces_service)
    assert step is None if kind is None else isinstance(step, kind)
    if isinstance(step, Change):
        assert step.patch["metadata"]["resourceVersion"] == "9"
        again = apply_merge(existing or {}, step.patch)
        assert decide_copy(wanted, again, service_content, replaces=replaces_service) is None


def test_annotations_that_were_taken_off_come_back_and_a_lenders_label_stays() -> None:
    existing = stored(WANTED)
    existing["metadata"]["annotations"] = {}
    step = decide_copy(WANTED, existing, service_content)
    assert isinstance(step, Change)
    assert step.patch["metadata"]["annotations"].keys() == WANTED["metadata"]["annotations"].keys()
    assert "labels" not in step.patch["metadata"]
    assert origin_of(existing) is None


def test_a_slice_of_another_address_type_is_made_anew() -> None:
    assert replaces_slice({"addressType": "IPv4"}, {"addressType": "IPv6"})


@pytest.mark.parametrize(("service", "mirrored"), [
    ({"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {}}, False),
    ({"metadata": {"name": "kubernetes", "namespace": "team"}, "spec": {}}, True),
    ({"metadata": {"name": "db", "namespace": "team"}, "spec": {"type": "ExternalName", "externalName": "db.example"}}, False),
    ({"metadata": {"name": "db", "namespace": "team"}, "spec": {"type": "LoadBalancer"}}, True),
])
def test_which_services_are_mirrored(service: Json, *, mirrored: bool) -> None:
    assert is_mirrored(service) is mirrored


def test_a_pod_calls_services_of_its_namespace_by_their_plain_name_too() -> None:
    known = {ObjectKey("team", "web"): ("10.0.0.1", "fd00::1"), ObjectKey("other", "db"): ("10.0.0.2",)}
    assert build_host_aliases(known, "team") == (
        ("10.0.0.2", ("db.other", "db.other.svc", "db.other.svc.cluster.local")),
        ("10.0.0.1", ("web", "web.team", "web.team.svc", "web.team.svc.cluster.local")),
        ("fd00::1", ("web", "web.team", "web.team.svc", "web.team.svc.cluster.local")),
    )


def test_variables_tell_the_physical_address_of_a_mirrored_service_and_the_virtual_one_of_others() -> None:
    other = {"metadata": {"name": "db", "namespace": "team"}, "spec": {"clusterIP": "10.96.0.8"}}
    told = with_physical_addresses([SERVICE, other], {ObjectKey("team", "web"): ("172.20.0.1",)})
    assert [service["spec"]["clusterIP"] for service in told] == ["172.20.0.1", "10.96.0.8"]
    assert SERVICE["spec"]["clusterIP"] == "10.96.0.7"


BALANCERS = {
    "no address yet": ([], [{"port": 443}], ("", ""), ""),
    "an IP and the only port": ([{"ip": "192.0.2.1"}], [{"port": 6443}], ("192.0.2.1", "6443"), "192.0.2.1"),
    "the port called https": (
        [{"ip": "192.0.2.1"}], [{"name": "x", "port": 1}, {"name": "https", "port": 8443}], ("192.0.2.1", "8443"), "192.0.2.1",
    ),
    "a name": ([{"hostname": "lb.example"}], [{"port": 443}], ("lb.example", "443"), ""),
    "an IP before a name": (
        [{"hostname": "lb.example"}, {"ip": "192.0.2.1"}], [{"port": 443}], ("192.0.2.1", "443"), "192.0.2.1",
    ),
}


@pytest.mark.parametrize("sentence", BALANCERS)
def test_where_a_load_balancer_answers(sentence: str) -> None:
    ingress, ports, address, ip = BALANCERS[sentence]
    service = trim_service({
        "metadata": {"name": "kubernetes-intranet", "namespace": "default"}, "spec": {"type": "LoadBalancer", "ports": ports},
        "status": {"loadBalancer": {"ingress": ingress}},
    })
    assert (balancer_address(service), balancer_ip(service)) == (address, ip)
