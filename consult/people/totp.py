"""The second factor: time-based one-time passwords (RFC 6238) with 6 digits, 30 s, SHA-1, as every app reads them.

A code is good once: the step that matched is stored in the same statement that checks that no later one was used.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from datetime import datetime

import pyotp
from sqlalchemy import CursorResult, update
from sqlalchemy.ext.asyncio import AsyncSession

from consult.db import is_id
from consult.errors import Conflict, NotFound
from consult.people.models import Account
from consult.privacy.vault import Keyring, Vault

STEP_SECONDS = 30
# a phone's clock may be off, and typing takes a moment: one step either way
DRIFT_STEPS = 1
FIELD = "account.totp_secret"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the authenticator app needs: base32 `secret` for typing and the otpauth:// `uri` for the QR code."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


async def begin_enrolment(session: AsyncSession, vault: Vault, person_id: str, *, label: str, issuer: str) -> Enrolment:
    """The secret to enrol: the same one again until it is confirmed, so that a reload does not break a scanned code.

    label: what the app shows, the e-mail address. Raises Conflict("already_enrolled")."""
    account = await _account(session, person_id)
    if account.totp_confirmed_at is not None:
        raise Conflict("A code app is already set up for this account.", code="already_enrolled")
    ring = await vault.keyring(session, [person_id])
    if account.totp_secret_sealed is None:
        secret = pyotp.random_base32()
        account.totp_secret_sealed = ring.seal(FIELD, person_id, person_id, secret)
        await session.flush()
    else:
        secret = _open(ring, account)
    return Enrolment(secret, pyotp.TOTP(secret).provisioning_uri(name=label, issuer_name=issuer))


async def start_over(session: AsyncSession, person_id: str) -> None:
    """Drop a secret that nobody confirmed: whoever saw it before must not share the second factor of who confirms."""
    await session.execute(
        update(Account)
        .where(Account.person_id == person_id, Account.totp_confirmed_at.is_(None))
        .values(totp_secret_sealed=None)
    )


async def confirm_enrolment(session: AsyncSession, vault: Vault, person_id: str, code: str, now: datetime) -> bool:
    """Switch the second factor on with a first right code. False for a wrong one."""
    account = await _account(session, person_id)
    if account.totp_confirmed_at is not None or account.totp_secret_sealed is None:
        return False
    if not await _use(session, vault, account, code, now):
        return False
    account.totp_confirmed_at = now
    await session.flush()
    return True


async def verify(session: AsyncSession, vault: Vault, person_id: str, code: str, now: datetime) -> bool:
    """True once per code of a confirmed second factor; the code is used up when the transaction commits."""
    account = await _account(session, person_id)
    if account.totp_confirmed_at is None or account.totp_secret_sealed is None:
        return False
    return await _use(session, vault, account, code, now)


async def reset(session: AsyncSession, person_id: str) -> None:
    """Forget the second factor (an administrator's help for a lost phone): the next sign-in enrols anew."""
    account = await _account(session, person_id)
    account.totp_secret_sealed = None
    account.totp_confirmed_at = None
    # totp_last_step stays: a code of the past never becomes good again
    await session.flush()


def matching_step(secret: str, code: str, now: datetime) -> int | None:
    """The 30 s step whose code this is, within the drift, or None. Pure; compares every candidate."""
    digits = code.replace(" ", "").replace("-", "")
    if not (len(digits) == 6 and digits.isascii() and digits.isdigit()):
        return None
    current = int(now.timestamp()) // STEP_SECONDS
    generator = pyotp.HOTP(secret)
    found: int | None = None
    for step in range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1):
        if hmac.compare_digest(generator.at(step), digits):
            found = step
    return found


async def _use(session: AsyncSession, vault: Vault, account: Account, code: str, now: datetime) -> bool:
    ring = await vault.keyring(session, [account.person_id])
    step = matching_step(_open(ring, account), code, now)
    if step is None:
        return False
    result = await session.execute(
        update(Account)
        .where(Account.person_id == account.person_id, Account.totp_last_step < step)
        .values(totp_last_step=step)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


def _open(ring: Keyring, account: Account) -> str:
    assert account.totp_secret_sealed is not None
    return ring.open(FIELD, account.person_id, account.person_id, account.totp_secret_sealed)


async def _account(session: AsyncSession, person_id: str) -> Account:
    account = await session.get(Account, person_id) if is_id(person_id) else None
    if account is None:
        raise NotFound("There is no such account.")
    return account
