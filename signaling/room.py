"""One consultation's room, sans IO: who is here, who may, what each is told.

Calls in: `join`, `resume`, `receive`, `socket_lost`, `tick`, the relay's news (`relay_event`, `relay_done`,
`relay_failed`, `media_placed`) and the record's (`chat_kept`, `chat_failed`). Each returns the effects to carry out,
in order. `now` is handed in; no clock, no socket, no task. One loop owns a room (signaling/actor.py).
"""

from __future__ import annotations

from datetime import timedelta

from signaling import relay_commands, room_media
from signaling.admission import Grant
from signaling.effects import (
    NORMAL,
    CallRelay,
    Close,
    Effect,
    KeepChat,
    KeepSample,
    LogEvent,
    NoteAdmission,
    NoteFinished,
    Now,
    Seated,
    Send,
)
from signaling.messages import (
    HEARTBEAT_MS,
    Admit,
    Admitted,
    Answer,
    ChatLine,
    ClientMessage,
    Done,
    Ended,
    EndReason,
    ErrorCode,
    Finish,
    GetIceServers,
    IceServers,
    Join,
    Leave,
    MediaState,
    ParticipantLeft,
    Pause,
    Ping,
    Pong,
    Publish,
    Refuse,
    Resume,
    SendChat,
    Started,
    Stats,
    Subscribe,
    Welcome,
)
from signaling.room_state import RoomState
from signaling.seat import WAITING_UNNOTICED_S, Seat

MAX_JOINED = 8
MAX_WAITING = 16
# The closing time ends the waiting, not a conversation: that one goes on until the last leaves, at most this long.
OVERRUN = timedelta(hours=4)


