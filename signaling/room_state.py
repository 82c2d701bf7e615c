"""What a room holds, who in it is told what, and the news that come from outside: from the relay and the record. Pure.

`Room` (signaling/room.py) adds the participants' side: coming, asking, leaving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from media.api import RelayEvent
from signaling import relay_commands, room_media
from signaling.chat_log import ChatLog
from signaling.effects import CallRelay, Effect, LogEvent, Now, Send
from signaling.messages import (
    Chat,
    ChatLine,
    Done,
    Error,
    ErrorCode,
    MediaReset,
    ParticipantChanged,
    ParticipantInfo,
    Published,
    ServerMessage,
)
from signaling.seat import Seat
from signaling.turn import IceServersFor


class RoomState:
    """`new_secret` makes resume secrets; `ice_servers` lists the ICE servers for a participant; `chat` is what the
    record has; `media_session` names the placement on a relay, empty while there is none."""

    def __init__(
        self,
        consultation: str,
        *,
        new_secret: Callable[[], str],
        ice_servers: IceServersFor,
        chat: Iterable[ChatLine] = (),
        media_session: str = "",
    ) -> None:
        self.consultation = consultation
        self.media_session = media_session
        self.over = False
        self.started_at: datetime | None = None
        self.seats: dict[str, Seat] = {}
        self.chat = ChatLog(chat)
        self._new_secret = new_secret
        self._ice_servers = ice_servers
        self._closes_at: datetime | None = None
        self._sent_away: set[str] = set()
        self._generation = 0
        self._talking = False  # two people are in, and the log says so

    # ---- the relay's news --------------------------------------------------------------------------------------------

    def relay_event(self, event: RelayEvent, now: Now) -> list[Effect]:
        return room_media.relay_event(self.seats, event, now)

    def relay_done(self, call: CallRelay, result: str, now: Now) -> list[Effect]:
        """A command was carried out; `result` is the answer SDP, if it has one."""
        seat = self._asker(call)
        if seat is None or call.request is None:
            return []
        if isinstance(call.command, relay_commands.Publish):
            return [Send((seat.id,), Published(request=call.request, answer=result))]
        if (
            isinstance(call.command, relay_commands.Answer)
            and seat.offer is not None
            and seat.offer.revision <= call.command.revision
        ):
            seat.offer = None
        return [Send((seat.id,), Done(request=call.request))]

    def relay_failed(self, call: CallRelay, code: ErrorCode, message: str) -> list[Effect]:
        seat = self._asker(call)
        if seat is None or call.request is None:
            return []
        return self._error(seat, code, message, call.request)

    def _asker(self, call: CallRelay) -> Seat | None:
        """The seat, if the page that asked still has it."""
        seat = self.seats.get(call.participant or "")
        return seat if seat is not None and seat.generation == call.generation and seat.connected else None

    def media_placed(self, media_session: str, now: Now) -> list[Effect]:
        """The room is on a relay. Another session than before: every page builds its connections anew."""
        if self.over or media_session == self.media_session:
            return []
        replaced = bool(self.media_session)
        self.media_session = media_session
        for seat in self.seats.values():
            seat.forget_media()
        effects: list[Effect] = [LogEvent(None, "media_restarted", now.wall)] if replaced else []
        return effects + self._to_all(MediaReset(media_session=media_session))

    # ---- the record's news -------------------------------------------------------------------------------------------

    def chat_kept(self, line_id: str) -> list[Effect]:
        kept = self.chat.keep(line_id)
        if kept is None:
            return []
        line, requests = kept
        effects = self._to_all(Chat(line=line))
        return effects + self._answer_chat(line.participant, [Done(request=request) for request in requests])

    def chat_failed(self, line_id: str) -> list[Effect]:
        failed = self.chat.fail(line_id)
        if failed is None:
            return []
        line, requests = failed
        text = "The message could not be kept; send it again."
        errors = [Error(code="unavailable", message=text, request=request) for request in requests]
        return self._answer_chat(line.participant, errors)

    def _answer_chat(self, participant: str, answers: Iterable[ServerMessage]) -> list[Effect]:
        seat = self.seats.get(participant)
        if seat is None or not seat.connected:
            return []
        return [Send((seat.id,), answer) for answer in answers]

    # ---- who is told -------------------------------------------------------------------------------------------------

    def waiting(self) -> list[Seat]:
        """Who waits, in the order of coming."""
        return [seat for seat in self.seats.values() if not seat.admitted]

    def is_device(self, participant: str) -> bool:
        """Whether a device has this seat and was let in: only then is media its own to ask for."""
        seat = self.seats.get(participant)
        return seat is not None and seat.device and seat.admitted

    @property
    def empty(self) -> bool:
        """Nobody is here and nobody is expected back: the room can be forgotten."""
        return not self.seats

    def _audience(self, about: Seat) -> tuple[str, ...]:
        """Who may know: of someone in the call everybody in the call, of someone who waits the specialists."""
        return tuple(
            seat.id
            for seat in self.seats.values()
            if seat.id != about.id
            and seat.admitted
            and seat.connected
            and not seat.device
            and (about.admitted or seat.is_specialist)
        )

    def _tell_others(self, about: Seat) -> list[Effect]:
        told = self._audience(about)
        return [Send(told, ParticipantChanged(participant=about.info()))] if told else []

    def _others(self, viewer: Seat) -> list[ParticipantInfo]:
        if not viewer.admitted:
            return []
        return [
            seat.info()
            for seat in self.seats.values()
            if seat.id != viewer.id and (seat.admitted or viewer.is_specialist)
        ]

    def _to_all(self, message: ServerMessage) -> list[Effect]:
        told = tuple(seat.id for seat in self.seats.values() if seat.admitted and seat.connected and not seat.device)
        return [Send(told, message)] if told else []

    def _error(self, seat: Seat, code: ErrorCode, message: str, request: int | None) -> list[Effect]:
        return [Send((seat.id,), Error(code=code, message=message, request=request))]

    def _started(self) -> str | None:
        return self.started_at.isoformat() if self.started_at is not None else None

    def _next_generation(self) -> int:
        self._generation += 1
        return self._generation
