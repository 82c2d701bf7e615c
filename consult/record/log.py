"""Writes the session log: events and quality samples in batches, chat lines at once.

What signaling asks of its `Record` (the shapes are matched by structure; the domain does not know signaling). A line
of chat is durable when `chat` returns, because it is shown as delivered then. Events and samples are queued and
written within a second; `stop` writes what is left. When the database is away the queue waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from sqlalchemy import case, func, insert, literal, or_, select, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking.models import Consultation, Participant
from consult.db import Database, UtcDateTime, new_id
from consult.people.accounts import ERASED
from consult.privacy.vault import Vault
from consult.record.models import ChatMessage, QualitySample, SessionEvent
from consult.record.scores import keep_score

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5
BATCH_ROWS = 500
# about an hour of 100 calls; then samples are given up (and counted), events never are
SAMPLES_WAITING_MAX = 250_000
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)
INTEGER_MAX = 2**31 - 1

CHAT_BODY = "chat_message.body"
PARTICIPANT_NAME = "participant.name"


class Sample(Protocol):
    """One direction and source over the last 5 s: signaling's StatsSample."""

    @property
    def direction(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def codec(self) -> str: ...
    @property
    def bitrate_bps(self) -> int: ...
    @property
    def loss(self) -> float | None: ...
    @property
    def rtt_ms(self) -> float | None: ...
    @property
    def jitter_ms(self) -> float | None: ...
    @property
    def width(self) -> int | None: ...
    @property
    def height(self) -> int | None: ...
    @property
    def frames_per_second(self) -> float | None: ...
    @property
    def freezes(self) -> int | None: ...


class Line(Protocol):
    """A chat line as it comes: signaling's ChatLine."""

    @property
    def id(self) -> str: ...
    @property
    def participant(self) -> str: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class KeptLine:
    """A chat line as it was kept. `participant` is the sender's participant id."""

    id: str
    participant: str
    name: str = field(repr=False)
    text: str = field(repr=False)
    at: datetime


@dataclass(frozen=True, slots=True)
class _Row:
    model: type[SessionEvent] | type[QualitySample]
    values: Mapping[str, Any]


class SessionLog:
    """One per process. Use it as an async context, or call `start` and `stop`."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._rows: deque[_Row] = deque()
        self._samples_waiting = 0
        self._accepted = 0
        self._settled = 0
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()
        self._progress = asyncio.Condition()
        self._writer: asyncio.Task[None] | None = None
        self._stopping = False
        self.samples_given_up = 0
        self.rows_refused = 0

    @property
    def rows_waiting(self) -> int:
        """Accepted and not yet in the database (for metrics)."""
        return self._accepted - self._settled

    async def start(self) -> None:
        self._stopping = False
        self._writer = asyncio.create_task(self._write_for_ever(), name="session-log")

    async def stop(self, deadline_seconds: float = 10.0) -> None:
        """Write what is queued, for at most the deadline. Nothing is accepted afterwards."""
        self._stopping = True
        if self._writer is None:
            return
        try:
            async with asyncio.timeout(deadline_seconds):
                await self.flush()
        except TimeoutError:
            logger.error("session log: %d rows could not be written before the stop", self.rows_waiting)
        self._writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._writer
        self._writer = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def flush(self) -> None:
        """Return when everything accepted before this call is in the database."""
        target = self._accepted
        self._hurry.set()
        async with self._progress:
            await self._progress.wait_for(lambda: self._settled >= target)

    async def event(
        self, consultation: str, participant: str | None, at: datetime, kind: str, detail: str = ""
    ) -> None:
        """Accept a line of the log. `detail` is a short code, never personal; `at` is aware (ValueError)."""
        _check_aware(at)
        self._accept(
            _Row(
                SessionEvent,
                {
                    "id": new_id(),
                    "consultation_id": consultation,
                    "participant_id": participant,
                    "at": at,
                    "kind": kind[:24],
                    "detail": detail[:80],
                },
            )
        )

    async def sample(
        self,
        consultation: str,
        participant: str,
        at: datetime,
        measured_by: Literal["relay", "browser"],
        sample: Sample,
    ) -> None:
        """Accept a quality sample; when the database was away for very long, new ones are given up."""
        _check_aware(at)
        if self._samples_waiting >= SAMPLES_WAITING_MAX:
            self.samples_given_up += 1
            return
        self._samples_waiting += 1
        self._accept(
            _Row(
                QualitySample,
                {
                    "id": new_id(),
                    "consultation_id": consultation,
                    "participant_id": participant,
                    "at": at,
                    "measured_by": measured_by,
                    "direction": sample.direction,
                    "kind": sample.kind,
                    "source": sample.source,
                    "codec": sample.codec[:16],
                    # a browser may claim anything; the column holds 32 bits
                    "bitrate_bps": min(sample.bitrate_bps, INTEGER_MAX),
                    "loss": sample.loss,
                    "rtt_ms": sample.rtt_ms,
                    "jitter_ms": sample.jitter_ms,
                    "width": sample.width,
                    "height": sample.height,
                    "frames_per_second": sample.frames_per_second,
                    "freezes": sample.freezes,
                },
            )
        )

    async def chat(self, consultation: str, line: Line, at: datetime) -> bool:
        """Keep a line, durably. False when this id is already kept, or when the sender has no seat here.

        Raises what the database raises: then the line is not kept and the sender must be told."""
        async with self._database.write() as session:
            person_id = (
                await session.execute(
                    select(Participant.person_id).where(
                        Participant.id == line.participant, Participant.consultation_id == consultation
                    )
                )
            ).scalar_one_or_none()
            if person_id is None or await session.get(ChatMessage, (consultation, line.id)) is not None:
                return False
            ring = await self._vault.keyring(session, [person_id])
            body = ring.seal(CHAT_BODY, chat_row(consultation, line.id), person_id, line.text)
            try:
                async with session.begin_nested():
                    session.add(
                        ChatMessage(
                            consultation_id=consultation,
                            id=line.id,
                            participant_id=line.participant,
                            at=at,
                            body_sealed=body,
                        )
                    )
            except IntegrityError:
                return False
        return True

    async def chat_history(self, consultation: str) -> list[KeptLine]:
        """Every kept line in order. Lines of an erased person are left out."""
        async with self._database.read() as session:
            return await chat_history(session, self._vault, consultation)

    def _accept(self, row: _Row) -> None:
        if self._writer is None or self._stopping:
            raise RuntimeError("the session log is not running")
        self._rows.append(row)
        self._accepted += 1
        self._arrived.set()

    async def _write_for_ever(self) -> None:
        failures = 0
        while True:
            await self._arrived.wait()
            if len(self._rows) < BATCH_ROWS:
                await self._gather()
            batch = [self._rows[index] for index in range(min(BATCH_ROWS, len(self._rows)))]
            try:
                await self._write(batch)
            except Exception as error:
                # Whatever it is (drivers raise their own errors while a server starts or stops), the rows stay and
                # the writer lives. Only the name is logged: the text may quote values.
                logger.warning("session log: cannot write now (%s), trying again", type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
                continue
            failures = 0
            for row in batch:
                self._rows.popleft()
                self._samples_waiting -= row.model is QualitySample
            self._settled += len(batch)
            if not self._rows:
                self._arrived.clear()
                self._hurry.clear()
            async with self._progress:
                self._progress.notify_all()

    async def _gather(self) -> None:
        """Let a batch come together, unless somebody waits for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._hurry.wait()

    async def _write(self, batch: Sequence[_Row]) -> None:
        try:
            async with self._database.write() as session:
                await _insert(session, batch)
        except DBAPIError as error:
            if not _is_refusal(error):
                raise
            await self._write_one_by_one(batch)

    async def _write_one_by_one(self, batch: Sequence[_Row]) -> None:
        """Some row cannot be stored (its consultation is unknown, or a retry finds it stored): the others can."""
        for row in batch:
            try:
                async with self._database.write() as session:
                    if await session.get(row.model, row.values["id"]) is None:
                        await _insert(session, [row])
            except DBAPIError as error:
                if not _is_refusal(error):
                    raise
                self.rows_refused += 1
                logger.error(
                    "session log: the database refused a row of %s (%s)",
                    row.model.__tablename__,
                    type(error).__name__,
                )


def _check_aware(at: datetime) -> None:
    """Here, where the caller sees it: in the queue it would stand in everybody's way."""
    if at.tzinfo is None:
        raise ValueError("a moment without a zone")


def _is_refusal(error: DBAPIError) -> bool:
    """The row is at fault and will be again: SQLSTATE classes 22 (data) and 23 (integrity), or a value the driver could
    not encode."""
    if isinstance(error, IntegrityError | DataError):
        return True
    sqlstate = getattr(error.orig, "sqlstate", None) or ""
    return sqlstate[:2] in ("22", "23") or isinstance(getattr(error.orig, "__cause__", None), ValueError)


async def _insert(session: AsyncSession, batch: Sequence[_Row]) -> None:
    for model in (SessionEvent, QualitySample):
        values = [row.values for row in batch if row.model is model]
        if values:
            # without render_nulls every run of rows with other empty columns is a statement of its own
            await session.execute(insert(model).execution_options(render_nulls=True), values)
    # in one order in every process, so that two batches cannot wait for each other's rows
    events = sorted((row.values for row in batch if row.model is SessionEvent), key=lambda row: row["consultation_id"])
    for event in events:
        if event["kind"] in ("started", "ended"):
            await _mark(session, event["consultation_id"], event["kind"], event["at"])
        if event["kind"] in ("left", "ended"):
            await keep_score(session, event["consultation_id"])


async def _mark(session: AsyncSession, consultation: str, kind: str, at: datetime) -> None:
    """Keep the first start and the last end on the consultation itself, where lists find them. One that emptied and
    starts anew has no end yet."""
    statement = update(Consultation).where(Consultation.id == consultation)
    if kind == "started":
        statement = statement.values(
            started_at=func.coalesce(Consultation.started_at, literal(at, UtcDateTime())),
            ended_at=case((Consultation.status == "open", None), else_=Consultation.ended_at),
        )
    else:
        statement = statement.where(or_(Consultation.ended_at.is_(None), Consultation.ended_at < at)).values(
            ended_at=at
        )
    await session.execute(statement.execution_options(synchronize_session=False))


def chat_row(consultation: str, line_id: str) -> str:
    """The row part of a chat line's AAD: its primary key."""
    return f"{consultation}/{line_id}"


async def chat_history(session: AsyncSession, vault: Vault, consultation: str) -> list[KeptLine]:
    rows = (
        await session.execute(
            select(ChatMessage, Participant)
            .join(Participant, Participant.id == ChatMessage.participant_id)
            .where(ChatMessage.consultation_id == consultation)
            .order_by(ChatMessage.at, ChatMessage.id)
        )
    ).all()
    ring = await vault.keyring(session, [participant.person_id for _, participant in rows])
    return [
        KeptLine(
            id=line.id,
            participant=participant.id,
            name=ring.open_or(ERASED, PARTICIPANT_NAME, participant.id, participant.person_id, participant.name_sealed),
            text=ring.open(CHAT_BODY, chat_row(consultation, line.id), participant.person_id, line.body_sealed),
            at=line.at,
        )
        for line, participant in rows
        if participant.person_id in ring
    ]
