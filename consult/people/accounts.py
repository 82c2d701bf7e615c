"""Practices, people, and the accounts of those who sign in (specialists and admins; a client needs none)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from consult.db import is_id, new_id
from consult.errors import Conflict, Invalid, NotFound, Problem
from consult.people import login_sessions, passwords
from consult.people.contact import clean_email, clean_language, clean_name, clean_zone
from consult.people.models import Account, Person, Practice
from consult.privacy.vault import Keyring, Vault

AccountRole = Literal["specialist", "admin"]
NAME = "person.name"
EMAIL = "person.email"
DEFAULT_PRACTICE = "default"
ERASED = "—"


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account with its person's opened fields, for pages."""

    person_id: str
    practice_id: str
    role: str
    name: str = field(repr=False)
    email: str = field(repr=False)
    zone: str
    language: str
    totp_enrolled: bool
    disabled_at: datetime | None
    last_login_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What `create_account` needs. The password is checked and hashed before the transaction: see `prepare`."""

    role: AccountRole
    name: str = field(repr=False)
    email: str = field(repr=False)
    password_hash: str = field(repr=False)
    zone: str
    language: str


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """The right password of an enabled account. `new_hash`: store it, the old one has outdated parameters."""

    person_id: str
    totp_enrolled: bool
    new_hash: str | None = field(repr=False)


async def ensure_practice(
    session: AsyncSession, now: datetime, *, name: str = "Consult", zone: str = "UTC", language: str = "en"
) -> Practice:
    """The default practice, made at the first start. Any number of processes may call it at once."""
    found = await find_practice(session, DEFAULT_PRACTICE)
    if found is not None:
        return found
    practice = Practice(id=new_id(), slug=DEFAULT_PRACTICE, name=name, zone=zone, language=language, created_at=now)
    try:
        async with session.begin_nested():
            session.add(practice)
    except IntegrityError:
        found = await find_practice(session, DEFAULT_PRACTICE)
        assert found is not None, "somebody else has just made it"
        return found
    return practice


async def find_practice(session: AsyncSession, slug: str) -> Practice | None:
    return (await session.execute(select(Practice).where(Practice.slug == slug))).scalar_one_or_none()


async def create_person(
    session: AsyncSession,
    vault: Vault,
    *,
    practice_id: str,
    name: str,
    email: str,
    zone: str,
    language: str,
    now: datetime,
) -> tuple[Person, Keyring]:
    """A person with a data key of their own; flushed. The fields are taken as they are: clean them first."""
    person_id = new_id()
    ring = await vault.new_person_key(session, person_id, now)
    person = Person(
        id=person_id,
        practice_id=practice_id,
        name_sealed=ring.seal(NAME, person_id, person_id, name),
        email_sealed=ring.seal(EMAIL, person_id, person_id, email),
        email_index=vault.email_index(email),
        zone=zone,
        language=language,
        created_at=now,
    )
    session.add(person)
    await session.flush()
    return person, ring


async def prepare(*, role: AccountRole, name: str, email: str, password: str, zone: str, language: str) -> NewAccount:
    """Check everything a person typed and hash the password (slow: do it before a transaction). Raises Invalid with
    pointers /name, /email, /password, /zone, /language."""
    problems: list[Problem] = []
    name = clean_name(name, "/name", problems)
    email = clean_email(email, "/email", problems)
    zone = clean_zone(zone, "/zone", problems)
    language = clean_language(language, "/language", problems)
    problems += passwords.problems_with(password, context=(name, email))
    if problems:
        raise Invalid(problems)
    return NewAccount(role, name, email, await passwords.hash_password(password), zone, language)


async def create_account(
    session: AsyncSession, vault: Vault, *, practice_id: str, new: NewAccount, now: datetime
) -> Account:
    """A person with an account. Raises Conflict("email_taken"): an address has one account on a server."""
    index = vault.email_index(new.email)
    taken = Conflict("There is already an account with this e-mail address.", code="email_taken")
    if (await session.execute(select(Account.person_id).where(Account.email_index == index))).first() is not None:
        raise taken
    try:
        async with session.begin_nested():
            person, _ring = await create_person(
                session,
                vault,
                practice_id=practice_id,
                name=new.name,
                email=new.email,
                zone=new.zone,
                language=new.language,
                now=now,
            )
            account = Account(
                person_id=person.id,
                practice_id=practice_id,
                role=new.role,
                email_index=index,
                password_hash=new.password_hash,
                created_at=now,
            )
            session.add(account)
            await session.flush()
    except IntegrityError:
        raise taken from None
    return account


async def check_password(session: AsyncSession, vault: Vault, email: str, password: str) -> PasswordCheck | None:
    """The first step of a sign-in; reads only. None for an unknown address, a wrong password and a disabled account
    alike, after the same time. Argon2 takes tens of milliseconds: call it in `database.read()`."""
    account = (
        await session.execute(select(Account).where(Account.email_index == vault.email_index(email)))
    ).scalar_one_or_none()
    verdict = await passwords.verify(account.password_hash if account is not None else None, password)
    if account is None or not verdict.ok or account.disabled_at is not None:
        return None
    new_hash = await passwords.hash_password(password) if verdict.outdated else None
    return PasswordCheck(account.person_id, account.totp_confirmed_at is not None, new_hash)


async def store_password_hash(session: AsyncSession, person_id: str, password_hash: str) -> None:
    """The same password under newer parameters: sessions stay."""
    (await _account(session, person_id)).password_hash = password_hash
    await session.flush()


async def change_password(
    session: AsyncSession, person_id: str, password_hash: str, *, keep_token: str | None = None
) -> None:
    """A new password ends every other session of the account. keep_token: the cookie of the one in use."""
    await store_password_hash(session, person_id, password_hash)
    await login_sessions.end_all(session, person_id, except_token=keep_token)


async def get_account(session: AsyncSession, vault: Vault, practice_id: str, person_id: str) -> AccountView:
    """Raises NotFound, also for another practice's account."""
    views = await _views(session, vault, practice_id, person_id)
    if not views:
        raise NotFound("There is no such account.")
    return views[0]


