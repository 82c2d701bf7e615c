"""Names, addresses, zones and languages as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consult.errors import Problem
from consult.people.contact import clean_email, clean_language, clean_name, clean_zone, known_zones


@pytest.mark.parametrize(
    "address",
    [
        "anna@example.org",
        "anna.berg+sessions@mail.example.co.uk",
        "o'hara@example.org",
        "анна@пример.рф",
        "a@b.io",
        "x" * 64 + "@example.org",
    ],
)
def test_addresses(address: str) -> None:
    problems: list[Problem] = []
    assert clean_email(f" {address} ", "/email", problems) == address
    assert problems == []


@pytest.mark.parametrize(
    "address",
    [
        "anna",
        "anna@",
        "@example.org",
        "anna@example",
        "anna@@example.org",
        "anna berg@example.org",
        ".anna@example.org",
        "anna.@example.org",
        "an..na@example.org",
        "anna@-example.org",
        "anna@example.org\nBcc: eve@example.org",
        "anna@example.org,eve@example.org",
        '"anna"@example.org',
        "anna@[127.0.0.1]",
        "Anna <anna@example.org>",
        "x" * 65 + "@example.org",
        "anna@" + "x" * 60 + "." + "y" * 60 + "." + "z" * 60 + "." + "w" * 60 + ".example.org",
        "anna\u202e@example.org",
        "anna@exam\x00ple.org",
    ],
)
def test_no_addresses(address: str) -> None:
    problems: list[Problem] = []
    clean_email(address, "/client/email", problems)
    assert [(problem.pointer, problem.code) for problem in problems] == [("/client/email", "invalid")]


@given(st.text(max_size=80))
def test_an_accepted_address_cannot_break_a_mail_header(text: str) -> None:
    problems: list[Problem] = []
    address = clean_email(text + "@example.org", "/email", problems)
    if not problems:
        assert address.isprintable()
        assert not set(address) & set(' \r\n,;:<>()[]\\"')
        assert address.count("@") == 1


def test_names() -> None:
    problems: list[Problem] = []
    assert clean_name("  Anna   Maria\tBerg ", "/name", problems) == "Anna Maria Berg"
    assert clean_name("Ёлка Ångström-O'Neil 王", "/name", problems) == "Ёлка Ångström-O'Neil 王"
    assert problems == []
    for wrong, code in ((" ", "missing"), ("x" * 121, "too_long"), ("An\x00na", "invalid"), ("An\ud800na", "invalid")):
        found: list[Problem] = []
        clean_name(wrong, "/name", found)
        assert [problem.code for problem in found] == [code]


def test_zones_and_languages() -> None:
    assert {"Europe/Berlin", "UTC", "Australia/Lord_Howe"} <= known_zones()
    problems: list[Problem] = []
    clean_zone("Europe/Berlin", "/zone", problems)
    clean_language("ru", "/language", problems)
    assert problems == []
    for zone in ("", "Mars/Base", "../../etc/passwd", "Factory"):
        clean_zone(zone, "/zone", problems)
    clean_language("xx", "/language", problems)
    assert len(problems) == 5
