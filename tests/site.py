"""A whole web process on a real database, with people who can sign in: for tests of the pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

import pyotp
from aiohttp import ClientResponse, CookieJar, web
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import update

from consult.booking import availability, bookings, services
from consult.booking.requests import BookingRequest
from consult.booking.services import ServiceForm
from consult.db import Database
from consult.people import accounts, api_tokens, specialists, totp
from consult.people.models import Account, Practice
from consult.privacy.keys import Keys
from consult.privacy.vault import Vault
from consult.settings import Settings
from media import relay as relays
from media.settings import RelaySettings
from web.app import Parts, create_app
from web.connections import connect_locally
from web.keys import PracticeInfo

PASSWORD = "quiet-harbour-lantern-42"
NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)  # a Wednesday

Client = TestClient[web.Request, web.Application]


@dataclass
class Person:
    """Somebody with an account. `secret` is the enrolled TOTP secret."""

    id: str
    role: str
    name: str
    email: str
    secret: str


@dataclass
class Site:
    """The running app, its clock, and who is there."""

    app: web.Application
    server: TestServer
    database: Database
    vault: Vault
    practice_id: str
    now: datetime = NOON
    # True: the machine's clock, under which things happen one after another
    real_time: bool = False
    people: dict[str, Person] = field(default_factory=dict)
    clients: list[Client] = field(default_factory=list)

    async def client(self) -> Client:
        """A browser of its own: its cookies are its own."""
        client: Client = TestClient(self.server, cookie_jar=CookieJar(unsafe=True))
        self.clients.append(client)
        return client

    def code(self, who: str) -> str:
        return pyotp.TOTP(self.people[who].secret).at(self.now)

    async def signed_in(self, who: str) -> Client:
        """A browser that passed both steps. The clock moves on, because a code is good once."""
        self.now += timedelta(seconds=30)
        client = await self.client()
        first = await client.post(
            "/account/sign-in", data={"email": self.people[who].email, "password": PASSWORD}, allow_redirects=False
        )
        assert (first.status, first.headers.get("Location")) == (303, "/account/code"), await first.text()
        second = await client.post(
            "/account/code",
            data={"code": self.code(who), "csrf_token": await csrf_token(client, "/account/code")},
            allow_redirects=False,
        )
        assert second.status == 303, await second.text()
        return client

    async def add(self, who: str, role: accounts.AccountRole, practice_id: str | None = None) -> Person:
        """An account with both factors. Specialists get their public side."""
        practice_id = practice_id or self.practice_id
        email, name = f"{who}@staff.example", f"{who.capitalize()} Example"
        new = await accounts.prepare(
            role=role, name=name, email=email, password=PASSWORD, zone="Europe/Berlin", language="en"
        )
        async with self.database.write() as session:
            if role == "specialist":
                specialist = await specialists.create_specialist(
                    session, self.vault, practice_id=practice_id, new=new, title="Physician", now=self.now
                )
                person_id = specialist.id
            else:
                account = await accounts.create_account(
                    session, self.vault, practice_id=practice_id, new=new, now=self.now
                )
                person_id = account.person_id
            enrolment = await totp.begin_enrolment(session, self.vault, person_id, label=email, issuer="Test")
            await session.execute(
                update(Account).where(Account.person_id == person_id).values(totp_confirmed_at=self.now)
            )
        person = self.people[who] = Person(person_id, role, name, email, enrolment.secret)
        return person

    async def book(self, hours_ahead: int = 24, zone: str = "Europe/Berlin") -> bookings.Booked:
        """Carla's visit with Boris, at the full hour; he is open at all hours from then on. `zone` is the client's."""
        boris = self.people["boris"].id
        async with self.database.write() as session:
            await availability.set_weekly_hours(session, self.practice_id, boris, [[(0, 1440)]] * 7)
            service = await services.create_service(
                session, self.practice_id, ServiceForm(name="Visit", specialist_ids=[boris]), self.now
            )
            request = BookingRequest(
                practice_id=self.practice_id,
                service=service.id,
                specialist=boris,
                start=(self.now + timedelta(hours=hours_ahead)).replace(minute=0, second=0, microsecond=0),
                zone=zone,
                name="Carla Client",
                email="carla@client.example",
                answers={"reason": "my knee"},
                consent=True,
                language="en",
            )
            return await bookings.book(session, self.vault, request, self.now)

    async def api_token(self, practice_id: str | None = None) -> str:
        async with self.database.write() as session:
            _, plaintext = await api_tokens.create(session, practice_id or self.practice_id, "test", self.now)
        return plaintext

    async def other_practice(self) -> str:
        """The id of a second practice on the same server."""
        async with self.database.write() as session:
            practice = Practice(slug="other", name="Other", zone="UTC", language="en", created_at=self.now)
            session.add(practice)
        return practice.id


async def csrf_token(client: Client, path: str) -> str:
    """The token that the page's forms carry."""
    text = await (await client.get(path)).text()
    return text.split('name="csrf_token" value="', 1)[1].split('"', 1)[0]


def cookie_of(response: ClientResponse, name: str = "consult_session") -> SimpleCookie:
    cookies = SimpleCookie()
    for header in response.headers.getall("Set-Cookie", []):
        cookies.load(header)
    assert name in cookies, response.headers
    return cookies


def path_of(response: ClientResponse) -> str:
    return urlsplit(str(response.headers.get("Location", ""))).path


@asynccontextmanager
async def open_site(database_url: str, folder: Path, **env: str) -> AsyncIterator[Site]:
    """The app on a migrated database, with an admin "anna" and the specialists "boris" and "clara"."""
    settings = Settings.from_env({"CONSULT_DATABASE_URL": database_url, **env}, data_dir=folder)
    database = Database(settings.database_url)
    vault = Vault(Keys.generate())
    async with database.write() as session:
        practice = await accounts.ensure_practice(session, NOON, name="Test Practice", zone="Europe/Berlin")
    info = PracticeInfo(practice.id, practice.slug, practice.name, practice.zone, practice.language)
    site: Site
    relay = await relays.start(RelaySettings(port=0, announced_ips=("127.0.0.1",)))
    parts = Parts(
        settings=settings,
        database=database,
        vault=vault,
        practice=info,
        connect=connect_locally(relay),
        clock=lambda: datetime.now(UTC) if site.real_time else site.now,
    )
    app = create_app(parts)
    server = TestServer(app)
    site = Site(app, server, database, vault, practice.id)
    await server.start_server()
    try:
        await site.add("anna", "admin")
        await site.add("boris", "specialist")
        await site.add("clara", "specialist")
        yield site
    finally:
        for client in site.clients:
            await client.close()
        await server.close()
        await relay.stop()
        await database.close()
