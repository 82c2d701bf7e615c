"""Demo data: a practice that looks used, with random passwords, in an empty database.

Bookings to come are made as a client makes them. What already happened, and the one consultation that starts at this
very minute, cannot be booked any more and is written as it would have been left behind (demo_history.py).
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyotp
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from consult import demo_history
from consult.booking import admission, availability, bookings, clients, links, services
from consult.booking.models import BLOCKING_STATUSES, Booking, Consultation, Participant, Service
from consult.booking.requests import BookingRequest
from consult.booking.slots import Interval
from consult.db import Database, new_id
from consult.errors import ConsultError
from consult.notify import reminders
from consult.people import accounts, api_tokens, specialists, totp
from consult.people.models import Account, Practice
from consult.privacy.vault import Vault
from consult.settings import Settings

FILE = "demo.json"
ZONE = "Europe/Berlin"
PRACTICE_NAME = "Linden Practice"
ADMIN = ("Ines Ferreira", "ines.ferreira@example.org")
CLIENT = ("Clara Jensen", "clara.jensen@example.net")
SPECIALISTS = (
    (
        "Hanna Lindqvist",
        "hanna.lindqvist@example.org",
        "Clinical psychologist",
        "Works with anxiety, sleep and stress. Short, clear steps that fit into your week. Speaks English and Swedish.",
    ),
    (
        "Marek Kowalski",
        "marek.kowalski@example.org",
        "Dietitian",
        "Everyday nutrition without forbidden lists: for families, for athletes, and after a diagnosis.",
    ),
)
HOURS = {
    "Clinical psychologist": ([[(9 * 60, 12 * 60 + 30), (13 * 60 + 30, 18 * 60)]] * 5) + [[], []],
    "Dietitian": ([[(8 * 60, 16 * 60)]] * 4) + [[(8 * 60, 13 * 60)], [(10 * 60, 14 * 60)], []],
}
# name, description, minutes, minutes of break after, indexes of who gives it
SERVICES = (
    ("First consultation", "We get to know each other and find out what you need.", 50, 10, (0, 1)),
    ("Follow-up", "We look at what has changed and plan the next steps.", 25, 5, (0,)),
    ("Nutrition advice", "Your questions about food, with a plan to take home.", 30, 0, (1,)),
)
# so long the consultation of the demo can be entered, whatever the length of its appointment
OPEN_FOR = timedelta(hours=8)


class NotEmpty(ConsultError):
    """The database has people in it and no demo.json belongs to it: demo data never mixes with real data."""

    def __init__(self) -> None:
        super().__init__("Demo data goes into an empty database only. Choose another data directory or database.")


async def fill(database: Database, vault: Vault, settings: Settings, now: datetime) -> dict[str, Any]:
    """Fill an empty database and write DIR/demo.json (mode 0600); returns its content (the public contract's).

    On a database it filled before, the log-ins stay and a consultation that is over is replaced by one that starts
    now. Raises NotEmpty. Call it before the practice's name is read for the pages."""
    path = settings.data_dir / FILE
    async with database.read() as session:
        is_empty = await accounts.count_accounts(session) == 0
    if is_empty:
        document = await _create(database, vault, now)
    else:
        document = _read(path)
        await _refresh(database, vault, document, now)
    document["base_url"] = settings.public_url
    document["consultation"] = await _consultation_document(database, vault, settings, document["consultation"]["id"])
    _write_private(path, document)
    return document


async def _create(database: Database, vault: Vault, now: datetime) -> dict[str, Any]:
    prepared = [
        await _prepared(role, name, email)
        for role, name, email in (
            ("admin", *ADMIN),
            *(("specialist", name, email) for name, email, _, _ in SPECIALISTS),
        )
    ]
    async with database.write() as session:
        practice = await accounts.ensure_practice(session, now)
        practice.name, practice.zone = PRACTICE_NAME, ZONE
        await reminders.ensure_rules(session, practice.id)
        (admin, admin_password), *staff = prepared
        account = await accounts.create_account(session, vault, practice_id=practice.id, new=admin, now=now)
        document: dict[str, Any] = {
            "base_url": "",
            "admin": {
                "email": admin.email,
                "password": admin_password,
                "totp_secret": await _enrol(session, vault, account, now),
            },
            "specialists": [],
        }
        for (new, password), (name, email, title, about) in zip(staff, SPECIALISTS, strict=True):
            specialist = await specialists.create_specialist(
                session, vault, practice_id=practice.id, new=new, title=title, about=about, now=now
            )
            await availability.set_weekly_hours(session, practice.id, specialist.id, HOURS[title])
            account = await session.get_one(Account, specialist.id)
            document["specialists"].append(
                {
                    "id": specialist.id,
                    "name": name,
                    "email": email,
                    "password": password,
                    "totp_secret": await _enrol(session, vault, account, now),
                }
            )
        people = [entry["id"] for entry in document["specialists"]]
        offered = await _services(session, practice, people, now)
        document["services"] = [
            {
                "id": service.id,
                "name": service.name,
                "duration_minutes": service.duration_minutes,
                "specialists": [people[index] for index in givers],
            }
            for service, givers in offered
        ]
        document["consultation"] = {"id": await _start_now(session, vault, practice.id, now)}
        await _book_ahead(session, vault, practice.id, offered, people, now)
        _token, document["api_token"] = await api_tokens.create(session, practice.id, "Demo", now)
        first_visit, follow_up = offered[0][0], offered[1][0]
        await demo_history.write(session, vault, practice.id, (first_visit, follow_up), people, CLIENT, ZONE, now)
    return document


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise NotEmpty from None
    return document


async def _refresh(database: Database, vault: Vault, document: dict[str, Any], now: datetime) -> None:
    """Check that the file belongs to this database, and replace its consultation when that is over."""
    try:
        email, consultation_id = document["admin"]["email"], document["consultation"]["id"]
    except (KeyError, TypeError):
        raise NotEmpty from None
    async with database.write() as session:
        statement = select(Account).where(Account.email_index == vault.email_index(email))
        admin = (await session.execute(statement)).scalar_one_or_none()
        consultation = await session.get(Consultation, consultation_id)
        if admin is None or consultation is None:
            raise NotEmpty
        if admission.phase_of(consultation, now) != "open":
            document["consultation"] = {"id": await _start_now(session, vault, admin.practice_id, now)}


async def _prepared(role: str, name: str, email: str) -> tuple[accounts.NewAccount, str]:
    password = secrets.token_urlsafe(12)
    new = await accounts.prepare(
        role="admin" if role == "admin" else "specialist",
        name=name,
        email=email,
        password=password,
        zone=ZONE,
        language="en",
    )
    return new, password


async def _enrol(session: AsyncSession, vault: Vault, account: Account, now: datetime) -> str:
    """The second factor, already set up; returns its secret."""
    secret = pyotp.random_base32()
    ring = await vault.keyring(session, [account.person_id])
    account.totp_secret_sealed = ring.seal(totp.FIELD, account.person_id, account.person_id, secret)
    account.totp_confirmed_at = now
    await session.flush()
    return secret


async def _services(
    session: AsyncSession, practice: Practice, people: Sequence[str], now: datetime
) -> list[tuple[Service, tuple[int, ...]]]:
    return [
        (
            await services.create_service(
                session,
                practice.id,
                services.ServiceForm(
                    name=name,
                    description=description,
                    duration_minutes=minutes,
                    buffer_after_minutes=break_minutes,
                    specialist_ids=[people[index] for index in givers],
                ),
                now,
            ),
            givers,
        )
        for name, description, minutes, break_minutes, givers in SERVICES
    ]


async def _book_ahead(
    session: AsyncSession,
    vault: Vault,
    practice_id: str,
    offered: Sequence[tuple[Service, tuple[int, ...]]],
    people: Sequence[str],
    now: datetime,
) -> None:
    """A few appointments of the coming days, booked as clients do."""
    wishes = (
        (1, 0, timedelta(days=2), CLIENT, "Sleep is better. I would like to talk about the diary."),
        (0, 0, timedelta(hours=20), ("Tomas Novak", "tomas.novak@example.net"), "I feel tense before presentations."),
        (2, 1, timedelta(days=1), ("Amira Haddad", "amira.haddad@example.net"), "Meals for two small children."),
        (0, 1, timedelta(days=3), ("Oskar Lehmann", "oskar.lehmann@example.net"), "New diagnosis: type 2 diabetes."),
    )
    for index, giver, later, (name, email), reason in wishes:
        service = offered[index][0]
        free = await availability.offer(
            session, services.rules_of(service), [people[giver]], now + later, now + later + timedelta(days=14), now
        )
        if not free:
            continue
        request = BookingRequest(
            practice_id=practice_id,
            service=service.id,
            specialist=people[giver],
            # not always the first of the day
            start=free[min(len(free) - 1, 2 * index + giver)].start,
            zone=ZONE,
            name=name,
            email=email,
            answers={"reason": reason},
            consent=True,
        )
        await bookings.book(session, vault, request, now)


async def _start_now(session: AsyncSession, vault: Vault, practice_id: str, now: datetime) -> str:
    """The consultation that starts at this minute, of the first specialist and the demo's client; returns its id.

    It is no use to a visitor of the demo that the slot began, so it cannot come from the offered ones."""
    psychologist = (await specialists.list_specialists(session, vault, practice_id))[0].id
    service = (await services.list_services(session, practice_id))[0].service
    client_id = await demo_history.client_person(session, vault, practice_id, CLIENT, ZONE, now)
    starts_at = now.replace(second=0, microsecond=0)
    ends_at = starts_at + timedelta(minutes=service.duration_minutes)
    blocked = services.rules_of(service).blocked(starts_at)
    busy = (
        await session.execute(
            select(Booking.id).where(
                Booking.specialist_id == psychologist,
                Booking.status.in_(BLOCKING_STATUSES),
                Booking.blocks_from < blocked[1],
                Booking.blocks_until > blocked[0],
            )
        )
    ).first()
    if busy is not None:
        # somebody tried the booking page for this very time: the demo's appointment then occupies none
        blocked = Interval(starts_at, starts_at)
    booking = Booking(
        id=new_id(),
        practice_id=practice_id,
        service_id=service.id,
        specialist_id=psychologist,
        client_id=client_id,
        status="confirmed",
        starts_at=starts_at,
        ends_at=ends_at,
        blocks_from=blocked[0],
        blocks_until=blocked[1],
        zone=ZONE,
        language="en",
        sequence=0,
        consented_at=now,
        created_at=now,
        changed_at=now,
    )
    ring = await vault.keyring(session, [psychologist, client_id])
    answers = json.dumps({"reason": "I sleep badly since the new job."})
    booking.reason_sealed = ring.seal(bookings.ANSWERS, booking.id, client_id, answers)
    session.add(booking)
    await session.flush()
    consultation, _seat = await clients.open_seats(session, ring, booking, CLIENT[0], now)
    consultation.closes_at = max(consultation.closes_at, now + OPEN_FOR)
    await session.flush()
    return consultation.id


async def _consultation_document(
    database: Database, vault: Vault, settings: Settings, consultation_id: str
) -> dict[str, str]:
    async with database.read() as session:
        statement = select(Participant.role, Participant.id).where(Participant.consultation_id == consultation_id)
        seats = {role: seat for role, seat in (await session.execute(statement)).all()}
    return {
        "id": consultation_id,
        "specialist_join_url": links.join_url(settings.public_url, vault, consultation_id, seats["specialist"]),
        "client_join_url": links.join_url(settings.public_url, vault, consultation_id, seats["client"]),
    }


def _write_private(path: Path, document: dict[str, Any]) -> None:
    """Replace the file in one step; it holds passwords, so it is never readable for others."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2, ensure_ascii=False)
        file.write("\n")
    temporary.replace(path)
