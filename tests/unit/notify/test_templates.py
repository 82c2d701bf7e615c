"""The words: right for each reader, and nothing a stranger typed gets out of its place."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consult.notify import templates
from consult.notify.channels import CalendarPart, DeliveryFailed, Mail, build_message
from consult.notify.templates import Appointment, Letter
from web.i18n import translator

START = datetime(2026, 3, 17, 8, tzinfo=UTC)
NOW = START - timedelta(days=1)
APPOINTMENT = Appointment(
    rule_key="confirmed",
    language="en",
    zone="America/New_York",
    practice_name="Linden Practice",
    recipient_name="Maria",
    client_name="Maria",
    specialist_name="Dr. Ada Stone",
    service_name="First visit",
    start=START,
    end=START + timedelta(minutes=30),
    join_url="https://linden.example/join/1#s",
    manage_url="https://linden.example/manage/1#m",
    change_deadline=START - timedelta(hours=2),
)
RULES = ["confirmed", "rescheduled", "cancelled", "reminder:60"]


def same(text: str) -> str:
    return text


@pytest.mark.parametrize("rule_key", [*RULES, *(f"specialist:{rule}" for rule in RULES)])
def test_every_letter_names_time_and_zone_and_keeps_the_service_out_of_the_subject(rule_key: str) -> None:
    letter = templates.write(replace(APPOINTMENT, rule_key=rule_key), same, NOW)
    assert "04:00" in letter.subject
    assert "First visit" not in letter.subject
    for body in (letter.plain, letter.html):
        assert "First visit" in body
        assert "04:00–04:30" in body
        assert "Eastern Daylight Time, America/New York, UTC−4" in body
    assert ("https://linden.example/join/1#s" in letter.plain) == ("cancelled" not in rule_key)
    assert "%(" not in letter.subject + letter.plain + letter.html


@pytest.mark.parametrize("rule_key", [*RULES, *(f"specialist:{rule}" for rule in RULES)])
def test_every_letter_is_in_russian_too(rule_key: str) -> None:
    appointment = replace(APPOINTMENT, rule_key=rule_key, language="ru")
    for now in (NOW, START):
        letter = templates.write(appointment, translator("ru"), now)
        assert "вторник, 17 марта 2026" in letter.plain
        assert "Восточная Америка, летнее время" in letter.plain
        # what is left in Latin letters: names, zone and links
        known = ("Linden Practice", "Maria", "Dr. Ada Stone", "First visit", "America/New York", "UTC", *letter.links)
        rest = letter.subject + letter.plain
        for text in known:
            rest = rest.replace(text, "")
        assert not re.search("[A-Za-z]", rest), rest
    summary = templates.calendar_description(appointment, translator("ru"))
    assert not re.search("[A-Za-z]{3}", re.sub(r"https://\S+", "", summary))


def test_after_the_deadline_the_letter_does_not_offer_a_change() -> None:
    before = templates.write(APPOINTMENT, same, NOW)
    after = templates.write(APPOINTMENT, same, START - timedelta(hours=1))
    assert "https://linden.example/manage/1#m" in before.links
    assert after.links == ("https://linden.example/join/1#s",)
    assert "contact the practice" in after.plain


@pytest.mark.parametrize("name", ["Win http://evil.example", "www.evil.example", "a@evil.example", "<b>", ""])
def test_a_name_that_advertises_is_not_repeated(name: str) -> None:
    letter = templates.write(replace(APPOINTMENT, recipient_name=name, client_name=name), same, NOW)
    assert letter.plain.startswith("Hello,\n")
    assert "evil" not in letter.plain + letter.html


@given(st.text(max_size=60))
def test_html_has_no_markup_of_a_name(name: str) -> None:
    letter = templates.write(
        replace(APPOINTMENT, rule_key="specialist:confirmed", client_name=name + "<script>&"), same, NOW
    )
    assert "<script" not in letter.html
    assert "&lt;script&gt;&amp;" in letter.html


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("Etc/UTC", "Coordinated Universal Time, Etc/UTC, UTC"),
        ("Asia/Kolkata", "India Time, Asia/Kolkata, UTC+5:30"),
        ("America/St_Johns", "Newfoundland Daylight Time, America/St Johns, UTC−2:30"),
    ],
)
def test_zones_have_their_name_and_offset(zone: str, text: str) -> None:
    assert templates.zone_text(START, zone, "en") == text


MAIL = Mail(
    id="a" * 32,
    host="linden.example",
    to_name="",
    to_address="maria@example.org",
    from_name="Linden Practice",
    language="en",
    letter=Letter("Subject", "Hello\n", "<p>Hello</p>", ()),
    calendar=CalendarPart(content=b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n", method="PUBLISH"),
    date=NOW,
)
NAMES = [
    "from",
    "to",
    "subject",
    "date",
    "message-id",
    "auto-submitted",
    "x-auto-response-suppress",
    "content-language",
    "mime-version",
    "content-type",
]
hostile = st.text(alphabet=st.sampled_from('ab \r\n\t\x0b\x85\u2028\u202e":,<>@;Bcc:'), max_size=60)


@settings(max_examples=200, deadline=None)
@given(subject=hostile, name=hostile)
def test_nothing_a_person_typed_adds_a_header(subject: str, name: str) -> None:
    mail = replace(MAIL, letter=replace(MAIL.letter, subject=subject), from_name=name, to_name=name)
    message = message_from_bytes(build_message(mail, "consult@linden.example").as_bytes(), policy=policy.default)
    assert sorted(header.lower() for header in message) == sorted(NAMES)
    assert [one.addr_spec for one in message["To"].addresses] == ["maria@example.org"]
    assert [one.addr_spec for one in message["From"].addresses] == ["consult@linden.example"]


def test_a_repeat_is_the_same_message() -> None:
    assert MAIL.message_id == f"<{'a' * 32}@linden.example>"
    first, second = (build_message(MAIL, "consult@linden.example") for _ in range(2))
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"] == second["Date"]


@pytest.mark.parametrize("address", ["nobody", "a@b@c\r\nBcc: x@y.example", "x@" + "y" * 70 + ".example", "@"])
def test_an_address_that_cannot_be_one_fails_for_good(address: str) -> None:
    with pytest.raises(DeliveryFailed) as caught:
        build_message(replace(MAIL, to_address=address), "consult@linden.example")
    assert caught.value.permanent


def test_domains_go_as_ascii() -> None:
    message = build_message(replace(MAIL, to_address="maria@bücher.example"), "consult@linden.example")
    assert message["To"] == "maria@xn--bcher-kva.example"
