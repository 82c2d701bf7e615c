"""The one UDP port: which addresses to bind and to announce, and the sockets.

One socket per address, never the wildcard: with 0.0.0.0 the source of a reply can differ from the candidate
that the browser checks, and the check fails.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from dataclasses import dataclass

from media.settings import RelaySettings

# 4 MiB holds 0.1 s of 30,000 packets/s; the kernel caps it at net.core.rmem_max.
_BUFFER_BYTES = 4 << 20
# Documentation prefixes: nothing is sent, `connect` only makes the kernel choose a source address.
_PROBE_V4 = "198.51.100.1"
_PROBE_V6 = "2001:db8::1"


@dataclass(frozen=True, slots=True)
class UdpPort:
    """Bound sockets; the index of a socket is the `local` of the plane."""

    sockets: tuple[socket.socket, ...]
    bound: tuple[tuple[str, int], ...]
    announced: tuple[tuple[str, int], ...]  # for candidates, the preferred one first

    def close(self) -> None:
        for one in self.sockets:
            one.close()


def machine_addresses() -> tuple[str, ...]:
    """The machine's addresses that lead outside (the source of the default route per family)."""
    found = []
    for family, target in ((socket.AF_INET, _PROBE_V4), (socket.AF_INET6, _PROBE_V6)):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            address = ipaddress.ip_address(probe.getsockname()[0])
            if not (address.is_unspecified or address.is_loopback or address.is_link_local):
                found.append(str(address))
    return tuple(found)


def open_port(settings: RelaySettings) -> UdpPort:
    """Bind the sockets. Raises OSError when an address cannot be bound, ValueError when an announced one is
    none."""
    wanted = tuple(str(ipaddress.ip_address(ip.strip())) for ip in settings.announced_ips)
    # An address can be there and not be ready yet (IPv6 while it is tentative).
    own = tuple(ip for ip in machine_addresses() if _is_local(ip))
    if not wanted:
        return _bind((*own, "127.0.0.1"), settings.port, announce=None)
    local = [ip for ip in wanted if _is_local(ip)]
    outside = [ip for ip in wanted if ip not in local]
    if outside:  # behind a NAT or in a container: packets to the announced address arrive at one of our own
        local += [ip for ip in own if ip not in local]
    if not local:
        local = ["127.0.0.1"]
    return _bind(tuple(local), settings.port, announce=wanted)


def _is_local(ip: str) -> bool:
    try:
        with _socket(ip) as probe:
            probe.bind((ip, 0))
    except OSError:
        return False
    return True


def _socket(ip: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def _bind(ips: tuple[str, ...], port: int, *, announce: tuple[str, ...] | None) -> UdpPort:
    for attempt in range(8):
        opened: list[socket.socket] = []
        chosen = port
        try:
            for ip in ips:
                made = _socket(ip)
                opened.append(made)
                made.setblocking(False)
                for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                    made.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
                made.bind((ip, chosen))
                chosen = made.getsockname()[1]
        except OSError:
            for made in opened:
                made.close()
            # A free port on the first address may be taken on the second; only a chosen port is final.
            if port != 0 or attempt == 7:
                raise
            continue
        bound = tuple((ip, chosen) for ip in ips)
        return UdpPort(tuple(opened), bound, tuple((ip, chosen) for ip in announce) if announce else bound)
    raise OSError("no free port on all addresses")
