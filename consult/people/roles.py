"""Who may do what: one pure function per kind of resource, and no is the answer when nothing says yes.

A rule sees the actor, the action, and whose the object is. Everything belongs to a practice and nothing crosses; a
client has no account and is known by a capability (the booking or the seat that their link opens).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["anonymous", "client", "specialist", "admin", "api"]
Action = Literal["list", "read", "create", "change", "delete"]

ROLES: tuple[Role, ...] = ("anonymous", "client", "specialist", "admin", "api")
ACTIONS: tuple[Action, ...] = ("list", "read", "create", "change", "delete")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. An anonymous one has no practice and no person; `capabilities` are the ids a client's link opens."""

    role: Role
    practice_id: str | None = None
    person_id: str | None = None
    capabilities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose the object is. `id` is the object's own (what a capability names), None for a list or a new one."""

    practice_id: str
    specialist_id: str | None = None
    id: str | None = None


ANONYMOUS = Actor("anonymous")


def _same_practice(actor: Actor, owner: Owner) -> bool:
    return actor.practice_id is not None and actor.practice_id == owner.practice_id


def _is_own(actor: Actor, owner: Owner) -> bool:
    """A specialist's own thing in the own practice."""
    return (
        actor.role == "specialist"
        and _same_practice(actor, owner)
        and actor.person_id is not None
        and actor.person_id == owner.specialist_id
    )


def _is_admin(actor: Actor, owner: Owner) -> bool:
    return actor.role == "admin" and _same_practice(actor, owner)


def _is_api(actor: Actor, owner: Owner) -> bool:
    return actor.role == "api" and _same_practice(actor, owner)


def _holds(actor: Actor, owner: Owner) -> bool:
    return actor.role == "client" and owner.id is not None and owner.id in actor.capabilities


def may_catalogue(actor: Actor, action: Action, owner: Owner) -> bool:
    """Services and specialists as the booking page shows them: public to read; edited by an admin, and a service by
    the specialist who offers it."""
    if action in ("list", "read"):
        return True
    if action == "change":
        return _is_own(actor, owner) or _is_admin(actor, owner)
    return _is_admin(actor, owner) or (action == "create" and _is_own(actor, owner))


def may_availability(actor: Actor, action: Action, owner: Owner) -> bool:
    """Weekly hours and exceptions. (Free slots are part of the catalogue.)"""
    return _is_own(actor, owner) or _is_admin(actor, owner)


def may_booking(actor: Actor, action: Action, owner: Owner) -> bool:
    """Anybody may book; who holds the manage link reads, moves and cancels; staff see their own."""
    if action == "create":
        return True
    if action in ("read", "change", "delete") and _holds(actor, owner):
        return True
    return _is_own(actor, owner) or _is_admin(actor, owner)


def may_consultation(actor: Actor, action: Action, owner: Owner) -> bool:
    """Entering one (`read`) and ending one (`change`). Admins see the log but do not sit in on calls."""
    if action == "create":
        return _is_api(actor, owner)
    if action == "read" and _holds(actor, owner):
        return True
    if action in ("list", "read", "change") and _is_own(actor, owner):
        return True
    return _is_api(actor, owner) and action in ("read", "change")


def may_session_log(actor: Actor, action: Action, owner: Owner) -> bool:
    """Read only, for everybody: the record is written by the system."""
    if action not in ("list", "read"):
        return False
    return _is_admin(actor, owner) or _is_own(actor, owner) or (action == "read" and _is_api(actor, owner))


def may_note(actor: Actor, action: Action, owner: Owner) -> bool:
    """A specialist's private notes: not even an admin reads them."""
    return _is_own(actor, owner)


def may_account(actor: Actor, action: Action, owner: Owner) -> bool:
    """Users. `owner.id` is the account's person: everybody with an account reads and changes the own one."""
    if _is_admin(actor, owner):
        return action != "delete"
    own = actor.role == "specialist" and actor.person_id is not None and actor.person_id == owner.id
    return own and _same_practice(actor, owner) and action in ("read", "change")


def may_reminder_rule(actor: Actor, action: Action, owner: Owner) -> bool:
    return _is_admin(actor, owner)


def may_delivery(actor: Actor, action: Action, owner: Owner) -> bool:
    """The status of a booking's messages."""
    return action in ("list", "read") and (_is_admin(actor, owner) or _is_own(actor, owner))


def may_api_token(actor: Actor, action: Action, owner: Owner) -> bool:
    return _is_admin(actor, owner) and action in ("list", "create", "delete")


Rule = Callable[[Actor, Action, Owner], bool]

RULES: Mapping[str, Rule] = {
    "catalogue": may_catalogue,
    "availability": may_availability,
    "booking": may_booking,
    "consultation": may_consultation,
    "session_log": may_session_log,
    "note": may_note,
    "account": may_account,
    "reminder_rule": may_reminder_rule,
    "delivery": may_delivery,
    "api_token": may_api_token,
}


def may(actor: Actor, action: Action, resource: str, owner: Owner) -> bool:
    """The rule of a resource by name; an unknown resource is denied."""
    rule = RULES.get(resource)
    return rule is not None and rule(actor, action, owner)
