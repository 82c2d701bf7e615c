"""The public side of the people who can be booked: title, text, zone and address on the booking page.

Names stay sealed, so the address (slug) is made from the title and never from the name.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from consult.db import is_id
from consult.errors import Conflict, Invalid, NotFound, Problem
from consult.people import accounts
from consult.people.contact import clean_zone
from consult.people.models import Person, Specialist
from consult.privacy.vault import Vault

TITLE_LONGEST = 120
ABOUT_LONGEST = 4_000
SLUG_LONGEST = 64
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")


@dataclass(frozen=True, slots=True)
class SpecialistView:
    """A specialist with the opened name, for pages."""

    id: str
    slug: str
    name: str = field(repr=False)
    title: str
    about: str
    zone: str
    bookable: bool


async def create_specialist(
    session: AsyncSession,
    vault: Vault,
    *,
    practice_id: str,
    new: accounts.NewAccount,
    title: str = "",
    about: str = "",
    slug: str | None = None,
    now: datetime,
) -> Specialist:
    """An account of role specialist with its public side; `new.zone` is the zone of the working hours.

    Raises Invalid (/title, /about, /slug), Conflict("email_taken" or "slug_taken")."""
    assert new.role == "specialist"
    problems: list[Problem] = []
    title = _clean(title, TITLE_LONGEST, "/title", problems)
    about = _clean(about, ABOUT_LONGEST, "/about", problems)
    if slug is not None and not is_slug(slug):
        problems.append(_bad_slug())
    if problems:
        raise Invalid(problems)
    account = await accounts.create_account(session, vault, practice_id=practice_id, new=new, now=now)
    chosen = slug or await _free_slug(session, practice_id, slug_from(title) or "specialist")
    specialist = Specialist(
        id=account.person_id,
        practice_id=practice_id,
        slug=chosen,
        title=title,
        about=about,
        zone=new.zone,
        bookable=True,
    )
    await _flush_with_slug(session, specialist)
    return specialist


async def update_specialist(
    session: AsyncSession,
    practice_id: str,
    specialist_id: str,
    *,
    title: str | None = None,
    about: str | None = None,
    slug: str | None = None,
    zone: str | None = None,
    bookable: bool | None = None,
) -> Specialist:
    """Change what is given. A new zone moves the weekly hours with it: 09:00 stays 09:00 on the new clock.

    Raises Invalid, NotFound, Conflict("slug_taken")."""
    specialist = await session.get(Specialist, specialist_id) if is_id(specialist_id) else None
    if specialist is None or specialist.practice_id != practice_id:
        raise NotFound("There is no such specialist.")
    problems: list[Problem] = []
    if title is not None:
        title = _clean(title, TITLE_LONGEST, "/title", problems)
    if about is not None:
        about = _clean(about, ABOUT_LONGEST, "/about", problems)
    if zone is not None:
        zone = clean_zone(zone, "/zone", problems)
    if slug is not None and not is_slug(slug):
        problems.append(_bad_slug())
    if problems:
        raise Invalid(problems)
    for name, value in (("title", title), ("about", about), ("zone", zone), ("bookable", bookable), ("slug", slug)):
        if value is not None:
            setattr(specialist, name, value)
    await _flush_with_slug(session, specialist)
    return specialist


async def list_specialists(
    session: AsyncSession, vault: Vault, practice_id: str, *, bookable_only: bool = False
) -> list[SpecialistView]:
    """By name, in two queries."""
    statement = (
        select(Specialist, Person.name_sealed)
        .join(Person, Person.id == Specialist.id)
        .where(Specialist.practice_id == practice_id)
    )
    if bookable_only:
        statement = statement.where(Specialist.bookable.is_(True))
    rows = (await session.execute(statement)).all()
    ring = await vault.keyring(session, [specialist.id for specialist, _ in rows])
    views = [
        SpecialistView(
            id=specialist.id,
            slug=specialist.slug,
            name=ring.open_or(accounts.ERASED, accounts.NAME, specialist.id, specialist.id, sealed),
            title=specialist.title,
            about=specialist.about,
            zone=specialist.zone,
            bookable=specialist.bookable,
        )
        for specialist, sealed in rows
    ]
    return sorted(views, key=lambda view: (view.name.casefold(), view.id))


def slug_from(text: str) -> str:
    """`Clinical psychologist, PhD` → `clinical-psychologist-phd`; empty when nothing of it is ASCII."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").casefold()
    return "-".join(re.findall(r"[a-z0-9]+", plain))[: SLUG_LONGEST - 4].rstrip("-")


def is_slug(text: str) -> bool:
    return len(text) <= SLUG_LONGEST and _SLUG.match(text) is not None


async def _free_slug(session: AsyncSession, practice_id: str, wanted: str) -> str:
    statement = select(Specialist.slug).where(Specialist.practice_id == practice_id)
    taken = set((await session.execute(statement)).scalars())
    number = 1
    slug = wanted
    while slug in taken:
        number += 1
        slug = f"{wanted}-{number}"
    return slug


async def _flush_with_slug(session: AsyncSession, specialist: Specialist) -> None:
    try:
        async with session.begin_nested():
            session.add(specialist)
            await session.flush()
    except IntegrityError:
        raise Conflict("Another specialist already has this page address.", code="slug_taken") from None


def _bad_slug() -> Problem:
    return Problem("/slug", "invalid", "Use small letters, digits and single dashes.")


def _clean(text: str, longest: int, pointer: str, problems: list[Problem]) -> str:
    cleaned = unicodedata.normalize("NFC", text).replace("\r\n", "\n").strip()
    if len(cleaned) > longest:
        problems.append(Problem(pointer, "too_long", f"Please use at most {longest} characters."))
    elif any(unicodedata.category(character) in {"Cc", "Cs"} and character != "\n" for character in cleaned):
        problems.append(Problem(pointer, "invalid", "The text has characters that cannot be shown."))
    return cleaned
