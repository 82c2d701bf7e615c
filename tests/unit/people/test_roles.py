"""The rules: every role × action × resource × owner, and what must never be allowed."""

from __future__ import annotations

from itertools import product

import pytest

from consult.people.roles import ACTIONS, ANONYMOUS, ROLES, RULES, Action, Actor, Owner, Role, may

HERE, THERE = "practice-here", "practice-there"


def actor(role: Role, practice: str = HERE) -> Actor:
    if role == "anonymous":
        return ANONYMOUS
    if role == "client":
        return Actor("client", capabilities=frozenset({"own-object"}))
    if role == "api":
        return Actor("api", practice_id=practice)
    return Actor(role, practice_id=practice, person_id="me")


OWN = Owner(HERE, "me", "own-object")
COLLEAGUES = Owner(HERE, "colleague", "their-object")
FOREIGN = Owner(THERE, "somebody", "foreign-object")
# the same ids in another practice: only the practice tells them apart
TWIN = Owner(THERE, "me", "twin-object")
PUBLIC = {("catalogue", "list"), ("catalogue", "read"), ("booking", "create")}


@pytest.mark.parametrize(("resource", "action", "role"), list(product(RULES, ACTIONS, ROLES)))
def test_nothing_crosses_practices(resource: str, action: Action, role: Role) -> None:
    for owner in (FOREIGN, TWIN):
        assert may(actor(role), action, resource, owner) == ((resource, action) in PUBLIC)


@pytest.mark.parametrize(("resource", "action"), list(product(RULES, ACTIONS)))
def test_the_anonymous_may_only_what_is_public(resource: str, action: Action) -> None:
    for owner in (OWN, COLLEAGUES, FOREIGN):
        assert may(ANONYMOUS, action, resource, owner) == ((resource, action) in PUBLIC)


@pytest.mark.parametrize(("resource", "action"), list(product(RULES, ACTIONS)))
def test_a_specialist_does_not_reach_a_colleagues_things(resource: str, action: Action) -> None:
    assert may(actor("specialist"), action, resource, COLLEAGUES) == ((resource, action) in PUBLIC)


@pytest.mark.parametrize(("resource", "action"), list(product(RULES, ACTIONS)))
def test_a_client_reaches_what_the_link_opens(resource: str, action: Action) -> None:
    opened = {("booking", "read"), ("booking", "change"), ("booking", "delete"), ("consultation", "read")}
    assert may(actor("client"), action, resource, OWN) == ((resource, action) in opened | PUBLIC)
    assert may(actor("client"), action, resource, COLLEAGUES) == ((resource, action) in PUBLIC)


SPECIALIST_OWN = {
    "catalogue": {"list", "read", "create", "change"},
    "availability": set(ACTIONS),
    "booking": set(ACTIONS),
    "consultation": {"list", "read", "change"},
    "session_log": {"list", "read"},
    "note": set(ACTIONS),
    "account": set(),
    "reminder_rule": set(),
    "delivery": {"list", "read"},
    "api_token": set(),
}
ADMIN = {
    "catalogue": set(ACTIONS),
    "availability": set(ACTIONS),
    "booking": set(ACTIONS),
    "consultation": set(),
    "session_log": {"list", "read"},
    "note": set(),
    "account": {"list", "read", "create", "change"},
    "reminder_rule": set(ACTIONS),
    "delivery": {"list", "read"},
    "api_token": {"list", "create", "delete"},
}
API = {
    "catalogue": {"list", "read"},
    "booking": {"create"},
    "consultation": {"create", "read", "change"},
    "session_log": {"read"},
}


@pytest.mark.parametrize("resource", RULES)
def test_the_matrix(resource: str) -> None:
    def allowed(role: Role, owner: Owner) -> set[Action]:
        return {action for action in ACTIONS if may(actor(role), action, resource, owner)}

    assert allowed("specialist", OWN) == SPECIALIST_OWN[resource]
    assert allowed("admin", COLLEAGUES) == ADMIN[resource]
    assert allowed("api", COLLEAGUES) == API.get(resource, set())


def test_everybody_reads_the_own_account() -> None:
    own = Owner(HERE, id="me")
    assert may(actor("specialist"), "read", "account", own)
    assert may(actor("specialist"), "change", "account", own)
    assert not may(actor("specialist"), "create", "account", own)
    assert not may(actor("specialist", THERE), "read", "account", own)


def test_unknown_resources_are_denied() -> None:
    assert not any(may(actor(role), action, "secrets", OWN) for role, action in product(ROLES, ACTIONS))


def test_nobody_without_a_person_owns_things_without_an_owner() -> None:
    nobody = Actor("specialist", practice_id=HERE, person_id=None)
    assert not may(nobody, "read", "note", Owner(HERE, None))
    assert not may(nobody, "read", "account", Owner(HERE, None, None))
    assert not may(Actor("admin"), "list", "account", Owner(HERE))
