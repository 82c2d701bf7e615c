"""What the public pages offer: services, the people who give them, and the picker of a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from aiohttp import web
from babel import dates
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking import availability
from consult.booking.agenda import BookingView
from consult.booking.models import Service
from consult.booking.services import SpecialistCard, list_services, list_specialists, rules_of
from web import i18n
from web.booking.month import (
    Day,
    Month,
    Time,
    build_month,
    by_part,
    day_bounds,
    merge_times,
    month_after,
    parse_day,
    parse_month,
    times_by_day,
)
from web.booking.zones import zone_choices
from web.i18n import gettext as _
from web.keys import CLOCK, PRACTICE, VAULT
from web.pages import day as day_text
from web.pages import reader_language, reader_zone
from web.responses import utc_text

ANY = "any"


@dataclass(frozen=True, slots=True)
class Person:
    """A specialist as a page shows them."""

    id: str
    slug: str
    name: str
    title: str
    initials: str
    url: str  # the calendar of this service with them


@dataclass(frozen=True, slots=True)
class Offer:
    """A service with everybody who gives it, and the one chosen (None: whoever is free)."""

    service: Service
    people: tuple[Person, ...]
    person: Person | None = None

    @property
    def any_url(self) -> str:
        return f"/book/{quote(self.service.slug)}/{ANY}"

    @property
    def url(self) -> str:
        return self.person.url if self.person is not None else self.any_url

    @property
    def specialist_ids(self) -> tuple[str, ...]:
        return (self.person.id,) if self.person is not None else tuple(one.id for one in self.people)


def initials(name: str) -> str:
    """Up to two letters: of the first and the last word that begin with a letter; titles with a dot are left out."""
    words = [word for word in name.split() if word[0].isalpha() and not word.endswith(".")] or name.split()[:1]
    letters = words[0][:1] + (words[-1][:1] if len(words) > 1 else "") if words else ""
    return letters.upper()


def _person(card: SpecialistCard, service: Service) -> Person:
    return Person(
        id=card.id,
        slug=card.slug,
        name=card.name,
        title=card.title,
        initials=initials(card.name),
        url=f"/book/{quote(service.slug)}/{quote(card.slug)}",
    )


async def load_offers(request: web.Request, session: AsyncSession) -> list[Offer]:
    """Everything that can be booked, in a constant number of queries."""
    practice = request.app[PRACTICE]
    services = await list_services(session, practice.id)
    cards = {card.id: card for card in await list_specialists(session, request.app[VAULT], practice.id)}
    offers = []
    for offered in services:
        found = [cards[one] for one in offered.specialist_ids if one in cards]
        people = sorted((_person(card, offered.service) for card in found), key=lambda one: one.name.casefold())
        if people:
            offers.append(Offer(offered.service, tuple(people)))
    return offers


async def load_offer(request: web.Request, session: AsyncSession, service: str, specialist: str) -> Offer | None:
    """By slugs or ids; `any` for the specialist means whoever is free. None when that cannot be booked."""
    return choose_offer(await load_offers(request, session), service, specialist)


def choose_offer(offers: Iterable[Offer], service: str, specialist: str) -> Offer | None:
    """See `load_offer`."""
    for offer in offers:
        if service not in (offer.service.slug, offer.service.id):
            continue
        if specialist == ANY:
            # with one person there is nobody else: say who it is
            return Offer(offer.service, offer.people, offer.people[0] if len(offer.people) == 1 else None)
        for person in offer.people:
            if specialist in (person.slug, person.id):
                return Offer(offer.service, offer.people, person)
    return None


@dataclass(frozen=True, slots=True)
class TimeChoice:
    value: str  # UTC, ISO 8601
    label: str  # 09:30 in the reader's zone
    url: str


@dataclass(frozen=True, slots=True)
class Picker:
    """Everything that templates/booking/_calendar.html shows."""

    month: Month
    title: str
    weekdays: Sequence[tuple[str, str]]
    selected: date | None
    groups: Sequence[tuple[str, Sequence[TimeChoice]]]
    zones: Sequence[tuple[str, str]]
    here_url: str
    previous_url: str | None
    next_url: str | None
    first_free_url: str | None
    post_url: str | None  # set: a time is sent there as `start` (rescheduling); else it is a link
    day_url: Callable[[date], str] = field(repr=False)
    day_label: Callable[[Day], str] = field(repr=False)


async def build_picker(
    request: web.Request,
    session: AsyncSession,
    offer: Offer,
    base_url: str,
    *,
    post_url: str | None = None,
    moving: BookingView | None = None,
) -> Picker:
    """The month asked for by ?month= or ?date=, else the first month with free times and its first free day.

    `moving`: the booking that a new time is chosen for. It takes up no time then, and its own start is not offered."""
    now = request.app[CLOCK]()
    zone = reader_zone(request)
    rules = rules_of(offer.service)
    today = now.astimezone(ZoneInfo(zone)).date()
    last_bookable = (now + timedelta(days=rules.horizon_days)).astimezone(ZoneInfo(zone)).date()

    async def free(first: date) -> dict[date, list[Time]]:
        start, end = day_bounds(first, month_after(first) - timedelta(days=1), zone)
        slots = await availability.offer(
            session, rules, offer.specialist_ids, start, end, now, ignore_booking=moving.id if moving else None
        )
        if moving is not None:
            slots = [slot for slot in slots if slot.start != moving.start]
        return times_by_day(merge_times(slots), zone)

    async def first_free_month() -> tuple[date, dict[date, list[Time]]] | None:
        candidate = today.replace(day=1)
        while candidate <= last_bookable:
            found = await free(candidate)
            if found:
                return candidate, found
            candidate = month_after(candidate)
        return None

    selected = parse_day(request.query.get("date"))
    asked = parse_month(request.query.get("month")) or (selected.replace(day=1) if selected else None)
    if asked is not None and not today.replace(day=1) <= asked <= last_bookable:
        asked = None  # an old link: nothing can be free there
    if asked is not None:
        first, times = asked, await free(asked)
    else:
        first, times = await first_free_month() or (today.replace(day=1), {})
    if selected is None or selected.replace(day=1) != first:
        selected = min(times, default=None)
    month = build_month(
        first,
        times,
        today=today,
        last_bookable=last_bookable,
        selected=selected,
        first_weekday=i18n.locale_of(reader_language(request)).first_week_day,
    )
    first_free_url = None
    if not month.has_times and asked is not None:
        elsewhere = await first_free_month()
        if elsewhere is not None:
            first_free_url = _url(base_url, date=min(elsewhere[1]))
    chosen = times.get(selected, []) if selected is not None else []
    middle = chosen[0].start if chosen else max(now, day_bounds(first, first, zone)[0])
    return Picker(
        month=month,
        title=dates.format_skeleton("yMMMM", first, locale=i18n.locale_of(reader_language(request))),
        weekdays=_weekdays(month, reader_language(request)),
        selected=selected,
        groups=_groups(chosen, zone, offer),
        zones=zone_choices(zone, middle),
        here_url=_url(base_url, date=selected) if selected else _url(base_url, month=f"{first:%Y-%m}"),
        previous_url=_url(base_url, month=f"{month.previous:%Y-%m}") if month.previous else None,
        next_url=_url(base_url, month=f"{month.next:%Y-%m}") if month.next else None,
        first_free_url=first_free_url,
        post_url=post_url,
        day_url=lambda day: _url(base_url, date=day),
        day_label=_day_label,
    )


def details_url(offer: Offer, start: datetime) -> str:
    return _url(f"{offer.url}/details", start=utc_text(start))


def parse_start(text: str | None) -> datetime | None:
    """The `start` of a link or button: ISO 8601 with Z or an offset, to the minute, as UTC. None for anything else, and
    for years whose ends some zone could not show."""
    try:
        found = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    if found.tzinfo is None or found.second or found.microsecond or not 2000 <= found.year <= 2200:
        return None
    return found.astimezone(UTC)


def _groups(times: Sequence[Time], zone: str, offer: Offer) -> list[tuple[str, list[TimeChoice]]]:
    names = {"morning": _("Morning"), "afternoon": _("Afternoon"), "evening": _("Evening")}
    tz = ZoneInfo(zone)
    return [
        (
            names[part],
            [
                TimeChoice(utc_text(one.start), f"{one.start.astimezone(tz):%H:%M}", details_url(offer, one.start))
                for one in found
            ],
        )
        for part, found in by_part(times, zone)
    ]


def _weekdays(month: Month, language: str) -> list[tuple[str, str]]:
    locale = i18n.locale_of(language)
    names = []
    for cell in month.weeks[0]:
        # stand-alone form: the calendar's heading is no part of a date
        short = dates.get_day_names("abbreviated", context="stand-alone", locale=locale)[cell.day.weekday()]
        long = dates.get_day_names("wide", context="stand-alone", locale=locale)[cell.day.weekday()]
        names.append((short, long))
    return names


def _day_label(cell: Day) -> str:
    free = i18n.ngettext("%(num)s free time", "%(num)s free times", cell.times) % {"num": cell.times}
    return f"{day_text(cell.day)}, {free}"


def _url(base: str, **parameters: object) -> str:
    return f"{base}?{urlencode({name: str(value) for name, value in parameters.items()})}"
