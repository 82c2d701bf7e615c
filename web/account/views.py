"""Signing in (password, then a code), enrolling the second factor, signing out, changing the password.

Each step gives the session a new token. What a wrong password, an unknown address and a disabled account are told, and
how long it takes, is the same.
"""

from __future__ import annotations

from urllib.parse import urlencode

import segno
import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from consult.errors import Invalid, Problem, TooMany
from consult.people import accounts, invitations, login_sessions, passwords, totp
from consult.people.attempts import CODE, SIGN_IN
from web.access import Access, access, identity, signed_in
from web.account.sessions import drop_session_cookie, set_session_cookie
from web.forms import Form, problems_by_field, safe_target
from web.i18n import gettext
from web.keys import ATTEMPTS, CLOCK, DATABASE, IDENTITY, METRICS, PRACTICE, SESSION_TOKEN, VAULT, Identity
from web.origin import client_address
from web.pages import render
from web.places import close_places

routes = web.RouteTableDef()
log = structlog.get_logger("account")


def home_of(person: Identity) -> str:
    return "/admin/sessions" if person.role == "admin" else "/desk"


def _see_other(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path})


@routes.get("/account/sign-in")
@access(Access.PUBLIC)
async def sign_in_page(request: web.Request) -> web.StreamResponse:
    person = signed_in(request)
    if person is not None:
        raise web.HTTPSeeOther(home_of(person))
    return _sign_in_form(request, safe_target(request.query.get("next", ""), ""))


def _sign_in_form(
    request: web.Request, target: str, *, email: str = "", message: str = "", status: int = 200
) -> web.Response:
    context = {"next": target, "email": email, "message": message, "notice": ""}
    return render(request, "account/sign_in.html", context, status)


@routes.post("/account/sign-in")
@access(Access.PUBLIC)
async def sign_in(request: web.Request) -> web.StreamResponse:
    form = await Form.read(request)
    email, password = form.text("email"), form.secret("password")
    target = safe_target(form.text("next"), "")
    app = request.app
    # counted as the look-up reads it: no other spelling of an address is another account
    who = {"account": app[VAULT].email_index(email).hex(), "address": client_address(request)}
    try:
        await app[ATTEMPTS].spend(SIGN_IN, **who)
    except TooMany as error:
        log.warning("sign_in_limited")
        app[METRICS].sign_ins.labels("password", "limited").inc()
        response = _sign_in_form(request, target, email=email, message=gettext(error.message), status=429)
        response.headers["Retry-After"] = str(error.retry_after_seconds)
        return response
    async with app[DATABASE].read() as session:
        check = await accounts.check_password(session, app[VAULT], email, password)
    if check is None:
        log.warning("sign_in_failed", step="password")
        app[METRICS].sign_ins.labels("password", "wrong").inc()
        message = gettext("The e-mail or the password is not right. Please check both and try again.")
        return _sign_in_form(request, target, email=email, message=message, status=422)
    await app[ATTEMPTS].forgive(SIGN_IN, **who)
    async with app[DATABASE].write() as session:
        if check.new_hash is not None:
            await accounts.store_password_hash(session, check.person_id, check.new_hash)
        if request.get(SESSION_TOKEN) is not None:
            await login_sessions.end(session, request[SESSION_TOKEN])
        if not check.totp_enrolled:
            await _enrol_anew(session, check.person_id)
        started = await login_sessions.start(session, check.person_id, "password_ok", app[CLOCK]())
    app[METRICS].sign_ins.labels("password", "right").inc()
    step = "/account/code" if check.totp_enrolled else "/account/enrol"
    response = _see_other(f"{step}?{urlencode({'next': target})}" if target else step)
    set_session_cookie(request, response, started.token)
    return response


async def _enrol_anew(session: AsyncSession, person_id: str) -> None:
    """The second factor is set up in one sign-in only: another one with the same password ends it, and never sees the
    key that it shows."""
    await login_sessions.end_all(session, person_id)
    await totp.start_over(session, person_id)


