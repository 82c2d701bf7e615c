"""From a cookie or a bearer token to the caller.

The cookie is `__Host-consult_session` over https; over http (which the settings allow on localhost only) browsers
refuse that prefix, so the name is plain there.
"""

from __future__ import annotations

import hashlib
from typing import Literal, cast

from aiohttp import web
from sqlalchemy import select

from consult.people.models import Account, ApiToken, LoginSession, Person
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
    """The person of the session cookie, or None. One query; a request without the cookie makes none."""
    token = request.cookies.get(cookie_name(request), "")
    if not token or len(token) > TOKEN_LENGTH_MAX:
        return None
    now = request.app[CLOCK]()
    async with request.app[DATABASE].read() as session:
        row = (
            await session.execute(
                select(LoginSession, Account, Person)
                .join(Account, Account.person_id == LoginSession.person_id)
                .join(Person, Person.id == Account.person_id)
                .where(
                    LoginSession.id == hashlib.sha256(token.encode()).digest(),
                    LoginSession.expires_at > now,
                    Account.disabled_at.is_(None),
                )
            )
        ).first()
        if row is None:
            return None
        login, account, person = row
        keyring = await request.app[VAULT].keyring(session, [person.id])
    request[SESSION_TOKEN] = token
    return Identity(
        person_id=person.id,
        practice_id=account.practice_id,
        role=cast('Literal["specialist", "admin"]', account.role),
        stage=login.stage,
        csrf_token=login.csrf_token,
        name=keyring.open("person.name_sealed", person.id, person.id, person.name_sealed),
        zone=person.zone,
        language=person.language,
    )


async def load_api_caller(request: web.Request) -> ApiCaller | None:
    """The API token of `Authorization: Bearer …`, or None."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > TOKEN_LENGTH_MAX:
        return None
    async with request.app[DATABASE].read() as session:
        found = await session.scalar(
            select(ApiToken).where(
                ApiToken.token_hash == hashlib.sha256(token.encode()).digest(), ApiToken.revoked_at.is_(None)
            )
        )
    return ApiCaller(token_id=found.id, practice_id=found.practice_id) if found is not None else None
