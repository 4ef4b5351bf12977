"""The table pins names: none may ever change, since running clusters hold objects under them."""

import re
from functools import partial
from hashlib import md5

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubeocean.domain.naming import (
    NoFreePort,
    label_value,
    persistent_volume_name,
    physical_name,
    pod_hostname,
    proxier_port,
    token_secret_name,
    vnode_name,
)

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")

LONG = "a-very-long-deployment-name-with-a-suffix-7d9f8b6c5d-x2x4z-and-more"
HEAD = "twenty-nine-characters-long-n"
HASHED = {
    "a short name is kept before its hash": (physical_name("web-0", "default"), "web-0", "default/web-0"),
    "a long name is cut to thirty": (physical_name(LONG, "team"), "a-very-long-deployment-name-wi", f"team/{LONG}"),
    "a name cut at a dash keeps it, as the Go project left it": (
        physical_name(f"{HEAD}-and", "d"), f"{HEAD}-", f"d/{HEAD}-and",
    ),
    "a name cut at a dot loses the dot": (physical_name(f"{HEAD}.and", "d"), HEAD, f"d/{HEAD}.and"),
    "a volume is named by its owner": (persistent_volume_name("data", "uid/edge"), "data", "uid/edge/data"),
    "a volume of the Go project had none": (persistent_volume_name("data", ""), "data", "/data"),
    "a token Secret is named by Pod, volume and uid": (
        token_secret_name("web", "kube-api-access-x", "u-1"), "web-kube-api-access-x-u-1", "web-kube-api-access-x-u-1",
    ),
    "a long virtual node is cut to thirty": (
        vnode_name("edge", "n" * 60), "vnode-edge-" + "n" * 19, "vnode-edge-" + "n" * 60,
    ),
    "a long label value is cut to thirty": (label_value("v" * 64), "v" * 30, "v" * 64),
    "a label value with a blank is hashed": (label_value("a b"), "a-b", "a b"),
    "an address that would begin with a dash is hashed": (label_value("::1"), "1", "::1"),
}


@pytest.mark.parametrize("promise", HASHED)
def test_hashed_names(promise: str) -> None:
    name, head, identity = HASHED[promise]
    assert name == f"{head}-{md5(identity.encode()).hexdigest()}"


KEPT = {
    "a virtual node is named in full": (vnode_name("edge", "n1.rack-2.internal"), "vnode-edge-n1.rack-2.internal"),
    "63 characters are not too many": (vnode_name("edge", "n" * 52), "vnode-edge-" + "n" * 52),
    "a label value stays": (label_value("node-1_A.b"), "node-1_A.b"),
    "no label value is one": (label_value(""), ""),
    "an IPv6 address has dashes for colons": (label_value("2001:db8::7"), "2001-db8--7"),
    "an IPv4 address stays": (label_value("10.0.0.1"), "10.0.0.1"),
    "a hostname is the Pod's name": (pod_hostname("web-0"), "web-0"),
    "a hostname has no dots": (pod_hostname("web.v1"), "web-v1"),
    "a hostname is cut to 63": (pod_hostname("a" * 62 + "-b"), "a" * 62),
}


@pytest.mark.parametrize("promise", KEPT)
def test_plain_names(promise: str) -> None:
    name, expected = KEPT[promise]
    assert name == expected


def test_a_name_made_of_nothing_usable_is_its_hash() -> None:
    assert physical_name("日本", "d") == md5("d/日本".encode()).hexdigest()
    assert label_value("日本") == md5("日本".encode()).hexdigest()
    assert pod_hostname("日本") == "pod"


anything = st.text(max_size=80) | st.text("ab.-_:A", max_size=80)
parts = st.lists(st.text("ab7", min_size=1, max_size=14), min_size=1, max_size=4)
names = st.builds(lambda parts, between: between.join(parts), parts, st.sampled_from("-."))


@given(anything, anything)
@example("_.a", "")
@example("a" * 29 + ".b", "x")
@example("İ" * 30, "x")
@example("\ud800", "x")
def test_every_name_is_valid_whatever_comes_in(one: str, other: str) -> None:
    for build in (vnode_name, physical_name, persistent_volume_name, partial(token_secret_name, uid="u")):
        name = build(one, other)
        assert len(name) <= 63
        assert SUBDOMAIN.fullmatch(name)
    assert LABEL_VALUE.fullmatch(vnode_name(one, other))
    value, hostname = label_value(one), pod_hostname(one)
    assert len(value) <= 63
    assert LABEL_VALUE.fullmatch(value)
    assert len(hostname) <= 63
    assert LABEL.fullmatch(hostname)


@given(names, names, names, names)
@example("a", "b-c", "c-a", "b")
@example("b", "c", "a-b", "c")
def test_different_things_never_share_a_name(name: str, namespace: str, other: str, elsewhere: str) -> None:
    if (name, namespace) != (other, elsewhere):
        assert physical_name(name, namespace) != physical_name(other, elsewhere)
        assert persistent_volume_name(name, namespace) != persistent_volume_name(other, elsewhere)


@given(names)
def test_the_head_of_a_name_is_that_of_the_thing(name: str) -> None:
    assert physical_name(name, "default").startswith(name[:30].rstrip("."))


def test_the_proxier_port_is_fnv_1a_of_the_name() -> None:
    # 1338358120 is what Go's fnv.New32a gives.
    assert proxier_port("vnode-edge-node-7", ()) == 15000 + 1338358120 % 50536


def test_a_taken_port_gives_the_next_one() -> None:
    first = proxier_port("vnode-edge-node-7", ())
    assert proxier_port("vnode-edge-node-7", {first, first + 1}) == first + 2


def test_after_the_last_port_comes_the_first() -> None:
    start = proxier_port("vnode-edge-node-7", ())
    assert proxier_port("vnode-edge-node-7", range(start, 65536)) == 15000


def test_with_every_port_taken_nothing_is_invented() -> None:
    with pytest.raises(NoFreePort, match="add an address"):
        proxier_port("vnode-edge-node-7", range(65536))


@given(st.lists(names, unique=True, max_size=12))
def test_many_virtual_nodes_have_ports_of_their_own(nodes: list[str]) -> None:
    ports: dict[int, str] = {}
    for node in nodes:
        ports[proxier_port(node, ports)] = node
    assert len(ports) == len(nodes)
    assert all(15000 <= port <= 65535 for port in ports)