@routes.get("/account/code")
@access(Access.SIGNING_IN)
async def code_page(request: web.Request) -> web.StreamResponse:
    person = identity(request)
    if person.stage == "full":
        raise web.HTTPSeeOther(home_of(person))
    if not person.totp_enrolled:
        raise web.HTTPSeeOther("/account/enrol")
    return render(request, "account/code.html", {"next": request.query.get("next", ""), "problems": {}})


@routes.post("/account/code")
@access(Access.SIGNING_IN)
async def check_code(request: web.Request) -> web.StreamResponse:
    return await _second_step(request, "account/code.html")


@routes.get("/account/enrol")
@access(Access.SIGNING_IN)
async def enrol_page(request: web.Request) -> web.StreamResponse:
    person = identity(request)
    if person.totp_enrolled:
        raise web.HTTPSeeOther(home_of(person) if person.stage == "full" else "/account/code")
    context = await _enrolment(request) | {"next": request.query.get("next", ""), "problems": {}}
    return render(request, "account/enrol.html", context)


@routes.post("/account/enrol")
@access(Access.SIGNING_IN)
async def enrol(request: web.Request) -> web.StreamResponse:
    return await _second_step(request, "account/enrol.html")


async def _enrolment(request: web.Request) -> dict[str, str]:
    """The QR code as a picture (a data: URL, so that no secret has an address) and the key as text."""
    person = identity(request)
    app = request.app
    async with app[DATABASE].write() as session:
        view = await accounts.get_account(session, app[VAULT], person.practice_id, person.person_id)
        enrolment = await totp.begin_enrolment(
            session, app[VAULT], person.person_id, label=view.email, issuer=app[PRACTICE].name
        )
    secret = enrolment.secret
    return {
        "qr": segno.make(enrolment.uri, error="m").svg_data_uri(scale=4, border=2),
        "secret_text": " ".join(secret[start : start + 4] for start in range(0, len(secret), 4)),
    }


async def _second_step(request: web.Request, template: str) -> web.StreamResponse:
    """A right code makes the session full, under a new token. The same for the first code and every later one."""
    person = identity(request)
    form = await Form.read(request)
    app, now = request.app, request.app[CLOCK]()
    target = safe_target(form.text("next"), home_of(person))
    enrolling = template == "account/enrol.html"
    if person.stage == "full":
        raise web.HTTPSeeOther(home_of(person))
    if person.totp_enrolled == enrolling:
        raise web.HTTPSeeOther("/account/code" if person.totp_enrolled else "/account/enrol")
    who = {"account": person.person_id, "address": client_address(request)}
    started, status, headers = None, 422, {}
    message = gettext("This code is not right, or it was already used. Wait for the next one and try again.")
    try:
        await app[ATTEMPTS].spend(CODE, **who)
        async with app[DATABASE].write() as session:
            check = totp.confirm_enrolment if enrolling else totp.verify
            if await check(session, app[VAULT], person.person_id, form.text("code"), now):
                started = await login_sessions.promote(session, request[SESSION_TOKEN], now)
    except TooMany as error:
        status, message, headers = 429, gettext(error.message), {"Retry-After": str(error.retry_after_seconds)}
    if started is None:
        log.warning("sign_in_failed", step="code", status=status)
        app[METRICS].sign_ins.labels("code", "limited" if status == 429 else "wrong").inc()
        context = await _enrolment(request) if enrolling else {}
        response = render(
            request, template, context | {"next": form.text("next"), "problems": {"code": message}}, status
        )
        response.headers.update(headers)
        return response
    await app[ATTEMPTS].forgive(CODE, **who)
    log.info("signed_in", role=person.role)
    app[METRICS].sign_ins.labels("code", "right").inc()
    answer = _see_other(target)
    set_session_cookie(request, answer, started.token)
    return answer


@routes.post("/account/sign-out")
@access(Access.SIGNING_IN)
async def sign_out(request: web.Request) -> web.StreamResponse:
    async with request.app[DATABASE].write() as session:
        await login_sessions.end(session, request[SESSION_TOKEN])
    if identity(request).stage == "full":
        await close_places(request, identity(request).person_id)
    response = _see_other("/account/sign-in")
    drop_session_cookie(request, response)
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


