"""What a room wants done. `Room` returns these in order; signaling/actor.py carries them out in that order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from signaling.messages import ChatLine, ServerMessage, StatsSample
from signaling.relay_commands import RelayCommand

# WebSocket close codes (RFC 6455 section 7.4.1)
NORMAL = 1000
POLICY_VIOLATION = 1008
SERVICE_RESTART = 1012


class Now(NamedTuple):
    """One moment on two clocks: `wall` (aware, UTC) for what people read and the record keeps, `seconds` (monotonic)
    for deadlines, so that a step of the wall clock ends nobody's call."""

    wall: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Seated:
    """The socket that asks to join is this participant's from here on."""

    participant: str


@dataclass(frozen=True, slots=True)
class Send:
    to: tuple[str, ...]
    message: ServerMessage


@dataclass(frozen=True, slots=True)
class Close:
    """Close the participant's socket after what was sent to it."""

    participant: str
    code: int = NORMAL


@dataclass(frozen=True, slots=True)
class CallRelay:
    """Ask the relay, in order per participant, and hand the result to `Room.relay_done` or `Room.relay_failed`.
    `generation` names the page that asked: a newer page of the same seat must not get its answer."""

    participant: str | None
    generation: int
    request: int | None
    command: RelayCommand


@dataclass(frozen=True, slots=True)
class ReplaceMedia:
    """The relay dropped the room or drains: place it on a relay and call `Room.media_placed`."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A line of the session log (kinds: consult/record/models.py, SessionEvent)."""

    participant: str | None
    kind: str
    at: datetime
    detail: str = ""


@dataclass(frozen=True, slots=True)
class KeepSample:
    participant: str
    measured_by: Literal["relay", "browser"]
    sample: StatsSample
    at: datetime


@dataclass(frozen=True, slots=True)
class KeepChat:
    """Store a line, then call `Room.chat_kept` or `Room.chat_failed`: only what is kept is shown and acknowledged."""

    line: ChatLine
    at: datetime


@dataclass(frozen=True, slots=True)
class NoteAdmission:
    """Tell the domain: let in (True) or turned away (False)."""

    participant: str
    admitted: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class NoteFinished:
    at: datetime


Effect = (
    Seated | Send | Close | CallRelay | ReplaceMedia | LogEvent | KeepSample | KeepChat | NoteAdmission | NoteFinished
)
