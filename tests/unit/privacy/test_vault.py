"""The vault: what is sealed opens in its own place only."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from consult.db import Database
from consult.people import accounts
from consult.people.models import DataKey, Person
from consult.privacy import vault as vault_module
from consult.privacy.keys import Keys
from consult.privacy.vault import KeyMissing, Keyring, Tampered, Vault

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
FIELD = "person.name"


class NoSession:
    """Takes what `new_person_key` adds; the sealing itself needs no database."""

    def __init__(self) -> None:
        self.added: list[DataKey] = []

    def add(self, row: DataKey) -> None:
        self.added.append(row)


async def ring_of(vault: Vault, *people: str) -> Keyring:
    ring = Keyring()
    for person in people:
        own = await vault.new_person_key(NoSession(), person, NOW)  # type: ignore[arg-type]
        ring.add(person, 1, own._keys[person][1])
    return ring


async def test_round_trip_and_no_two_alike() -> None:
    ring = await ring_of(Vault(Keys.generate()), "anna")
    first = ring.seal(FIELD, "row", "anna", "Anna Ångström 🙂")
    second = ring.seal(FIELD, "row", "anna", "Anna Ångström 🙂")
    assert first != second
    assert b"ngstr" not in first
    assert ring.open(FIELD, "row", "anna", first) == ring.open(FIELD, "row", "anna", second) == "Anna Ångström 🙂"


async def test_a_value_opens_in_its_place_only() -> None:
    ring = await ring_of(Vault(Keys.generate()), "anna", "boris")
    sealed = ring.seal(FIELD, "row1", "anna", "secret")
    for field, row, person in (
        ("person.email", "row1", "anna"),
        ("note.name", "row1", "anna"),
        (FIELD, "row2", "anna"),
        (FIELD, "row1", "boris"),
    ):
        with pytest.raises(Tampered):
            ring.open(field, row, person, sealed)
    assert ring.open(FIELD, "row1", "anna", sealed) == "secret"


async def test_every_changed_byte_is_noticed() -> None:
    ring = await ring_of(Vault(Keys.generate()), "anna")
    sealed = ring.seal(FIELD, "row", "anna", "secret")
    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 1
        # a changed version names a key that is not there, everything else fails the tag
        with pytest.raises((Tampered, KeyMissing)):
            ring.open(FIELD, "row", "anna", bytes(altered))
    for cut in range(len(sealed)):
        with pytest.raises((Tampered, KeyMissing)):
            ring.open(FIELD, "row", "anna", sealed[:cut])


@given(st.binary(max_size=80))
def test_garbage_never_opens(data: bytes) -> None:
    ring = Keyring()
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    ring.add("anna", 1, AESGCM(bytes(32)))
    with pytest.raises((Tampered, KeyMissing)):
        ring.open(FIELD, "row", "anna", data)


@pytest.mark.parametrize("field", ["person", "person.", ".name", "a|b.c"])
async def test_field_addresses_cannot_be_ambiguous(field: str) -> None:
    ring = await ring_of(Vault(Keys.generate()), "anna")
    with pytest.raises(ValueError, match="field address"):
        ring.seal(field, "row", "anna", "x")
    with pytest.raises(ValueError, match="field address"):
        ring.seal("person.name", "row|person", "anna", "x")


async def test_a_newer_data_key_seals_and_the_old_one_still_opens() -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    ring = await ring_of(Vault(Keys.generate()), "anna")
    old = ring.seal(FIELD, "row", "anna", "old")
    ring.add("anna", 2, AESGCM(AESGCM.generate_key(256)))
    new = ring.seal(FIELD, "row", "anna", "new")
    assert new[4] == 2
    assert ring.open(FIELD, "row", "anna", old) == "old"
    assert ring.open(FIELD, "row", "anna", new) == "new"


async def person_of(database: Database, vault: Vault, name: str) -> Person:
    async with database.write() as session:
        practice = await accounts.ensure_practice(session, NOW)
        person, _ = await accounts.create_person(
            session,
            vault,
            practice_id=practice.id,
            name=name,
            email=f"{name}@example.org",
            zone="UTC",
            language="en",
            now=NOW,
        )
    return person


async def test_keys_come_wrapped_from_the_database(database: Database) -> None:
    keys = Keys.generate()
    person = await person_of(database, Vault(keys), "anna")
    later = Vault(keys)  # another process: nothing cached
    async with database.read() as session:
        (wrapped,) = (await session.execute(select(DataKey.wrapped))).scalars()
        ring = await later.keyring(session, [person.id, "nobody"])
    assert ring.open(FIELD, person.id, person.id, person.name_sealed) == "anna"
    assert "nobody" not in ring
    assert len(wrapped) == 12 + 32 + 16


async def test_another_installations_key_file_opens_nothing(database: Database) -> None:
    person = await person_of(database, Vault(Keys.generate()), "anna")
    async with database.read() as session:
        with pytest.raises(Tampered):
            await Vault(Keys.generate()).keyring(session, [person.id])
        rotated = dataclasses.replace(Keys.generate(), current=2, wrapping={2: bytes(32)})
        with pytest.raises(KeyMissing):
            await Vault(rotated).keyring(session, [person.id])


async def test_a_key_moved_to_another_person_is_noticed_also_when_cached(database: Database) -> None:
    vault = Vault(Keys.generate())
    anna = await person_of(database, vault, "anna")
    boris = await person_of(database, vault, "boris")
    async with database.write() as session:
        (wrapped,) = (await session.execute(select(DataKey.wrapped).where(DataKey.person_id == anna.id))).scalars()
        await session.execute(update(DataKey).where(DataKey.person_id == boris.id).values(wrapped=wrapped))
    async with database.read() as session:
        with pytest.raises(Tampered):
            await vault.keyring(session, [boris.id])


async def test_an_erased_persons_data_does_not_open_although_the_key_was_cached(database: Database) -> None:
    vault = Vault(Keys.generate())
    person = await person_of(database, vault, "anna")
    async with database.write() as session:
        await session.execute(delete(DataKey).where(DataKey.person_id == person.id))
    async with database.read() as session:
        ring = await vault.keyring(session, [person.id])
    with pytest.raises(KeyMissing):
        ring.open(FIELD, person.id, person.id, person.name_sealed)
    assert ring.open_or("—", FIELD, person.id, person.id, person.name_sealed) == "—"
    with pytest.raises(KeyMissing):
        ring.seal(FIELD, person.id, person.id, "anew")


async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_module, "CACHED_KEYS_MAX", 5)
    vault = Vault(Keys.generate())
    await ring_of(vault, *(f"person{number}" for number in range(20)))
    assert len(vault._unwrapped) == 5


def test_equal_addresses_have_equal_indexes() -> None:
    vault = Vault(Keys.generate())
    index = vault.email_index("anna@example.org")
    assert len(index) == 32
    for same in (" Anna@Example.ORG ", "ANNA@EXAMPLE.ORG", "ａnna@example.org"):
        assert vault.email_index(same) == index
    assert vault.email_index("anne@example.org") != index
    assert Vault(Keys.generate()).email_index("anna@example.org") != index
    assert len(vault.email_index("\ud800@example.org")) == 32
    assert vault.token_id("join", "\ud800.x") is None


def test_capabilities_are_per_purpose_and_id() -> None:
    vault = Vault(Keys.generate())
    token = vault.capability("join", "abc")
    assert len(token) == 32
    assert vault.check_capability("join", "abc", token)
    for purpose, id, text in (
        ("manage", "abc", token),
        ("join", "abd", token),
        ("join", "abc", token[:-1]),
        ("join", "abc", token + "A"),
        ("join", "abc", ""),
        ("join", "abc", "é\ud800"),
    ):
        assert not vault.check_capability(purpose, id, text)
    assert not Vault(Keys.generate()).check_capability("join", "abc", token)


def test_link_tokens_carry_their_id() -> None:
    vault = Vault(Keys.generate())
    token = vault.token("join", "abc")
    assert token == f"abc.{vault.capability('join', 'abc')}"
    assert vault.token_id("join", token) == "abc"
    for wrong in (
        "",
        "abc",
        "abc.",
        f".{token}",
        token.replace("abc", "abd"),
        token + ".",
        vault.token("manage", "abc"),
    ):
        assert vault.token_id("join", wrong) is None