@routes.post("/account/sign-out-elsewhere")
@access(Access.STAFF)
async def sign_out_elsewhere(request: web.Request) -> web.StreamResponse:
    person = identity(request)
    async with request.app[DATABASE].write() as session:
        await login_sessions.end_all(session, person.person_id, except_token=request[SESSION_TOKEN])
    await close_places(request, person.person_id)
    return _see_other("/account/password?done=elsewhere")


@routes.get("/account/password")
@access(Access.STAFF)
async def password_page(request: web.Request) -> web.StreamResponse:
    notices = {
        "password": gettext("Your password is changed. Every other device is signed out."),
        "elsewhere": gettext("Every other device is signed out."),
    }
    notice = notices.get(request.query.get("done", ""), "")
    return render(request, "account/password.html", {"problems": {}, "notice": notice})


@routes.post("/account/password")
@access(Access.STAFF)
async def change_password(request: web.Request) -> web.StreamResponse:
    """The current password is asked for again: an unlocked computer is not enough to take an account over."""
    person = identity(request)
    form = await Form.read(request)
    app = request.app
    await app[ATTEMPTS].spend(SIGN_IN, account=person.person_id, address=client_address(request))
    async with app[DATABASE].read() as session:
        view = await accounts.get_account(session, app[VAULT], person.practice_id, person.person_id)
        right = await accounts.check_password(session, app[VAULT], view.email, form.secret("current"))
    problems: list[Problem] = []
    if right is None:
        problems.append(Problem("/current", "wrong", "This is not your current password."))
    problems += passwords.problems_with(form.secret("password"), context=(view.name, view.email))
    if problems:
        context = {"problems": problems_by_field(Invalid(problems)), "notice": ""}
        return render(request, "account/password.html", context, 422)
    await app[ATTEMPTS].forgive(SIGN_IN, account=person.person_id, address=client_address(request))
    new_hash = await passwords.hash_password(form.secret("password"))
    async with app[DATABASE].write() as session:
        await accounts.change_password(session, person.person_id, new_hash, keep_token=request[SESSION_TOKEN])
    await close_places(request, person.person_id)
    log.info("password_changed", role=person.role)
    return _see_other("/account/password?done=password")


@routes.get("/account/welcome/{person}")
@access(Access.CAPABILITY)
async def welcome_page(request: web.Request) -> web.StreamResponse:
    """An invited person chooses a password. The invitation is in the fragment: this page shows nothing of its own."""
    context = {"person_id": request.match_info["person"], "invitation": "", "message": "", "problems": {}}
    return render(request, "account/welcome.html", context)


@routes.post("/account/welcome/{person}")
@access(Access.CAPABILITY)
async def welcome(request: web.Request) -> web.StreamResponse:
    app, now = request.app, request.app[CLOCK]()
    person_id = request.match_info["person"]
    form = await Form.read(request)
    await app[ATTEMPTS].spend(SIGN_IN, account=person_id, address=client_address(request))
    async with app[DATABASE].read() as session:
        invited = await invitations.check(session, app[VAULT], person_id, form.text("invitation"), now)
    context = {"person_id": person_id, "invitation": form.text("invitation"), "message": "", "problems": {}}
    if not invited:
        context["message"] = gettext(
            "This invitation is not valid any more: it was used, or it is too old. Ask for a new one."
        )
        return render(request, "account/welcome.html", context, 404)
    problems = passwords.problems_with(form.secret("password"))
    if problems:
        context["problems"] = problems_by_field(Invalid(problems))
        return render(request, "account/welcome.html", context, 422)
    new_hash = await passwords.hash_password(form.secret("password"))
    async with app[DATABASE].write() as session:
        # checked again: of two posts with one invitation one wins
        if not await invitations.check(session, app[VAULT], person_id, form.text("invitation"), now):
            raise web.HTTPNotFound
        await accounts.change_password(session, person_id, new_hash)
        if IDENTITY in request:
            await login_sessions.end(session, request[SESSION_TOKEN])
        await totp.start_over(session, person_id)
        started = await login_sessions.start(session, person_id, "password_ok", now)
    await close_places(request, person_id)
    log.info("invitation_used")
    response = _see_other("/account/enrol")
    set_session_cookie(request, response, started.token)
    return response
