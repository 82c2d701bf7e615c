"""What a client asks for, checked field by field before any row is touched."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from consult.errors import Problem
from consult.people.contact import LANGUAGES, clean_email, clean_name, clean_zone

ANSWERS_MAX = 20
ANSWER_MAX = 4_000
IDEMPOTENCY_KEY_MAX = 255
# further away no service is offered, and arithmetic with the calendar's last year would overflow
START_RANGE = timedelta(days=1_000)

_ANSWER_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


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
    language: str
    name: str
    email: str
    answers: Mapping[str, str]


def check_request(request: BookingRequest, now: datetime) -> tuple[CheckedRequest | None, list[Problem]]:
    """The cleaned request and no problems, or None and at least one problem. Pointers are those of the REST body."""
    problems: list[Problem] = []
    name = clean_name(request.name, "/client/name", problems)
    email = clean_email(request.email, "/client/email", problems)
    start = check_start(request.start, now, problems)
    clean_zone(request.zone, "/zone", problems)
    if request.consent is not True:
        problems.append(Problem("/consent", "required", "We need your consent to arrange the consultation."))
    answers = _check_answers(request.answers, problems)
    key = request.idempotency_key
    if key is not None and not (0 < len(key) <= IDEMPOTENCY_KEY_MAX and key.isascii() and key.isprintable()):
        problems.append(Problem("/idempotency_key", "format", "An Idempotency-Key is 1 to 255 printable characters."))
    if problems or start is None:
        return None, problems
    # a language we have no words for is no mistake of the client's
    language = request.language if request.language in LANGUAGES else LANGUAGES[0]
    return CheckedRequest(start, request.zone, language, name, email, answers), []


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
