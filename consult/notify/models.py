"""Reminder rules and the outbox. Mail leaves through the worker only."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, CheckConstraint, ForeignKey, Index, Integer, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from consult.db import ID_LENGTH, Base, new_id


class ReminderRule(Base):
    """A reminder `minutes_before` the start, for every booking of the practice."""

    __tablename__ = "reminder_rule"
    __table_args__ = (UniqueConstraint("practice_id", "minutes_before", "channel"),)

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    practice_id: Mapped[str] = mapped_column(ForeignKey("practice.id", ondelete="CASCADE"))
    minutes_before: Mapped[int] = mapped_column(Integer)
    channel: Mapped[str] = mapped_column(String(16), default="email")
    enabled: Mapped[bool] = mapped_column(Boolean, default=True, server_default=text("true"))


class OutboxMessage(Base):
    """One message to one recipient, written in the transaction that causes it.

    `rule_key` names why: `confirmed`, `rescheduled`, `cancelled` or `reminder:<minutes_before>` to the client, the same
    behind `specialist:` to the specialist. One row per booking version, rule, channel and recipient;
    `booking_sequence` tells the versions of a rescheduled booking apart. It holds no text and no link: both are made
    from the booking when the message leaves.
    """

    __tablename__ = "outbox_message"
    __table_args__ = (
        UniqueConstraint("booking_id", "booking_sequence", "rule_key", "channel", "recipient_id"),
        CheckConstraint("status IN ('planned', 'claimed', 'sent', 'cancelled', 'skipped', 'failed')", name="status"),
        Index("ix_outbox_due", "status", "attempt_at"),
    )

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    practice_id: Mapped[str] = mapped_column(ForeignKey("practice.id", ondelete="RESTRICT"))
    booking_id: Mapped[str] = mapped_column(ForeignKey("booking.id", ondelete="CASCADE"), index=True)
    booking_sequence: Mapped[int] = mapped_column(Integer)
    recipient_id: Mapped[str] = mapped_column(ForeignKey("person.id", ondelete="RESTRICT"))
    rule_key: Mapped[str] = mapped_column(String(40))
    channel: Mapped[str] = mapped_column(String(16))
    due_at: Mapped[datetime]
    # when a worker may next take it: the due time; then the end of a claim's lease; then the end of the back-off
    attempt_at: Mapped[datetime]
    status: Mapped[str] = mapped_column(String(16), default="planned")
    claimed_by: Mapped[str | None] = mapped_column(String(64))
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    sent_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(String(200))  # a code and the server's reply class; no addresses
    created_at: Mapped[datetime]
