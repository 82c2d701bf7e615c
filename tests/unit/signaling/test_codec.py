"""Frames: what is exactly a message is decoded, everything else is refused with a code and nothing else happens."""

from __future__ import annotations

import json
import time
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.codec import MAX_DEPTH, ProtocolError, decode, decode_server, encode
from signaling.messages import (
    MAX_MESSAGE_BYTES,
    Admit,
    Answer,
    ChatLine,
    ClientMessage,
    Ended,
    ErrorCode,
    Finish,
    GetIceServers,
    Join,
    Leave,
    MediaState,
    Offer,
    ParticipantInfo,
    Pause,
    Ping,
    Publish,
    Refuse,
    Resume,
    SendChat,
    ServerMessage,
    Stats,
    StatsSample,
    Subscribe,
    TrackInfo,
    Welcome,
)

IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
SECRETS = st.from_regex(r"[A-Za-z0-9_.-]{16,128}", fullmatch=True)
REQUESTS = st.integers(0, 2**31 - 1)
# NUL and lone surrogates are refused; every other character must survive.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=400)
SOURCES = st.sampled_from(["camera", "microphone", "screen", "screen_audio"])
MIDS = st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=16)
COUNTS = st.integers(0, 2**53 - 1)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


SAMPLES = st.builds(
    StatsSample,
    direction=st.sampled_from(["publish", "subscribe"]),
    kind=st.sampled_from(["audio", "video"]),
    source=SOURCES,
    bitrate_bps=COUNTS,
    codec=st.from_regex(r"[A-Za-z0-9/_-]{0,16}", fullmatch=True),
    loss=maybe(st.floats(0, 1)),
    rtt_ms=maybe(st.floats(0, 600_000)),
    jitter_ms=maybe(st.floats(0, 600_000)),
    width=maybe(st.integers(0, 16_384)),
    height=maybe(st.integers(0, 16_384)),
    frames_per_second=maybe(st.floats(0, 480)),
    freezes=maybe(st.integers(0, 100_000)),
)
MESSAGES: st.SearchStrategy[ClientMessage] = st.one_of(
    st.builds(Join, ticket=SECRETS, microphone=st.booleans(), camera=st.booleans()),
    st.builds(Resume, token=SECRETS, last_chat=maybe(IDS)),
    st.builds(Ping, n=REQUESTS),
    st.builds(Admit, request=REQUESTS, participant=IDS),
    st.builds(Refuse, request=REQUESTS, participant=IDS),
    st.builds(Publish, request=REQUESTS, offer=TEXTS, sources=st.dictionaries(MIDS, SOURCES, max_size=16)),
    st.builds(Subscribe, request=REQUESTS, fresh=st.booleans(), restart=st.booleans()),
    st.builds(Answer, request=REQUESTS, revision=REQUESTS, answer=TEXTS),
    st.builds(Pause, request=REQUESTS, track=IDS, paused=st.booleans()),
    st.builds(MediaState, microphone=st.booleans(), camera=st.booleans(), screen=st.booleans()),
    st.builds(SendChat, request=REQUESTS, id=IDS, text=TEXTS),
    st.builds(Stats, samples=st.lists(SAMPLES, max_size=16)),
    st.builds(GetIceServers, request=REQUESTS),
    st.builds(Leave),
    st.builds(Finish, request=REQUESTS),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
CODES = frozenset(get_args(ErrorCode))


def refused(frame: str | bytes) -> ProtocolError:
    with pytest.raises(ProtocolError) as error:
        decode(frame)
    return error.value


def attempt(frame: str | bytes) -> ClientMessage | ProtocolError:
    try:
        return decode(frame)
    except ProtocolError as error:
        return error


@given(MESSAGES)
def test_every_message_survives_the_wire(message: ClientMessage) -> None:
    assert decode(encode(message)) == message
    assert decode(json.dumps(msgspec.to_builtins(message))) == message


def test_the_strategies_cover_every_message() -> None:
    covered = {Join, Resume, Ping, Admit, Refuse, Publish, Subscribe, Answer, Pause, MediaState, SendChat}
    assert covered | {Stats, GetIceServers, Leave, Finish} == set(get_args(ClientMessage))


@given(st.text() | st.binary())
def test_arbitrary_frames_are_refused_and_nothing_else(frame: str | bytes) -> None:
    assert refused(frame).code in CODES


@given(JSON)
def test_arbitrary_json_is_refused_and_nothing_else(value: Any) -> None:
    assert refused(json.dumps(value)).code in CODES


@given(MESSAGES, st.data())
def test_mutated_messages_are_decoded_or_refused(message: ClientMessage, data: st.DataObject) -> None:
    value: dict[str, Any] = msgspec.to_builtins(message)
    key = data.draw(st.sampled_from([*value, "extra"]))
    if data.draw(st.booleans()):
        value[key] = data.draw(JSON)
    else:
        value.pop(key, None)
    outcome = attempt(json.dumps(value))
    if isinstance(outcome, ProtocolError):
        assert outcome.code in CODES
        request = value.get("request")
        if isinstance(request, int) and not isinstance(request, bool) and 0 <= request < 2**31:
            assert outcome.request in (request, None)
    else:
        # What is accepted can be written again and is the same.
        assert decode(encode(outcome)) == outcome
        assert "extra" not in value


@given(MESSAGES, st.data())
def test_damaged_bytes_are_decoded_or_refused(message: ClientMessage, data: st.DataObject) -> None:
    frame = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    outcome = attempt(bytes(frame))
    assert not isinstance(outcome, ProtocolError) or outcome.code in CODES


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("", "malformed"),
        ("null", "malformed"),
        ("[]", "malformed"),
        ("{}", "malformed"),
        ('{"type": 1}', "malformed"),
        ('{"type": "fly", "request": 4}', "unknown_type"),
        ('{"type": "welcome"}', "unknown_type"),
        ('{"type": "leave", "extra": 1}', "malformed"),
        ('{"type": "leave", "type": "leave"}', "malformed"),
        ('{"type": "leave"} ', None),
        ('{"type": "leave"} {}', "malformed"),
        ('{"type": "ping", "n": NaN}', "malformed"),
        ('{"type": "ping", "n": Infinity}', "malformed"),
        ('{"type": "ping", "n": 1.5}', "malformed"),
        ('{"type": "ping", "n": "1"}', "malformed"),
        ('{"type": "ping", "n": true}', "malformed"),
        ('{"type": "ping", "n": 2147483648}', "malformed"),
        ('{"type": "ping", "n": ' + "9" * 5_000 + "}", "malformed"),
        ('{"type": "join", "ticket": "0123456789abcdef", "version": 2}', "malformed"),
        ('{"type": "send_chat", "request": 1, "id": "a", "text": "\\u0000"}', "malformed"),
        ('{"type": "send_chat", "request": 1, "id": "a", "text": "\\ud800"}', "malformed"),
        ('{"type": "send_chat", "request": 1, "id": "a/b", "text": "x"}', "malformed"),
        ('{"type": "send_chat", "request": 1, "id": "a", "text": ""}', "malformed"),
        ('{"type": "stats", "samples": [[[[]]]]}', "malformed"),
        ("[" * 60_000, "malformed"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "malformed"),
        (" " * (MAX_MESSAGE_BYTES + 1), "too_large"),
        ("\u00e9" * (MAX_MESSAGE_BYTES // 2 + 1), "too_large"),
        ("\ud800", "malformed"),
        (b"\xff", "malformed"),
        (b"\x00", "malformed"),
    ],
    ids=repr,
)
def test_what_is_refused_and_why(frame: str | bytes, code: str | None) -> None:
    if code is None:
        assert decode(frame) == Leave()
    else:
        assert refused(frame).code == code


def test_a_refusal_names_the_request_and_the_field_but_not_the_value() -> None:
    error = refused('{"type": "publish", "request": 12, "offer": {"canary": 1}, "sources": {}}')
    assert error.request == 12
    assert "$.offer" in error.message
    assert "canary" not in error.message


def test_brackets_in_texts_are_no_nesting() -> None:
    text = "[" * 50 + '"\\' + "{" * 50
    message = SendChat(request=1, id="a", text=text)
    assert decode(encode(message)) == message


def test_the_deepest_message_fits_the_depth_limit() -> None:
    sample = StatsSample(direction="publish", kind="audio", source="microphone", bitrate_bps=1)
    assert decode(encode(Stats(samples=[sample]))) == Stats(samples=[sample])
    assert MAX_DEPTH == 4


def test_server_messages_survive_the_wire() -> None:
    info = ParticipantInfo(
        id="p", name="Ünal", role="client", presence="waiting", admitted=False, since="2026-05-04T09:00:00+00:00"
    )
    line = ChatLine(id="l", participant="p", name="Ünal", text="\u2603", at="2026-05-04T09:00:00+00:00")
    track = TrackInfo(id="t", participant="p", kind="video", source="screen")
    messages: list[ServerMessage] = [
        Welcome(
            you=info,
            consultation="c",
            encryption="transport",
            resume_token="c.p.secret",
            resumed=False,
            heartbeat_ms=2_000,
            media_session="",
            participants=[info],
            chat=[line],
            ice_servers=[],
            server_time="",
            started_at=None,
            closes_at="",
        ),
        Offer(revision=1, offer="v=0", tracks={"0": track}),
        Ended(reason="finished"),
    ]
    for message in messages:
        assert decode_server(encode(message)) == message
        # Every field is written: the JavaScript side need not know the defaults.
        assert set(json.loads(encode(message))) == {"type", *message.__struct_fields__}


@pytest.mark.parametrize("piece", ['\\"', '"', "\\", "[", '"\\', '["', "{}"])
def test_hostile_frames_of_the_largest_size_take_no_time(piece: str) -> None:
    for begin in ("", '"', '{"a":"'):
        frame = begin + piece * ((MAX_MESSAGE_BYTES - len(begin)) // len(piece))
        started = time.perf_counter()
        with pytest.raises(ProtocolError):
            decode(frame)
        # a pattern that backtracks takes minutes
        assert time.perf_counter() - started < 2
