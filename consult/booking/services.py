"""What can be booked and with whom: reading for the public pages and the API, editing for staff."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking.models import Service, ServiceSpecialist
from consult.booking.slots import ServiceRules
from consult.db import new_id
from consult.errors import Invalid, NotFound, Problem
from consult.people import accounts
from consult.people.models import Account, Person, Specialist
from consult.privacy.vault import Vault

NAME_MAX = 200
DESCRIPTION_MAX = 2_000
# ids and slugs; anything else is unknown without asking the database (PostgreSQL refuses NUL in text)
_REFERENCE = re.compile(r"[0-9A-Za-z_-]{1,64}")
# field: (smallest, largest)
_RANGES = {
    "duration_minutes": (5, 480),
    "step_minutes": (5, 480),
    "buffer_before_minutes": (0, 240),
    "buffer_after_minutes": (0, 240),
    "minimum_notice_minutes": (0, 60 * 24 * 30),
    "horizon_days": (1, 365),
    "change_deadline_minutes": (0, 60 * 24 * 30),
}


@dataclass(frozen=True, slots=True)
class OfferedService:
    """A service and who gives it (specialist ids, only those who can be booked)."""

    service: Service
    specialist_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpecialistCard:
    """The public face of a specialist."""

    id: str
    slug: str
    name: str
    title: str
    about: str
    zone: str  # IANA
    service_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceForm:
    """What staff may say about a service. Minutes and days are whole numbers."""

    name: str
    description: str = ""
    duration_minutes: int = 30
    step_minutes: int = 30
    buffer_before_minutes: int = 0
    buffer_after_minutes: int = 0
    minimum_notice_minutes: int = 60
    horizon_days: int = 60
    change_deadline_minutes: int = 120
    active: bool = True
    specialist_ids: Sequence[str] = ()


def rules_of(service: Service) -> ServiceRules:
    return ServiceRules(
        duration_minutes=service.duration_minutes,
        step_minutes=service.step_minutes,
        buffer_before_minutes=service.buffer_before_minutes,
        buffer_after_minutes=service.buffer_after_minutes,
        minimum_notice_minutes=service.minimum_notice_minutes,
        horizon_days=service.horizon_days,
    )


def is_reference(text: object) -> bool:
    """Whether this can be an id or a slug at all."""
    return isinstance(text, str) and _REFERENCE.fullmatch(text) is not None


async def list_services(session: AsyncSession, practice_id: str, *, only_active: bool = True) -> list[OfferedService]:
    """By name. With `only_active`, inactive services and those without a bookable specialist are left out."""
    query = select(Service).where(Service.practice_id == practice_id).order_by(Service.name, Service.id)
    if only_active:
        query = query.where(Service.active)
    services = (await session.scalars(query)).all()
    givers = await _givers(session, practice_id)
    offered = [OfferedService(service, givers.get(service.id, ())) for service in services]
    return [offer for offer in offered if offer.specialist_ids or not only_active]


async def find_service(
    session: AsyncSession, practice_id: str, reference: str, *, only_active: bool = True
) -> OfferedService | None:
    """By id or slug."""
    if not is_reference(reference):
        return None
    query = select(Service).where(
        Service.practice_id == practice_id, (Service.id == reference) | (Service.slug == reference)
    )
    if only_active:
        query = query.where(Service.active)
    # a slug that looks like another service's id does not shadow it
    services = sorted(await session.scalars(query), key=lambda service: service.id != reference)
    if not services:
        return None
    givers = await _givers(session, practice_id)
    return OfferedService(services[0], givers.get(services[0].id, ()))


async def list_specialists(
    session: AsyncSession, vault: Vault, practice_id: str, *, only_bookable: bool = True
) -> list[SpecialistCard]:
    """By name; a specialist whose account is disabled is not bookable."""
    query = (
        select(Specialist, Person)
        .join(Person, Person.id == Specialist.id)
        .outerjoin(Account, Account.person_id == Specialist.id)
        .where(Specialist.practice_id == practice_id)
    )
    if only_bookable:
        query = query.where(Specialist.bookable, Account.disabled_at.is_(None))
    rows = (await session.execute(query)).all()
    keyring = await vault.keyring(session, [person.id for _, person in rows])
    links = await session.execute(
        select(ServiceSpecialist.specialist_id, ServiceSpecialist.service_id)
        .join(Service, Service.id == ServiceSpecialist.service_id)
        .where(Service.practice_id == practice_id, Service.active)
        .order_by(Service.name, Service.id)
    )
    given: dict[str, list[str]] = {}
    for specialist_id, service_id in links:
        given.setdefault(specialist_id, []).append(service_id)
    cards = [
        SpecialistCard(
            id=specialist.id,
            slug=specialist.slug,
            name=keyring.open_or("", accounts.NAME, person.id, person.id, person.name_sealed),
            title=specialist.title,
            about=specialist.about,
            zone=specialist.zone,
            service_ids=tuple(given.get(specialist.id, ())),
        )
        for specialist, person in rows
    ]
    return sorted(cards, key=lambda card: (card.name.casefold(), card.id))


async def create_service(session: AsyncSession, practice_id: str, form: ServiceForm, now: datetime) -> Service:
    """Raises Invalid with a pointer per field."""
    await _check(session, practice_id, form)
    service = Service(
        id=new_id(), practice_id=practice_id, slug=await _free_slug(session, practice_id, form.name), created_at=now
    )
    _fill(service, form)
    session.add(service)
    await session.flush()
    await _set_givers(session, service.id, form.specialist_ids)
    return service


async def update_service(session: AsyncSession, practice_id: str, service_id: str, form: ServiceForm) -> Service:
    """Bookings keep the times they were made with. The slug stays: links go on working. Raises NotFound, Invalid."""
    service = await session.get(Service, service_id) if is_reference(service_id) else None
    if service is None or service.practice_id != practice_id:
        raise NotFound("This service does not exist.")
    await _check(session, practice_id, form)
    _fill(service, form)
    await session.flush()
    await _set_givers(session, service.id, form.specialist_ids)
    return service


async def _givers(session: AsyncSession, practice_id: str) -> dict[str, tuple[str, ...]]:
    """Bookable specialists per service, in a stable order."""
    rows = await session.execute(
        select(ServiceSpecialist.service_id, ServiceSpecialist.specialist_id)
        .join(Specialist, Specialist.id == ServiceSpecialist.specialist_id)
        .outerjoin(Account, Account.person_id == Specialist.id)
        .where(Specialist.practice_id == practice_id, Specialist.bookable, Account.disabled_at.is_(None))
        .order_by(ServiceSpecialist.specialist_id)
    )
    givers: dict[str, list[str]] = {}
    for service_id, specialist_id in rows:
        givers.setdefault(service_id, []).append(specialist_id)
    return {service_id: tuple(ids) for service_id, ids in givers.items()}


async def _check(session: AsyncSession, practice_id: str, form: ServiceForm) -> None:
    problems: list[Problem] = []
    name = form.name.strip()
    if not name:
        problems.append(Problem("/name", "required", "Please give the service a name."))
    elif len(name) > NAME_MAX or not name.isprintable():
        problems.append(Problem("/name", "too_long", "Please use a shorter name without special characters."))
    if len(form.description) > DESCRIPTION_MAX or "\0" in form.description:
        problems.append(Problem("/description", "too_long", "Please shorten the description."))
    for field, (smallest, largest) in _RANGES.items():
        if not smallest <= getattr(form, field) <= largest:
            problems.append(Problem(f"/{field}", "out_of_range", "Please choose a value in the allowed range."))
    wanted = set(form.specialist_ids)
    if wanted:
        known = set()
        if all(is_reference(one) for one in wanted):
            known = set(
                await session.scalars(
                    select(Specialist.id).where(Specialist.practice_id == practice_id, Specialist.id.in_(wanted))
                )
            )
        if known != wanted:
            problems.append(Problem("/specialist_ids", "unknown", "Please choose from the specialists listed."))
    if problems:
        raise Invalid(problems)


def _fill(service: Service, form: ServiceForm) -> None:
    service.name = form.name.strip()
    service.description = form.description.strip()
    service.active = form.active
    for field in _RANGES:
        setattr(service, field, getattr(form, field))


async def _set_givers(session: AsyncSession, service_id: str, specialist_ids: Sequence[str]) -> None:
    await session.execute(delete(ServiceSpecialist).where(ServiceSpecialist.service_id == service_id))
    session.add_all(ServiceSpecialist(service_id=service_id, specialist_id=one) for one in sorted(set(specialist_ids)))
    await session.flush()


async def _free_slug(session: AsyncSession, practice_id: str, name: str) -> str:
    """Letters and digits of the name by hyphens; a number behind it when the practice has that one already."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii").lower()
    stem = "-".join(re.findall(r"[a-z0-9]+", plain))[:50].strip("-") or "service"
    taken = set(
        await session.scalars(
            select(Service.slug).where(Service.practice_id == practice_id, Service.slug.startswith(stem))
        )
    )
    slug, number = stem, 2
    while slug in taken:
        slug, number = f"{stem}-{number}", number + 1
    return slug
