"""The plan of addresses of real nodes, and the commands that follow from it."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeocean.sandbox.realnode.network import (
    MOST_NETWORKS,
    Network,
    NodePlace,
    build_claim,
    build_cut,
    build_place,
    build_removal,
    build_switch,
    free_indexes,
)
from kubeocean.sandbox.spec import MOST_REAL_NODES

INDEXES = st.integers(0, MOST_NETWORKS - 1)
NUMBERS = st.integers(1, MOST_REAL_NODES)


@given(INDEXES, INDEXES)
def test_two_networks_share_no_address(one: int, other: int) -> None:
    ranges = [[ipaddress.ip_network(each) for each in (network.subnet, network.pods)]
              for network in (Network(one, "a"), Network(other, "b"))]
    assert any(mine.overlaps(its) for mine in ranges[0] for its in ranges[1]) == (one == other)


@given(INDEXES, NUMBERS)
def test_every_node_lies_within_its_network(index: int, number: int) -> None:
    network = Network(index, "a")
    place = NodePlace(network, number)
    assert ipaddress.ip_address(place.address) in ipaddress.ip_network(network.subnet)
    assert ipaddress.IPv4Network(place.pods).subnet_of(ipaddress.IPv4Network(network.pods))
    assert place.address not in (network.machine, network.api_servers)


@given(INDEXES)
def test_an_interface_has_a_name_that_linux_takes(index: int) -> None:
    assert len(Network(index, "a").interface) <= 15


def test_pods_stay_clear_of_the_services_and_of_what_kwok_plays() -> None:
    others = [ipaddress.ip_network("10.96.0.0/16"), *(ipaddress.ip_network(f"10.{100 + each}.0.0/16") for each in range(51))]
    for index in range(MOST_NETWORKS):
        mine = ipaddress.ip_network(Network(index, "a").pods)
        assert not any(mine.overlaps(other) for other in others)


TAKEN = {
    "nothing": ([], 256),
    "another sandbox": (["10.89.7.0/24", "10.89.7.1", "10.192.113.0/24"], 255),
    "a network of this machine that holds them all": (["10.0.0.0/8"], 0),
    "a network of this machine that holds the Pods of some": (["10.192.0.0/16"], 240),
    "a default route in two halves": (["0.0.0.0/1", "128.0.0.0/1"], 256),
    "other networks, other protocols": (["192.0.2.0/24", "127.0.0.0/8", "fd00::/8"], 256),
    "an address with bits behind its prefix": (["10.89.7.9/24"], 255),
}


@pytest.mark.parametrize("sentence", TAKEN)
def test_a_network_is_free_when_no_route_leads_there(sentence: str) -> None:
    routes, count = TAKEN[sentence]
    assert len(free_indexes(routes)) == count


def test_nothing_is_made_on_this_machine_but_one_interface_and_namespaces_with_the_token() -> None:
    network = Network(7, "cafe")
    commands = [*build_switch("cafe"), build_claim(network), *build_place(NodePlace(network, 1), 2)]
    here = [" ".join(command[1:]) for command in commands if command[1] != "-n"]
    assert here == [
        "netns add kubeocean-cafe-switch",
        "link add kubeocean-7 type veth peer name uplink netns kubeocean-cafe-switch",
        "netns add kubeocean-cafe-real-1",
        "link add node1 netns kubeocean-cafe-switch type veth peer name eth0 netns kubeocean-cafe-real-1",
        "route add 10.192.113.0/24 via 10.89.7.11 dev kubeocean-7",
    ]


def test_a_node_has_a_way_to_the_pods_of_every_other_and_no_default_route() -> None:
    commands = build_place(NodePlace(Network(0, "cafe"), 2), 3)
    routes = [command[5:] for command in commands if command[:5] == ("ip", "-n", "kubeocean-cafe-real-2", "route", "add")]
    assert routes == [("10.192.1.0/24", "via", "10.89.0.11"), ("10.192.3.0/24", "via", "10.89.0.13")]


def test_only_namespaces_of_the_token_are_removed() -> None:
    there = ["kubeocean-beef-switch", "kubeocean-cafe-real-1", "kubeocean-cafe-switch", "mine"]
    assert build_cut("cafe") == ("ip", "-n", "kubeocean-cafe-switch", "link", "delete", "uplink")
    assert [" ".join(command) for command in build_removal("cafe", there)] == [
        "ip netns delete kubeocean-cafe-real-1", "ip netns delete kubeocean-cafe-switch",
    ]
