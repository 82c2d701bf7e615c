"""Token buckets, floods, origins, TURN credentials."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.rate import TokenBucket
from signaling.sockets import FLOOD, MESSAGES_AT_ONCE, Flood, allowed_origins
from signaling.turn import ice_servers, turn_credential
from tests.unit.signaling.fakes import START


@given(st.lists(st.floats(0, 10), max_size=200))
def test_a_bucket_gives_no_more_than_its_capacity_and_rate(gaps: list[float]) -> None:
    bucket = TokenBucket(5, 2.0)
    now = taken = 0.0
    for gap in gaps:
        now += gap
        taken += bucket.take(now)
    assert taken <= 5 + 2.0 * now + 1e-6


def test_a_bucket_refills_and_survives_a_clock_that_steps_back() -> None:
    bucket = TokenBucket(2, 1.0)
    assert [bucket.take(10.0) for _ in range(3)] == [True, True, False]
    assert not bucket.take(5.0)
    assert bucket.take(6.0)
    assert not bucket.full(6.0)
    assert bucket.full(9.0)


def test_a_page_that_behaves_is_never_limited() -> None:
    flood = Flood()
    assert all(flood.take(second / 20) == "pass" for second in range(20 * 600))


def test_a_flood_is_warned_at_most_once_a_second_and_then_cut_off() -> None:
    flood = Flood()
    verdicts = [flood.take(5.0) for _ in range(MESSAGES_AT_ONCE + FLOOD + 1)]
    assert verdicts[:MESSAGES_AT_ONCE] == ["pass"] * MESSAGES_AT_ONCE
    assert verdicts.count("warn") == 1
    assert verdicts[-1] == "cut"


@pytest.mark.parametrize(
    ("public_url", "origins"),
    [
        ("https://consult.example", {"https://consult.example"}),
        ("https://consult.example:443/", {"https://consult.example"}),
        ("https://Consult.Example:8443", {"https://consult.example:8443"}),
        (
            "http://localhost:8080",
            {"http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"},
        ),
        ("http://127.0.0.1:80", {"http://localhost", "http://127.0.0.1", "http://[::1]"}),
        ("http://[::1]:9000", {"http://localhost:9000", "http://127.0.0.1:9000", "http://[::1]:9000"}),
    ],
)
def test_the_origins_of_a_public_url(public_url: str, origins: set[str]) -> None:
    assert allowed_origins(public_url) == origins


def test_turn_credentials_are_what_coturn_checks() -> None:
    username, password = turn_credential("north", "p1", START)
    assert username == f"{int(START.timestamp()) + 600}:p1"
    expected = hmac.new(b"north", username.encode(), hashlib.sha1).digest()
    assert base64.b64decode(password) == expected


def test_turn_servers_need_a_secret_and_stun_servers_do_not() -> None:
    urls = ["stun:s.example", "turn:t.example?transport=udp", "turns:t.example:443"]
    with_secret = ice_servers(urls, "north")("p1", START)
    assert [server.urls for server in with_secret] == [urls[:1], urls[1:]]
    assert with_secret[0].username == ""
    assert with_secret[1].username.endswith(":p1")
    assert [server.urls for server in ice_servers(urls, None)("p1", START)] == [urls[:1]]
    assert ice_servers([], "north")("p1", START) == []
