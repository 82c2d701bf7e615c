"""Rooms of one relay: who publishes what, who receives it, and what the hub is told about it.

All of it runs on the event loop in one go per call (nothing awaits), so every state here has one owner.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from media import rtcp
from media.api import (
    Direction,
    RelayError,
    RelayEvent,
    RoomClosed,
    Route,
    SubscribeOffer,
    Track,
    TrackAdded,
    TrackRemoved,
    TransportChanged,
    TransportState,
)
from media.connection import Connection, Core
from media.publication import Publication, PublishedSection
from media.room_state import Owner, Participant, PublishedTrack, Room
from media.subscription import Subscription

log = logging.getLogger(__name__)

# Ids become SDP tokens and labels.
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
# A camera's first packet comes 30–80 ms after the microphone's (the first key frame); waiting so long makes
# one negotiation of the two.
_SIBLING_WAIT_S = 0.1
_SIBLING_AGE_S = 2.0
_REFRESH_S = 0.5


class Rooms:
    """See the module docstring. `emit` gets every event."""

    def __init__(self, core: Core, emit: Callable[[RelayEvent], None]) -> None:
        self.core = core
        self.emit = emit
        self.rooms: dict[str, Room] = {}
        self.owners: dict[int, Owner] = {}  # by transport
        self.track_owners: dict[int, Publication] = {}  # by plane track
        self.joined = asyncio.Event()  # set while there are connections
        self.emptied = asyncio.Event()  # set while there are none
        self.emptied.set()
        # subscriptions with something to offer, by transport
        self._due: dict[int, Owner] = {}
        # 0 is the self-probe's.
        self._transport_numbers = itertools.count(1)
        self._track_numbers: Iterator[int] = itertools.count(1)
        self._forward_numbers: Iterator[int] = itertools.count(1)
        self._farewells: set[asyncio.Task[None]] = set()

    # ---- rooms and participants ----

    def enter(self, room_id: str, participant_id: str) -> tuple[Room, Participant]:
        """The room and participant, made on first use. Raises RelayError: no_room, no_participant,
        too_many."""
        if not _IDENTIFIER.match(room_id):
            raise RelayError("no_room", "not a room id")
        if not _IDENTIFIER.match(participant_id):
            raise RelayError("no_participant", "not a participant id")
        settings = self.core.settings
        room = self.rooms.get(room_id)
        if room is None:
            if len(self.rooms) >= settings.rooms_max:
                raise RelayError("too_many", "no more rooms on this relay")
            room = self.rooms[room_id] = Room(room_id)
        participant = room.participants.get(participant_id)
        if participant is None:
            if len(room.participants) >= settings.participants_per_room_max:
                raise RelayError("too_many", "the room is full")
            participant = room.participants[participant_id] = Participant(participant_id)
        room.idle_since = None
        return room, participant

    def find(self, room_id: str, participant_id: str) -> tuple[Room, Participant]:
        """Raises RelayError: no_room, no_participant."""
        room = self.rooms.get(room_id)
        if room is None:
            raise RelayError("no_room", "no such room on this relay")
        participant = room.participants.get(participant_id)
        if participant is None:
            raise RelayError("no_participant", "not in this room")
        return room, participant

    def leave(self, room: Room, participant: Participant) -> None:
        """Close a participant's connections and remove the tracks."""
        for part in (participant.publication, participant.pending, participant.subscription):
            if part is not None:
                self._close(part)
        participant.publication = participant.pending = participant.subscription = None
        room.participants.pop(participant.id, None)
        for published in self._tracks_of(room, participant):
            self._remove_track(room, published)
        if not room.participants:
            room.idle_since = self.core.clock()

    def close_room(self, room: Room) -> None:
        for participant in list(room.participants.values()):
            self.leave(room, participant)
        if self.rooms.pop(room.id, None) is not None:
            self.emit(RoomClosed(room=room.id))

    # ---- publishing ----

    def publication_for(self, room: Room, participant: Participant) -> Publication:
        """A new publish connection of a participant. It takes over from a live one when it is connected."""
        for old in (participant.pending, participant.publication):
            if old is not None and old.connection.state == "connecting":
                self._drop_publication(participant, old)
        publication: Publication

        def on_ready() -> None:
            self._publication_ready(room, participant, publication)

        def on_state(state: TransportState, route: Route | None) -> None:
            self._publication_state(room, participant, publication, state, route)

        connection = self._connection("publish", on_ready, on_state)
        publication = Publication(connection, self.core.plane, self._track_numbers, self.track_owners)
        self.owners[connection.number] = Owner(room, participant, publication, None)
        if participant.publication is None:
            participant.publication = publication
            self._tell(room, participant, "publish", "connecting", None)
        else:
            participant.pending = publication
        return publication

    def renegotiated(
        self, room: Room, participant: Participant, publication: Publication, stopped: list[PublishedSection]
    ) -> None:
        """Take away the tracks that a publish offer took away."""
        for published in list(room.tracks.values()):
            if published.section in stopped:
                self._remove_track(room, published)
        if publication.ready_at is not None:
            self._prune(room, participant, publication)

    def first_packet(self, plane_track: int) -> None:
        """Media of a section flows: the room learns of the track, or the feed of a known one is replaced."""
        publication = self.track_owners.get(plane_track)
        section = publication.section_of(plane_track) if publication is not None else None
        if publication is None or section is None or section.started:
            return
        section.started = True
        owner = self.owners[publication.connection.number]
        room, participant = owner.room, owner.participant
        for known in self._tracks_of(room, participant):
            if known.publication is not publication and _continues(known, section):
                known.publication, known.section, known.plane_track = publication, section, plane_track
                for other in room.participants.values():
                    if other.subscription is not None:
                        other.subscription.replace_source(known.track.id, plane_track)
                return
        track = Track(
            id=secrets.token_hex(8),
            participant=participant.id,
            kind=section.incoming.kind,
            source=section.source,
            codec=section.incoming.spec.codec,
        )
        published = PublishedTrack(track, publication, section, plane_track)
        room.tracks[track.id] = published
        self.emit(TrackAdded(room=room.id, track=track))
        now = self.core.clock()
        due = now + _SIBLING_WAIT_S if self._siblings_missing(publication, now) else now
        for other in room.participants.values():
            self._give(room, other, published, due)

    def key_frame_wanted(self, plane_track: int, ssrc: int) -> None:
        publication = self.track_owners.get(plane_track)
        if publication is not None and publication.connection.installed:
            connection = publication.connection
            self.core.plane.send_rtcp(connection.number, rtcp.build_pli(connection.ssrc, ssrc))

    def _siblings_missing(self, publication: Publication, now: float) -> bool:
        young = publication.ready_at is not None and now - publication.ready_at < _SIBLING_AGE_S
        return young and any(not one.started for one in publication.sections.values())

    def _publication_ready(self, room: Room, participant: Participant, publication: Publication) -> None:
        publication.ready_at = self.core.clock()
        publication.install()
        participant.lost_at = None
        if participant.pending is publication:
            old, participant.publication, participant.pending = participant.publication, publication, None
            if old is not None:
                self._close(old)
        self._prune(room, participant, publication)

    def _prune(self, room: Room, participant: Participant, publication: Publication) -> None:
        """Remove the tracks of a former connection, but for those that the new one brings again: they keep
        their place until its first packet."""
        coming = publication.sections.values()
        for known in self._tracks_of(room, participant):
            if known.publication is not publication and not any(_continues(known, one) for one in coming):
                self._remove_track(room, known)

    def _publication_state(
        self,
        room: Room,
        participant: Participant,
        publication: Publication,
        state: TransportState,
        route: Route | None,
    ) -> None:
        current = participant.publication is publication
        if state == "closed":
            self._forget(publication)
            if participant.pending is publication:
                participant.pending = None
            if current:
                participant.publication, participant.pending = participant.pending, None
                participant.lost_at = self.core.clock()
        if current:
            self._tell(room, participant, "publish", state, route)

    def _drop_publication(self, participant: Participant, publication: Publication) -> None:
        self._close(publication)
        if participant.pending is publication:
            participant.pending = None
        if participant.publication is publication:
            participant.publication = None

    # ---- subscribing ----

    def subscription_for(self, room: Room, participant: Participant) -> Subscription:
        """A new subscribe connection of a participant; the old one is closed."""
        old = participant.subscription
        if old is not None:
            self._close(old)
        subscription: Subscription

        def on_ready() -> None:
            subscription.sync()

        def on_state(state: TransportState, route: Route | None) -> None:
            if state == "closed":
                self._forget(subscription)
            if participant.subscription is subscription:
                if state == "closed":
                    participant.subscription = None
                self._tell(room, participant, "subscribe", state, route)

        def on_return() -> None:
            self._refresh(room, subscription)

        connection = self._connection("subscribe", on_ready, on_state, on_return)
        revision = old.revision if old is not None else 0
        subscription = Subscription(connection, self.core.plane, self._forward_numbers, self.track_owners, revision)
        if old is not None:
            subscription.paused = old.paused
        self.owners[connection.number] = Owner(room, participant, None, subscription)
        participant.subscription = subscription
        self._tell(room, participant, "subscribe", "connecting", None)
        return subscription

    def _refresh(self, room: Room, subscription: Subscription) -> None:
        """A viewer comes back from an outage that retransmissions cannot mend: ask for key frames at once
        instead of waiting for its decoder to notice."""
        now = self.core.clock()
        for forward in subscription.forwards.values():
            published = room.tracks.get(forward.track.id)
            if published is None or published.track.kind != "video" or published.section.ssrc is None:
                continue
            if now - published.refreshed_at >= _REFRESH_S and published.track.id not in subscription.paused:
                published.refreshed_at = now
                self.key_frame_wanted(published.plane_track, published.section.ssrc)

    def give_all(self, room: Room, participant: Participant) -> None:
        """Every track of the others, for one who comes late."""
        now = self.core.clock()
        for published in list(room.tracks.values()):
            self._give(room, participant, published, now, flush=False)

    def send_offer(self, room: Room, participant: Participant) -> None:
        """Emit the next offer now; nothing while there has never been a track."""
        subscription = participant.subscription
        if subscription is None or subscription.fixed or not subscription.slots:
            return
        self._due.pop(subscription.connection.number, None)
        revision, offer, tracks = subscription.offer()
        self.emit(
            SubscribeOffer(room=room.id, participant=participant.id, revision=revision, offer=offer, tracks=tracks)
        )

    def flush_offers(self, now: float) -> None:
        """Emit the offers that are due and not waiting for an answer."""
        for owner in list(self._due.values()):
            self._flush(owner.room, owner.participant, now)

    def _want_offer(self, subscription: Subscription, due: float) -> None:
        waits = subscription.offer_due
        subscription.offer_due = due if waits is None else min(waits, due)
        number = subscription.connection.number
        self._due[number] = self.owners[number]

    def _flush(self, room: Room, participant: Participant, now: float) -> None:
        subscription = participant.subscription
        if subscription is None or subscription.outstanding is not None:
            return
        if subscription.offer_due is not None and subscription.offer_due <= now:
            self.send_offer(room, participant)

    def _give(
        self, room: Room, participant: Participant, published: PublishedTrack, due: float, *, flush: bool = True
    ) -> None:
        subscription, track = participant.subscription, published.track
        if subscription is None or track.participant == participant.id:
            return
        if subscription.watched is not None and (
            subscription.watched != track.participant or track.source not in ("camera", "microphone")
        ):
            return
        if subscription.add(track, published.plane_track):
            self._want_offer(subscription, due)
        if flush:
            self._flush(room, participant, self.core.clock())

    def _remove_track(self, room: Room, published: PublishedTrack) -> None:
        track = published.track
        if room.tracks.pop(track.id, None) is None:
            return
        self.emit(TrackRemoved(room=room.id, participant=track.participant, track_id=track.id))
        now = self.core.clock()
        for other in room.participants.values():
            if other.subscription is not None and other.subscription.remove(track.id):
                self._want_offer(other.subscription, now)
                self._flush(room, other, now)

    # ---- time ----

    def expire(self, now: float) -> None:
        """About once a second: tracks whose publisher did not come back, and rooms where nobody is."""
        for room in list(self.rooms.values()):
            for participant in list(room.participants.values()):
                lost_at = participant.lost_at
                if lost_at is not None and now - lost_at >= self.core.settings.linger_s:
                    participant.lost_at = None
                    for known in self._tracks_of(room, participant):
                        if known.publication is not participant.publication:
                            self._remove_track(room, known)
                if not participant.connections and participant.lost_at is None:
                    del room.participants[participant.id]
            people = room.participants.values()
            if any(connection.peer is not None for one in people for connection in one.connections):
                room.idle_since = None
                continue
            # Someone may wait for the first track without a connection; a hub that died leaves the same
            # picture.
            allowed_s = self.core.settings.room_waiting_s if people else self.core.settings.room_idle_s
            if room.idle_since is None:
                room.idle_since = now
            elif now - room.idle_since >= allowed_s:
                self.close_room(room)

    async def finish(self) -> None:
        """Close everything and wait until the farewells are sent."""
        for room in list(self.rooms.values()):
            self.close_room(room)
        while self._farewells:
            await asyncio.gather(*self._farewells, return_exceptions=True)

    # ---- common ----

    def _connection(
        self,
        direction: Direction,
        on_ready: Callable[[], None],
        on_state: Callable[[TransportState, Route | None], None],
        on_return: Callable[[], None] = lambda: None,
    ) -> Connection:
        if len(self.owners) >= self.core.settings.transports_max:
            raise RelayError("too_many", "no more connections on this relay")
        self.joined.set()
        self.emptied.clear()
        number = next(self._transport_numbers)
        return Connection(self.core, number, direction, on_ready=on_ready, on_state=on_state, on_return=on_return)

    def _close(self, part: Publication | Subscription) -> None:
        self._forget(part)
        self._background(part.connection.close())

    def _forget(self, part: Publication | Subscription) -> None:
        if isinstance(part, Publication):
            part.remove()
        else:
            part.remove_all()
        self.owners.pop(part.connection.number, None)
        self._due.pop(part.connection.number, None)
        if not self.owners:
            self.joined.clear()
            self.emptied.set()

    def _background(self, farewell: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(farewell)
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    def _tracks_of(self, room: Room, participant: Participant) -> list[PublishedTrack]:
        return [one for one in room.tracks.values() if one.track.participant == participant.id]

    def _tell(
        self,
        room: Room,
        participant: Participant,
        direction: Direction,
        state: TransportState,
        route: Route | None,
    ) -> None:
        self.emit(
            TransportChanged(room=room.id, participant=participant.id, direction=direction, state=state, route=route)
        )


def _continues(known: PublishedTrack, section: PublishedSection) -> bool:
    """Whether a section of a new connection is the same track as before."""
    return known.track.kind == section.incoming.kind and known.track.source == section.source
