"""Which addresses are bound and announced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from media.settings import RelaySettings
from media.udp import UdpPort, machine_addresses, open_port


@pytest.fixture
def opened() -> Iterator[list[UdpPort]]:
    ports: list[UdpPort] = []
    yield ports
    for port in ports:
        port.close()


def test_by_default_loopback_and_the_machines_own_share_one_port(opened: list[UdpPort]) -> None:
    port = open_port(RelaySettings(port=0))
    opened.append(port)
    assert {ip for ip, _ in port.bound} == {"127.0.0.1", *machine_addresses()}
    assert len({number for _, number in port.bound}) == 1
    assert port.announced == port.bound
    assert port.bound[-1][0] == "127.0.0.1"  # the last choice of a browser


def test_an_address_of_the_machine_is_bound_alone(opened: list[UdpPort]) -> None:
    port = open_port(RelaySettings(port=0, announced_ips=(" 127.0.0.1",)))
    opened.append(port)
    assert [ip for ip, _ in port.bound] == ["127.0.0.1"]
    assert port.announced == port.bound


def test_an_address_outside_is_announced_and_the_own_ones_are_bound(opened: list[UdpPort]) -> None:
    port = open_port(RelaySettings(port=0, announced_ips=("203.0.113.80", "127.0.0.1")))
    opened.append(port)
    number = port.bound[0][1]
    assert port.announced == (("203.0.113.80", number), ("127.0.0.1", number))
    assert {ip for ip, _ in port.bound} == {"127.0.0.1", *machine_addresses()}


def test_a_name_is_not_an_address() -> None:
    with pytest.raises(ValueError, match=r"example\.org"):
        open_port(RelaySettings(port=0, announced_ips=("example.org",)))


def test_a_taken_port_leaves_no_socket_open(opened: list[UdpPort]) -> None:
    port = open_port(RelaySettings(port=0, announced_ips=("127.0.0.1",)))
    opened.append(port)
    with pytest.raises(OSError, match="in use"):
        open_port(RelaySettings(port=port.bound[0][1], announced_ips=("127.0.0.2", "127.0.0.1")))
    open_again = open_port(RelaySettings(port=port.bound[0][1], announced_ips=("127.0.0.2",)))
    opened.append(open_again)  # 127.0.0.2 was released when 127.0.0.1 could not be had
