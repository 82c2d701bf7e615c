"""One participant's place in a room: it outlives sockets and pages."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from media.api import Direction, TransportState
from signaling.admission import Grant
from signaling.effects import Now
from signaling.messages import Offer, ParticipantInfo, Presence
from signaling.rate import TokenBucket

# A lost socket of someone in the call: a locked phone or a lift; after that the seat is free again,
WAIT_FOR_SOCKET_S = 90.0
# unless the media still flows (only the socket's way is broken); at most this long.
WAIT_FOR_SOCKET_WITH_MEDIA_S = 900.0
# A client who waits and whose socket is lost (the phone locked) counts as here for two minutes,
WAITING_UNNOTICED_S = 120.0
# is then shown as reconnecting, and loses the place after this.
WAITING_FORGOTTEN_S = 900.0
# A device (WHIP, WHEP) has no socket: it is gone when its media connection has been away this long.
DEVICE_GONE_S = 30.0


def _chat_bucket() -> TokenBucket:
    return TokenBucket(10, 1.0)  # nobody types faster; ten at once after a lost socket


def _request_bucket() -> TokenBucket:
    # A join needs about ten requests; the relay's work for one (SDP, DTLS) is what must not be had for free.
    return TokenBucket(40, 5.0)


def _stats_bucket() -> TokenBucket:
    return TokenBucket(4, 0.5)  # one message every 5 s is sent


@dataclass(slots=True)
class Seat:
    grant: Grant
    admitted: bool
    since: Now
    secret: str  # of the last welcome
    generation: int  # grows with every page or socket that takes the seat
    device: bool = False
    connected: bool = True
    lost_at: float | None = None
    away: bool = False  # waits, and has been lost for longer than unnoticed
    entered: bool = False  # was in the call at least once
    previous_secret: str | None = None
    microphone: bool = False
    camera: bool = False
    screen: bool = False
    offer: Offer | None = None  # sent or to be sent, not answered yet
    transports: dict[Direction, TransportState] = field(default_factory=dict)
    route: str = ""
    codecs: set[str] = field(default_factory=set)
    chat_rate: TokenBucket = field(default_factory=_chat_bucket)
    request_rate: TokenBucket = field(default_factory=_request_bucket)
    stats_rate: TokenBucket = field(default_factory=_stats_bucket)

    @property
    def id(self) -> str:
        return self.grant.participant

    @property
    def is_specialist(self) -> bool:
        return self.grant.role == "specialist"

    @property
    def presence(self) -> Presence:
        if self.admitted:
            return "joined" if self.connected or self.device else "reconnecting"
        return "reconnecting" if self.away else "waiting"

    @property
    def media_flows(self) -> bool:
        return "connected" in self.transports.values()

    def info(self) -> ParticipantInfo:
        return ParticipantInfo(
            id=self.id,
            name=self.grant.name,
            role=self.grant.role,
            presence=self.presence,
            admitted=self.admitted,
            since=self.since.wall.isoformat(),
            microphone=self.microphone,
            camera=self.camera,
            screen=self.screen,
        )

    def knows(self, secret: str) -> bool:
        """The secret of the last welcome, or of the one before: the last may have been lost with its socket."""
        return secrets.compare_digest(secret, self.secret) or (
            self.previous_secret is not None and secrets.compare_digest(secret, self.previous_secret)
        )

    def lose(self, now: Now) -> None:
        self.connected = False
        self.lost_at = now.seconds

    def forget_media(self) -> None:
        self.offer = None
        self.transports.clear()

    def abandoned(self, now: Now) -> bool:
        """Nobody comes back for this seat any more."""
        if self.lost_at is None:
            return False
        gone = now.seconds - self.lost_at
        if self.device:
            return gone > DEVICE_GONE_S and not self.media_flows
        if not self.admitted:
            return gone > WAITING_FORGOTTEN_S
        return gone > (WAIT_FOR_SOCKET_WITH_MEDIA_S if self.media_flows else WAIT_FOR_SOCKET_S)
