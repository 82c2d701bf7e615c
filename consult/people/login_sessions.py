"""Server-side sessions of people who signed in. The cookie's token is stored as SHA-256 only.

A session begins at stage `password_ok` and becomes `full` with the second factor; each step has a token of its own,
so a token that leaked before the last step opens nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import CursorResult, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from consult.people.models import Account, LoginSession, Person

Stage = Literal["password_ok", "full"]

TOKEN_BYTES = 32
IDLE = timedelta(hours=12)
ABSOLUTE = timedelta(days=7)
# the time to find the phone, or to install an app and enrol
PASSWORD_OK = timedelta(minutes=15)
TOUCH_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Started:
    """A new session. `token` goes into the cookie and nowhere else; `csrf_token` into the forms."""

    token: str = field(repr=False)
    csrf_token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Current:
    """A valid session and whose it is."""

    person_id: str
    practice_id: str
    role: str
    stage: Stage
    totp_enrolled: bool
    csrf_token: str = field(repr=False)
    name_sealed: bytes = field(repr=False)
    zone: str
    language: str
    last_seen_at: datetime
    expires_at: datetime

    def needs_touch(self, now: datetime) -> bool:
        return now - self.last_seen_at >= TOUCH_EVERY


async def start(session: AsyncSession, person_id: str, stage: Stage, now: datetime) -> Started:
    """A new session of an account that has just passed `stage`."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    started = Started(
        token=token,
        csrf_token=secrets.token_urlsafe(TOKEN_BYTES),
        expires_at=now + (ABSOLUTE if stage == "full" else PASSWORD_OK),
    )
    session.add(
        LoginSession(
            id=_digest(token),
            person_id=person_id,
            stage=stage,
            csrf_token=started.csrf_token,
            created_at=now,
            last_seen_at=now,
            expires_at=started.expires_at,
        )
    )
    await session.flush()
    return started


async def find(session: AsyncSession, token: str, now: datetime) -> Current | None:
    """The session of a cookie's token; None when it is unknown, over, idle too long, or the account is disabled."""
    row = (
        await session.execute(
            select(LoginSession, Account, Person)
            .join(Account, Account.person_id == LoginSession.person_id)
            .join(Person, Person.id == Account.person_id)
            .where(
                LoginSession.id == _digest(token),
                LoginSession.expires_at > now,
                LoginSession.last_seen_at > now - IDLE,
                Account.disabled_at.is_(None),
            )
        )
    ).first()
    if row is None:
        return None
    login, account, person = row
    return Current(
        person_id=account.person_id,
        practice_id=account.practice_id,
        role=account.role,
        stage="full" if login.stage == "full" else "password_ok",
        totp_enrolled=account.totp_confirmed_at is not None,
        csrf_token=login.csrf_token,
        name_sealed=person.name_sealed,
        zone=person.zone,
        language=person.language,
        last_seen_at=login.last_seen_at,
        expires_at=login.expires_at,
    )


async def touch(session: AsyncSession, token: str, now: datetime) -> None:
    """The session was used: the idle time starts anew (call it when `Current.needs_touch`)."""
    await session.execute(
        update(LoginSession)
        .where(LoginSession.id == _digest(token), LoginSession.last_seen_at < now)
        .values(last_seen_at=now)
        .execution_options(synchronize_session=False)
    )


async def promote(session: AsyncSession, token: str, now: datetime) -> Started | None:
    """The second factor was right: a `full` session under a new token, the old one ends. None when it is gone."""
    person_id = (
        await session.execute(
            delete(LoginSession)
            .where(LoginSession.id == _digest(token), LoginSession.expires_at > now)
            .returning(LoginSession.person_id)
        )
    ).scalar_one_or_none()
    if person_id is None:
        return None
    await session.execute(
        update(Account)
        .where(Account.person_id == person_id)
        .values(last_login_at=now)
        .execution_options(synchronize_session=False)
    )
    return await start(session, person_id, "full", now)


async def end(session: AsyncSession, token: str) -> None:
    """Sign out. An unknown token is fine."""
    await session.execute(delete(LoginSession).where(LoginSession.id == _digest(token)))


async def end_all(session: AsyncSession, person_id: str, *, except_token: str | None = None) -> int:
    """End every session of a person (disabled, a factor changed), but for the one in use. Returns how many."""
    statement = delete(LoginSession).where(LoginSession.person_id == person_id)
    if except_token is not None:
        statement = statement.where(LoginSession.id != _digest(except_token))
    result = await session.execute(statement)
    assert isinstance(result, CursorResult)
    return result.rowcount


async def sweep(session: AsyncSession, now: datetime) -> int:
    """Delete the sessions that are over. Returns how many."""
    result = await session.execute(
        delete(LoginSession).where(or_(LoginSession.expires_at <= now, LoginSession.last_seen_at <= now - IDLE))
    )
    assert isinstance(result, CursorResult)
    return result.rowcount


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
