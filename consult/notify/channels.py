"""Ways out: SMTP, or files where no mail server is configured. Both send the same message with the same Message-ID
however often they are asked to."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib
import structlog

from consult.errors import ConsultError
from consult.notify.templates import Letter
from consult.settings import Settings, is_loopback

log = structlog.get_logger("consult.notify")

# connecting, greeting and each command; RFC 5321 section 4.5.3.2 allows minutes, a lease does not
TIMEOUT_S = 20
# a whole conversation; well inside the outbox's lease
CONVERSATION_TIMEOUT_S = 60
_FILE_NAME = re.compile(r"[0-9A-Za-z_-]{1,64}")


class DeliveryFailed(ConsultError):
    """`code` says what happened without personal data; `permanent`: trying again cannot help."""

    def __init__(self, code: str, *, permanent: bool) -> None:
        super().__init__(code)
        self.code = code
        self.permanent = permanent


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarPart:
    content: bytes
    method: str  # PUBLISH | CANCEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One message to one address. `id` is the outbox row's: it makes the Message-ID, so a repeat is recognised."""

    id: str
    host: str  # of the public URL
    to_name: str
    to_address: str
    from_name: str
    language: str
    letter: Letter
    calendar: CalendarPart | None
    date: datetime

    @property
    def message_id(self) -> str:
        return f"<{self.id}@{self.host}>"


class Channel(Protocol):
    @property
    def sender(self) -> str:
        """The address that messages come from."""
        ...

    async def send(self, mail: Mail) -> None:
        """Returns once the message is somebody else's to deliver. Raises DeliveryFailed."""
        ...


def build_message(mail: Mail, sender: str) -> EmailMessage:
    """The MIME message. Names and subjects are made one line: nothing a person typed can add a header.

    Raises DeliveryFailed for an address that cannot stand in a header."""
    address = ascii_domain(mail.to_address)
    message = EmailMessage(policy=SMTP if address.isascii() else SMTPUTF8)
    try:
        message["From"] = Address(_line(mail.from_name), addr_spec=sender)
        message["To"] = Address(_line(mail.to_name), addr_spec=address)
    except (ValueError, IndexError, HeaderParseError):
        raise DeliveryFailed("bad_address", permanent=True) from None
    message["Subject"] = _line(mail.letter.subject)
    message["Date"] = format_datetime(mail.date.astimezone(UTC))
    message["Message-ID"] = mail.message_id
    # RFC 3834: no holiday notes to a machine
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(mail.letter.plain)
    message.add_alternative(mail.letter.html, subtype="html")
    if mail.calendar is not None:
        message.add_attachment(
            mail.calendar.content,
            maintype="text",
            subtype="calendar",
            filename="appointment.ics",
            params={"method": mail.calendar.method, "charset": "utf-8"},
        )
    # last: set_content and its like take Content- headers for their own
    message["Content-Language"] = mail.language
    return message


def ascii_domain(address: str) -> str:
    """The address with its domain as IDNA. Raises DeliveryFailed."""
    local, _, domain = address.rpartition("@")
    try:
        return f"{local}@{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        raise DeliveryFailed("bad_address", permanent=True) from None


class MailChannel:
    """SMTP: `smtp://` takes STARTTLS whenever the server offers it, and needs it before a password is sent to another
    machine; `smtps://` is TLS from the start. Certificates are checked."""

    def __init__(self, smtp_url: str, sender: str, *, tls_context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(smtp_url)
        assert parts.hostname is not None, "settings checked it"
        self._host = parts.hostname
        self._tls = parts.scheme == "smtps"
        self._port = parts.port or (465 if self._tls else 587 if parts.username else 25)
        self._username = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        self._start_tls = True if self._username and not self._tls and not is_loopback(self._host) else None
        self.sender = sender
        self._tls_context = tls_context

    async def send(self, mail: Mail) -> None:
        message = build_message(mail, self.sender)
        try:
            async with asyncio.timeout(CONVERSATION_TIMEOUT_S):
                await aiosmtplib.send(
                    message,
                    sender=self.sender,
                    recipients=[ascii_domain(mail.to_address)],
                    hostname=self._host,
                    port=self._port,
                    username=self._username,
                    password=self._password,
                    use_tls=self._tls,
                    start_tls=None if self._tls else self._start_tls,
                    tls_context=self._tls_context,
                    timeout=TIMEOUT_S,
                )
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            raise _failure(error) from None


class FileChannel:
    """Writes DIR/<id>.eml, whole or not at all; a repeat replaces the file by the same message. The links go to the
    log: this is the channel of a machine that cannot send mail yet."""

    def __init__(self, directory: Path, sender: str) -> None:
        self._directory = directory
        self.sender = sender

    async def send(self, mail: Mail) -> None:
        if not _FILE_NAME.fullmatch(mail.id):
            raise DeliveryFailed("bad_id", permanent=True)
        content = build_message(mail, self.sender).as_bytes()
        try:
            path = await asyncio.to_thread(self._write, mail.id, content)
        except OSError as error:
            raise DeliveryFailed(f"file {error.errno}", permanent=False) from None
        log.info("mail_written", file=str(path), links=list(mail.letter.links))

    def _write(self, name: str, content: bytes) -> Path:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / f"{name}.eml"
        # two workers may write one message at once: each has a file of its own until the rename
        temporary = self._directory / f".{name}.{os.getpid()}.{id(content)}"
        try:
            # personal data: for the owner only
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path


def mail_channel(settings: Settings) -> Channel:
    """SMTP when CONSULT_SMTP_URL is set, else files under DIR/outbox."""
    if settings.smtp_url is not None:
        return MailChannel(settings.smtp_url, settings.mail_from)
    return FileChannel(settings.data_dir / "outbox", settings.mail_from)


def _failure(error: Exception) -> DeliveryFailed:
    """What to record. A reply of 5xx about this message or its recipient is final (RFC 5321 section 4.2.1); one about
    us (log-in, sender) is for the admin to mend, so it is tried again."""
    match error:
        case aiosmtplib.SMTPRecipientsRefused():
            codes = [refused.code for refused in error.recipients]
            code = max(codes, default=550)
            return DeliveryFailed(f"recipient refused {code}", permanent=code >= 500)
        case aiosmtplib.SMTPAuthenticationError() | aiosmtplib.SMTPSenderRefused():
            return DeliveryFailed(f"{type(error).__name__} {error.code}", permanent=False)
        case aiosmtplib.SMTPDataError():
            return DeliveryFailed(f"message refused {error.code}", permanent=error.code >= 500)
        case aiosmtplib.SMTPResponseException():
            return DeliveryFailed(f"{type(error).__name__} {error.code}", permanent=False)
        case aiosmtplib.SMTPNotSupported():
            return DeliveryFailed("not supported by the server", permanent=False)
        case OSError() | aiosmtplib.SMTPException():
            # also TLS that does not verify, whose exception is a ValueError, too
            return DeliveryFailed(type(error).__name__, permanent=False)
        case _:
            return DeliveryFailed("not a mail", permanent=True)


def _line(text: str) -> str:
    kept = "".join(" " if unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else sign for sign in text)
    return " ".join(kept.split())
