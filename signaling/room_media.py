"""The room's side of the media: messages to relay commands, relay events to effects. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from media.api import (
    QualitySample,
    RelayEvent,
    RelayStopping,
    RoomClosed,
    SubscribeOffer,
    Track,
    TrackAdded,
    TrackRemoved,
    TransportChanged,
)
from signaling import relay_commands
from signaling.effects import Effect, KeepSample, LogEvent, Now, ReplaceMedia, Send
from signaling.messages import Answer, Offer, Pause, Publish, StatsSample, Subscribe, TrackInfo
from signaling.relay_commands import RelayCommand
from signaling.seat import Seat


def command(room: str, participant: str, message: Publish | Subscribe | Answer | Pause) -> RelayCommand:
    """What the relay is asked for this message."""
    match message:
        case Publish():
            return relay_commands.Publish(
                room=room, participant=participant, offer=message.offer, sources=message.sources
            )
        case Subscribe():
            if message.restart and not message.fresh:
                return relay_commands.RestartSubscribe(room=room, participant=participant)
            return relay_commands.Subscribe(room=room, participant=participant, fresh=message.fresh)
        case Answer():
            return relay_commands.Answer(
                room=room, participant=participant, revision=message.revision, answer=message.answer
            )
        case Pause():
            return relay_commands.SetPaused(
                room=room, participant=participant, track=message.track, paused=message.paused
            )
        case _:
            assert_never(message)


def relay_event(seats: Mapping[str, Seat], event: RelayEvent, now: Now) -> list[Effect]:
    """Of participants that are not here (any more) nothing is told: their leave is on its way to the relay."""
    match event:
        case RelayStopping():
            return [ReplaceMedia()]
        case RoomClosed():
            # Asked for when the last one left; otherwise the relay dropped a room that people are in.
            return [ReplaceMedia()] if any(seat.admitted for seat in seats.values()) else []
        case TrackAdded():
            return _codec(seats, event.track, now)
        case TrackRemoved():
            return []  # subscribers learn it from their next offer
        case SubscribeOffer():
            return _offer(seats, event)
        case TransportChanged():
            return _transport(seats, event, now)
        case QualitySample():
            if event.participant not in seats:
                return []
            return [KeepSample(event.participant, "relay", _sample(event), now.wall)]
        case _:
            assert_never(event)


def _codec(seats: Mapping[str, Seat], track: Track, now: Now) -> list[Effect]:
    seat = seats.get(track.participant)
    if seat is None or track.codec in seat.codecs:
        return []
    seat.codecs.add(track.codec)
    return [LogEvent(seat.id, "codec", now.wall, track.codec)]


def _offer(seats: Mapping[str, Seat], event: SubscribeOffer) -> list[Effect]:
    seat = seats.get(event.participant)
    if seat is None or not seat.admitted or seat.device:
        return []
    # A newer offer replaces an unanswered one; a page whose socket is lost gets the newest when it resumes.
    seat.offer = Offer(
        revision=event.revision,
        offer=event.offer,
        tracks={
            mid: TrackInfo(id=track.id, participant=track.participant, kind=track.kind, source=track.source)
            for mid, track in event.tracks.items()
        },
    )
    return [Send((seat.id,), seat.offer)] if seat.connected else []


def _transport(seats: Mapping[str, Seat], event: TransportChanged, now: Now) -> list[Effect]:
    seat = seats.get(event.participant)
    if seat is None:
        return []
    seat.transports[event.direction] = event.state
    if seat.device:
        if seat.media_flows:
            seat.lost_at = None
        elif seat.lost_at is None:
            seat.lost_at = now.seconds
    if event.route is None or event.route == seat.route:
        return []
    seat.route = event.route
    return [LogEvent(seat.id, "route", now.wall, event.route)]


def _sample(event: QualitySample) -> StatsSample:
    return StatsSample(
        direction=event.direction,
        kind=event.kind,
        source=event.source,
        bitrate_bps=event.bitrate_bps,
        codec=event.codec,
        loss=event.loss,
        rtt_ms=event.rtt_ms,
        jitter_ms=event.jitter_ms,
    )
