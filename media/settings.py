"""What the composition root tells one media process (frozen; every time in seconds)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Settings of one relay.

    port: the one UDP port (0 = any free one, for tests).
    announced_ips: the addresses put into candidates; empty = loopback and the machine's own addresses. An
    address that
        the machine does not have (a router's or a container host's) is announced while the machine's own are
        bound.
    announced_port: the port in candidates where a router or container maps another one to `port`.
    turn_hosts: names or addresses of the TURN servers, to tell a relayed route from a direct one.
    """

    port: int = 40000
    announced_ips: tuple[str, ...] = ()
    announced_port: int | None = None
    turn_hosts: tuple[str, ...] = ()

    rooms_max: int = 1000
    participants_per_room_max: int = 16
    tracks_per_participant_max: int = 8
    transports_max: int = 4000

    # A handshake is public-key work on the event loop: neither many at once nor for long.
    handshakes_max: int = 64
    handshake_timeout_s: float = 10.0
    # A connection that was negotiated but never came: the browser itself gives up after about 30 s.
    connect_timeout_s: float = 30.0
    # RFC 7675 consent is fresh for 30 s; browsers check every 2.5 s, so 15 s of silence is six lost checks in
    # a row.
    disconnected_after_s: float = 15.0
    # ... and this much later the connection is closed. An outage of 45 s is still healed by an ICE restart.
    closed_after_s: float = 45.0
    # A publisher whose connection ended without a farewell may come back (a reload): its tracks stay so long.
    linger_s: float = 5.0
    # An empty room is dropped after this, one where somebody only waits after the other.
    room_idle_s: float = 30.0
    room_waiting_s: float = 3600.0

    quality_interval_s: float = 5.0
    # The first bitrate the publisher's encoder tries; browsers start at 300 kbit/s and 320 px without it.
    start_bitrate_kbps: int = 1500
    probe_interval_s: float = 5.0
