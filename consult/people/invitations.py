"""Invitations: the link with which a new member of staff chooses a password, or somebody who forgot it a new one.

The token is `EXPIRES.MAC`, where the MAC also covers the stored password hash: choosing a password uses it up, and
issuing nothing needs to be stored. It opens the first step only; the second factor is asked for or set up after it.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from consult.errors import NotFound
from consult.people.models import Account
from consult.privacy.vault import Vault

VALID = timedelta(days=7)


async def invite(session: AsyncSession, vault: Vault, practice_id: str, person_id: str, now: datetime) -> str:
    """The invitation's token for an account of this practice. Raises NotFound."""
    account = await session.get(Account, person_id)
    if account is None or account.practice_id != practice_id:
        raise NotFound("There is no such account.")
    expires = str(int((now + VALID).timestamp()))
    return f"{expires}.{vault.capability(_purpose(account, expires), person_id)}"


async def check(session: AsyncSession, vault: Vault, person_id: str, token: str, now: datetime) -> bool:
    """Whether the token opens this account now."""
    expires, separator, mac = token.partition(".")
    if not separator or not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        return False
    account = await session.get(Account, person_id)
    if account is None or account.disabled_at is not None or int(expires) <= now.timestamp():
        return False
    return vault.check_capability(_purpose(account, expires), person_id, mac)


def invitation_url(public_url: str, person_id: str, token: str) -> str:
    """The token rides in the fragment: it reaches no log and no proxy."""
    return f"{public_url}/account/welcome/{person_id}#{token}"


def _purpose(account: Account, expires: str) -> str:
    fingerprint = hashlib.sha256(account.password_hash.encode()).hexdigest()[:32]
    return f"invitation/{expires}/{fingerprint}"