class JoinRefused(Exception):
    """A join or resume that cannot be: bad_resume, too_many, closed. The socket gets `error` and is closed."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code: ErrorCode = code
        self.message = message


class Room(RoomState):
    """See the module. Made with what `RoomState` takes."""

    # ---- coming in ------------------------------------------------------------------------------------------------

    def join(
        self, grant: Grant, now: Now, *, microphone: bool = False, camera: bool = False, device: bool = False
    ) -> list[Effect]:
        """A new page (or device) with a redeemed ticket. It takes an existing seat over: a second tab replaces the
        first, a reload comes back to the call. Raises JoinRefused."""
        if self.over:
            raise JoinRefused("closed", "The consultation is over.")
        seat = self.seats.get(grant.participant)
        enters = (seat is not None and seat.admitted) or self._enters_at_once(grant)
        if not (seat is not None and seat.admitted == enters):
            self._check_capacity(enters)
        self._closes_at = grant.closes_at
        if self.started_at is None:
            self.started_at = grant.started_at
        effects: list[Effect] = []
        if seat is None:
            seat = Seat(
                grant=grant, admitted=enters, since=now, secret="", generation=self._next_generation(), device=device
            )
            self.seats[seat.id] = seat
            come = None
        else:
            come = "replaced" if seat.connected else "new_page"
            if seat.connected and not seat.device:
                effects += [Send((seat.id,), Ended(reason="replaced")), Close(seat.id)]
            seat.grant, seat.device, seat.offer = grant, device, None
            if enters and not seat.admitted:
                seat.admitted, seat.since = True, now
        seat.microphone, seat.camera, seat.screen = microphone, camera, False
        effects += self._take(seat, come, now)
        if not device:
            effects.append(Send((seat.id,), self._welcome(seat, now, resumed=False, last_chat=None)))
        return effects + self._announce_coming(seat, come, now)

    def resume(self, participant: str, secret: str, now: Now, *, last_chat: str | None = None) -> list[Effect]:
        """The same page with a new socket. Raises JoinRefused('bad_resume') when the place is gone."""
        seat = self.seats.get(participant)
        if seat is None or self.over or seat.device or not seat.knows(secret):
            raise JoinRefused("bad_resume", "This place in the room is gone; join again.")
        effects: list[Effect] = []
        if seat.connected:
            # The old socket is dead without a sign (a network change), or an impostor's: nothing is said to it.
            effects.append(Close(seat.id))
        effects += self._take(seat, "resumed", now)
        effects.append(Send((seat.id,), self._welcome(seat, now, resumed=True, last_chat=last_chat)))
        if seat.offer is not None and seat.admitted:
            effects.append(Send((seat.id,), seat.offer))
        return effects + self._announce_coming(seat, "resumed", now)

    def _enters_at_once(self, grant: Grant) -> bool:
        if grant.role == "specialist":
            return True
        if grant.participant in self._sent_away:
            return False
        return grant.admitted or (grant.role in ("participant", "viewer") and not grant.lobby)

    def _check_capacity(self, admitted: bool) -> None:
        there = sum(1 for seat in self.seats.values() if seat.admitted == admitted)
        if there >= (MAX_JOINED if admitted else MAX_WAITING):
            raise JoinRefused("too_many", "The room is full.")

    def _take(self, seat: Seat, come: str | None, now: Now) -> list[Effect]:
        seat.previous_secret = seat.secret if come == "resumed" else None
        seat.secret = self._new_secret()
        seat.generation = self._next_generation()
        seat.connected, seat.away = True, False
        # A device is here when its media connection is (room_media.py); until then its time runs.
        seat.lost_at = now.seconds if seat.device and not seat.media_flows else None
        return [] if seat.device else [Seated(seat.id)]

    def _announce_coming(self, seat: Seat, come: str | None, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        if not seat.admitted:
            if come is None:
                effects.append(LogEvent(seat.id, "waiting", now.wall))
        elif seat.entered and not (seat.device and seat.media_flows):  # a device's second connection is no news
            effects.append(LogEvent(seat.id, "reconnected", now.wall, come or ""))
        effects += self._tell_others(seat)
        if seat.admitted and not seat.entered:
            effects += self._enter(seat, now)
        return effects

    def _enter(self, seat: Seat, now: Now) -> list[Effect]:
        seat.entered = True
        effects: list[Effect] = [LogEvent(seat.id, "joined", now.wall)]
        people = [other for other in self.seats.values() if other.entered and other.grant.role != "viewer"]
        if len(people) >= 2 and not self._talking:
            self._talking = True
            if self.started_at is None:
                self.started_at = now.wall
            effects.append(LogEvent(None, "started", now.wall))
            effects += self._to_all(Started(started_at=self.started_at.isoformat()))
        return effects

    def _welcome(self, seat: Seat, now: Now, *, resumed: bool, last_chat: str | None) -> Welcome:
        assert self._closes_at is not None
        return Welcome(
            you=seat.info(),
            consultation=self.consultation,
            encryption=seat.grant.encryption,
            resume_token=f"{self.consultation}.{seat.id}.{seat.secret}",
            resumed=resumed,
            heartbeat_ms=HEARTBEAT_MS,
            media_session=self.media_session if seat.admitted else "",
            participants=self._others(seat),
            chat=self.chat.after(last_chat) if seat.admitted else [],
            ice_servers=self._ice_servers(seat.id, now.wall),
            server_time=now.wall.isoformat(),
            started_at=self._started() if seat.admitted else None,
            closes_at=self._closes_at.isoformat(),
        )

    # ---- what a participant asks -----------------------------------------------------------------------------------

    def receive(self, participant: str, message: ClientMessage, now: Now) -> list[Effect]:
        """A decoded message of this participant's page."""
        seat = self.seats.get(participant)
        if seat is None or self.over:
            return []
        match message:
            case Ping():
                return [Send((seat.id,), Pong(n=message.n))]
            case Leave():
                return [*self._dismiss(seat, "left", now), *self._after_leaving(now)]
            case MediaState():
                return self._media_state(seat, message)
            case Join() | Resume():
                return self._error(seat, "not_allowed", "This page has joined already.", None)
            case GetIceServers():
                if not seat.request_rate.take(now.seconds):
                    return self._error(seat, "too_fast", "Too many requests; wait a moment.", message.request)
                servers = self._ice_servers(seat.id, now.wall)
                return [Send((seat.id,), IceServers(request=message.request, ice_servers=servers))]
        if not seat.admitted:
            request = None if isinstance(message, Stats) else message.request
            return self._error(seat, "not_admitted", "Wait until you are let in.", request)
        match message:
            case Admit() | Refuse() | Finish():
                if not seat.is_specialist:
                    return self._error(seat, "not_allowed", "Only the specialist can do this.", message.request)
                if isinstance(message, Admit):
                    return self._admit(seat, message, now)
                if isinstance(message, Refuse):
                    return self._refuse(seat, message, now)
                return [Send((seat.id,), Done(request=message.request)), *self._finish(now)]
            case SendChat():
                return self._send_chat(seat, message, now)
            case Stats():
                return self._stats(seat, message, now)
            case Publish() | Subscribe() | Answer() | Pause():
                return self._ask_relay(seat, message, now)

    def _media_state(self, seat: Seat, message: MediaState) -> list[Effect]:
        if seat.grant.role == "viewer" and (message.microphone or message.camera or message.screen):
            return self._error(seat, "not_allowed", "Viewers send nothing.", None)
        if (seat.microphone, seat.camera, seat.screen) == (message.microphone, message.camera, message.screen):
            return []
        seat.microphone, seat.camera, seat.screen = message.microphone, message.camera, message.screen
        return self._tell_others(seat)

    def _admit(self, seat: Seat, message: Admit, now: Now) -> list[Effect]:
        guest = self.seats.get(message.participant)
        if guest is None:
            return self._error(seat, "no_participant", "They are not here any more.", message.request)
        done: list[Effect] = [Send((seat.id,), Done(request=message.request))]
        if guest.admitted:
            return done
        if sum(1 for other in self.seats.values() if other.admitted) >= MAX_JOINED:
            return self._error(seat, "too_many", "The call is full.", message.request)
        guest.admitted, guest.since, guest.away = True, now, False
        self._sent_away.discard(guest.id)
        if guest.lost_at is not None:
            guest.lost_at = now.seconds  # the call's patience starts when they are let in
        effects = [
            *done,
            NoteAdmission(guest.id, True, now.wall),
            LogEvent(guest.id, "admitted", now.wall),
            *self._tell_others(guest),
        ]
        if not guest.connected:
            return effects
        welcome = Admitted(
            participants=self._others(guest),
            chat=self.chat.after(None),
            media_session=self.media_session,
            started_at=self._started(),
        )
        return [*effects, Send((guest.id,), welcome), *self._enter(guest, now)]

    def _refuse(self, seat: Seat, message: Refuse, now: Now) -> list[Effect]:
        guest = self.seats.get(message.participant)
        if guest is None:
            return self._error(seat, "no_participant", "They are not here any more.", message.request)
        if guest.is_specialist:
            return self._error(seat, "not_allowed", "A specialist cannot be removed.", message.request)
        return [
            Send((seat.id,), Done(request=message.request)),
            *self.remove(guest.id, "removed" if guest.admitted else "refused", now),
        ]

    def _send_chat(self, seat: Seat, message: SendChat, now: Now) -> list[Effect]:
        author = self.chat.author(message.id)
        if author is not None and author != seat.id:
            return self._error(seat, "not_allowed", "This id is another line's.", message.request)
        if self.chat.is_kept(message.id):
            return [Send((seat.id,), Done(request=message.request))]
        if not seat.chat_rate.take(now.seconds):
            return self._error(seat, "too_fast", "Too many messages; wait a moment.", message.request)
        line = ChatLine(
            id=message.id,
            participant=seat.id,
            name=seat.grant.name,
            text=message.text,
            at=now.wall.isoformat(),
        )
        return [KeepChat(line, now.wall)] if self.chat.begin(line, message.request) else []

    def _stats(self, seat: Seat, message: Stats, now: Now) -> list[Effect]:
        if not seat.stats_rate.take(now.seconds):
            return []  # measurements, not requests: nobody waits for an answer
        return [KeepSample(seat.id, "browser", sample, now.wall) for sample in message.samples]

    def _ask_relay(self, seat: Seat, message: Publish | Subscribe | Answer | Pause, now: Now) -> list[Effect]:
        if not seat.request_rate.take(now.seconds):
            return self._error(seat, "too_fast", "Too many requests; wait a moment.", message.request)
        if isinstance(message, Publish) and seat.grant.role == "viewer":
            return self._error(seat, "not_allowed", "Viewers send nothing.", message.request)
        command = room_media.command(self.consultation, seat.id, message)
        if isinstance(message, Subscribe) and message.fresh:
            seat.offer = None  # of the connection that is thrown away
        return [CallRelay(seat.id, seat.generation, message.request, command)]

    # ---- leaving ----------------------------------------------------------------------------------------------------

    def socket_lost(self, participant: str, now: Now) -> list[Effect]:
        """The seat's current socket is gone without a word. The seat stays."""
        seat = self.seats.get(participant)
        if seat is None or not seat.connected or seat.device or self.over:
            return []
        seat.lose(now)
        if not seat.admitted:
            return []
        return [LogEvent(seat.id, "reconnecting", now.wall, "socket_lost"), *self._tell_others(seat)]

    def remove(self, participant: str, reason: EndReason, now: Now) -> list[Effect]:
        """Send someone away (refused, removed) or end a place that is no more valid (cancelled, signed_out)."""
        seat = self.seats.get(participant)
        if seat is None or self.over:
            return []
        self._sent_away.add(seat.id)
        sent_away = reason in ("refused", "removed")
        effects: list[Effect] = [NoteAdmission(seat.id, False, now.wall)] if sent_away else []
        return [*effects, *self._dismiss(seat, reason, now), *self._after_leaving(now)]

    def detach(self, participant: str, now: Now) -> list[Effect]:
        """A device says good-bye (WHIP DELETE)."""
        seat = self.seats.get(participant)
        if seat is None or not seat.device:
            return []
        return [*self._dismiss(seat, "left", now), *self._after_leaving(now)]

    def end(self, reason: EndReason, now: Now) -> list[Effect]:
        """End the room for everybody (cancelled, expired)."""
        if self.over:
            return []
        effects: list[Effect] = []
        for seat in list(self.seats.values()):
            effects += [Send((seat.id,), Ended(reason=reason)), Close(seat.id, NORMAL)]
            effects.append(LogEvent(seat.id, "left", now.wall, reason))
        self.seats.clear()
        self.over = True
        effects.append(CallRelay(None, 0, None, relay_commands.CloseRoom(room=self.consultation)))
        if self._talking or reason == "finished":
            effects.append(LogEvent(None, "ended", now.wall, reason))
        return effects

    def _finish(self, now: Now) -> list[Effect]:
        return [NoteFinished(now.wall), *self.end("finished", now)]

    def _dismiss(self, seat: Seat, reason: EndReason, now: Now, *, log: str = "") -> list[Effect]:
        del self.seats[seat.id]
        told = self._audience(seat)
        effects: list[Effect] = []
        if seat.connected and not seat.device:
            effects += [Send((seat.id,), Ended(reason=reason)), Close(seat.id, NORMAL)]
        if told:
            effects.append(Send(told, ParticipantLeft(participant=seat.id, reason=reason)))
        effects.append(LogEvent(seat.id, "left", now.wall, log or ("" if reason == "left" else reason)))
        if seat.admitted:
            leave = relay_commands.Leave(room=self.consultation, participant=seat.id)
            effects.append(CallRelay(seat.id, 0, None, leave))
        return effects

    def _after_leaving(self, now: Now) -> list[Effect]:
        """The last one out closes the relay's room; people may come back to the consultation."""
        if any(seat.admitted for seat in self.seats.values()):
            return []
        effects: list[Effect] = [CallRelay(None, 0, None, relay_commands.CloseRoom(room=self.consultation))]
        if self._talking:
            self._talking = False
            effects.append(LogEvent(None, "ended", now.wall, "empty"))
        return effects

    def tick(self, now: Now) -> list[Effect]:
        """Deadlines; call it about twice a second."""
        if self.over:
            return []
        effects: list[Effect] = []
        left = False
        for seat in list(self.seats.values()):
            if seat.abandoned(now):
                effects += self._dismiss(seat, "left", now, log="socket_lost")
                left = left or seat.admitted
            elif (
                not seat.admitted
                and not seat.away
                and seat.lost_at is not None
                and now.seconds - seat.lost_at > WAITING_UNNOTICED_S
            ):
                seat.away = True
                effects += self._tell_others(seat)
        if left:
            effects += self._after_leaving(now)
        return effects + self._closing(now)

    def _closing(self, now: Now) -> list[Effect]:
        if self._closes_at is None or now.wall < self._closes_at:
            return []
        if now.wall >= self._closes_at + OVERRUN:
            return self.end("expired", now)
        effects: list[Effect] = []
        for seat in list(self.seats.values()):
            if not seat.admitted:
                effects += self._dismiss(seat, "expired", now)
        return effects
