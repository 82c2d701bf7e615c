"""One PeerConnection of a browser, seen from the relay: its ICE agent, its DTLS and its transport in the
plane.

States: connecting → connected ⇄ disconnected → closed. A connection is connected when DTLS is done; it is
disconnected when the peer neither checks nor sends for `disconnected_after_s`, and comes back with the next
check.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from media.api import Direction, Route, TransportState
from media.ice import Checked, IceLite
from media.negotiation import Local, Peer
from media.plane import HeaderExtensions, Plane, SrtpKeys
from media.settings import RelaySettings
from media.transport import Certificate, DtlsTransport, HandshakeFailed

log = logging.getLogger(__name__)

# A ClientHello can outrun the answer that names the fingerprint; it comes as two datagrams, perhaps repeated.
_EARLY_MAX = 8
# Browsers check a working path every 2.5 s; a longer pause was an outage.
_OUTAGE_S = 4.0


@dataclass(slots=True)
class Core:
    """What all connections of one relay share."""

    settings: RelaySettings
    plane: Plane
    ice: IceLite
    certificate: Certificate
    clock: Callable[[], float]
    candidates: tuple[tuple[str, int], ...]
    turn_ips: frozenset[str] = frozenset()
    # datagrams refused on the control plane, by reason
    dropped: Counter[str] = field(default_factory=Counter)
    # DTLS handshakes: started, succeeded, failed, timeout
    handshakes: Counter[str] = field(default_factory=Counter)
    handshakes_running: int = 0


class Connection:
    """See the module docstring.

    on_ready is called once when keys are installed, before the state becomes connected; on_state with every
    change of state or route. A closed connection is never opened again.
    """

    def __init__(
        self,
        core: Core,
        number: int,
        direction: Direction,
        *,
        on_ready: Callable[[], None],
        on_state: Callable[[TransportState, Route | None], None],
        on_return: Callable[[], None] = lambda: None,
    ) -> None:
        self.number = number
        self.direction: Direction = direction
        self.state: TransportState = "connecting"
        self.route: Route | None = None
        self._reported: TransportState = "connecting"
        self.peer: Peer | None = None
        self.extensions = HeaderExtensions()
        # What the relay's own RTCP is sent as.
        self.ssrc = secrets.randbelow(0xFFFFFFFE) + 1
        self.rtt_s: float | None = None
        self._core = core
        self._agent = core.ice.add(number)
        self._dtls: DtlsTransport | None = None
        self._early: deque[bytes] = deque(maxlen=_EARLY_MAX)
        self._handshake: asyncio.Task[None] | None = None
        self._session_id = secrets.randbits(62)
        self._version = 0
        # Since when the peer is expected; before it is known, a subscriber may wait for the first track.
        self._expected_since: float | None = None
        self._alive_at = self._checked_at = core.clock()
        self._on_ready = on_ready
        self._on_state = on_state
        self._on_return = on_return

    @property
    def installed(self) -> bool:
        """Whether the plane has this transport."""
        return self.state in ("connected", "disconnected")

    def local(self) -> Local:
        """The relay's side for the next description; its version grows with each."""
        self._version += 1
        credentials = self._agent.credentials
        return Local(
            ufrag=credentials.ufrag,
            password=credentials.password,
            fingerprint=self._core.certificate.fingerprint,
            candidates=self._core.candidates,
            session_id=self._session_id,
            version=self._version,
        )

    def set_peer(self, peer: Peer) -> None:
        """Take the peer's description. The first one names the certificate that DTLS will accept."""
        self.peer = peer
        if self._expected_since is None:
            self._expected_since = self._core.clock()
        if self._dtls is None and self.state != "closed":
            self._dtls = DtlsTransport(
                self._core.certificate,
                peer.fingerprints,
                send=self._send,
                on_close=self._on_goodbye,
                dropped=self._core.dropped,
            )
            while self._early:
                self.receive_dtls(self._early.popleft())

    def is_same_peer(self, peer: Peer) -> bool:
        """Whether `peer` is the RTCPeerConnection that this connection was made for: the same certificate,
        and the same session or, from those who number each offer anew, the same ICE credentials."""
        known = self.peer
        if known is None or known.fingerprints != peer.fingerprints:
            return False
        same_ice = (known.ufrag, known.password) == (peer.ufrag, peer.password)
        return known.session_id == peer.session_id or same_ice

    def set_ice(self, ufrag: str, password: str) -> None:
        """New ICE credentials of the same peer (a restart that came without an SDP)."""
        assert self.peer is not None
        self.peer = replace(self.peer, ufrag=ufrag, password=password)

    def restart_ice(self) -> None:
        self._core.ice.restart(self._agent)

    # ---- what comes in ----

    def checked(self, check: Checked, now: float) -> None:
        """An authenticated connectivity check of this connection came; its answer is on the way already."""
        silence = now - self._checked_at
        self._alive_at = self._checked_at = now
        path = check.agent.selected
        if check.moved and path is not None and self.installed:
            self._core.plane.set_address(self.number, path.address, path.local)
            self._report("connected")
        elif self.installed:
            if check.path != path and check.path in check.agent.paths:
                self._core.plane.accept_from(self.number, check.path.address, check.path.local)
            if self.state == "disconnected":
                self._report("connected")
        if self.installed and (check.moved or silence > _OUTAGE_S):
            self._on_return()

    def receive_dtls(self, data: bytes) -> None:
        """A DTLS datagram from a validated path of this connection's peer."""
        if self._dtls is None:
            self._early.append(data)
            return
        if self._handshake is None:
            if self._core.handshakes_running >= self._core.settings.handshakes_max:
                # The peer repeats its ClientHello; by then there may be room.
                self._core.dropped["handshakes_max"] += 1
                return
            self._core.handshakes_running += 1
            self._core.handshakes["started"] += 1
            self._handshake = asyncio.create_task(self._run_handshake(self._dtls))
        self._dtls.receive(data)

    def check_liveness(self, now: float, media_at: float) -> bool:
        """Look at the clock (about once a second). media_at: when the last packet of the peer came, 0 =
        never.

        Returns False when the connection has to be closed."""
        settings = self._core.settings
        self._alive_at = max(self._alive_at, media_at)
        if self.state == "connecting":
            since = self._expected_since
            return since is None or now - since < settings.connect_timeout_s
        silence = now - self._alive_at
        if silence >= settings.disconnected_after_s + settings.closed_after_s:
            return False
        if silence >= settings.disconnected_after_s:
            if self.state == "connected":
                self._report("disconnected")
        elif self.state == "disconnected":
            self._report("connected")
        return True

    # ---- DTLS ----

    async def _run_handshake(self, dtls: DtlsTransport) -> None:
        core = self._core
        try:
            keys = await dtls.handshake(core.settings.handshake_timeout_s)
        except HandshakeFailed as error:
            core.handshakes[str(error)] += 1
            log.info("DTLS handshake of transport %d: %s", self.number, error)
            self.abandon()
            return
        finally:
            core.handshakes_running -= 1
        core.handshakes["succeeded"] += 1
        try:
            self._install(keys)
        except (KeyError, ValueError):
            # The plane refuses what no packet can carry; a peer that negotiated such a thing gets no further.
            # It is told, because for the peer the handshake has succeeded: without a word it would wait for media.
            core.dropped["install_error"] += 1
            log.exception("installing transport %d", self.number)
            await dtls.close()
            self.abandon()

    def _install(self, keys: SrtpKeys) -> None:
        path = self._agent.send_path()
        if self.state == "closed" or path is None:
            self.abandon()
            return
        plane = self._core.plane
        plane.add_transport(self.number, keys, self.extensions)
        self.state = "connected"
        plane.set_address(self.number, path.address, path.local)
        for other in self._agent.paths:
            plane.accept_from(self.number, other.address, other.local)
        self._on_ready()
        self._report("connected")

    def _send(self, data: bytes) -> None:
        path = self._agent.send_path()
        if path is not None:
            self._core.plane.send_raw(data, path.address, path.local)

    def _on_goodbye(self) -> None:
        self.abandon()

    # ---- the end ----

    async def close(self) -> None:
        """Say goodbye to the peer, then remove everything. Nothing is reported: whoever closes knows."""
        if self.state == "closed":
            return
        installed, self.state = self.installed, "closed"
        if self._dtls is not None and installed:
            await self._dtls.close()
        self._remove(installed)

    def abandon(self) -> None:
        """Remove everything without a word to the peer, and report `closed`."""
        if self.state == "closed":
            return
        installed = self.installed
        self._remove(installed)
        self._report("closed")

    def _remove(self, installed: bool) -> None:
        if self._dtls is not None:
            self._dtls.abandon()
        if self._handshake is not None and self._handshake is not asyncio.current_task():
            self._handshake.cancel()
        self._core.ice.remove(self._agent)
        if installed:
            self._core.plane.remove_transport(self.number)

    def _report(self, state: TransportState) -> None:
        path = self._agent.send_path()
        before = (self._reported, self.route)
        if path is not None:
            self.route = "relayed" if path.address[0] in self._core.turn_ips else "udp"
        self.state = self._reported = state
        if (state, self.route) != before:
            self._on_state(state, self.route)
