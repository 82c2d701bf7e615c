"""Reading the session log: lists with filters for the desk and the admin, and one session in full.

Everything is scoped: by practice always, by specialist for a specialist. What is out of scope is not found.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    func,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from consult.booking.admission import OVERRUN, closing
from consult.booking.models import Booking, Consultation, Participant, Service
from consult.db import is_id
from consult.errors import Invalid, NotFound, Problem
from consult.people.accounts import ERASED, person_names
from consult.privacy.vault import Vault
from consult.record import quality
from consult.record.log import PARTICIPANT_NAME
from consult.record.models import QualitySample, SessionEvent
from consult.record.scores import score_of
from consult.record.timeline import EventLine, ParticipantLog, ended_at, participant_logs

Status = Literal["upcoming", "open", "live", "ended", "missed", "cancelled"]
STATUSES: tuple[Status, ...] = ("upcoming", "open", "live", "ended", "missed", "cancelled")
PAGE_SIZE = 50
PAGE_SIZE_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose sessions may be seen: the practice's, or only those of one specialist."""

    practice_id: str
    specialist_id: str | None = None


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """since ≤ start < until (aware); None = no limit. Without a status, upcoming sessions are left out."""

    since: datetime | None = None
    until: datetime | None = None
    specialist_id: str | None = None
    status: Status | None = None
    quality: quality.Verdict | None = None


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One line of the list. `start` is the planned one of a booking, else when it was opened. `verdict` comes with the
    first leave; a session in full has it from the first sample on."""

    id: str
    booking_id: str | None
    service: str | None
    specialist_id: str | None
    specialist: str | None = field(repr=False)
    encryption: str
    status: Status
    opens_at: datetime
    start: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: int | None
    people: int  # who were in it at least once
    verdict: quality.Verdict | None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """`after` is the cursor of the next page, None on the last."""

    rows: tuple[SessionRow, ...]
    after: str | None


@dataclass(frozen=True, slots=True)
class Series:
    """The 5 s samples of one participant, direction and source, as measured by one side, in order."""

    participant_id: str
    direction: str
    kind: str
    source: str
    measured_by: str
    samples: tuple[quality.Sample, ...]


@dataclass(frozen=True, slots=True)
class SessionDetail:
    """One session in full."""

    row: SessionRow
    opens_at: datetime
    closes_at: datetime
    participants: tuple[ParticipantLog, ...]
    events: tuple[EventLine, ...]
    series: tuple[Series, ...]


async def list_sessions(
    session: AsyncSession,
    vault: Vault,
    scope: Scope,
    wanted: SessionFilter,
    now: datetime,
    *,
    after: str | None = None,
    limit: int = PAGE_SIZE,
) -> SessionPage:
    """Newest first; pages by cursor, so that new sessions move nothing. Raises Invalid (/after) for a bad cursor."""
    limit = max(1, min(limit, PAGE_SIZE_MAX))
    statement = (
        _scoped(scope, Consultation.quality_score)
        .order_by(Consultation.opens_at.desc(), Consultation.id.desc())
        .limit(limit + 1)  # one more tells whether there is a next page
    )
    # rooms open a little before the start: the second condition is the one that an index answers
    if wanted.since is not None:
        statement = statement.where(wanted.since <= _START, Consultation.opens_at >= wanted.since - timedelta(days=1))
    if wanted.until is not None:
        statement = statement.where(wanted.until > _START, Consultation.opens_at < wanted.until)
    if wanted.specialist_id is not None:
        if not is_id(wanted.specialist_id):
            return SessionPage((), None)
        statement = statement.where(Consultation.specialist_id == wanted.specialist_id)
    statement = statement.where(
        _has_status(wanted.status, now) if wanted.status is not None else ~_has_status("upcoming", now)
    )
    if wanted.quality is not None:
        statement = statement.where(_has_verdict(wanted.quality))
    if after is not None:
        moment, last_id = _read_cursor(after)
        opens_at = Consultation.opens_at
        statement = statement.where(or_(opens_at < moment, and_(opens_at == moment, Consultation.id < last_id)))
    found = (await session.execute(statement)).all()
    rows = await _rows(session, vault, found[:limit], now)
    more = len(found) > limit
    return SessionPage(tuple(rows), _cursor(rows[-1]) if more else None)


async def get_session(
    session: AsyncSession, vault: Vault, scope: Scope, consultation_id: str, now: datetime
) -> SessionDetail:
    """Everything about one session. Raises NotFound, also when it is out of scope."""
    if not is_id(consultation_id):
        raise NotFound("There is no such session.")
    found = (
        await session.execute(_scoped(scope, score_of(consultation_id)).where(Consultation.id == consultation_id))
    ).first()
    if found is None:
        raise NotFound("There is no such session.")
    consultation: Consultation = found[0]
    (row,) = await _rows(session, vault, [found], now)
    seats = (
        (
            await session.execute(
                select(Participant)
                .where(Participant.consultation_id == consultation_id)
                .order_by(Participant.created_at, Participant.id)
            )
        )
        .scalars()
        .all()
    )
    ring = await vault.keyring(session, [seat.person_id for seat in seats])
    names = {
        seat.id: ring.open_or(ERASED, PARTICIPANT_NAME, seat.id, seat.person_id, seat.name_sealed) for seat in seats
    }
    events = [
        EventLine(event.at, event.kind, event.detail, event.participant_id, names.get(event.participant_id or ""))
        for event in (
            await session.execute(
                select(SessionEvent)
                .where(SessionEvent.consultation_id == consultation_id)
                .order_by(SessionEvent.at, SessionEvent.id)
            )
        ).scalars()
    ]
    series = await _series(session, consultation_id)
    samples = {
        seat.id: [sample for one in series if one.participant_id == seat.id for sample in one.samples] for seat in seats
    }
    over = row.ended_at if row.status not in ("live", "open") else None
    return SessionDetail(
        row=row,
        opens_at=consultation.opens_at,
        closes_at=consultation.closes_at,
        participants=tuple(participant_logs([(s.id, names[s.id], s.role) for s in seats], events, samples, over)),
        events=tuple(events),
        series=tuple(series),
    )


_START: ColumnElement[datetime] = func.coalesce(Booking.starts_at, Consultation.opens_at)


def _scoped(scope: Scope, score: ColumnElement[Any] | InstrumentedAttribute[Any]) -> Select[Any]:
    people = (
        select(func.count(SessionEvent.participant_id.distinct()))
        .where(SessionEvent.consultation_id == Consultation.id, SessionEvent.kind == "joined")
        .correlate(Consultation)
        .scalar_subquery()
    )
    statement = (
        select(Consultation, Booking.status, Service.name, _START.label("start"), people.label("people"), score)
        .outerjoin(Booking, Booking.id == Consultation.booking_id)
        .outerjoin(Service, Service.id == Booking.service_id)
        .where(Consultation.practice_id == scope.practice_id)
    )
    if scope.specialist_id is not None:
        statement = statement.where(Consultation.specialist_id == scope.specialist_id)
    return statement


def _has_verdict(wanted: quality.Verdict) -> ColumnElement[bool]:
    score = Consultation.quality_score
    if wanted == "good":
        return score >= quality.GOOD
    if wanted == "non_optimal":
        return and_(score >= quality.NON_OPTIMAL, score < quality.GOOD)
    if wanted == "poor":
        return and_(score >= quality.POOR, score < quality.NON_OPTIMAL)
    return score < quality.POOR


def _has_status(status: Status, now: datetime) -> ColumnElement[bool]:
    """The SQL of `_status`."""
    cancelled = or_(Consultation.status == "cancelled", func.coalesce(Booking.status, "") == "cancelled")
    started = Consultation.started_at.is_not(None)
    over = or_(
        Consultation.status == "ended",
        and_(~started, Consultation.closes_at <= now),
        Consultation.closes_at <= now - OVERRUN,
    )
    if status == "cancelled":
        return cancelled
    if status == "upcoming":
        return and_(~cancelled, ~over, ~started, Consultation.opens_at > now)
    if status == "open":
        return and_(~cancelled, ~over, ~started, Consultation.opens_at <= now)
    live = and_(started, ~over, Consultation.ended_at.is_(None))
    if status == "live":
        return and_(~cancelled, live)
    if status == "missed":
        return and_(~cancelled, over, ~started)
    return and_(~cancelled, started, ~live)


def _status(consultation: Consultation, booking_status: str | None, now: datetime) -> Status:
    """live: two people are in it. ended: they were. missed: it closed before. A session that emptied but may still be
    entered again counts as ended."""
    if "cancelled" in (consultation.status, booking_status):
        return "cancelled"
    over = consultation.status == "ended" or closing(consultation) <= now
    if consultation.started_at is None:
        if over:
            return "missed"
        return "upcoming" if consultation.opens_at > now else "open"
    return "live" if not over and consultation.ended_at is None else "ended"


async def _rows(session: AsyncSession, vault: Vault, found: Sequence[Any], now: datetime) -> list[SessionRow]:
    specialists = {row[0].specialist_id for row in found if row[0].specialist_id is not None}
    names = await person_names(session, vault, specialists)
    rows = []
    for consultation, booking_status, service, start, people, score in found:
        status = _status(consultation, booking_status, now)
        end = ended_at(consultation.ended_at, consultation.closes_at) if status == "ended" else None
        duration = None
        if consultation.started_at is not None and (end is not None or status == "live"):
            duration = max(0, int(((end or now) - consultation.started_at).total_seconds()))
        rows.append(
            SessionRow(
                id=consultation.id,
                booking_id=consultation.booking_id,
                service=service,
                specialist_id=consultation.specialist_id,
                specialist=names.get(consultation.specialist_id, ERASED) if consultation.specialist_id else None,
                encryption=consultation.encryption,
                status=status,
                opens_at=consultation.opens_at,
                start=start,
                started_at=consultation.started_at,
                ended_at=end,
                duration_seconds=duration,
                people=people,
                verdict=quality.verdict(score),
            )
        )
    return rows


async def _series(session: AsyncSession, consultation_id: str) -> list[Series]:
    columns = [getattr(QualitySample, name) for name in quality.Sample._fields]
    rows = await session.execute(
        select(QualitySample.participant_id, *columns)
        .where(QualitySample.consultation_id == consultation_id)
        .order_by(QualitySample.at, QualitySample.id)
    )
    found: dict[tuple[str, str, str, str, str], list[quality.Sample]] = {}
    for participant_id, *values in rows:
        sample = quality.Sample(*values)
        key = (participant_id, sample.direction, sample.kind, sample.source, sample.measured_by)
        found.setdefault(key, []).append(sample)
    return [Series(*key, samples=tuple(samples)) for key, samples in sorted(found.items())]


def _cursor(row: SessionRow) -> str:
    return base64.urlsafe_b64encode(f"{row.opens_at.astimezone(UTC).isoformat()}|{row.id}".encode()).decode("ascii")


def _read_cursor(text: str) -> tuple[datetime, str]:
    try:
        moment, _, last_id = base64.urlsafe_b64decode(text.encode("ascii")).decode("ascii").partition("|")
        parsed = datetime.fromisoformat(moment)
    except (ValueError, binascii.Error):
        parsed, last_id = None, ""
    if parsed is None or parsed.tzinfo is None or not is_id(last_id):
        raise Invalid([Problem("/after", "invalid", "This page of the list is not known. Please start again.")])
    return parsed, last_id
