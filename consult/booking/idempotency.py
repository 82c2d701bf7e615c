"""Idempotency keys: a retried request gets its first answer, also when both arrive at once."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking.models import IdempotencyKey
from consult.booking.requests import BookingRequest
from consult.errors import Conflict
from consult.privacy.vault import Vault

KEPT = timedelta(days=1)


async def claim(session: AsyncSession, vault: Vault, request: BookingRequest, now: datetime) -> IdempotencyKey | str:
    """The new key's row, or the id of the booking it made before.

    Raises Conflict for another request under the same key."""
    assert request.idempotency_key is not None
    key_hash = vault.capability("idempotency_key", request.idempotency_key).encode("ascii")
    request_hash = vault.capability("idempotency_request", request.fingerprint()).encode("ascii")
    key = IdempotencyKey(
        key_hash=key_hash, practice_id=request.practice_id, request_hash=request_hash, booking_id=None, created_at=now
    )
    try:
        # a second request with the key waits here for the first one's transaction
        async with session.begin_nested():
            session.add(key)
            await session.flush()
        return key
    except IntegrityError:
        pass
    first = await session.get_one(IdempotencyKey, (key_hash, request.practice_id), populate_existing=True)
    if first.request_hash != request_hash:
        raise Conflict("This Idempotency-Key was used for another request.", code="idempotency_mismatch")
    # row and booking are committed together
    assert first.booking_id is not None
    return first.booking_id


async def forget(session: AsyncSession, now: datetime) -> None:
    """Keys are good for KEPT."""
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now - KEPT))
