"""Languages and zones of the reader. Catalogues are read from .po at start and compiled in memory."""

from __future__ import annotations

import gettext as gettext_module
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from babel.core import Locale, negotiate_locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

LOCALES = Path(__file__).parent / "locales"
LANGUAGES = ("en", "ru")
LANGUAGE_NAMES = {"en": "English", "ru": "Русский"}

# set by the middleware for each request; a task of its own (the worker) passes the language explicitly
current_language: ContextVar[str] = ContextVar("current_language", default="en")


@lru_cache
def catalogue(language: str) -> gettext_module.NullTranslations:
    """The translations of a language; English is the source and has none."""
    path = LOCALES / language / "LC_MESSAGES" / "consult.po"
    if language == "en" or not path.exists():
        return gettext_module.NullTranslations()
    with path.open("rb") as source:
        messages = read_po(source, locale=language)
    compiled = BytesIO()
    write_mo(compiled, messages)
    compiled.seek(0)
    return gettext_module.GNUTranslations(compiled)


def gettext(message: str) -> str:
    """`message` in the reader's language."""
    return catalogue(current_language.get()).gettext(message) if message else ""


def ngettext(singular: str, plural: str, n: int) -> str:
    return catalogue(current_language.get()).ngettext(singular, plural, n)


def translator(language: str) -> Callable[[str], str]:
    """A translate function bound to one language, for mail."""
    return catalogue(language if language in LANGUAGES else "en").gettext


def choose_language(cookie: str | None, accept_language: str, default: str) -> str:
    """The cookie's choice, else the best of Accept-Language (RFC 9110 section 12.5.4), else the default."""
    if cookie in LANGUAGES:
        return cookie
    weighted: list[tuple[float, int, str]] = []
    for position, item in enumerate(accept_language[:512].split(",")):
        tag, _, parameter = item.partition(";")
        try:
            quality = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        if quality > 0 and tag.strip():
            weighted.append((-quality, position, tag.strip()))
    preferred = [tag for _, _, tag in sorted(weighted)]
    return negotiate_locale(preferred, LANGUAGES, sep="-") or default


@lru_cache
def all_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def valid_zone(name: str | None) -> str | None:
    """`name` when it is an IANA zone we know, else None."""
    return name if name is not None and name in all_zones() else None


@lru_cache(maxsize=64)
def locale_of(language: str) -> Locale:
    return Locale.parse("en_GB" if language == "en" else language)


def zone_label(zone: str, at: datetime) -> str:
    """A zone by its name and its offset at that moment: "Europe/Berlin (UTC+1)"."""
    offset = at.astimezone(ZoneInfo(zone)).utcoffset()
    minutes = int(offset.total_seconds() // 60) if offset is not None else 0
    hours, rest = divmod(abs(minutes), 60)
    sign = "−" if minutes < 0 else "+"
    text = f"UTC{sign}{hours}" + (f":{rest:02d}" if rest else "")
    return f"{zone.replace('_', ' ')} ({text})"
