"""Reading HTML forms: text fields with a length limit, and the domain's problems by field name."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp import web

from consult.errors import Invalid
from web.i18n import gettext

FIELD_LENGTH_MAX = 10_000


def is_text(value: str) -> bool:
    """Whether a database can keep it: no NUL, and no half of a surrogate pair."""
    return "\0" not in value and not any("\ud800" <= sign <= "\udfff" for sign in value)


class Form:
    """The fields of a posted form. Files are not fields; a missing field is the empty text."""

    def __init__(self, fields: Mapping[str, object], lists: Mapping[str, list[str]]) -> None:
        self._fields = fields
        self._lists = lists

    @classmethod
    async def read(cls, request: web.Request) -> Form:
        posted = await request.post()
        lists: dict[str, list[str]] = {}
        for name, value in posted.items():
            if isinstance(value, str):
                if not is_text(value):
                    raise web.HTTPBadRequest
                lists.setdefault(name, []).append(value[:FIELD_LENGTH_MAX])
        return cls({name: values[0] for name, values in lists.items()}, lists)

    def text(self, name: str) -> str:
        value = self._fields.get(name, "")
        return value.strip() if isinstance(value, str) else ""

    def secret(self, name: str) -> str:
        """As typed: spaces belong to a password."""
        value = self._fields.get(name, "")
        return value if isinstance(value, str) else ""

    def number(self, name: str, default: int = -1) -> int:
        """A whole number; `default` (outside every allowed range) when it is none."""
        text = self.text(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else default

    def flag(self, name: str) -> bool:
        return self.text(name) != ""

    def list(self, name: str) -> list[str]:
        return [value.strip() for value in self._lists.get(name, [])]


def problems_by_field(error: Invalid) -> dict[str, str]:
    """`/client/email` → {"email": text}. The name is the pointer's last part that is not a number."""
    found: dict[str, str] = {}
    for problem in error.problems:
        names = [part for part in problem.pointer.split("/") if part and not part.isdigit()]
        found.setdefault(names[-1] if names else "", gettext(problem.message))
    return found


def safe_target(target: str, default: str) -> str:
    """A path of this site to go on to, or `default`: never another site, never a control character."""
    parsed = urlsplit(target)
    plain = all("!" <= character <= "~" for character in target) and "\\" not in target
    if not target.startswith("/") or target.startswith("//") or parsed.netloc or not plain:
        return default
    return target
