"""The capability of one booking in a browser: a cookie that goes only to that booking's pages."""

from __future__ import annotations

import re

from aiohttp import web

from consult.booking.links import MANAGE
from web.keys import VAULT
from web.origin import is_https

COOKIE = "consult_manage"
# bound to a path, so not __Host-: this prefix still keeps an insecure page from setting it
SECURE_COOKIE = f"__Secure-{COOKIE}"
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


def give_capability(request: web.Request, response: web.StreamResponse, booking_id: str, mac: str) -> None:
    """HttpOnly and bound to /manage/ID; it ends with the browser session."""
    response.set_cookie(
        _cookie_name(request),
        mac,
        path=f"/manage/{booking_id}",
        httponly=True,
        samesite="Lax",
        secure=is_https(request),
    )


def _cookie_name(request: web.Request) -> str:
    return SECURE_COOKIE if is_https(request) else COOKIE


def booking_id(request: web.Request) -> str | None:
    """The {id} of the path when it could be an id at all."""
    found = request.match_info["id"]
    return found if _ID.fullmatch(found) else None


def holds_capability(request: web.Request, id: str) -> bool:
    """Whether the request's cookie opens this booking. Constant time."""
    return request.app[VAULT].check_capability(MANAGE, id, request.cookies.get(_cookie_name(request), ""))
