"""What happens around every handler, from the outside in:

observe    request id, access log (route template, status, duration), metrics
guard      errors → problem documents for scripts, friendly pages for people; time limit
localise   the reader's language and zone
enforce    the session, the route's access rule, cross-site requests

`security_headers` runs when any response starts, error pages and sockets included.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from urllib.parse import quote, urlencode

import structlog
from aiohttp import hdrs, web

from consult.errors import Refused, TooMany
from web import i18n
from web.access import STAFF_ROLES, Access, Denied, SignInNeeded, rule_of
from web.account.sessions import load_api_caller, load_identity
from web.forms import is_text
from web.keys import (
    API_CALLER,
    IDENTITY,
    LANGUAGE,
    METRICS,
    PRACTICE,
    REQUEST_ID,
    SETTINGS,
    ZONE,
)
from web.origin import is_cross_site, is_direct_loopback, is_https
from web.pages import render
from web.responses import is_database_outage, problem, problem_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger("web")

REQUEST_SECONDS_MAX = 30
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# these use no cookies, so there is nothing for another site to borrow
COOKIELESS_PREFIXES = ("/api/", "/whip/", "/whep/")
JSON_PREFIXES = ("/api/", "/whip/", "/whep/", "/ws", "/metrics", "/healthz", "/readyz")
YEAR_SECONDS = 31_536_000


def route_template(request: web.Request) -> str:
    """`/manage/{id}`, never the raw path: a path can carry ids and the ICS capability."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "(none)"


def wants_json(request: web.Request) -> bool:
    """A script asks: by path, by what it sends, or by what it accepts."""
    if request.path.startswith(JSON_PREFIXES) or request.content_type == "application/json":
        return True
    accept = request.headers.get("Accept", "")
    return "json" in accept and "text/html" not in accept


