"""Ports that nobody else uses."""

import socket

import pytest

from kubeocean.sandbox.ports import PortError, choose_ports

HERE = ("127.0.0.1",)


def test_ports_are_different_and_outside_the_range_of_outgoing_connections() -> None:
    ports = choose_ports(50, HERE)
    assert len(set(ports)) == 50
    assert all(20000 <= port < 32000 for port in ports)


def test_a_port_somebody_listens_on_is_passed_over() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", choose_ports(1, HERE)[0]))
        server.listen()
        everything_else = {*range(20000, 32000)} - {server.getsockname()[1]}
        with pytest.raises(PortError, match="end other sandboxes"):
            choose_ports(1, HERE, everything_else)


def test_a_port_of_another_sandbox_is_passed_over() -> None:
    free = choose_ports(2, HERE)
    assert choose_ports(1, HERE, {*range(20000, 32000)} - {free[1]}) == [free[1]]


def test_an_address_of_another_machine_is_refused_with_the_remedy() -> None:
    with pytest.raises(PortError, match=r"192\.0\.2\.1 is no address of this machine"):
        choose_ports(1, ("192.0.2.1",))
