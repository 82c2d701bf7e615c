"""From the lines of the log to who was there, when, and how they were connected. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from consult.record.quality import Sample, StreamSummary, summarise

# the room's word for a place that was lost with its socket (signaling/room.py)
SOCKET_LOST = "socket_lost"


@dataclass(frozen=True, slots=True)
class EventLine:
    """One line of the log with the participant's name."""

    at: datetime
    kind: str
    detail: str
    participant_id: str | None
    name: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stay:
    """From a join to the leave; `left_at` None: still there, or nobody saw them leave."""

    joined_at: datetime
    left_at: datetime | None
    reason: str = ""

    @property
    def seconds(self) -> int | None:
        return None if self.left_at is None else max(0, int((self.left_at - self.joined_at).total_seconds()))


@dataclass(frozen=True, slots=True)
class ParticipantLog:
    """A seat and what the log has on it. `route`: udp, relayed, or "" when no media flowed."""

    id: str
    name: str = field(repr=False)
    role: str
    waited_seconds: int
    stays: tuple[Stay, ...]
    seconds: int
    reconnects: int
    route: str
    codecs: tuple[str, ...]
    streams: tuple[StreamSummary, ...]


def participant_logs(
    seats: Sequence[tuple[str, str, str]],
    events: Sequence[EventLine],
    samples: Mapping[str, Iterable[Sample]],
    over: datetime | None,
) -> list[ParticipantLog]:
    """One entry per seat (id, name, role) in the given order. `events` by time; `over`: when the session ended, which
    closes stays that no leave closed (a server that was killed writes none)."""
    return [_participant(seat, events, samples.get(seat[0], ()), over) for seat in seats]


def _participant(
    seat: tuple[str, str, str], events: Sequence[EventLine], samples: Iterable[Sample], over: datetime | None
) -> ParticipantLog:
    participant_id, name, role = seat
    stays: list[Stay] = []
    joined: datetime | None = None
    waiting: datetime | None = None
    gone: datetime | None = None
    waited = 0.0
    reconnects = 0
    route = ""
    codecs: list[str] = []
    for event in events:
        if event.participant_id != participant_id:
            continue
        if event.kind == "waiting":
            waiting = waiting or event.at
        elif event.kind in ("joined", "left", "admitted") and waiting is not None:
            waited += (event.at - waiting).total_seconds()
            waiting = None
        if event.kind == "joined":
            # a second join without a leave: the first server was killed before it could write one
            joined = joined or event.at
        elif event.kind == "left" and joined is not None:
            # the room keeps a lost place for a while; who does not come back left when the socket was lost
            left_at = gone if gone is not None and event.detail == SOCKET_LOST else event.at
            stays.append(Stay(joined, max(left_at, joined), event.detail))
            joined = None
        elif event.kind == "reconnecting" and event.detail == SOCKET_LOST:
            gone = event.at
        elif event.kind == "reconnected":
            reconnects += 1
        if event.kind in ("joined", "left", "reconnected"):
            gone = None
        elif event.kind == "route":
            route = event.detail
        elif event.kind == "codec" and event.detail not in codecs:
            codecs.append(event.detail)
    if joined is not None:
        stays.append(Stay(joined, max(over, joined) if over is not None else None, ""))
    streams = tuple(summarise(samples))
    for stream in streams:
        if stream.codec and stream.codec not in codecs:
            codecs.append(stream.codec)
    return ParticipantLog(
        id=participant_id,
        name=name,
        role=role,
        waited_seconds=max(0, int(waited)),
        stays=tuple(stays),
        seconds=sum(stay.seconds or 0 for stay in stays),
        reconnects=reconnects,
        route=route,
        codecs=tuple(codecs),
        streams=streams,
    )


def ended_at(recorded: datetime | None, closes_at: datetime) -> datetime:
    """When a session was over at the latest: nothing recorded it when the last server was killed."""
    return recorded if recorded is not None else closes_at
