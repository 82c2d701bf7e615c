"""Which passwords are accepted, and what the hashes promise."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher, extract_parameters

from consult.people import passwords
from consult.people.common_passwords import COMMON_PASSWORDS
from consult.people.passwords import hash_password, problems_with, verify


def codes(password: str, *context: str) -> list[str]:
    return [problem.code for problem in problems_with(password, context=context)]


@pytest.mark.parametrize(
    "password",
    [
        "mlkjhgfd-q",
        "vier Worte im Regen",
        "correct horse battery staple",
        "пять слов о погоде",
        "🌧️🌧️ und 🌞🌞🌞",
        "x7!" * 20 + "end",
        "a quiet afternoon " * 56,
        "with\ttabs and\nlines",
    ],
)
def test_anything_long_and_rare_is_fine(password: str) -> None:
    assert codes(password, "anna@example.org", "Linden Practice") == []


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "too_short"),
        ("7 chars", "too_short"),
        ("p" * 1025, "too_long"),
        ("half a pair \ud83d", "invalid"),
        ("password", "too_common"),
        ("PassWord1", "too_common"),
        ("пароль123", "too_common"),
        ("aaaaaaaa", "too_common"),
        ("abcabcabcabc", "too_common"),
        ("123456789", "too_common"),
        ("1234567890123", "too_common"),
        ("98765432", "too_common"),
        ("abcdefghij", "too_common"),
        ("hgfedcba", "too_common"),
    ],
)
def test_what_is_refused(password: str, code: str) -> None:
    assert codes(password) == [code]


@pytest.mark.parametrize(
    "password", ["anna.berg1", "Anna.Berg!", "2026lindenpractice", "linden-2026", "annaberg@example.org"]
)
def test_the_own_name_is_guessable(password: str) -> None:
    context = ("anna.berg@example.org", "annaberg@example.org", "Linden Practice", "LindenPractice")
    assert codes(password, *context) == ["too_guessable"]
    assert codes(password) == []


def test_a_name_inside_a_long_password_is_fine() -> None:
    assert codes("my dog anna.berg barks at seven", "anna.berg@example.org") == []


def test_the_list_fits_the_policy() -> None:
    assert len(COMMON_PASSWORDS) > 800
    assert all(len(word) >= passwords.SHORTEST and word == word.casefold() for word in COMMON_PASSWORDS)


def test_exactly_1024_characters_count_in_full() -> None:
    assert codes("x1" * 512) != ["too_long"]


async def test_hash_and_verify() -> None:
    stored = await hash_password("vier Worte im Regen")
    parameters = extract_parameters(stored)
    assert (parameters.type.name, parameters.memory_cost, parameters.time_cost) == ("ID", 65_536, 3)
    assert stored != await hash_password("vier Worte im Regen")
    assert len(stored) <= 200  # the column
    verdict = await verify(stored, "vier Worte im Regen")
    assert (verdict.ok, verdict.outdated) == (True, False)
    for wrong in ("vier worte im Regen", "vier Worte im Regen ", "", "x" * 5000, "\ud83d"):
        assert not (await verify(stored, wrong)).ok


async def test_characters_after_the_1024th_are_never_ignored() -> None:
    long = "x1" * 512
    stored = await hash_password(long)
    assert (await verify(stored, long)).ok
    assert not (await verify(stored, long + "y")).ok


async def test_nobody_has_the_password_of_nobody() -> None:
    assert not (await verify(None, "anything")).ok
    assert not (await verify(None, "the password of nobody")).ok
    assert not (await verify("not a hash", "anything")).ok


async def test_older_parameters_are_reported() -> None:
    old = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash("vier Worte im Regen")
    verdict = await verify(old, "vier Worte im Regen")
    assert (verdict.ok, verdict.outdated) == (True, True)
    assert (await verify(old, "wrong")).outdated is False


async def test_unknown_users_cost_as_much_as_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the clock (the machine is shared): both verify one hash of the same parameters."""
    seen: list[str] = []
    real = PasswordHasher.verify

    def spy(self: PasswordHasher, hash: str, password: str) -> bool:
        seen.append(hash)
        return bool(real(self, hash, password))

    monkeypatch.setattr(PasswordHasher, "verify", spy)
    await verify(await hash_password("vier Worte im Regen"), "wrong")
    await verify(None, "wrong")
    assert len(seen) == 2
    assert extract_parameters(seen[0]) == extract_parameters(seen[1])
