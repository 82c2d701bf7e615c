"""What one participant receives over one connection: slots (m-sections), their negotiation and their
forwards."""

from __future__ import annotations

import secrets
from collections.abc import Container, Iterator
from dataclasses import dataclass

from media import negotiation, sdp
from media.api import RelayError, Track
from media.connection import Connection
from media.negotiation import Outgoing, Peer, Slot
from media.plane import ForwardSpec, Plane
from media.reports import Meter, RoundTrips
from media.rtcp import ReportBlock

SLOTS_MAX = 64


@dataclass(slots=True, eq=False)
class Forward:
    """One track on its way to this subscriber. `number` is the plane's."""

    number: int
    mid: str
    ssrc: int
    track: Track
    plane_track: int
    meter: Meter
    # the subscriber's last two report blocks that were looked at for quality
    block: ReportBlock | None = None
    measured_block: ReportBlock | None = None


@dataclass(frozen=True, slots=True)
class Offered:
    """An offer that waits for its answer: mid → id of the track it announced (None = inactive)."""

    revision: int
    tracks: dict[str, str | None]


class Subscription:
    """See the module docstring. The relay decides when to `offer`; `numbers` yields fresh plane forward
    numbers; `feeds` are the plane tracks that exist now: a track can be in the room without one, while its
    publisher is away or coming back.

    fixed: the slots of a WHEP viewer. They came with its offer, never grow and keep their forwards while the
    publisher is away.
    """

    def __init__(
        self, connection: Connection, plane: Plane, numbers: Iterator[int], feeds: Container[int], revision: int = 0
    ) -> None:
        self.connection = connection
        self.revision = revision
        self.slots: list[Slot] = []
        self.forwards: dict[str, Forward] = {}  # by mid
        self.paused: set[str] = set()  # track ids
        self.round_trips = RoundTrips()
        self.fixed = False
        self.watched: str | None = None
        # when the next offer is due, None = nothing to negotiate
        self.offer_due: float | None = None
        self.outstanding: Offered | None = None
        self._specs: dict[str, ForwardSpec] = {}
        self._sources: dict[str, int] = {}  # track id → plane track
        self._plane = plane
        self._numbers = numbers
        self._feeds = feeds
        connection.extensions = negotiation.own_extensions()

    # ---- tracks come and go ----

    def add(self, track: Track, plane_track: int) -> bool:
        """A track that this participant shall receive. Returns whether that needs an offer."""
        self._sources[track.id] = plane_track
        if any(slot.track is not None and slot.track.id == track.id for slot in self.slots):
            return False
        slot = next((one for one in self.slots if one.track is None and one.kind == track.kind), None)
        if self.fixed:
            if slot is not None:
                slot.track = track
                self.sync()
            return False
        if slot is None:
            if len(self.slots) >= SLOTS_MAX:
                raise RelayError("too_many", "no room for another track on this connection")
            slot = Slot(mid=str(len(self.slots)), kind=track.kind)
            self.slots.append(slot)
        slot.track = track
        # A used SSRC is not used again: its receiver knows another sequence and SRTP another roll-over
        # counter.
        slot.ssrc, slot.rtx_ssrc = self._new_ssrc(), self._new_ssrc()
        return True

    def replace_source(self, track_id: str, plane_track: int) -> None:
        """The publisher came back: the same track is fed by another connection, with no new negotiation."""
        self._sources[track_id] = plane_track
        for forward in self.forwards.values():
            if forward.track.id == track_id and forward.plane_track != plane_track:
                forward.plane_track = plane_track
                self._plane.set_source(forward.number, plane_track)
        self.sync()  # a section may have waited for this feed

    def remove(self, track_id: str) -> bool:
        """A track that is gone. Returns whether that needs an offer."""
        self._sources.pop(track_id, None)
        self.paused.discard(track_id)
        for slot in self.slots:
            if slot.track is None or slot.track.id != track_id:
                continue
            slot.track = None
            if self.fixed:
                return False
            self._specs.pop(slot.mid, None)
            forward = self.forwards.pop(slot.mid, None)
            if forward is not None:
                self._plane.remove_forward(forward.number)
            return True
        return False

    def set_paused(self, track_id: str, paused: bool) -> None:
        """Raises KeyError for a track that this participant does not receive."""
        if track_id not in self._sources:
            raise KeyError(track_id)
        if paused:
            self.paused.add(track_id)
        else:
            self.paused.discard(track_id)
        for forward in self.forwards.values():
            if forward.track.id == track_id:
                self._plane.set_paused(forward.number, paused)

    # ---- negotiation ----

    def offer(self) -> tuple[int, str, dict[str, Track]]:
        """Write the next offer: (revision, SDP, mid → track). An outstanding one is superseded."""
        self.revision += 1
        self.offer_due = None
        self.outstanding = Offered(
            self.revision, {slot.mid: slot.track.id if slot.track else None for slot in self.slots}
        )
        text = negotiation.subscribe_offer(self.slots, self.connection.local())
        return self.revision, text, {slot.mid: slot.track for slot in self.slots if slot.track is not None}

    def answered(self, revision: int, text: str) -> None:
        """Take the answer to the outstanding offer. Raises RelayError: stale_revision, bad_sdp."""
        offered = self.outstanding
        if offered is None or offered.revision != revision:
            raise RelayError("stale_revision", f"the current offer is {self.revision}")
        answer = sdp.parse(text)
        peer, specs = negotiation.accept_subscribe(answer, self.slots, list(offered.tracks))
        known = self.connection.peer
        if known is not None and known.fingerprints != peer.fingerprints:
            raise RelayError("bad_sdp", "another DTLS fingerprint needs a fresh subscribe connection")
        self.outstanding = None
        self.connection.set_peer(peer)
        for slot in self.slots:
            # What changed since the offer waits for the next one.
            if slot.track is not None and offered.tracks.get(slot.mid) == slot.track.id:
                if slot.mid in specs:
                    self._specs[slot.mid] = specs[slot.mid]
                else:
                    self._specs.pop(slot.mid, None)
        self.sync()

    def fix(self, peer: Peer, accepted: list[Outgoing], publisher: str) -> None:
        """Become a WHEP viewer's subscription with the sections of its offer."""
        self.fixed, self.watched = True, publisher
        for one in accepted:
            slot = Slot(one.mid, one.kind, None, self._new_ssrc(), self._new_ssrc())
            self.slots.append(slot)
            self._specs[one.mid] = one.forward_spec(slot.ssrc, slot.rtx_ssrc)
        self.connection.extensions = negotiation.merged_extensions(one.extensions for one in accepted)
        self.connection.set_peer(peer)

    def sync(self) -> None:
        """Make the plane forward what was negotiated and has a feed; a no-op until the connection is
        installed."""
        if not self.connection.installed:
            return
        for slot in self.slots:
            spec = self._specs.get(slot.mid)
            if slot.track is None or spec is None:
                continue
            plane_track = self._sources[slot.track.id]
            if plane_track not in self._feeds:
                continue  # replace_source comes back to it
            forward = self.forwards.get(slot.mid)
            if forward is None:
                number = next(self._numbers)
                forward = Forward(number, slot.mid, spec.ssrc, slot.track, plane_track, Meter())
                self.forwards[slot.mid] = forward
                self._plane.add_forward(number, self.connection.number, plane_track, spec)
                if slot.track.id in self.paused:
                    self._plane.set_paused(number, True)
            elif forward.track.id != slot.track.id:  # a fixed slot whose publisher came back
                forward.track, forward.plane_track = slot.track, plane_track
                self._plane.set_source(forward.number, plane_track)

    def remove_all(self) -> None:
        """Take every forward out of the plane."""
        for forward in self.forwards.values():
            self._plane.remove_forward(forward.number)
        self.forwards.clear()

    def forward_of(self, ssrc: int) -> Forward | None:
        return next((one for one in self.forwards.values() if one.ssrc == ssrc), None)

    def _new_ssrc(self) -> int:
        used = {number for slot in self.slots for number in (slot.ssrc, slot.rtx_ssrc)}
        while (number := secrets.randbelow(0xFFFFFFFF) + 1) in used:
            continue
        return number
