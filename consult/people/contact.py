"""Names, addresses and zones as people type them: cleaned, or refused with a problem per field."""

from __future__ import annotations

import re
import unicodedata
import zoneinfo
from functools import cache

from consult.errors import Problem

NAME_LONGEST = 120
EMAIL_LONGEST = 254  # RFC 5321 section 4.5.3.1.3, minus the angle brackets
LANGUAGES = ("en", "ru")

# Deliberately narrower than RFC 5322: no quoting, no comments, no address literals. \Z: `$` would allow a line feed.
_EMAIL = re.compile(
    r"(?P<local>[^\s@<>()\[\]\\,;:\"]{1,64})@(?P<domain>(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_][\w-]{0,61}[^\W_])\Z"
)


def clean_name(text: str, pointer: str, problems: list[Problem]) -> str:
    """The name with single spaces; a problem is added when it is empty, too long, or has control characters."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name:
        problems.append(Problem(pointer, "missing", "Please enter a name."))
    elif len(name) > NAME_LONGEST:
        problems.append(Problem(pointer, "too_long", "Please use at most 120 characters."))
    elif any(unicodedata.category(character) in {"Cc", "Cs", "Co", "Cn"} for character in name):
        problems.append(Problem(pointer, "invalid", "The name has characters that cannot be shown."))
    return name


def clean_email(text: str, pointer: str, problems: list[Problem]) -> str:
    """The trimmed address as typed; a problem is added when it cannot be one."""
    address = unicodedata.normalize("NFC", text).strip()
    if not address:
        problems.append(Problem(pointer, "missing", "Please enter an e-mail address."))
    elif len(address) > EMAIL_LONGEST or not _is_address(address):
        problems.append(
            Problem(pointer, "invalid", "This does not look like an e-mail address. Example: name@example.org")
        )
    return address


def _is_address(address: str) -> bool:
    match = _EMAIL.match(address)
    if match is None or not address.isprintable():
        return False
    local = match["local"]
    return not local.startswith(".") and not local.endswith(".") and ".." not in local


def clean_zone(text: str, pointer: str, problems: list[Problem]) -> str:
    """An IANA zone name; a problem is added for any other text."""
    if text not in known_zones():
        problems.append(Problem(pointer, "invalid", "Please choose a time zone from the list."))
    return text


def clean_language(text: str, pointer: str, problems: list[Problem]) -> str:
    if text not in LANGUAGES:
        problems.append(Problem(pointer, "invalid", "Please choose a language from the list."))
    return text


@cache
def known_zones() -> frozenset[str]:
    """Every IANA zone this machine knows, without the build's own files."""
    return frozenset(zoneinfo.available_timezones() - {"localtime", "posixrules", "Factory"})
