"""The room: who is here, who may, what each is told. Time and everything else is handed in."""

from __future__ import annotations

from itertools import count
from typing import TypeVar

import pytest

from media.api import RoomClosed, SubscribeOffer, TransportChanged
from signaling import relay_commands
from signaling.admission import Grant
from signaling.effects import (
    CallRelay,
    Close,
    Effect,
    KeepChat,
    LogEvent,
    NoteAdmission,
    NoteFinished,
    Now,
    ReplaceMedia,
    Send,
)
from signaling.messages import (
    Admit,
    Admitted,
    Answer,
    Chat,
    ChatLine,
    Done,
    Ended,
    Error,
    Finish,
    GetIceServers,
    Leave,
    MediaReset,
    MediaState,
    Offer,
    ParticipantChanged,
    ParticipantLeft,
    Publish,
    Published,
    Refuse,
    SendChat,
    ServerMessage,
    Started,
    Stats,
    StatsSample,
    Subscribe,
    Welcome,
)
from signaling.room import MAX_JOINED, MAX_WAITING, JoinRefused, Room
from signaling.seat import (
    DEVICE_GONE_S,
    WAIT_FOR_SOCKET_S,
    WAIT_FOR_SOCKET_WITH_MEDIA_S,
    WAITING_FORGOTTEN_S,
    WAITING_UNNOTICED_S,
)
from signaling.turn import ice_servers
from tests.unit.signaling.fakes import at, grant

Kind = TypeVar("Kind")