async def list_accounts(session: AsyncSession, vault: Vault, practice_id: str) -> list[AccountView]:
    """Every account of the practice by name, the disabled ones last."""
    views = await _views(session, vault, practice_id, None)
    return sorted(views, key=lambda view: (view.disabled_at is not None, view.name.casefold(), view.person_id))


async def disable_account(session: AsyncSession, practice_id: str, person_id: str, now: datetime) -> None:
    """The account cannot sign in and its sessions end with this transaction. The last enabled admin stays:
    Conflict("last_admin"). Open sockets are the caller's to close."""
    account = await _account_of(session, practice_id, person_id)
    if account.disabled_at is None and account.role == "admin":
        # locked in one order, so that two admins who disable each other cannot both succeed
        others = (
            await session.execute(
                select(Account.person_id)
                .where(Account.practice_id == practice_id, Account.role == "admin", Account.disabled_at.is_(None))
                .order_by(Account.person_id)
                .with_for_update()
            )
        ).scalars()
        if not [other for other in others if other != person_id]:
            raise Conflict("The last administrator cannot be disabled.", code="last_admin")
    if account.disabled_at is None:
        account.disabled_at = now
    await login_sessions.end_all(session, person_id)
    await session.flush()


async def enable_account(session: AsyncSession, practice_id: str, person_id: str) -> None:
    (await _account_of(session, practice_id, person_id)).disabled_at = None
    await session.flush()


async def is_enabled(session: AsyncSession, person_id: str) -> bool:
    """Whether this person has an account that may sign in now (read anew, whatever the session holds)."""
    found = await session.scalar(
        select(Account.person_id).where(Account.person_id == person_id, Account.disabled_at.is_(None))
    )
    return found is not None


async def rename_person(session: AsyncSession, vault: Vault, practice_id: str, person_id: str, name: str) -> None:
    """Raises Invalid (/name), NotFound."""
    problems: list[Problem] = []
    name = clean_name(name, "/name", problems)
    if problems:
        raise Invalid(problems)
    person = await session.get(Person, person_id) if is_id(person_id) else None
    if person is None or person.practice_id != practice_id:
        raise NotFound("There is no such person.")
    ring = await vault.keyring(session, [person_id])
    person.name_sealed = ring.seal(NAME, person_id, person_id, name)
    await session.flush()


async def person_names(session: AsyncSession, vault: Vault, person_ids: Iterable[str]) -> Mapping[str, str]:
    """Names by person id, in two queries; an erased person's is a dash."""
    wanted = set(person_ids)
    if not wanted:
        return {}
    rows = (await session.execute(select(Person.id, Person.name_sealed).where(Person.id.in_(wanted)))).all()
    ring = await vault.keyring(session, wanted)
    return {person_id: ring.open_or(ERASED, NAME, person_id, person_id, sealed) for person_id, sealed in rows}


async def count_accounts(session: AsyncSession) -> int:
    """Accounts on this server, of any practice: 0 means that nothing was set up yet."""
    return (await session.execute(select(func.count()).select_from(Account))).scalar_one()


async def _views(session: AsyncSession, vault: Vault, practice_id: str, person_id: str | None) -> list[AccountView]:
    statement = (
        select(Account, Person).join(Person, Person.id == Account.person_id).where(Account.practice_id == practice_id)
    )
    if person_id is not None:
        if not is_id(person_id):
            return []
        statement = statement.where(Account.person_id == person_id)
    rows: Sequence[tuple[Account, Person]] = [(row[0], row[1]) for row in (await session.execute(statement)).all()]
    ring = await vault.keyring(session, [person.id for _, person in rows])
    return [
        AccountView(
            person_id=person.id,
            practice_id=account.practice_id,
            role=account.role,
            name=ring.open_or(ERASED, NAME, person.id, person.id, person.name_sealed),
            email=ring.open_or(ERASED, EMAIL, person.id, person.id, person.email_sealed),
            zone=person.zone,
            language=person.language,
            totp_enrolled=account.totp_confirmed_at is not None,
            disabled_at=account.disabled_at,
            last_login_at=account.last_login_at,
            created_at=account.created_at,
        )
        for account, person in rows
    ]


async def _account(session: AsyncSession, person_id: str) -> Account:
    account = await session.get(Account, person_id) if is_id(person_id) else None
    if account is None:
        raise NotFound("There is no such account.")
    return account


async def _account_of(session: AsyncSession, practice_id: str, person_id: str) -> Account:
    account = await _account(session, person_id)
    if account.practice_id != practice_id:
        raise NotFound("There is no such account.")
    return account
