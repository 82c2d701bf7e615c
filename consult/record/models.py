"""The record of consultations: events, quality samples, chat, notes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Float, ForeignKey, Index, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from consult.db import ID_LENGTH, Base, new_id


class SessionEvent(Base):
    """One line of the session log. `kind`: waiting, admitted, joined, left, reconnecting, reconnected, route, codec,
    started, ended, media_restarted. `detail` is a short code (e.g. `udp`, `relayed`, `VP8`, `socket_lost`), never
    personal."""

    __tablename__ = "session_event"
    __table_args__ = (Index("ix_session_event_consultation", "consultation_id", "at"),)

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    consultation_id: Mapped[str] = mapped_column(ForeignKey("consultation.id", ondelete="RESTRICT"))
    participant_id: Mapped[str | None] = mapped_column(ForeignKey("participant.id", ondelete="RESTRICT"))
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(24))
    detail: Mapped[str] = mapped_column(String(80), default="")


class QualitySample(Base):
    """Every 5 s, per participant, direction and source. `publish` is towards the relay, `subscribe` from it."""

    __tablename__ = "quality_sample"
    __table_args__ = (Index("ix_quality_sample_consultation", "consultation_id", "at"),)

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    consultation_id: Mapped[str] = mapped_column(ForeignKey("consultation.id", ondelete="RESTRICT"))
    participant_id: Mapped[str] = mapped_column(ForeignKey("participant.id", ondelete="RESTRICT"))
    at: Mapped[datetime]
    measured_by: Mapped[str] = mapped_column(String(8))  # relay | browser
    direction: Mapped[str] = mapped_column(String(10))
    kind: Mapped[str] = mapped_column(String(5))
    source: Mapped[str] = mapped_column(String(16))
    codec: Mapped[str] = mapped_column(String(16), default="")
    bitrate_bps: Mapped[int] = mapped_column(Integer)
    loss: Mapped[float | None] = mapped_column(Float)  # 0..1
    rtt_ms: Mapped[float | None] = mapped_column(Float)
    jitter_ms: Mapped[float | None] = mapped_column(Float)
    width: Mapped[int | None] = mapped_column(Integer)
    height: Mapped[int | None] = mapped_column(Integer)
    frames_per_second: Mapped[float | None] = mapped_column(Float)
    freezes: Mapped[int | None] = mapped_column(Integer)  # in this interval


class ChatMessage(Base):
    """`body_sealed` is under the sender's key. The page chooses `id`: the same id again is the same line."""

    __tablename__ = "chat_message"
    __table_args__ = (Index("ix_chat_message_consultation", "consultation_id", "at"),)

    consultation_id: Mapped[str] = mapped_column(ForeignKey("consultation.id", ondelete="RESTRICT"), primary_key=True)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    participant_id: Mapped[str] = mapped_column(ForeignKey("participant.id", ondelete="RESTRICT"))
    at: Mapped[datetime]
    body_sealed: Mapped[bytes] = mapped_column(LargeBinary)


class Note(Base):
    """A specialist's private note; sealed under the client's key, so erasing the client erases it."""

    __tablename__ = "note"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    consultation_id: Mapped[str] = mapped_column(ForeignKey("consultation.id", ondelete="RESTRICT"), index=True)
    author_id: Mapped[str] = mapped_column(ForeignKey("account.person_id", ondelete="RESTRICT"))
    subject_id: Mapped[str] = mapped_column(ForeignKey("person.id", ondelete="RESTRICT"))
    body_sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
