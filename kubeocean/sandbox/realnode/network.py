"""The network of a sandbox's real nodes: its plan of addresses, and the commands that make and unmake it. Pure.

    this machine                  a namespace that is the switch          a namespace per node
    kubeocean-I  10.89.I.1  ───  uplink ┐                                 eth0  10.89.I.11   cni0 ── Pods 10.192.…/24
                                        ├ bridge `lan` ┬ node1  ──────── lo    10.89.I.2, 10.96.0.1 (API servers)
                                        ┘              └ node2  ──────── eth0  10.89.I.12 …

All that the machine itself gets is one interface and the routes through it. The index I is whichever is free: the interface
is named after it, and the kernel gives a name only once, so two sandboxes that start together cannot choose the same.
Everything else is named after the sandbox's token, which is in its record before anything exists; with the switch's
namespace all interfaces go, also the machine's.

API servers stay on the machine's loopback. Were they to listen at 10.89.I.1, every machine of the same network could reach
them there: Linux takes a packet for any of its addresses on any of its interfaces. A forwarder per node (`realnode-forwarder`)
has one foot in the node's namespace instead: containers find all API servers at 10.89.I.2, each at its own port, and their
own cluster's also at 10.96.0.1:443, the Service `default/kubernetes`, for which no kube-proxy is needed then.

Nodes have no default route: there is no way to them or from them but to this machine and to each other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

MOST_NETWORKS = 256
_NARROW = 8  # bits of a prefix: a VPN may have its default route in halves or quarters
INTERFACE_PREFIX = "kubeocean-"
KUBERNETES_SERVICE = "10.96.0.1"
_SWITCH, _UPLINK = "lan", "uplink"

Argv = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """The network of one sandbox: which of the `MOST_NETWORKS` it is, and the sandbox's token."""

    index: int
    token: str

    @property
    def interface(self) -> str:
        """The only interface that this machine has of it."""
        return f"{INTERFACE_PREFIX}{self.index}"

    @property
    def switch(self) -> str:
        """The network namespace of the bridge that joins all."""
        return f"kubeocean-{self.token}-switch"

    @property
    def subnet(self) -> str:
        """The addresses of this machine, the API servers and the nodes."""
        return f"10.89.{self.index}.0/24"

    @property
    def machine(self) -> str:
        """The address of this machine."""
        return self._address(1)

    @property
    def api_servers(self) -> str:
        """Where nodes and containers find every API server of the sandbox, each at the port it has on loopback."""
        return self._address(2)

    @property
    def pods(self) -> str:
        """The addresses of all Pods, a sixteenth for each node."""
        return f"{self._pod_prefix(0)}.0/20"

    def node_address(self, number: int) -> str:
        """Return the address of node `number`, which counts from 1."""
        return self._address(10 + number)

    def node_pods(self, number: int) -> str:
        """Return the addresses of the Pods of node `number`."""
        return f"{self._pod_prefix(number)}.0/24"

    def _address(self, last: int) -> str:
        return f"10.89.{self.index}.{last}"

    def _pod_prefix(self, number: int) -> str:
        return f"10.{192 + self.index // 16}.{self.index % 16 * 16 + number}"


@dataclass(frozen=True, slots=True)
class NodePlace:
    """One node's place in the network; `number` counts from 1 over all clusters of the sandbox."""

    network: Network
    number: int

    @property
    def namespace(self) -> str:
        """Its network namespace."""
        return namespace_of(self.network.token, self.number)

    @property
    def address(self) -> str:
        """The node's own address."""
        return self.network.node_address(self.number)

    @property
    def pods(self) -> str:
        """The addresses of its Pods."""
        return self.network.node_pods(self.number)


def namespace_of(token: str, number: int) -> str:
    """Return the name of the network namespace of node `number`."""
    return f"kubeocean-{token}-real-{number}"


def namespace_path(name: str) -> str:
    """Return the file that stands for a network namespace."""
    return f"/run/netns/{name}"


def free_indexes(taken: Iterable[str]) -> list[int]:
    """Return the networks that meet none of the `taken` destinations of this machine's routes, such as 10.0.0.0/8.

    Still wider ones are somebody's default route, which has to give way. Raises ValueError when one is no network.
    """
    networks = [network for each in taken if (network := ipaddress.ip_network(each, strict=False)).prefixlen >= _NARROW]
    return [index for index in range(MOST_NETWORKS) if not any(_meets(Network(index, ""), each) for each in networks)]


def _meets(network: Network, taken: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return isinstance(taken, ipaddress.IPv4Network) and any(
        ipaddress.IPv4Network(mine).overlaps(taken) for mine in (network.subnet, network.pods)
    )


def build_switch(token: str) -> list[Argv]:
    """Return the commands that make the namespace of the switch, before there is an index."""
    name = Network(0, token).switch
    return [
        _ip("netns", "add", name), _inside(name, "link", "add", _SWITCH, "type", "bridge"),
        _inside(name, "link", "set", _SWITCH, "up"),
    ]


def build_claim(network: Network) -> Argv:
    """Return the command that claims the network's index; it fails with "File exists" when somebody else has it."""
    return _ip("link", "add", network.interface, "type", "veth", "peer", "name", _UPLINK, "netns", network.switch)


def build_uplink(network: Network) -> list[Argv]:
    """Return the commands that make the claimed interface this machine's way in."""
    return [
        _inside(network.switch, "link", "set", _UPLINK, "master", _SWITCH, "up"),
        _ip("address", "add", f"{network.machine}/24", "dev", network.interface),
        _ip("link", "set", network.interface, "up"),
    ]


def build_place(place: NodePlace, count: int) -> list[Argv]:
    """Return the commands that make the namespace of one of `count` nodes and join it to the switch."""
    network, own, port = place.network, place.namespace, f"node{place.number}"
    others = [number for number in range(1, count + 1) if number != place.number]
    return [
        _ip("netns", "add", own),
        _ip("link", "add", port, "netns", network.switch, "type", "veth", "peer", "name", "eth0", "netns", own),
        _inside(network.switch, "link", "set", port, "master", _SWITCH, "up"),
        _inside(own, "link", "set", "lo", "up"),
        _inside(own, "address", "add", f"{place.address}/24", "dev", "eth0"),
        _inside(own, "link", "set", "eth0", "up"),
        *(_inside(own, "address", "add", f"{each}/32", "dev", "lo") for each in (network.api_servers, KUBERNETES_SERVICE)),
        *(
            _inside(own, "route", "add", network.node_pods(each), "via", network.node_address(each)) for each in others
        ),
        _ip("route", "add", place.pods, "via", place.address, "dev", network.interface),
    ]


def build_cut(token: str) -> Argv:
    """Return the command that takes this machine's interface away; it fails when there is none (yet).

    A namespace is taken apart by the kernel in its own time, an interface at once, and then its name is free for others.
    """
    return _inside(Network(0, token).switch, "link", "delete", _UPLINK)


def build_removal(token: str, existing: Iterable[str]) -> list[Argv]:
    """Return the commands that remove those of the `existing` network namespaces that are a sandbox's, with all in them."""
    return [_ip("netns", "delete", each) for each in existing if each.startswith(f"kubeocean-{token}-")]


def _ip(*words: str) -> Argv:
    return ("ip", *words)


def _inside(namespace: str, *words: str) -> Argv:
    return ("ip", "-n", namespace, *words)
