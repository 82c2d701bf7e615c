"""Users: who can sign in. Passwords are chosen by the people themselves, by an invitation shown once."""

from __future__ import annotations

import secrets
from typing import Any

import structlog
from aiohttp import web

from consult.errors import Conflict, Invalid
from consult.people import accounts, invitations, login_sessions, specialists, totp
from consult.people.accounts import AccountView
from web.access import Access, access, identity
from web.forms import Form, problems_by_field
from web.i18n import LANGUAGE_NAMES, all_zones, gettext
from web.keys import CLOCK, DATABASE, PRACTICE, SETTINGS, VAULT
from web.pages import render
from web.places import close_places

routes = web.RouteTableDef()
log = structlog.get_logger("admin")


@routes.get("/admin/users")
@access(Access.ADMIN)
async def user_list(request: web.Request) -> web.StreamResponse:
    return await _page(request)


async def _page(
    request: web.Request,
    *,
    invitation: str = "",
    invited: str = "",
    typed: dict[str, str] | None = None,
    problems: dict[str, str] | None = None,
    status: int = 200,
) -> web.Response:
    async with request.app[DATABASE].read() as session:
        users = await accounts.list_accounts(session, request.app[VAULT], identity(request).practice_id)
    practice = request.app[PRACTICE]
    notices = {
        "disabled": gettext("The account is disabled. It is signed out everywhere."),
        "enabled": gettext("The account can sign in again."),
        "totp": gettext("The second factor is reset. The next sign-in sets up a new one."),
    }
    context: dict[str, Any] = {
        "users": users,
        "invitation": invitation,
        "invited": invited,
        "typed": {"name": "", "email": "", "title": "", "role": "specialist"}
        | {"zone": practice.zone, "language": practice.language}
        | (typed or {}),
        "problems": problems or {},
        "zones": sorted(zone for zone in all_zones() if "/" in zone or zone == "UTC"),
        "language_names": LANGUAGE_NAMES,
        "notice": notices.get(request.query.get("done", ""), ""),
    }
    return render(request, "admin/users.html", context, status)


@routes.post("/admin/users")
@access(Access.ADMIN)
async def create_user(request: web.Request) -> web.StreamResponse:
    """A specialist or an administrator, and the link to choose a password: shown now and never again."""
    form, app, now = await Form.read(request), request.app, request.app[CLOCK]()
    typed = {name: form.text(name) for name in ("name", "email", "role", "zone", "language", "title")}
    practice_id = identity(request).practice_id
    role: accounts.AccountRole = "admin" if typed["role"] == "admin" else "specialist"
    try:
        new = await accounts.prepare(
            role=role,
            name=typed["name"],
            email=typed["email"],
            # nobody ever knows it; the invitation replaces it
            password=secrets.token_urlsafe(48),
            zone=typed["zone"],
            language=typed["language"],
        )
        async with app[DATABASE].write() as session:
            if role == "specialist":
                made = await specialists.create_specialist(
                    session, app[VAULT], practice_id=practice_id, new=new, title=typed["title"], now=now
                )
                person_id = made.id
            else:
                account = await accounts.create_account(session, app[VAULT], practice_id=practice_id, new=new, now=now)
                person_id = account.person_id
            token = await invitations.invite(session, app[VAULT], practice_id, person_id, now)
    except Invalid as error:
        return await _page(request, typed=typed, problems=problems_by_field(error), status=error.status)
    except Conflict as error:
        return await _page(request, typed=typed, problems={"email": gettext(error.message)}, status=error.status)
    log.info("account_created", role=role)
    link = invitations.invitation_url(app[SETTINGS].public_url, person_id, token)
    return await _page(request, invitation=link, invited=typed["name"])


async def _target(request: web.Request) -> AccountView:
    async with request.app[DATABASE].read() as session:
        return await accounts.get_account(
            session, request.app[VAULT], identity(request).practice_id, request.match_info["person"][:64]
        )


@routes.post("/admin/users/{person}/invite")
@access(Access.ADMIN)
async def invite(request: web.Request) -> web.StreamResponse:
    """A new link to choose a password (forgotten, or the first one ran out). The second factor stays."""
    app, view = request.app, await _target(request)
    async with app[DATABASE].read() as session:
        token = await invitations.invite(session, app[VAULT], view.practice_id, view.person_id, app[CLOCK]())
    log.info("invitation_made")
    link = invitations.invitation_url(app[SETTINGS].public_url, view.person_id, token)
    return await _page(request, invitation=link, invited=view.name)


@routes.post("/admin/users/{person}/disable")
@access(Access.ADMIN)
async def disable(request: web.Request) -> web.StreamResponse:
    """The sessions end with the transaction, open rooms right after it."""
    app, now, view = request.app, request.app[CLOCK](), await _target(request)
    async with app[DATABASE].write() as session:
        await accounts.disable_account(session, view.practice_id, view.person_id, now)
    await close_places(request, view.person_id)
    log.info("account_disabled")
    raise web.HTTPSeeOther("/admin/users?done=disabled")


@routes.post("/admin/users/{person}/enable")
@access(Access.ADMIN)
async def enable(request: web.Request) -> web.StreamResponse:
    view = await _target(request)
    async with request.app[DATABASE].write() as session:
        await accounts.enable_account(session, view.practice_id, view.person_id)
    raise web.HTTPSeeOther("/admin/users?done=enabled")


@routes.post("/admin/users/{person}/reset-totp")
@access(Access.ADMIN)
async def reset_totp(request: web.Request) -> web.StreamResponse:
    """For a lost phone. A changed factor ends every session."""
    view = await _target(request)
    async with request.app[DATABASE].write() as session:
        await totp.reset(session, view.person_id)
        await login_sessions.end_all(session, view.person_id)
    await close_places(request, view.person_id)
    log.info("second_factor_reset")
    raise web.HTTPSeeOther("/admin/users?done=totp")
