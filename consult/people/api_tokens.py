"""Bearer tokens of the REST API: shown once, stored as SHA-256, revocable, never deleted (the log names them)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from consult.db import is_id
from consult.errors import Invalid, NotFound, Problem
from consult.people.models import ApiToken

# secret scanners find leaked tokens by their beginning
PREFIX = "consult_"
LABEL_LONGEST = 100
TOUCH_EVERY = timedelta(minutes=1)


async def create(session: AsyncSession, practice_id: str, label: str, now: datetime) -> tuple[ApiToken, str]:
    """A new token and its plaintext, which cannot be had again. Raises Invalid for a missing or long label."""
    label = " ".join(label.split())
    if not label:
        raise Invalid([Problem("/label", "missing", "Please say what the token is for.")])
    if len(label) > LABEL_LONGEST:
        raise Invalid([Problem("/label", "too_long", "Please use at most 100 characters.")])
    plaintext = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken(practice_id=practice_id, token_hash=_digest(plaintext), label=label, created_at=now)
    session.add(token)
    await session.flush()
    return token, plaintext


async def verify(session: AsyncSession, plaintext: str, now: datetime) -> ApiToken | None:
    """The token this text is, unless revoked. Reads only; see `needs_touch`."""
    if not plaintext.startswith(PREFIX):
        return None
    return (
        await session.execute(
            select(ApiToken).where(ApiToken.token_hash == _digest(plaintext), ApiToken.revoked_at.is_(None))
        )
    ).scalar_one_or_none()


def needs_touch(token: ApiToken, now: datetime) -> bool:
    return token.last_used_at is None or now - token.last_used_at >= TOUCH_EVERY


async def touch(session: AsyncSession, token_id: str, now: datetime) -> None:
    """The token was used (kept to the minute, so that not every request writes)."""
    await session.execute(
        update(ApiToken)
        .where(ApiToken.id == token_id)
        .values(last_used_at=now)
        .execution_options(synchronize_session=False)
    )


async def revoke(session: AsyncSession, practice_id: str, token_id: str, now: datetime) -> None:
    """The token opens nothing from now on. Raises NotFound for another practice's; revoking again is fine."""
    token = await session.get(ApiToken, token_id) if is_id(token_id) else None
    if token is None or token.practice_id != practice_id:
        raise NotFound("There is no such token.")
    if token.revoked_at is None:
        token.revoked_at = now
    await session.flush()


async def list_tokens(session: AsyncSession, practice_id: str) -> Sequence[ApiToken]:
    """All tokens of the practice, newest first, the revoked ones too."""
    return (
        (
            await session.execute(
                select(ApiToken)
                .where(ApiToken.practice_id == practice_id)
                .order_by(ApiToken.created_at.desc(), ApiToken.id)
            )
        )
        .scalars()
        .all()
    )


def _digest(plaintext: str) -> bytes:
    return hashlib.sha256(plaintext.encode("utf-8", "surrogatepass")).digest()
