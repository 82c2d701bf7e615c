"""Problem documents (RFC 9457): the one shape of every error that a script gets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web
from asyncpg.exceptions import InsufficientResourcesError, OperatorInterventionError, PostgresConnectionError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from consult.errors import Invalid, Refused, SlotTaken, TooMany
from web.i18n import gettext

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    411: "length_required",
    413: "too_large",
    415: "unsupported_media_type",
    429: "too_many",
    503: "unavailable",
}


def problem(
    status: int,
    code: str | None = None,
    detail: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> web.Response:
    """An application/problem+json response: type, title, status, `code` (stable), detail, and more members."""
    phrase = HTTPStatus(status).phrase
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": phrase,
        "status": status,
        "code": code or _CODES.get(status, "error"),
    }
    if detail is not None:
        document["detail"] = detail
    response = web.Response(
        body=msgspec.json.encode(document | members),
        status=status,
        headers=headers,
        content_type="application/problem+json",
    )
    response.headers["Cache-Control"] = "no-store"
    return response


def problem_of(error: Refused) -> web.Response:
    """The problem document of a domain refusal."""
    members: dict[str, Any] = {}
    headers: dict[str, str] = {}
    match error:
        case Invalid(problems=problems):
            members["errors"] = [
                {"pointer": item.pointer, "code": item.code, "detail": gettext(item.message)} for item in problems
            ]
        case SlotTaken(alternatives=alternatives):
            members["alternatives"] = [
                {
                    "start": utc_text(item.start),
                    "end": utc_text(item.end),
                    "specialist": item.specialist_id,
                }
                for item in alternatives
            ]
        case TooMany(retry_after_seconds=seconds):
            headers["Retry-After"] = str(seconds)
        case _:
            pass
    return problem(error.status, error.code, gettext(error.message), headers=headers, **members)


def utc_text(value: datetime) -> str:
    """ISO 8601 UTC with Z, without fractions."""
    text = value.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat()
    return f"{text}Z"


def is_database_outage(error: BaseException) -> bool:
    """The database is away or too busy: a retry helps. (A wrong statement is not an outage.)"""
    if isinstance(error, PoolTimeout | InterfaceError | OperationalError):
        return True
    # while it connects, the driver's own errors come through: starting up, shutting down, too many clients
    if isinstance(error, PostgresConnectionError | OperatorInterventionError | InsufficientResourcesError):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, ConnectionError)
