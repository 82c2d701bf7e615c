"""Reminder rules, and what became of every message."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aiohttp import web
from sqlalchemy import select

from consult.booking import agenda
from consult.errors import Invalid
from consult.notify import reminders
from consult.notify.models import OutboxMessage
from web.access import Access, access, identity
from web.forms import Form, problems_by_field
from web.i18n import gettext, ngettext
from web.keys import CLOCK, DATABASE, VAULT
from web.pages import render

routes = web.RouteTableDef()

UNITS = {"minutes": 1, "hours": 60, "days": 1440}
DELIVERIES_SHOWN = 200
STATUSES = ("planned", "claimed", "sent", "cancelled", "skipped", "failed")


def split_minutes(minutes: int) -> tuple[int, str]:
    """1440 → (1, days): the largest unit that says it exactly."""
    for unit in ("days", "hours"):
        if minutes % UNITS[unit] == 0:
            return minutes // UNITS[unit], unit
    return minutes, "minutes"


def before_text(minutes: int) -> str:
    amount, unit = split_minutes(minutes)
    texts = {
        "days": ngettext("%(n)s day before", "%(n)s days before", amount),
        "hours": ngettext("%(n)s hour before", "%(n)s hours before", amount),
        "minutes": ngettext("%(n)s minute before", "%(n)s minutes before", amount),
    }
    return texts[unit] % {"n": amount}


def rule_text(rule_key: str) -> str:
    """What a message is about, and to whom: `specialist:reminder:10`."""
    bare = rule_key.removeprefix(reminders.SPECIALIST)
    if bare.startswith(reminders.REMINDER):
        minutes = bare.removeprefix(reminders.REMINDER)
        text = gettext("Reminder, %(when)s") % {"when": before_text(int(minutes)) if minutes.isdigit() else minutes}
    else:
        text = {
            "confirmed": gettext("Confirmation"),
            "rescheduled": gettext("New time"),
            "cancelled": gettext("Cancellation"),
        }.get(bare, bare)
    return text


@routes.get("/admin/reminders")
@access(Access.ADMIN)
async def reminder_rules(request: web.Request) -> web.StreamResponse:
    async with request.app[DATABASE].read() as session:
        found = await reminders.rules(session, identity(request).practice_id)
    minutes = [rule.minutes_before for rule in found if rule.enabled] if found else list(reminders.DEFAULT_MINUTES)
    notice = gettext("Saved. Appointments still to come follow the new rules.") if request.query.get("done") else ""
    return _rules_page(request, [split_minutes(value) for value in minutes], notice=notice)


def _rules_page(
    request: web.Request,
    rows: list[tuple[Any, str]],
    *,
    notice: str = "",
    problems: dict[str, str] | None = None,
    status: int = 200,
) -> web.Response:
    context = {"rows": rows, "notice": notice, "problems": problems or {}}
    return render(request, "admin/reminders.html", context, status)


@routes.post("/admin/reminders")
@access(Access.ADMIN)
async def save_rules(request: web.Request) -> web.StreamResponse:
    """Rows of an amount and a unit; an empty amount is no reminder."""
    form = await Form.read(request)
    typed = [row for row in zip(form.list("amount"), form.list("unit"), strict=False) if row[0]]
    minutes = [
        int(amount) * UNITS.get(unit, 1) if amount.isdigit() and len(amount) < 7 else 0 for amount, unit in typed
    ]
    try:
        async with request.app[DATABASE].write() as session:
            await reminders.set_rules(session, identity(request).practice_id, minutes, request.app[CLOCK]())
    except Invalid as error:
        return _rules_page(request, list(typed), problems=problems_by_field(error), status=error.status)
    raise web.HTTPSeeOther("/admin/reminders?done=1")


@routes.get("/admin/deliveries")
@access(Access.ADMIN)
async def deliveries(request: web.Request) -> web.StreamResponse:
    """Messages by booking, those of the last week and everything still to be sent; filter by status or booking."""
    practice_id, now = identity(request).practice_id, request.app[CLOCK]()
    status = request.query.get("status", "")
    booking = request.query.get("booking", "")[:64]
    query = select(OutboxMessage).where(
        OutboxMessage.practice_id == practice_id, OutboxMessage.due_at > now - timedelta(days=7)
    )
    if status in STATUSES:
        query = query.where(OutboxMessage.status == status)
    if booking:
        query = query.where(OutboxMessage.booking_id == booking)
    async with request.app[DATABASE].read() as session:
        rows = list(
            await session.scalars(query.order_by(OutboxMessage.due_at.desc(), OutboxMessage.id).limit(DELIVERIES_SHOWN))
        )
        views = await agenda.find_many(session, request.app[VAULT], {row.booking_id for row in rows})
    context = {
        "messages": rows,
        "bookings": {key: view for key, view in views.items() if view.practice_id == practice_id},
        "statuses": STATUSES,
        "status": status if status in STATUSES else "",
        "booking": booking,
        "rule_text": rule_text,
        "to_specialist": lambda key: reminders.audience_of(key) == "specialist",
        "limit": DELIVERIES_SHOWN,
    }
    return render(request, "admin/deliveries.html", context)
