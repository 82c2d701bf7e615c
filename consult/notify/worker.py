"""The worker: takes what is due from the outbox, sends it, and keeps the house (holds, tickets, keys that ran out).

Any number may run. A worker outlives its database: it waits and comes back. A stop lets the mails in flight finish and
gives the rest of its claims back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from consult.booking import admission, allocation, idempotency
from consult.db import Database, new_id
from consult.errors import ConsultError
from consult.notify import outbox
from consult.notify.channels import Channel, DeliveryFailed, Mail, mail_channel
from consult.notify.letters import LetterWriter, Translator
from consult.notify.outbox import Claimed
from consult.people import login_sessions
from consult.privacy.vault import Vault

__all__ = ["WorkerHealth", "mail_channel", "run_worker"]

log = structlog.get_logger("consult.worker")

Clock = Callable[[], datetime]

POLL_S = 1.0
# sent side by side: a whole batch is over within one conversation's timeout, half the lease
BATCH = 16
HOUSEKEEPING = timedelta(seconds=60)
# waits for a lost database, doubling from the first to the last
FIRST_WAIT_S = 0.5
LAST_WAIT_S = 15.0
# a mail that went out must be marked before its lease ends, else another worker sends it again
SETTLE_WITHIN_S = 90.0


@dataclass(slots=True)
class WorkerHealth:
    """What a health check may ask. `passed_at`: the last time the worker got through a round."""

    passed_at: datetime | None = None
    sent: int = 0
    failed: int = 0
    skipped: int = 0


async def run_worker(
    database: Database,
    vault: Vault,
    channel: Channel,
    clock: Clock,
    stop: asyncio.Event,
    *,
    public_url: str,
    translator: Translator,
    health: WorkerHealth | None = None,
    poll_s: float = POLL_S,
    lease: timedelta = outbox.LEASE,
) -> None:
    """Runs until `stop` is set. Returns after the mails in flight are sent and marked. `translator(language)` gives a
    gettext for the mails' language."""
    letters = LetterWriter(vault, public_url=public_url, mail_from=channel.sender, translator=translator)
    worker = _Worker(database, letters, channel, clock, stop, health or WorkerHealth(), lease)
    wait_s = FIRST_WAIT_S
    while not stop.is_set():
        try:
            worked = await worker.round()
            wait_s = FIRST_WAIT_S
        except Exception as error:
            # whatever a lost database raises, in whichever layer: the worker has nothing better to do than wait
            log.warning("worker_waits", error=type(error).__name__, seconds=wait_s)
            await _pause(stop, wait_s)
            wait_s = min(wait_s * 2, LAST_WAIT_S)
            continue
        if not worked:
            await _pause(stop, poll_s)


class _Worker:
    def __init__(
        self,
        database: Database,
        letters: LetterWriter,
        channel: Channel,
        clock: Clock,
        stop: asyncio.Event,
        health: WorkerHealth,
        lease: timedelta,
    ) -> None:
        self._database = database
        self._letters = letters
        self._channel = channel
        self._clock = clock
        self._stop = stop
        self._health = health
        self._lease = lease
        self._id = new_id()
        self._kept_house_at: datetime | None = None

    async def round(self) -> bool:
        """One batch. False when nothing was due."""
        now = self._clock()
        if self._kept_house_at is None or abs(now - self._kept_house_at) >= HOUSEKEEPING:
            await self._keep_house(now)
            self._kept_house_at = now
        async with self._database.read() as session:
            if not await outbox.has_due(session, now):
                self._health.passed_at = now
                return False
        async with self._database.write() as session:
            claimed = await outbox.claim_due(session, self._id, now, BATCH, self._lease)
        if claimed:
            await self._send_all(claimed, now)
        self._health.passed_at = now
        return bool(claimed)

    async def _send_all(self, claimed: list[Claimed], now: datetime) -> None:
        async with self._database.read() as session:
            reasons = await outbox.outdated(session, claimed, now)
        wanted = [message for message in claimed if message.id not in reasons]
        mails, errors = await self._write_letters(wanted, now)

        async def handle(message: Claimed) -> None:
            mail = mails.get(message.id)
            if message.id in errors:
                await self._fail(message, errors[message.id], permanent=False)
            elif mail is None:
                await self._skip(message, reasons.get(message.id, "no_recipient"))
            elif self._stop.is_set():
                await self._settle(lambda session: outbox.released(session, message, self._id, self._clock()))
            else:
                await self._send(message, mail)

        # not a task group: what goes wrong with one mail must not cut off another on its way
        for outcome in await asyncio.gather(*map(handle, claimed), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _write_letters(self, claimed: list[Claimed], now: datetime) -> tuple[dict[str, Mail], dict[str, str]]:
        """The batch's mails; if one of them cannot be written, it fails alone."""
        try:
            async with self._database.read() as session:
                return await self._letters.write(session, claimed, now), {}
        except (ConsultError, ValueError, LookupError):
            log.warning("letters_written_one_by_one")
        mails: dict[str, Mail] = {}
        errors: dict[str, str] = {}
        for message in claimed:
            try:
                async with self._database.read() as session:
                    mails |= await self._letters.write(session, [message], now)
            except (ConsultError, ValueError, LookupError) as error:
                errors[message.id] = f"cannot be written: {type(error).__name__}"
        return mails, errors

    async def _send(self, message: Claimed, mail: Mail) -> None:
        try:
            await self._channel.send(mail)
        except DeliveryFailed as failure:
            await self._fail(message, failure.code, permanent=failure.permanent)
            return
        except Exception as error:
            # a channel's bug counts as a failed try: it is seen, and it ends
            await self._fail(message, type(error).__name__, permanent=False)
            return
        self._health.sent += 1
        log.info("mail_sent", message=message.id, rule=message.rule_key, attempts=message.attempts)
        if not await self._settle(lambda session: outbox.sent(session, message.id, self._id, self._clock())):
            log.warning("mail_sent_after_its_lease", message=message.id)

    async def _fail(self, message: Claimed, code: str, *, permanent: bool) -> None:
        self._health.failed += 1
        log.warning(
            "mail_failed",
            message=message.id,
            rule=message.rule_key,
            error=code,
            permanent=permanent,
            attempts=message.attempts,
        )
        await self._settle(
            lambda session: outbox.failed(session, message, self._id, code, self._clock(), permanent=permanent)
        )

    async def _skip(self, message: Claimed, reason: str) -> None:
        self._health.skipped += 1
        log.info("mail_skipped", message=message.id, rule=message.rule_key, reason=reason)
        await self._settle(lambda session: outbox.skipped(session, message.id, self._id, reason))

    async def _settle(self, write: Callable[..., Awaitable[bool]]) -> bool:
        """Record an outcome; keeps trying while the database is away, for as long as that can prevent a repeat."""
        wait_s = FIRST_WAIT_S
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_WITHIN_S
        while True:
            try:
                async with self._database.write() as session:
                    return await write(session)
            except Exception as error:
                if loop.time() + wait_s > deadline:
                    raise
                log.warning("worker_cannot_record", error=type(error).__name__, seconds=wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, LAST_WAIT_S)

    async def _keep_house(self, now: datetime) -> None:
        async with self._database.write() as session:
            expired = await allocation.expire_holds(session, now)
            await admission.forget_tickets(session, now)
            await idempotency.forget(session, now)
            await login_sessions.sweep(session, now)
        if expired:
            log.info("holds_expired", count=expired)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
