"""Who may call a route. Every handler carries one rule; a route without one stops the start, and at run time is denied.

    @routes.get("/desk")
    @access(Access.SPECIALIST)
    async def desk(request: web.Request) -> web.StreamResponse: ...

The rule is enforced by `enforce` (web/middleware.py) before the handler runs. CAPABILITY is the one rule that only the
handler can check, because it knows which object the capability is for: it does so with `Vault.check_capability`, or
by redeeming a ticket, and answers 404 otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeVar, cast

from aiohttp import web
from multidict import CIMultiDict

from consult.people.roles import ANONYMOUS, Actor
from web.keys import API_CALLER, IDENTITY, ApiCaller, Identity


class Access(Enum):
    PUBLIC = "public"  # anybody
    CAPABILITY = "capability"  # whoever holds the link of this object
    API_TOKEN = "api_token"  # noqa: S105 (a rule's name)
    SPECIALIST = "specialist"
    ADMIN = "admin"
    STAFF = "staff"  # specialist or admin
    SIGNING_IN = "signing_in"  # the password was right, the second factor is still to come
    OPERATOR = "operator"  # loopback, or the metrics token


STAFF_ROLES = {
    Access.SPECIALIST: frozenset({"specialist"}),
    Access.ADMIN: frozenset({"admin"}),
    Access.STAFF: frozenset({"specialist", "admin"}),
}

_ATTRIBUTE = "__access__"
_Handler = TypeVar("_Handler", bound=Callable[..., object])


def access(rule: Access) -> Callable[[_Handler], _Handler]:
    """Attach the rule to a handler (or to a class-based view)."""

    def attach(handler: _Handler) -> _Handler:
        setattr(handler, _ATTRIBUTE, rule)
        return handler

    return attach


def rule_of(handler: object) -> Access | None:
    return cast("Access | None", getattr(handler, _ATTRIBUTE, None))


def check_every_route(app: web.Application) -> None:
    """Raise when a route has no rule: deny by default starts before the first request."""
    missing = [
        f"{route.method} {route.resource.canonical if route.resource is not None else '?'}"
        for route in app.router.routes()
        if rule_of(route.handler) is None
    ]
    if missing:
        raise RuntimeError(f"routes without an access rule: {', '.join(sorted(missing))}")


class SignInNeeded(Exception):
    """A staff page without a session: the browser is sent to the sign-in page, a script gets 401."""


class Denied(web.HTTPForbidden):
    """A known caller who may not do this."""

    def __init__(self, headers: CIMultiDict[str] | None = None) -> None:
        super().__init__(headers=headers)


def identity(request: web.Request) -> Identity:
    """The signed-in person of a staff route."""
    return request[IDENTITY]


def signed_in(request: web.Request) -> Identity | None:
    """The fully signed-in person on any route, or None."""
    found = request.get(IDENTITY)
    return found if found is not None and found.stage == "full" else None


def actor(request: web.Request) -> Actor:
    """The caller as the domain's rules see them (consult/people/roles.py)."""
    found = signed_in(request)
    if found is not None:
        return Actor(found.role, found.practice_id, found.person_id)
    caller = request.get(API_CALLER)
    return Actor("api", caller.practice_id) if caller is not None else ANONYMOUS


def api_caller(request: web.Request) -> ApiCaller:
    """The verified token of an API_TOKEN route."""
    return request[API_CALLER]
