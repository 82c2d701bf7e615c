"""What a client asks for, checked field by field before any row is touched."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from consult.booking.slots import is_zone
from consult.errors import Problem

NAME_MAX = 120
EMAIL_MAX = 254  # RFC 5321 section 4.5.3.1.3, without the brackets
ANSWERS_MAX = 20
ANSWER_KEY_MAX = 64
ANSWER_MAX = 4_000
IDEMPOTENCY_KEY_MAX = 255
# further away no service is offered, and arithmetic with the calendar's last year would overflow
START_RANGE = timedelta(days=1_000)

_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ANSWER_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# joiners of Persian and Indic names and of emoji; other invisible signs could make a name look like another
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True, slots=True, kw_only=True)
class BookingRequest:
    """A wish as it came in: nothing here is trusted. `start` is aware or ISO 8601 text with an offset.

    `specialist` None or "any": whoever is free. `hold` is the token of a slot held before."""

    practice_id: str
    service: str
    start: datetime | str
    zone: str
    name: str
    email: str
    specialist: str | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    consent: bool = False
    language: str = "en"
    hold: str | None = None
    idempotency_key: str | None = None

    def fingerprint(self) -> str:
        """SHA-256 over everything that makes two requests the same, for an Idempotency-Key."""
        content = [
            self.practice_id,
            self.service,
            self.specialist,
            self.start.astimezone(UTC).isoformat() if isinstance(self.start, datetime) else self.start,
            self.zone,
            self.name,
            self.email,
            sorted(self.answers.items()),
            self.consent,
        ]
        text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """The fields that need no database, cleaned."""

    start: datetime  # UTC
    zone: str
    name: str
    email: str
    answers: Mapping[str, str]


def check_request(request: BookingRequest, now: datetime) -> tuple[CheckedRequest | None, list[Problem]]:
    """The cleaned request and no problems, or None and at least one problem. Pointers are those of the REST body."""
    problems: list[Problem] = []
    name = clean_name(request.name)
    if not name:
        problems.append(Problem("/client/name", "required", "Please enter your name."))
    elif len(name) > NAME_MAX:
        problems.append(Problem("/client/name", "too_long", "Please enter a shorter name."))
    email = clean_email(request.email)
    if email is None:
        problems.append(Problem("/client/email", "email", "Please enter an e-mail address such as anna@example.org."))
    start = check_start(request.start, now, problems)
    if not is_zone(request.zone):
        problems.append(Problem("/zone", "zone", "Please choose a time zone from the list."))
    if request.consent is not True:
        problems.append(Problem("/consent", "required", "We need your consent to arrange the consultation."))
    answers = _check_answers(request.answers, problems)
    key = request.idempotency_key
    if key is not None and not (0 < len(key) <= IDEMPOTENCY_KEY_MAX and key.isascii() and key.isprintable()):
        problems.append(Problem("/idempotency_key", "format", "An Idempotency-Key is 1 to 255 printable characters."))
    if problems or start is None or email is None:
        return None, problems
    return CheckedRequest(start, request.zone, name, email, answers), []


def clean_name(text: object) -> str:
    """One line without control and invisible signs; empty for what is no name."""
    if not isinstance(text, str):
        return ""
    kept = "".join(
        " " if sign.isspace() else sign
        for sign in unicodedata.normalize("NFC", text[:1_000])
        if sign.isspace() or sign in _JOINERS or unicodedata.category(sign) not in {"Cc", "Cf", "Cs", "Co", "Cn"}
    )
    return " ".join(kept.split()).strip(_JOINERS)


def clean_email(text: object) -> str | None:
    """The address, its domain in ASCII (IDNA), or None. Deliverability is for the mail server to say."""
    if not isinstance(text, str) or len(text) > EMAIL_MAX * 2:
        return None
    local, separator, domain = text.strip().rpartition("@")
    if not separator or len(local) > 64 or not _LOCAL.fullmatch(local):
        return None
    try:
        ascii_domain = domain.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    labels = ascii_domain.split(".")
    if len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        return None
    address = f"{local}@{ascii_domain}"
    return address if len(address) <= EMAIL_MAX else None


def check_start(value: object, now: datetime, problems: list[Problem]) -> datetime | None:
    """An instant from now to the far end of any horizon, UTC; else None and a problem at /start."""
    moment = value if isinstance(value, datetime) else None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            moment = None
    if moment is None or moment.utcoffset() is None:
        problems.append(
            Problem("/start", "format", "Please give the start with its offset, such as 2026-05-04T09:00:00+02:00.")
        )
        return None
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        moment = datetime.max.replace(tzinfo=UTC)
    if moment < now:
        problems.append(Problem("/start", "past", "This time has passed. Please choose a later one."))
        return None
    if moment - now > START_RANGE:
        problems.append(Problem("/start", "too_far", "This time is too far away. Please choose an earlier one."))
        return None
    return moment


def _check_answers(answers: object, problems: list[Problem]) -> dict[str, str]:
    if not isinstance(answers, Mapping) or len(answers) > ANSWERS_MAX:
        problems.append(Problem("/answers", "format", "Please give at most 20 answers, each a text."))
        return {}
    cleaned: dict[str, str] = {}
    for key, answer in answers.items():
        if not isinstance(key, str) or not _ANSWER_KEY.fullmatch(key):
            problems.append(
                Problem("/answers", "key", "The name of an answer has letters, digits, dots, - and _ only.")
            )
        elif not isinstance(answer, str):
            problems.append(Problem(f"/answers/{key}", "text", "Please answer with a text."))
        elif len(answer) > ANSWER_MAX:
            problems.append(Problem(f"/answers/{key}", "too_long", "Please shorten this text to 4,000 characters."))
        else:
            cleaned[key] = "".join(
                sign for sign in answer if sign in "\n\t" or unicodedata.category(sign) not in {"Cc", "Cs"}
            ).strip()
    return cleaned
