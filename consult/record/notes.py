"""A specialist's private notes on a consultation: only their author reads them, not even an admin.

Sealed under the client's key, so that erasing the client erases what was written about them.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking.models import Consultation, Participant
from consult.db import is_id, new_id
from consult.errors import Conflict, Invalid, NotFound, Problem
from consult.privacy.vault import Vault
from consult.record.models import Note

BODY = "note.body"
LONGEST = 20_000


@dataclass(frozen=True, slots=True)
class NoteView:
    id: str
    consultation_id: str
    text: str = field(repr=False)
    created_at: datetime
    changed_at: datetime


async def create_note(
    session: AsyncSession, vault: Vault, *, consultation_id: str, specialist_id: str, text: str, now: datetime
) -> NoteView:
    """Raises NotFound for another specialist's consultation, Invalid (/text), Conflict("no_client")."""
    await _own_consultation(session, consultation_id, specialist_id)
    text = _clean(text)
    subject_id = (
        (
            await session.execute(
                select(Participant.person_id)
                .where(Participant.consultation_id == consultation_id, Participant.role.in_(("client", "participant")))
                .order_by(Participant.created_at, Participant.id)
            )
        )
        .scalars()
        .first()
    )
    if subject_id is None:
        raise Conflict("There is nobody in this consultation to write about yet.", code="no_client")
    note_id = new_id()
    ring = await vault.keyring(session, [subject_id])
    note = Note(
        id=note_id,
        consultation_id=consultation_id,
        author_id=specialist_id,
        subject_id=subject_id,
        body_sealed=ring.seal(BODY, note_id, subject_id, text),
        created_at=now,
        changed_at=now,
    )
    session.add(note)
    await session.flush()
    return NoteView(note_id, consultation_id, text, now, now)


async def update_note(
    session: AsyncSession, vault: Vault, *, note_id: str, specialist_id: str, text: str, now: datetime
) -> NoteView:
    """Replace the text. Raises NotFound for another author's note, Invalid (/text)."""
    text = _clean(text)
    note = await session.get(Note, note_id) if is_id(note_id) else None
    if note is None or note.author_id != specialist_id:
        raise NotFound("There is no such note.")
    ring = await vault.keyring(session, [note.subject_id])
    note.body_sealed = ring.seal(BODY, note.id, note.subject_id, text)
    note.changed_at = now
    await session.flush()
    return NoteView(note.id, note.consultation_id, text, note.created_at, now)


async def delete_note(session: AsyncSession, *, note_id: str, specialist_id: str) -> None:
    note = await session.get(Note, note_id) if is_id(note_id) else None
    if note is None or note.author_id != specialist_id:
        raise NotFound("There is no such note.")
    await session.delete(note)
    await session.flush()


async def list_notes(
    session: AsyncSession, vault: Vault, *, consultation_id: str, specialist_id: str
) -> list[NoteView]:
    """The author's notes on an own consultation, oldest first; those on an erased client are gone."""
    await _own_consultation(session, consultation_id, specialist_id)
    notes = (
        (
            await session.execute(
                select(Note)
                .where(Note.consultation_id == consultation_id, Note.author_id == specialist_id)
                .order_by(Note.created_at, Note.id)
            )
        )
        .scalars()
        .all()
    )
    ring = await vault.keyring(session, [note.subject_id for note in notes])
    return [
        NoteView(
            note.id,
            note.consultation_id,
            ring.open(BODY, note.id, note.subject_id, note.body_sealed),
            note.created_at,
            note.changed_at,
        )
        for note in notes
        if note.subject_id in ring
    ]


async def _own_consultation(session: AsyncSession, consultation_id: str, specialist_id: str) -> None:
    consultation = await session.get(Consultation, consultation_id) if is_id(consultation_id) else None
    if consultation is None or consultation.specialist_id != specialist_id:
        raise NotFound("There is no such consultation.")


def _clean(text: str) -> str:
    cleaned = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").strip()
    if not cleaned:
        raise Invalid([Problem("/text", "missing", "Please write something, or delete the note.")])
    if len(cleaned) > LONGEST:
        raise Invalid([Problem("/text", "too_long", "Please use at most 20,000 characters.")])
    if "\x00" in cleaned or any("\ud800" <= character <= "\udfff" for character in cleaned):
        raise Invalid([Problem("/text", "invalid", "The text has characters that cannot be kept.")])
    return cleaned
