"""The domain's error tree, split by whose fault it is.

ConsultError
├── Refused            the caller asked for something that cannot be (shown to the user; has a stable code)
│   ├── Invalid        fields of the input are wrong; `problems` names each            422 invalid
│   ├── NotFound       no such thing, or not for this caller                           404 not_found
│   ├── Forbidden      known caller, not allowed                                       403 forbidden
│   ├── SlotTaken      the slot went to somebody else; `alternatives`                  409 slot_taken
│   ├── Conflict       the state does not allow it (already cancelled, too late, …)    409 <code>
│   └── TooMany        a rate limit; `retry_after_seconds`                             429 too_many
└── SettingsError      an environment variable is wrong: name and what is expected
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


class ConsultError(Exception):
    """Base of everything the domain raises on purpose."""


class Refused(ConsultError):
    """Something the user can act on. `code` is stable; `message` is English and goes through gettext in web."""

    code = "refused"
    status = 400

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong field. `pointer` is a JSON pointer into the request, e.g. `/client/email`."""

    pointer: str
    code: str
    message: str


class Invalid(Refused):
    code = "invalid"
    status = 422

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("Some fields need another look.")
        self.problems = tuple(problems)


class NotFound(Refused):
    code = "not_found"
    status = 404


class Forbidden(Refused):
    code = "forbidden"
    status = 403


class Conflict(Refused):
    code = "conflict"
    status = 409


@dataclass(frozen=True, slots=True)
class Alternative:
    """A free slot offered instead (UTC)."""

    start: datetime
    end: datetime
    specialist_id: str


class SlotTaken(Refused):
    code = "slot_taken"
    status = 409

    def __init__(self, alternatives: Sequence[Alternative]) -> None:
        super().__init__("This time has just been taken. Please choose another one.")
        self.alternatives = tuple(alternatives)


class TooMany(Refused):
    code = "too_many"
    status = 429

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("Too many tries. Please wait a moment and try again.")
        self.retry_after_seconds = retry_after_seconds


class SettingsError(ConsultError):
    """A wrong environment variable: the start stops with its name and what is expected."""

    def __init__(self, variable: str, expected: str) -> None:
        super().__init__(f"{variable}: {expected}")
        self.variable = variable
        self.expected = expected
