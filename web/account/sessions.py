"""From a cookie or a bearer token to the caller.

The cookie is `__Host-consult_session` over https; over http (which the settings allow on localhost only) browsers
refuse that prefix, so the name is plain there.
"""

from __future__ import annotations

from typing import Literal, cast

from aiohttp import web

from consult.people import accounts, api_tokens, login_sessions
from web.keys import CLOCK, DATABASE, SESSION_TOKEN, VAULT, ApiCaller, Identity
from web.origin import is_https

TOKEN_LENGTH_MAX = 200


def cookie_name(request: web.Request) -> str:
    return "__Host-consult_session" if is_https(request) else "consult_session"


def set_session_cookie(request: web.Request, response: web.StreamResponse, token: str) -> None:
    """A session cookie of the browser: it ends with the browser, and with the session on the server."""
    response.set_cookie(cookie_name(request), token, path="/", secure=is_https(request), httponly=True, samesite="Lax")


def drop_session_cookie(request: web.Request, response: web.StreamResponse) -> None:
    response.del_cookie(cookie_name(request), path="/", secure=is_https(request), httponly=True, samesite="Lax")


async def load_identity(request: web.Request) -> Identity | None:
    """The person of the session cookie, or None. A request without the cookie asks the database nothing."""
    token = request.cookies.get(cookie_name(request), "")
    if not token or len(token) > TOKEN_LENGTH_MAX:
        return None
    now = request.app[CLOCK]()
    database = request.app[DATABASE]
    async with database.read() as session:
        current = await login_sessions.find(session, token, now)
        if current is None:
            return None
        keyring = await request.app[VAULT].keyring(session, [current.person_id])
    if current.needs_touch(now):
        async with database.write() as session:
            await login_sessions.touch(session, token, now)
    request[SESSION_TOKEN] = token
    return Identity(
        person_id=current.person_id,
        practice_id=current.practice_id,
        role=cast('Literal["specialist", "admin"]', current.role),
        stage=current.stage,
        totp_enrolled=current.totp_enrolled,
        csrf_token=current.csrf_token,
        name=keyring.open(accounts.NAME, current.person_id, current.person_id, current.name_sealed),
        zone=current.zone,
        language=current.language,
    )


async def load_api_caller(request: web.Request) -> ApiCaller | None:
    """The API token of `Authorization: Bearer …`, or None."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > TOKEN_LENGTH_MAX:
        return None
    now = request.app[CLOCK]()
    database = request.app[DATABASE]
    async with database.read() as session:
        found = await api_tokens.verify(session, token, now)
    if found is None:
        return None
    if api_tokens.needs_touch(found, now):
        async with database.write() as session:
            await api_tokens.touch(session, found.id, now)
    return ApiCaller(token_id=found.id, practice_id=found.practice_id)
