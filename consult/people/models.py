"""Practices and the people in them. Columns named `*_sealed` hold vault ciphertext, `*_index` a blind index."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from consult.db import ID_LENGTH, Base, new_id


class Practice(Base):
    """The owner of everything: several practices can share one server and nothing crosses."""

    __tablename__ = "practice"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    slug: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    zone: Mapped[str] = mapped_column(String(64))  # IANA
    language: Mapped[str] = mapped_column(String(8), default="en")
    created_at: Mapped[datetime]


class Person(Base):
    """Anyone we hold personal data of: client, specialist, or admin. Each has a data key of their own."""

    __tablename__ = "person"
    __table_args__ = (Index("ix_person_email", "practice_id", "email_index"),)

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    practice_id: Mapped[str] = mapped_column(ForeignKey("practice.id", ondelete="RESTRICT"))
    name_sealed: Mapped[bytes] = mapped_column(LargeBinary)
    email_sealed: Mapped[bytes] = mapped_column(LargeBinary)
    email_index: Mapped[bytes] = mapped_column(LargeBinary(32))
    zone: Mapped[str] = mapped_column(String(64))
    language: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[datetime]


class DataKey(Base):
    """A person's AES-256 data key, wrapped by the key-encryption key of `kek_version`."""

    __tablename__ = "data_key"
    __table_args__ = (UniqueConstraint("person_id", "version"),)

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    # deferred: the key seals the person's own row, so the two are written together in either order
    person_id: Mapped[str] = mapped_column(
        ForeignKey("person.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED")
    )
    version: Mapped[int] = mapped_column(Integer, default=1)
    kek_version: Mapped[int] = mapped_column(Integer)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]


class Account(Base):
    """A person who can sign in. One account has one role."""

    __tablename__ = "account"
    # a sign-in finds its account by e-mail alone, whatever the practice: unique over the server
    __table_args__ = (UniqueConstraint("email_index"),)

    person_id: Mapped[str] = mapped_column(ForeignKey("person.id", ondelete="CASCADE"), primary_key=True)
    practice_id: Mapped[str] = mapped_column(ForeignKey("practice.id", ondelete="RESTRICT"), index=True)
    role: Mapped[str] = mapped_column(String(16))  # specialist | admin
    email_index: Mapped[bytes] = mapped_column(LargeBinary(32))
    password_hash: Mapped[str] = mapped_column(String(200))
    totp_secret_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    totp_confirmed_at: Mapped[datetime | None]
    # the last accepted 30 s step: a code is good once (RFC 6238 section 5.2)
    totp_last_step: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    disabled_at: Mapped[datetime | None]
    last_login_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class LoginSession(Base):
    """A server-side session. `id` is SHA-256 of the cookie's token: a stolen table opens nothing."""

    __tablename__ = "login_session"

    id: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("account.person_id", ondelete="CASCADE"), index=True)
    # password_ok (TOTP or its enrolment still to come) | full
    stage: Mapped[str] = mapped_column(String(16))
    csrf_token: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class ApiToken(Base):
    """A bearer token of the REST API, stored as SHA-256."""

    __tablename__ = "api_token"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True, default=new_id)
    practice_id: Mapped[str] = mapped_column(ForeignKey("practice.id", ondelete="RESTRICT"), index=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    label: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Specialist(Base):
    """The public side of a person who can be booked. The name stays sealed on the person."""

    __tablename__ = "specialist"
    __table_args__ = (UniqueConstraint("practice_id", "slug"),)

    id: Mapped[str] = mapped_column(ForeignKey("person.id", ondelete="RESTRICT"), primary_key=True)
    practice_id: Mapped[str] = mapped_column(ForeignKey("practice.id", ondelete="RESTRICT"))
    slug: Mapped[str] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(String(120), default="")
    about: Mapped[str] = mapped_column(Text, default="")
    zone: Mapped[str] = mapped_column(String(64))  # weekly hours are wall-clock time in this zone
    bookable: Mapped[bool] = mapped_column(Boolean, default=True, server_default=text("true"))