class Scene:
    """A room, what each page was told, and everything else that the room wanted."""

    def __init__(self, chat: tuple[ChatLine, ...] = ()) -> None:
        numbers = count(1)
        self.room = Room(
            "c1",
            new_secret=lambda: f"secret-{next(numbers):04}",
            ice_servers=ice_servers(["stun:stun.example"], None),
            chat=chat,
            media_session="m1",
        )
        self.told: dict[str, list[ServerMessage]] = {}
        self.effects: list[Effect] = []

    def do(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Send):
                for participant in effect.to:
                    self.told.setdefault(participant, []).append(effect.message)
        self.effects += effects
        return effects

    def join(self, participant: Grant, now: Now, **more: bool) -> Welcome:
        self.do(self.room.join(participant, now, **more))
        return self.last(participant.participant, Welcome)

    def call(self) -> None:
        """A specialist and an admitted client."""
        now = at(0)
        self.join(grant("doctor", "specialist"), now)
        self.join(grant("client"), now)
        self.do(self.room.receive("doctor", Admit(request=1, participant="client"), now))
        self.told.clear()
        self.effects.clear()

    def of(self, kind: type[Kind], effects: list[Effect] | None = None) -> list[Kind]:
        return [effect for effect in (self.effects if effects is None else effects) if isinstance(effect, kind)]

    def all(self, participant: str, kind: type[Kind]) -> list[Kind]:
        return [message for message in self.told.get(participant, []) if isinstance(message, kind)]

    def last(self, participant: str, kind: type[Kind]) -> Kind:
        found = self.all(participant, kind)
        assert found, f"{participant} was told {self.told.get(participant)}"
        return found[-1]

    def log(self) -> list[tuple[str | None, str, str]]:
        return [(event.participant, event.kind, event.detail) for event in self.of(LogEvent)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


# ---- the waiting room -----------------------------------------------------------------------------------------------


def test_a_client_waits_and_learns_nothing_about_the_call(scene: Scene) -> None:
    line = ChatLine(id="l1", participant="doctor", name="Doctor", text="private", at="")
    scene = Scene(chat=(line,))
    scene.join(grant("doctor", "specialist"), at(0))
    welcome = scene.join(grant("client"), at(1))
    assert welcome.you.presence == "waiting"
    assert not welcome.you.admitted
    assert (welcome.participants, welcome.chat, welcome.media_session, welcome.started_at) == ([], [], "", None)
    other = scene.join(grant("other"), at(2))
    assert other.participants == []
    assert not scene.all("client", ParticipantChanged), "who waits is not told who else waits"


def test_the_specialist_sees_who_waits_whoever_came_first(scene: Scene) -> None:
    scene.join(grant("early"), at(0))
    welcome = scene.join(grant("doctor", "specialist"), at(10))
    assert [(who.id, who.name, who.since) for who in welcome.participants] == [
        ("early", "Early", at(0).wall.isoformat())
    ]
    scene.join(grant("late"), at(20))
    assert scene.last("doctor", ParticipantChanged).participant.id == "late"
    assert [seat.id for seat in scene.room.waiting()] == ["early", "late"]


def test_admitting_lets_a_client_in_and_starts_the_conversation(scene: Scene) -> None:
    scene.join(grant("doctor", "specialist"), at(0))
    scene.join(grant("client"), at(1))
    scene.do(scene.room.receive("doctor", Admit(request=7, participant="client"), at(5)))
    assert scene.last("doctor", Done).request == 7
    admitted = scene.last("client", Admitted)
    assert [who.id for who in admitted.participants] == ["doctor"]
    assert admitted.media_session == "m1"
    for page in ("doctor", "client"):
        assert scene.last(page, Started).started_at == at(5).wall.isoformat()
    assert scene.of(NoteAdmission) == [NoteAdmission("client", True, at(5).wall)]
    assert scene.log() == [
        ("doctor", "joined", ""),
        ("client", "waiting", ""),
        ("client", "admitted", ""),
        ("client", "joined", ""),
        (None, "started", ""),
    ]


def test_who_was_admitted_before_enters_at_once(scene: Scene) -> None:
    started = at(-100).wall
    scene.join(grant("doctor", "specialist"), at(0))
    welcome = scene.join(grant("client", admitted=True, started_at=started), at(1))
    assert welcome.you.presence == "joined"
    assert scene.last("doctor", Started).started_at == started.isoformat()


@pytest.mark.parametrize(
    ("role", "lobby", "enters"),
    [
        ("specialist", True, True),
        ("participant", False, True),
        ("viewer", False, True),
        ("participant", True, False),
        ("viewer", True, False),
        ("client", False, False),
    ],
)
def test_who_enters_without_being_admitted(scene: Scene, role: str, lobby: bool, enters: bool) -> None:
    assert scene.join(grant("x", role, lobby=lobby), at(0)).you.admitted is enters  # type: ignore[arg-type]


def test_only_specialists_admit_refuse_and_finish(scene: Scene) -> None:
    scene.call()
    scene.join(grant("third"), at(1))
    for message in (
        Admit(request=1, participant="third"),
        Refuse(request=2, participant="doctor"),
        Finish(request=3),
    ):
        scene.do(scene.room.receive("client", message, at(2)))
        error = scene.last("client", Error)
        assert (error.code, error.request) == ("not_allowed", message.request)
        scene.do(scene.room.receive("third", message, at(2)))
        assert scene.last("third", Error).code == "not_admitted"
    assert not scene.of(NoteAdmission)
    scene.do(scene.room.receive("doctor", Refuse(request=4, participant="doctor"), at(2)))
    assert scene.last("doctor", Error).code == "not_allowed"
    scene.do(scene.room.receive("doctor", Admit(request=5, participant="nobody"), at(2)))
    assert scene.last("doctor", Error).code == "no_participant"


def test_a_refused_client_waits_again_even_with_an_old_admission(scene: Scene) -> None:
    scene.join(grant("doctor", "specialist"), at(0))
    scene.join(grant("client"), at(1))
    scene.do(scene.room.receive("doctor", Refuse(request=1, participant="client"), at(2)))
    assert scene.last("client", Ended).reason == "refused"
    assert scene.of(Close)[-1].participant == "client"
    assert scene.join(grant("client", admitted=True), at(3)).you.presence == "waiting"
    scene.do(scene.room.receive("doctor", Admit(request=2, participant="client"), at(4)))
    scene.do(scene.room.receive("doctor", Refuse(request=3, participant="client"), at(5)))
    assert scene.last("client", Ended).reason == "removed"
    assert scene.last("doctor", ParticipantLeft).reason == "removed"
    assert [note.admitted for note in scene.of(NoteAdmission)] == [False, True, False]


def test_scenario_21_a_locked_phone_keeps_the_place(scene: Scene) -> None:
    scene.join(grant("doctor", "specialist"), at(0))
    welcome = scene.join(grant("client"), at(0))
    scene.do(scene.room.socket_lost("client", at(10)))
    scene.do(scene.room.tick(at(10 + WAITING_UNNOTICED_S - 1)))
    assert [seat.presence for seat in scene.room.waiting()] == ["waiting"]
    secret = welcome.resume_token.split(".")[2]
    scene.do(scene.room.resume("client", secret, at(70)))
    assert scene.last("client", Welcome).you.since == at(0).wall.isoformat(), "the place in the queue is kept"


def test_a_client_who_stays_away_is_shown_as_reconnecting_and_then_forgotten(scene: Scene) -> None:
    scene.join(grant("doctor", "specialist"), at(0))
    scene.join(grant("client"), at(0))
    scene.do(scene.room.socket_lost("client", at(10)))
    scene.do(scene.room.tick(at(10 + WAITING_UNNOTICED_S + 1)))
    info = scene.last("doctor", ParticipantChanged).participant
    assert (info.presence, info.admitted) == ("reconnecting", False)
    scene.do(scene.room.tick(at(10 + WAITING_FORGOTTEN_S + 1)))
    assert scene.last("doctor", ParticipantLeft).participant == "client"


def test_who_is_admitted_while_away_is_in_when_they_come_back(scene: Scene) -> None:
    scene.join(grant("doctor", "specialist"), at(0))
    secret = scene.join(grant("client"), at(0)).resume_token.split(".")[2]
    scene.do(scene.room.socket_lost("client", at(10)))
    late = at(10 + WAIT_FOR_SOCKET_S + 5)
    scene.do(scene.room.receive("doctor", Admit(request=1, participant="client"), late))
    scene.do(scene.room.tick(at(late.seconds - 1_000 + 10)))
    assert "client" in scene.room.seats, "the call's patience starts with the admission"
    assert not scene.all("doctor", Started), "nobody has met yet"
    scene.do(scene.room.resume("client", secret, at(late.seconds - 1_000 + 20)))
    assert scene.last("client", Welcome).you.presence == "joined"
    assert scene.last("doctor", Started)


def test_scenario_23_cancelled_while_waiting(scene: Scene) -> None:
    scene.join(grant("client"), at(0))
    scene.do(scene.room.end("cancelled", at(5)))
    assert scene.last("client", Ended).reason == "cancelled"
    with pytest.raises(JoinRefused) as refused:
        scene.room.join(grant("client"), at(6))
    assert refused.value.code == "closed"


def test_scenario_24_a_host_in_a_call_is_told_that_a_client_waits(scene: Scene) -> None:
    scene.call()
    scene.join(grant("next"), at(60))
    info = scene.last("doctor", ParticipantChanged).participant
    assert (info.id, info.presence) == ("next", "waiting")
    assert not scene.all("client", ParticipantChanged)


# ---- in the call ----------------------------------------------------------------------------------------------------


def test_scenario_25_a_reload_is_reconnecting_and_never_the_end(scene: Scene) -> None:
    scene.call()
    scene.do(scene.room.socket_lost("doctor", at(10)))
    assert scene.last("client", ParticipantChanged).participant.presence == "reconnecting"
    welcome = scene.join(grant("doctor", "specialist"), at(12))
    assert not welcome.resumed
    assert [who.id for who in welcome.participants] == ["client"]
    assert scene.last("client", ParticipantChanged).participant.presence == "joined"
    assert not scene.all("client", ParticipantLeft)
    assert scene.log() == [("doctor", "reconnecting", "socket_lost"), ("doctor", "reconnected", "new_page")]
    assert welcome.started_at == at(0).wall.isoformat(), "the clock goes on"


def test_scenario_26_an_outage_of_45_seconds_keeps_the_seat(scene: Scene) -> None:
    scene.call()
    scene.do(scene.room.socket_lost("client", at(10)))
    for second in range(11, 56):
        scene.do(scene.room.tick(at(second)))
    secret = scene.room.seats["client"].secret
    scene.do(scene.room.resume("client", secret, at(55)))
    assert scene.last("client", Welcome).resumed


def test_a_seat_without_a_socket_is_freed_unless_its_media_flows(scene: Scene) -> None:
    scene.call()
    connected = TransportChanged(room="c1", participant="client", direction="publish", state="connected", route="udp")
    scene.do(scene.room.relay_event(connected, at(1)))
    scene.do(scene.room.socket_lost("client", at(10)))
    scene.do(scene.room.socket_lost("doctor", at(10)))
    scene.do(scene.room.tick(at(10 + WAIT_FOR_SOCKET_S + 1)))
    assert list(scene.room.seats) == ["client"]
    scene.do(scene.room.tick(at(10 + WAIT_FOR_SOCKET_WITH_MEDIA_S + 1)))
    assert scene.room.empty
    assert ("client", "left", "socket_lost") in scene.log()
    assert scene.log()[-1] == (None, "ended", "empty")


def test_the_last_one_out_closes_the_relays_room(scene: Scene) -> None:
    scene.call()
    scene.do(scene.room.receive("client", Leave(), at(5)))
    assert [call.command for call in scene.of(CallRelay)] == [relay_commands.Leave(room="c1", participant="client")]
    assert scene.last("client", Ended).reason == "left"
    scene.do(scene.room.receive("doctor", Leave(), at(6)))
    assert scene.of(CallRelay)[-1].command == relay_commands.CloseRoom(room="c1")
    assert scene.log() == [("client", "left", ""), ("doctor", "left", ""), (None, "ended", "empty")]
    assert scene.room.empty
    assert not scene.room.over, "hanging up is not the end"


def test_finish_ends_it_for_all(scene: Scene) -> None:
    scene.call()
    scene.join(grant("waiting"), at(1))
    scene.do(scene.room.receive("doctor", Finish(request=9), at(5)))
    assert scene.last("doctor", Done).request == 9
    for page in ("doctor", "client", "waiting"):
        assert scene.last(page, Ended).reason == "finished"
    assert {close.participant for close in scene.of(Close)} == {"doctor", "client", "waiting"}
    assert scene.of(NoteFinished)
    assert scene.log()[-1] == (None, "ended", "finished")
    assert scene.room.receive("doctor", Finish(request=10), at(6)) == []


def test_a_second_tab_replaces_the_first(scene: Scene) -> None:
    scene.call()
    effects = scene.do(scene.room.join(grant("client"), at(5)))
    assert effects[0] == Send(("client",), Ended(reason="replaced"))
    assert effects[1] == Close("client")
    assert scene.last("client", Welcome).you.admitted
    assert not scene.all("doctor", ParticipantLeft)


def test_the_closing_time_ends_the_waiting_but_no_conversation(scene: Scene) -> None:
    scene.call()
    scene.join(grant("waiting"), at(1))
    scene.do(scene.room.tick(at(3601)))
    assert scene.last("waiting", Ended).reason == "expired"
    assert not scene.all("doctor", Ended)
    scene.do(scene.room.tick(at(3600 + 4 * 3600 + 1)))
    assert scene.last("doctor", Ended).reason == "expired"


def test_a_step_of_the_wall_clock_frees_no_seat(scene: Scene) -> None:
    scene.call()
    scene.do(scene.room.socket_lost("client", at(10)))
    stepped = Now(at(600).wall, at(11).seconds)
    scene.do(scene.room.tick(stepped))
    assert "client" in scene.room.seats


def test_rooms_have_caps(scene: Scene) -> None:
    scene.join(grant("doctor", "specialist"), at(0))
    for number in range(MAX_WAITING):
        scene.join(grant(f"w{number}"), at(1))
    with pytest.raises(JoinRefused) as refused:
        scene.room.join(grant("one-more"), at(2))
    assert refused.value.code == "too_many"
    scene.join(grant("w0"), at(2))
    for number in range(MAX_JOINED - 1):
        scene.do(scene.room.receive("doctor", Admit(request=number, participant=f"w{number}"), at(3)))
    scene.do(scene.room.receive("doctor", Admit(request=99, participant="w9"), at(3)))
    assert scene.last("doctor", Error).code == "too_many"
    with pytest.raises(JoinRefused):
        scene.room.join(grant("another", "participant"), at(4))
    assert scene.join(grant("w1"), at(4)).you.admitted, "who is in may reload although the room is full"


# ---- resuming -------------------------------------------------------------------------------------------------------


def test_a_resume_needs_the_secret_of_the_last_welcome_or_the_one_before(scene: Scene) -> None:
    first = scene.join(grant("doctor", "specialist"), at(0)).resume_token.split(".")[2]
    scene.do(scene.room.socket_lost("doctor", at(1)))
    scene.do(scene.room.resume("doctor", first, at(2)))
    second = scene.last("doctor", Welcome).resume_token.split(".")[2]
    assert first != second
    scene.do(scene.room.resume("doctor", first, at(3)))  # the second welcome was lost with its socket
    scene.do(scene.room.resume("doctor", scene.room.seats["doctor"].secret, at(4)))
    for participant, secret in [("doctor", second), ("doctor", ""), ("nobody", first)]:
        with pytest.raises(JoinRefused) as refused:
            scene.room.resume(participant, secret, at(5))
        assert refused.value.code == "bad_resume"


def test_a_new_page_makes_the_old_pages_token_worthless(scene: Scene) -> None:
    old = scene.join(grant("doctor", "specialist"), at(0)).resume_token.split(".")[2]
    scene.join(grant("doctor", "specialist"), at(1))
    with pytest.raises(JoinRefused):
        scene.room.resume("doctor", old, at(2))


def test_a_resume_brings_what_was_missed(scene: Scene) -> None:
    scene.call()
    offer = SubscribeOffer(room="c1", participant="client", revision=3, offer="v=0", tracks={})
    scene.do(scene.room.relay_event(offer, at(1)))
    assert scene.last("client", Offer).revision == 3
    scene.do(scene.room.socket_lost("client", at(2)))
    scene.do(
        scene.room.relay_event(
            SubscribeOffer(room="c1", participant="client", revision=4, offer="v=0", tracks={}), at(3)
        )
    )
    assert scene.last("client", Offer).revision == 3, "nobody is there to be told"
    for number in range(3):
        message = SendChat(request=number, id=f"l{number}", text=f"line {number}")
        scene.do(scene.room.receive("doctor", message, at(4)))
        scene.do(scene.room.chat_kept(f"l{number}"))
    secret = scene.room.seats["client"].secret
    scene.do(scene.room.resume("client", secret, at(5), last_chat="l0"))
    assert [line.id for line in scene.last("client", Welcome).chat] == ["l1", "l2"]
    assert scene.last("client", Offer).revision == 4


# ---- media ----------------------------------------------------------------------------------------------------------


def test_requests_to_the_relay_are_answered_to_the_page_that_asked(scene: Scene) -> None:
    scene.call()
    scene.do(scene.room.receive("client", Publish(request=5, offer="v=0", sources={"0": "camera"}), at(1)))
    call = scene.of(CallRelay)[-1]
    assert call.command == relay_commands.Publish(room="c1", participant="client", offer="v=0", sources={"0": "camera"})
    scene.do(scene.room.relay_done(call, "answer", at(2)))
    assert scene.last("client", Published) == Published(request=5, answer="answer")
    scene.join(grant("client"), at(3))
    assert scene.room.relay_done(call, "late", at(4)) == [], "a newer page did not ask"
    assert scene.room.relay_failed(call, "bad_sdp", "late") == []


def test_subscribe_restart_and_answer_become_commands(scene: Scene) -> None:
    scene.call()
    for message in (
        Subscribe(request=1),
        Subscribe(request=2, fresh=True, restart=True),
        Subscribe(request=3, restart=True),
        Answer(request=4, revision=2, answer="v=0"),
    ):
        scene.do(scene.room.receive("client", message, at(1)))
    assert [call.command for call in scene.of(CallRelay)] == [
        relay_commands.Subscribe(room="c1", participant="client", fresh=False),
        relay_commands.Subscribe(room="c1", participant="client", fresh=True),
        relay_commands.RestartSubscribe(room="c1", participant="client"),
        relay_commands.Answer(room="c1", participant="client", revision=2, answer="v=0"),
    ]


def test_an_answered_offer_is_not_sent_again(scene: Scene) -> None:
    scene.call()
    offer = SubscribeOffer(room="c1", participant="client", revision=2, offer="v=0", tracks={})
    scene.do(scene.room.relay_event(offer, at(1)))
    scene.do(scene.room.receive("client", Answer(request=1, revision=2, answer="v=0"), at(1)))
    scene.do(scene.room.relay_done(scene.of(CallRelay)[-1], "", at(1)))
    scene.told.clear()
    scene.do(scene.room.resume("client", scene.room.seats["client"].secret, at(2)))
    assert not scene.all("client", Offer)


def test_viewers_send_nothing(scene: Scene) -> None:
    scene.join(grant("viewer", "viewer"), at(0))
    scene.do(scene.room.receive("viewer", Publish(request=1, offer="v=0", sources={}), at(1)))
    assert scene.last("viewer", Error).code == "not_allowed"
    scene.do(scene.room.receive("viewer", MediaState(microphone=True, camera=False, screen=False), at(1)))
    assert scene.last("viewer", Error).code == "not_allowed"
    assert not scene.of(CallRelay)
    scene.join(grant("other", "participant"), at(2))
    assert not scene.all("viewer", Started), "a viewer is no second person"


def test_a_new_relay_resets_everybodys_media(scene: Scene) -> None:
    scene.call()
    scene.do(scene.room.relay_event(RoomClosed(room="c1"), at(1)))
    assert scene.of(ReplaceMedia)
    scene.do(scene.room.media_placed("m2", at(2)))
    assert scene.last("doctor", MediaReset) == scene.last("client", MediaReset) == MediaReset(media_session="m2")
    assert scene.log() == [(None, "media_restarted", "")]
    assert scene.room.media_placed("m2", at(3)) == []


def test_the_room_that_was_closed_on_purpose_is_not_replaced(scene: Scene) -> None:
    scene.call()
    scene.do(scene.room.receive("client", Leave(), at(1)))
    scene.do(scene.room.receive("doctor", Leave(), at(1)))
    assert scene.room.relay_event(RoomClosed(room="c1"), at(2)) == []


def test_media_states_are_told_once(scene: Scene) -> None:
    scene.call()
    state = MediaState(microphone=True, camera=False, screen=False)
    for _ in range(3):
        scene.do(scene.room.receive("client", state, at(1)))
    assert len(scene.all("doctor", ParticipantChanged)) == 1
    assert scene.last("doctor", ParticipantChanged).participant.microphone
    assert not scene.all("client", ParticipantChanged)


def test_a_device_is_here_while_its_media_is(scene: Scene) -> None:
    scene.join(grant("viewer", "viewer"), at(0))
    scene.do(scene.room.join(grant("camera", "participant"), at(0), device=True))
    assert scene.last("viewer", ParticipantChanged).participant.presence == "joined"
    assert not scene.all("camera", Welcome)

    def transport(state: str, second: float) -> None:
        event = TransportChanged(room="c1", participant="camera", direction="publish", state=state)  # type: ignore[arg-type]
        scene.do(scene.room.relay_event(event, at(second)))

    transport("connected", 5)
    scene.do(scene.room.join(grant("camera", "participant"), at(50), device=True))  # watches, too
    scene.do(scene.room.tick(at(500)))
    assert "camera" in scene.room.seats
    transport("disconnected", 500)
    transport("connected", 505)
    scene.do(scene.room.tick(at(600)))
    assert "camera" in scene.room.seats
    transport("closed", 600)
    scene.do(scene.room.tick(at(600 + DEVICE_GONE_S + 1)))
    assert scene.last("viewer", ParticipantLeft).participant == "camera"


def test_a_device_that_never_connects_is_removed(scene: Scene) -> None:
    scene.do(scene.room.join(grant("camera", "participant"), at(0), device=True))
    scene.do(scene.room.tick(at(DEVICE_GONE_S + 1)))
    assert scene.room.empty


# ---- chat, stats, limits --------------------------------------------------------------------------------------------


def test_a_line_is_shown_when_it_is_kept_and_acknowledged_to_its_writer(scene: Scene) -> None:
    scene.call()
    scene.do(scene.room.receive("client", SendChat(request=1, id="l1", text="hi"), at(1)))
    scene.do(scene.room.receive("client", SendChat(request=2, id="l1", text="hi"), at(2)))
    assert len(scene.of(KeepChat)) == 1, "a retry while the first is on its way is not a second line"
    assert not scene.all("doctor", Chat)
    scene.do(scene.room.chat_kept("l1"))
    assert scene.last("doctor", Chat).line.text == "hi"
    assert [done.request for done in scene.all("client", Done)] == [1, 2]
    scene.do(scene.room.receive("client", SendChat(request=3, id="l1", text="hi"), at(3)))
    assert scene.last("client", Done).request == 3
    assert len(scene.all("doctor", Chat)) == 1


def test_a_line_that_could_not_be_kept_can_be_sent_again(scene: Scene) -> None:
    scene.call()
    scene.do(scene.room.receive("client", SendChat(request=1, id="l1", text="hi"), at(1)))
    scene.do(scene.room.chat_failed("l1"))
    assert scene.last("client", Error).code == "unavailable"
    scene.do(scene.room.receive("client", SendChat(request=2, id="l1", text="hi"), at(2)))
    assert len(scene.of(KeepChat)) == 2


def test_too_much_chat_and_too_many_requests_are_refused_but_recover(scene: Scene) -> None:
    scene.call()
    for number in range(20):
        scene.do(scene.room.receive("client", SendChat(request=number, id=f"l{number}", text="x"), at(1)))
    assert len(scene.of(KeepChat)) == 10
    assert {error.code for error in scene.all("client", Error)} == {"too_fast"}
    scene.do(scene.room.receive("client", SendChat(request=50, id="later", text="x"), at(5)))
    assert len(scene.of(KeepChat)) == 11
    for number in range(60):
        scene.do(scene.room.receive("doctor", Subscribe(request=number), at(1)))
        scene.do(scene.room.receive("doctor", GetIceServers(request=number), at(1)))
    assert len(scene.of(CallRelay)) <= 40


def test_a_flood_of_samples_is_thinned_out(scene: Scene) -> None:
    scene.call()
    sample = StatsSample(direction="publish", kind="audio", source="microphone", bitrate_bps=1)
    kept = [effect for _ in range(50) for effect in scene.room.receive("client", Stats(samples=[sample]), at(1))]
    assert len(kept) == 4


def test_nobody_hears_of_someone_who_is_gone(scene: Scene) -> None:
    scene.call()
    assert scene.room.receive("stranger", Leave(), at(1)) == []
    event = TransportChanged(room="c1", participant="stranger", direction="publish", state="connected")
    assert scene.room.relay_event(event, at(1)) == []
