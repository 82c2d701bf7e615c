"""The public booking pages. They need no account and work without JavaScript."""

from __future__ import annotations

from aiohttp import web

from web import i18n
from web.access import Access, access
from web.api.throttle import READ, throttle
from web.booking import book, manage
from web.booking.offers import build_picker, choose_offer, load_offers
from web.i18n import gettext as _
from web.keys import DATABASE
from web.origin import is_https
from web.pages import render
from web.room.texts import call_texts

pages = web.RouteTableDef()

YEAR_SECONDS = 31_536_000


@pages.get("/")
@access(Access.PUBLIC)
async def home(request: web.Request) -> web.StreamResponse:
    """Services and specialists. With one service and one specialist there is nothing to choose: on to the calendar."""
    await throttle(request, READ)
    async with request.app[DATABASE].read() as session:
        offers = await load_offers(request, session)
    if len(offers) == 1 and len(offers[0].people) == 1:
        raise web.HTTPFound(offers[0].people[0].url)
    return render(request, "booking/home.html", {"offers": offers})


@pages.get("/book/{service}/{specialist}")
@access(Access.PUBLIC)
async def calendar(request: web.Request) -> web.StreamResponse:
    """The month and the times of a day, in the reader's zone."""
    await throttle(request, READ)
    async with request.app[DATABASE].read() as session:
        offers = await load_offers(request, session)
        offer = choose_offer(offers, request.match_info["service"], request.match_info["specialist"])
        if offer is None:
            raise web.HTTPNotFound
        picker = await build_picker(request, session, offer, offer.url)
    back_url = "/" if len(offers) > 1 or len(offer.people) > 1 else None
    return render(request, "booking/calendar.html", {"offer": offer, "calendar": picker, "back_url": back_url})


@pages.get("/privacy")
@access(Access.PUBLIC)
async def privacy(request: web.Request) -> web.StreamResponse:
    return render(request, "booking/privacy.html")


@pages.get("/terms")
@access(Access.PUBLIC)
async def terms(request: web.Request) -> web.StreamResponse:
    return render(request, "booking/terms.html")


@pages.get("/devices")
@access(Access.PUBLIC)
async def devices(request: web.Request) -> web.StreamResponse:
    """Try camera, microphone and speaker at any time, long before the room opens. `to` is the page to go back to."""
    texts = call_texts(_) | {
        "test_both_work": _("Your camera and your microphone work."),
        "test_microphone_works": _("Your microphone works."),
    }
    return render(request, "booking/devices.html", {"texts": texts, "back_url": _own_page(request)})


@pages.get("/language/{code}")
@access(Access.PUBLIC)
async def language(request: web.Request) -> web.StreamResponse:
    """Remember the reader's language and go back to `to`."""
    code = request.match_info["code"]
    if code not in i18n.LANGUAGES:
        raise web.HTTPNotFound
    response = _back(request)
    response.set_cookie("language", code, max_age=YEAR_SECONDS, path="/", samesite="Lax", secure=is_https(request))
    return response


@pages.get("/zone")
@access(Access.PUBLIC)
async def zone(request: web.Request) -> web.StreamResponse:
    """Remember the reader's zone (the form of the zone selector, for browsers without JavaScript)."""
    response = _back(request)
    chosen = i18n.valid_zone(request.query.get("zone"))
    if chosen is not None:
        # quoted would not be read by the pages' script; zone names hold no character that needs it
        secure = "; Secure" if is_https(request) else ""
        response.headers.add("Set-Cookie", f"zone={chosen}; Path=/; SameSite=Lax{secure}")
    return response


def _back(request: web.Request) -> web.Response:
    return web.Response(status=303, headers={"Location": _own_page(request)})


def _own_page(request: web.Request) -> str:
    """The page of ours that `to` names; anything that could lead elsewhere becomes the first page."""
    target = request.query.get("to", "/")
    printable = all("!" <= character <= "~" for character in target)
    if not target.startswith("/") or target.startswith("//") or "\\" in target or not printable:
        return "/"
    return target


routes = [*pages, *book.routes, *manage.routes]
