"""What a room asks of its relay, as values: they queue, travel between processes, and are carried out by `perform`.

One command for each method of media.api.Relay.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from media.api import Direction, Relay, RelayError, Source
from signaling.messages import ErrorCode


class _Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="op"):
    room: str


class Publish(_Command, frozen=True, kw_only=True, tag="publish"):
    participant: str
    offer: str
    sources: dict[str, Source]


class Subscribe(_Command, frozen=True, kw_only=True, tag="subscribe"):
    participant: str
    fresh: bool = False


class RestartSubscribe(_Command, frozen=True, kw_only=True, tag="restart_subscribe"):
    participant: str


class Answer(_Command, frozen=True, kw_only=True, tag="answer"):
    participant: str
    revision: int
    answer: str


class SetPaused(_Command, frozen=True, kw_only=True, tag="set_paused"):
    participant: str
    track: str
    paused: bool


class Watch(_Command, frozen=True, kw_only=True, tag="watch"):
    viewer: str
    publisher: str
    offer: str


class AddCandidates(_Command, frozen=True, kw_only=True, tag="add_candidates"):
    participant: str
    direction: Direction
    fragment: str


class Leave(_Command, frozen=True, kw_only=True, tag="leave"):
    participant: str


class CloseRoom(_Command, frozen=True, kw_only=True, tag="close_room"):
    pass


RelayCommand = Publish | Subscribe | RestartSubscribe | Answer | SetPaused | Watch | AddCandidates | Leave | CloseRoom

# RelayError code → what the page is told; the others mean that the media process cannot serve now
_ERRORS: dict[str, ErrorCode] = {
    "bad_sdp": "bad_sdp",
    "stale_revision": "stale_revision",
    "too_many": "too_many",
    "no_participant": "no_participant",
    "no_track": "no_participant",
}


async def perform(relay: Relay, command: RelayCommand) -> str:
    """Carry a command out. The answer SDP or fragment, or an empty string. Raises RelayError."""
    match command:
        case Publish():
            return await relay.publish(command.room, command.participant, command.offer, command.sources)
        case Subscribe():
            await relay.subscribe(command.room, command.participant, fresh=command.fresh)
        case RestartSubscribe():
            await relay.restart_subscribe(command.room, command.participant)
        case Answer():
            await relay.answer(command.room, command.participant, command.revision, command.answer)
        case SetPaused():
            await relay.set_paused(command.room, command.participant, command.track, command.paused)
        case Watch():
            return await relay.watch(command.room, command.viewer, command.publisher, command.offer)
        case AddCandidates():
            return await relay.add_candidates(command.room, command.participant, command.direction, command.fragment)
        case Leave():
            await relay.leave(command.room, command.participant)
        case CloseRoom():
            await relay.close_room(command.room)
        case _:
            assert_never(command)
    return ""


def actor_of(command: RelayCommand) -> str:
    """Whose commands keep their order among themselves; empty for the room's own."""
    match command:
        case Watch():
            return command.viewer
        case CloseRoom():
            return ""
        case _:
            return command.participant


def error_code(error: RelayError) -> ErrorCode:
    return _ERRORS.get(error.code, "media_unavailable")
