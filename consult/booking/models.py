"""Services, availability, bookings, and the way into a consultation (participants and join tickets)."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import (
    DDL,
    Boolean,
    CheckConstraint,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column

from consult.db import ID_LENGTH, Base, UtcDateTime, new_id

# rows in these states occupy the specialist's time
BLOCKING_STATUSES = ("held", "pending", "confirmed")


class Service(Base):
    __tablename__ = "service"
    __table_args__ = (UniqueConstraint("practice_id", "slug"),)

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    practice_id: Mapped[str] = mapped_column(ForeignKey("practice.id", ondelete="RESTRICT"))
    slug: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text, default="")
    duration_minutes: Mapped[int] = mapped_column(Integer)
    # distance between two offered starts
    step_minutes: Mapped[int] = mapped_column(Integer, default=30)
    buffer_before_minutes: Mapped[int] = mapped_column(Integer, default=0)
    buffer_after_minutes: Mapped[int] = mapped_column(Integer, default=0)
    minimum_notice_minutes: Mapped[int] = mapped_column(Integer, default=60)
    horizon_days: Mapped[int] = mapped_column(Integer, default=60)
    # how late a client may still cancel or reschedule
    change_deadline_minutes: Mapped[int] = mapped_column(Integer, default=120)
    active: Mapped[bool] = mapped_column(Boolean, default=True, server_default=text("true"))
    created_at: Mapped[datetime]


class ServiceSpecialist(Base):
    """Who offers which service."""

    __tablename__ = "service_specialist"

    service_id: Mapped[str] = mapped_column(ForeignKey("service.id", ondelete="CASCADE"), primary_key=True)
    specialist_id: Mapped[str] = mapped_column(
        ForeignKey("specialist.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class WeeklyHours(Base):
    """Open hours of one weekday, wall-clock minutes after midnight in the specialist's zone (end ≤ 1440)."""

    __tablename__ = "weekly_hours"
    __table_args__ = (
        CheckConstraint("weekday BETWEEN 0 AND 6", name="weekday"),
        CheckConstraint("start_minute >= 0 AND start_minute < end_minute AND end_minute <= 1440", name="range"),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    specialist_id: Mapped[str] = mapped_column(ForeignKey("specialist.id", ondelete="CASCADE"), index=True)
    weekday: Mapped[int] = mapped_column(Integer)  # 0 = Monday
    start_minute: Mapped[int] = mapped_column(Integer)
    end_minute: Mapped[int] = mapped_column(Integer)


class DateException(Base):
    """Replaces the weekly hours of one date: both minutes null = closed, else open then (several rows allowed)."""

    __tablename__ = "date_exception"
    __table_args__ = (
        CheckConstraint(
            "(start_minute IS NULL AND end_minute IS NULL) OR "
            "(start_minute >= 0 AND start_minute < end_minute AND end_minute <= 1440)",
            name="range",
        ),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    specialist_id: Mapped[str] = mapped_column(ForeignKey("specialist.id", ondelete="CASCADE"), index=True)
    day: Mapped[date] = mapped_column(Date)
    start_minute: Mapped[int | None] = mapped_column(Integer)
    end_minute: Mapped[int | None] = mapped_column(Integer)


class Booking(Base):
    """One appointment. consult/booking/bookings.py is the only writer.

    [blocks_from, blocks_until) is the time with buffers that nothing else may touch: an exclusion constraint on
    PostgreSQL, a re-check inside BEGIN IMMEDIATE on SQLite.
    """

    __tablename__ = "booking"
    __table_args__ = (
        CheckConstraint(
            "status IN ('held', 'pending', 'confirmed', 'cancelled', 'completed', 'no_show', 'expired')", name="status"
        ),
        CheckConstraint("starts_at < ends_at", name="range"),
        Index("ix_booking_specialist_time", "specialist_id", "blocks_from", "blocks_until"),
        ExcludeConstraint(
            (text("specialist_id"), "="),
            (text("tstzrange(blocks_from, blocks_until)"), "&&"),
            where=text("status IN ('held', 'pending', 'confirmed')"),
            using="gist",
            name="ex_booking_no_overlap",
        ).ddl_if(dialect="postgresql"),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    practice_id: Mapped[str] = mapped_column(ForeignKey("practice.id", ondelete="RESTRICT"), index=True)
    service_id: Mapped[str] = mapped_column(ForeignKey("service.id", ondelete="RESTRICT"))
    specialist_id: Mapped[str] = mapped_column(ForeignKey("specialist.id", ondelete="RESTRICT"))
    client_id: Mapped[str | None] = mapped_column(ForeignKey("person.id", ondelete="RESTRICT"), index=True)
    status: Mapped[str] = mapped_column(String(16))
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    blocks_from: Mapped[datetime]
    blocks_until: Mapped[datetime]
    held_until: Mapped[datetime | None]
    zone: Mapped[str] = mapped_column(String(64))  # the client's, for pages and mail
    language: Mapped[str] = mapped_column(String(8))
    reason_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)  # answers as JSON, under the client's key
    consented_at: Mapped[datetime | None]
    sequence: Mapped[int] = mapped_column(Integer, default=0)  # iCalendar SEQUENCE: grows with every change
    cancelled_by: Mapped[str | None] = mapped_column(String(16))  # client | specialist | admin
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


# `=` on a text column inside a GiST constraint is the extension's; PostgreSQL trusts a database owner to create it
event.listen(
    Booking.__table__,
    "before_create",
    DDL("CREATE EXTENSION IF NOT EXISTS btree_gist").execute_if(dialect="postgresql"),  # type: ignore[no-untyped-call]
)


class IdempotencyKey(Base):
    """A repeated POST with the same Idempotency-Key gets the first answer, made anew from the booking.

    Both hashes are keyed, so a stolen table does not tell who booked what.
    """

    __tablename__ = "idempotency_key"

    key_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    practice_id: Mapped[str] = mapped_column(ForeignKey("practice.id", ondelete="CASCADE"), primary_key=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    booking_id: Mapped[str | None] = mapped_column(ForeignKey("booking.id", ondelete="CASCADE"))
    created_at: Mapped[datetime]


class Consultation(Base):
    """A session that can be joined: of a booking, or ad hoc over the API (booking_id null)."""

    __tablename__ = "consultation"
    __table_args__ = (
        CheckConstraint("encryption IN ('end_to_end', 'transport')", name="encryption"),
        CheckConstraint("status IN ('open', 'ended', 'cancelled')", name="status"),
        Index("ix_consultation_practice_time", "practice_id", "opens_at"),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    practice_id: Mapped[str] = mapped_column(ForeignKey("practice.id", ondelete="RESTRICT"))
    booking_id: Mapped[str | None] = mapped_column(ForeignKey("booking.id", ondelete="RESTRICT"), unique=True)
    specialist_id: Mapped[str | None] = mapped_column(ForeignKey("specialist.id", ondelete="RESTRICT"), index=True)
    encryption: Mapped[str] = mapped_column(String(16), default="end_to_end")
    status: Mapped[str] = mapped_column(String(16), default="open")
    opens_at: Mapped[datetime]  # the join window
    closes_at: Mapped[datetime]
    started_at: Mapped[datetime | None]  # two people were in the call
    ended_at: Mapped[datetime | None]
    # the worst stream's share of what it should be, kept when somebody leaves (consult/record/scores.py)
    quality_score: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime(), index=True)


class Participant(Base):
    """A seat in a consultation. The join link's token is `Vault.capability` of the id: derived, never stored."""

    __tablename__ = "participant"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    consultation_id: Mapped[str] = mapped_column(ForeignKey("consultation.id", ondelete="RESTRICT"), index=True)
    # whose key seals the name; a guest of the API has a person of their own
    person_id: Mapped[str] = mapped_column(ForeignKey("person.id", ondelete="RESTRICT"), index=True)
    role: Mapped[str] = mapped_column(String(16))  # specialist | client | participant | viewer
    name_sealed: Mapped[bytes] = mapped_column(LargeBinary)
    # set once the specialist let them in: a server restart does not send anybody back to the waiting room
    admitted_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class JoinTicket(Base):
    """Opens one WebSocket: single use, at most 5 minutes old, stored as SHA-256."""

    __tablename__ = "join_ticket"

    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    participant_id: Mapped[str] = mapped_column(ForeignKey("participant.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