def _is_upgrade(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    request_id = request[REQUEST_ID] = secrets.token_hex(8)
    metrics = request.app[METRICS]
    started = time.perf_counter()
    status = 500
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    metrics.in_flight.inc()
    try:
        response = await handler(request)
        status = response.status
        return response
    except asyncio.CancelledError:
        status = 499  # the reader went away
        raise
    finally:
        seconds = time.perf_counter() - started
        route = route_template(request)
        metrics.in_flight.dec()
        metrics.requests.labels(request.method if route != "(none)" else "-", route, str(status)).inc()
        if not _is_upgrade(request):
            metrics.latency.labels(request.method if route != "(none)" else "-", route).observe(seconds)
        if not route.startswith("/static") or status >= 400:
            log.info(
                "request", method=request.method, route=route, status=status, milliseconds=round(seconds * 1000, 1)
            )


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        if _is_upgrade(request):
            return await handler(request)
        async with asyncio.timeout(REQUEST_SECONDS_MAX):
            return await handler(request)
    except SignInNeeded:
        if wants_json(request):
            return problem(401, "sign_in_needed", i18n.gettext("Please sign in."))
        target = request.path if request.method in SAFE_METHODS else ""
        query = f"?{urlencode({'next': target}, quote_via=quote)}" if target not in ("", "/") else ""
        raise web.HTTPSeeOther(f"/account/sign-in{query}") from None
    except Refused as refusal:
        if wants_json(request):
            return problem_of(refusal)
        page = error_page(request, refusal.status, i18n.gettext(refusal.message))
        if isinstance(refusal, TooMany):
            page.headers["Retry-After"] = str(refusal.retry_after_seconds)
        return page
    except web.HTTPException as error:
        if error.status < 400 or error.content_type == "application/problem+json":
            raise
        return _http_error(request, error)
    except TimeoutError:
        log.warning("request_timed_out", route=route_template(request))
        return unavailable(request)
    except Exception as error:
        if is_database_outage(error):
            log.warning("database_unavailable", route=route_template(request), error=type(error).__name__)
            return unavailable(request)
        log.exception("request_failed", route=route_template(request))
        if wants_json(request):
            return problem(500, "internal", i18n.gettext("Something went wrong on our side. Please try again."))
        return error_page(request, 500)


def _http_error(request: web.Request, error: web.HTTPException) -> web.Response:
    kept = (hdrs.ALLOW, hdrs.WWW_AUTHENTICATE, hdrs.RETRY_AFTER)
    headers = {str(name): error.headers[name] for name in kept if name in error.headers}
    if wants_json(request):
        return problem(error.status, headers=headers)
    response = error_page(request, error.status)
    response.headers.update(headers)
    return response


def unavailable(request: web.Request) -> web.Response:
    """503 with Retry-After: a dependency is away, a retry helps."""
    if wants_json(request):
        detail = i18n.gettext("The service is not available right now. Please try again in a moment.")
        return problem(503, "unavailable", detail, headers={"Retry-After": "5"})
    response = error_page(request, 503)
    response.headers["Retry-After"] = "5"
    return response


def error_page(request: web.Request, status: int, message: str = "") -> web.Response:
    return render(request, "errors/error.html", {"status": status, "message": message}, status)


@web.middleware
async def localise(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Both are cookies: the language switch writes one, the pages' script or the zone selector the other."""
    language = i18n.choose_language(
        request.cookies.get("language"), request.headers.get(hdrs.ACCEPT_LANGUAGE, ""), request.app[PRACTICE].language
    )
    request[LANGUAGE] = language
    i18n.current_language.set(language)
    zone = i18n.valid_zone(request.cookies.get("zone", "").replace("%2F", "/"))
    if zone is not None:
        request[ZONE] = zone
    return await handler(request)


@web.middleware
async def enforce(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Deny by default: a matched route without a rule is refused even though the start already checked."""
    if request.match_info.http_exception is not None:
        return await handler(request)
    if not all(part.isprintable() for part in request.match_info.values()):
        raise web.HTTPNotFound  # no id, slug or file is written so, and a database may refuse to look for it
    if not all(is_text(value) for value in request.query.values()):
        raise web.HTTPBadRequest
    rule = rule_of(request.match_info.handler)
    cookieless = request.path.startswith(COOKIELESS_PREFIXES)
    if not cookieless and request.method not in SAFE_METHODS and is_cross_site(request):
        _denied(request, rule, "cross_site")
    if not cookieless and rule is not Access.OPERATOR and not request.path.startswith("/static/"):
        found = await load_identity(request)
        if found is not None:
            request[IDENTITY] = found
            if found.stage == "full":
                request.setdefault(ZONE, found.zone)
                if request.cookies.get("language") not in i18n.LANGUAGES:
                    # the account's language comes before the browser's
                    request[LANGUAGE] = found.language
                    i18n.current_language.set(found.language)
    await _check(request, rule)
    return await handler(request)


async def _check(request: web.Request, rule: Access | None) -> None:
    match rule:
        case Access.PUBLIC | Access.CAPABILITY:
            return
        case Access.API_TOKEN:
            caller = await load_api_caller(request)
            if caller is None:
                request.app[METRICS].denied.labels(Access.API_TOKEN.value).inc()
                raise web.HTTPUnauthorized(headers={hdrs.WWW_AUTHENTICATE: "Bearer"})
            request[API_CALLER] = caller
        case Access.OPERATOR:
            _check_operator(request)
        case Access.SIGNING_IN:
            if request.get(IDENTITY) is None:
                raise SignInNeeded
            await _check_csrf(request)
        case Access.SPECIALIST | Access.ADMIN | Access.STAFF:
            found = request.get(IDENTITY)
            if found is None or found.stage != "full":
                raise SignInNeeded
            if found.role not in STAFF_ROLES[rule]:
                _denied(request, rule, "role")
            await _check_csrf(request)
        case _:
            _denied(request, rule, "no_rule")


def _denied(request: web.Request, rule: Access | None, why: str) -> None:
    request.app[METRICS].denied.labels(rule.value if rule is not None else "none").inc()
    log.warning("denied", route=route_template(request), rule=rule.value if rule is not None else None, why=why)
    raise Denied


def _check_operator(request: web.Request) -> None:
    token = request.app[SETTINGS].metrics_token
    given = request.headers.get(hdrs.AUTHORIZATION, "").removeprefix("Bearer ")
    if token is not None and compare_digest(given.encode(), token.encode()):
        return
    if token is None and is_direct_loopback(request):
        return
    raise web.HTTPUnauthorized(headers={hdrs.WWW_AUTHENTICATE: "Bearer"})


async def _check_csrf(request: web.Request) -> None:
    """The session's token, in the form's `csrf_token` field or the X-CSRF-Token header of a script."""
    if request.method in SAFE_METHODS:
        return
    given = request.headers.get("X-CSRF-Token")
    if given is None and request.content_type in ("application/x-www-form-urlencoded", "multipart/form-data"):
        field = (await request.post()).get("csrf_token", "")
        given = field if isinstance(field, str) else ""
    if not compare_digest((given or "").encode(), request[IDENTITY].csrf_token.encode()):
        _denied(request, rule_of(request.match_info.handler), "csrf")


async def security_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Set when a response starts. Nothing inline, nothing from elsewhere, no framing.

    No referrer for other sites. For our own pages there must be one: under `no-referrer` a browser's own forms would
    come with `Origin: null` (Fetch standard, "append a request Origin header"), which tells nothing."""
    headers = response.headers
    settings = request.app[SETTINGS]
    if request.path.startswith("/static/") and response.status < 400:
        # no document: it loads nothing and is embedded by nobody. (Forty files make the call page: short matters.)
        headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    else:
        sockets = "ws" + settings.public_url.removeprefix("http")
        headers.setdefault(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
            f"media-src 'self' blob:; connect-src 'self' {sockets}; font-src 'self'; worker-src 'self'; "
            "manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        )
        headers.setdefault(
            "Permissions-Policy",
            "camera=(self), microphone=(self), display-capture=(self), fullscreen=(self), picture-in-picture=(self), "
            "speaker-selection=(self), geolocation=(), payment=(), usb=(), browsing-topics=()",
        )
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    headers.setdefault("X-Frame-Options", "DENY")
    if is_https(request):
        headers.setdefault("Strict-Transport-Security", f"max-age={YEAR_SECONDS}; includeSubDomains")
    headers.setdefault("Cache-Control", "no-store")
    if REQUEST_ID in request:
        headers.setdefault("X-Request-Id", request[REQUEST_ID])
    headers.popall("Server", None)


MIDDLEWARES = (observe, guard, localise, enforce)

__all__ = ["MIDDLEWARES", "error_page", "route_template", "security_headers", "unavailable", "wants_json"]
