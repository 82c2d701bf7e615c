"""The words of every message: subject, plain text and simple HTML, in the recipient's language and zone.

Pure: what it needs comes in, English sentences go through the `translate` it is given. The service and the reason stay
out of subjects (they show on locked screens); the reason stays out of mail altogether.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from babel import Locale, dates

from consult.notify.reminders import audience_of, is_reminder

Translate = Callable[[str], str]

# a stranger's "name" must not become an advertisement in a mail that we send to a third person
_LINK_LIKE = re.compile(r"://|www\.|\.[a-z]{2,}/|@|[<>]", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Appointment:
    """What a message tells of. URLs are complete; `manage_url` None: staff, who use their desk."""

    rule_key: str
    language: str
    zone: str  # IANA, the recipient's
    practice_name: str
    recipient_name: str
    client_name: str
    specialist_name: str
    service_name: str
    start: datetime
    end: datetime
    join_url: str
    manage_url: str | None
    change_deadline: datetime


@dataclass(frozen=True, slots=True)
class Letter:
    """A message ready for any channel. `links` are the URLs in it."""

    subject: str
    plain: str
    html: str
    links: tuple[str, ...]


def write(appointment: Appointment, translate: Translate, now: datetime) -> Letter:
    """The letter for `appointment.rule_key`."""
    if audience_of(appointment.rule_key) == "specialist":
        subject, opening = _to_specialist(appointment, translate)
    else:
        subject, opening = _to_client(appointment, translate)
    kind = _kind(appointment.rule_key)
    return _letter(appointment, translate, subject, opening, now, with_links=kind != "cancelled")


def calendar_summary(appointment: Appointment, translate: Translate) -> str:
    _ = translate
    other = (
        appointment.client_name if audience_of(appointment.rule_key) == "specialist" else appointment.specialist_name
    )
    return _("%(service)s with %(name)s") % {"service": appointment.service_name, "name": other}


def calendar_description(appointment: Appointment, translate: Translate) -> str:
    _ = translate
    lines = [_("Join here, from 10 minutes before the start:"), appointment.join_url]
    if appointment.manage_url is not None:
        lines += ["", _("Change or cancel:"), appointment.manage_url]
    return "\n".join(lines)


def date_text(moment: datetime, zone: str, language: str) -> str:
    """Tuesday, 17 March 2026, or its like."""
    return dates.format_date(moment.astimezone(ZoneInfo(zone)), "full", locale=_locale(language))


def time_text(moment: datetime, zone: str) -> str:
    return f"{moment.astimezone(ZoneInfo(zone)):%H:%M}"


def zone_text(moment: datetime, zone: str, language: str) -> str:
    """The zone by its name in the recipient's language, its IANA name and its offset at that moment:
    "Central European Standard Time, Europe/Berlin, UTC+1"."""
    local = moment.astimezone(ZoneInfo(zone))
    name = dates.get_timezone_name(local, width="long", locale=_locale(language))
    if name.startswith(("GMT+", "GMT-", "GMT−")):
        # the language has no name for it (Asia/Kolkata in CLDR): say the place
        name = dates.get_timezone_location(local, locale=_locale(language))
    offset = local.utcoffset()
    minutes = int(offset.total_seconds()) // 60 if offset is not None else 0
    hours, rest = divmod(abs(minutes), 60)
    utc = "UTC" if minutes == 0 else f"UTC{'−' if minutes < 0 else '+'}{hours}" + (f":{rest:02d}" if rest else "")
    parts = [name, zone.replace("_", " "), utc]
    return ", ".join(dict.fromkeys(part for part in parts if part))


def _to_client(appointment: Appointment, translate: Translate) -> tuple[str, str]:
    _ = translate
    when = _when(appointment)
    match _kind(appointment.rule_key):
        case "confirmed":
            return (
                _("Confirmed: your appointment on %(day)s at %(time)s") % when,
                _("Your appointment is confirmed."),
            )
        case "rescheduled":
            return (
                _("Moved: your appointment is now on %(day)s at %(time)s") % when,
                _("Your appointment has a new time. The time you had before is no longer reserved."),
            )
        case "cancelled":
            return (
                _("Cancelled: your appointment on %(day)s at %(time)s") % when,
                _("This appointment was cancelled. You are welcome to book another time."),
            )
        case _:
            return (
                _("Reminder: your appointment on %(day)s at %(time)s") % when,
                _("This is a reminder of your appointment."),
            )


def _to_specialist(appointment: Appointment, translate: Translate) -> tuple[str, str]:
    _ = translate
    when = _when(appointment)
    match _kind(appointment.rule_key):
        case "confirmed":
            return _("New appointment on %(day)s at %(time)s") % when, _("A new appointment was booked with you.")
        case "rescheduled":
            return (
                _("Appointment moved to %(day)s at %(time)s") % when,
                _("An appointment with you has a new time."),
            )
        case "cancelled":
            return (
                _("Appointment cancelled: %(day)s at %(time)s") % when,
                _("An appointment with you was cancelled. The time is free again."),
            )
        case _:
            return _("Starting soon: appointment at %(time)s") % when, _("An appointment with you starts soon.")


def _letter(
    appointment: Appointment,
    translate: Translate,
    subject: str,
    opening: str,
    now: datetime,
    *,
    with_links: bool,
) -> Letter:
    _ = translate
    zone, language = appointment.zone, appointment.language
    if _LINK_LIKE.search(appointment.recipient_name) or not appointment.recipient_name:
        greeting = _("Hello,")
    else:
        greeting = _("Hello %(name)s,") % {"name": appointment.recipient_name}
    facts = [
        (_("When"), _span(appointment)),
        (_("Time zone"), zone_text(appointment.start, zone, language)),
        (_("Service"), appointment.service_name),
    ]
    if audience_of(appointment.rule_key) == "specialist":
        facts.append((_("Client"), appointment.client_name))
    else:
        facts.append((_("With"), appointment.specialist_name))
    actions: list[tuple[str, str, str]] = []
    closing: list[str] = []
    if with_links:
        actions.append(
            (_("Join here, from 10 minutes before the start:"), _("Join the consultation"), appointment.join_url)
        )
        if appointment.manage_url is not None:
            if now <= appointment.change_deadline:
                until = {
                    "day": date_text(appointment.change_deadline, zone, language),
                    "time": time_text(appointment.change_deadline, zone),
                }
                actions.append(
                    (
                        _("You can change or cancel it until %(day)s, %(time)s:") % until,
                        _("Change or cancel"),
                        appointment.manage_url,
                    )
                )
            else:
                closing.append(
                    _("It is too late to change it online. If you cannot come, please contact the practice.")
                )
    closing.append(
        _("%(practice)s sends this message automatically; answers are not read.")
        % {"practice": appointment.practice_name}
    )
    return Letter(
        subject=" ".join(subject.split()),
        plain=_plain(greeting, opening, facts, actions, closing),
        html=_html(language, subject, greeting, opening, facts, actions, closing),
        links=tuple(url for _label, _button, url in actions),
    )


def _plain(
    greeting: str,
    opening: str,
    facts: Sequence[tuple[str, str]],
    actions: Sequence[tuple[str, str, str]],
    closing: Sequence[str],
) -> str:
    blocks = [greeting, opening, "\n".join(f"{name}: {value}" for name, value in facts)]
    blocks += [f"{label}\n{url}" for label, _button, url in actions]
    return "\n\n".join([*blocks, *closing]) + "\n"


def _html(
    language: str,
    subject: str,
    greeting: str,
    opening: str,
    facts: Sequence[tuple[str, str]],
    actions: Sequence[tuple[str, str, str]],
    closing: Sequence[str],
) -> str:
    # mail programs know no style sheets: the few rules stand in the elements
    text = html.escape
    rows = "".join(
        f'<tr><td style="padding:4px 16px 4px 0;color:#5b6770;vertical-align:top">{text(name)}</td>'
        f'<td style="padding:4px 0;font-weight:600">{text(value)}</td></tr>'
        for name, value in facts
    )
    buttons = "".join(
        f'<p style="margin:24px 0 8px">{text(label)}</p><p style="margin:0"><a href="{text(url)}" style="'
        + (
            "display:inline-block;padding:12px 24px;border-radius:8px;background:#0b6b6b;color:#ffffff;"
            "text-decoration:none;font-weight:600"
            if number == 0
            else "color:#0b6b6b"
        )
        + f'">{text(button)}</a></p>'
        for number, (label, button, url) in enumerate(actions)
    )
    end = "".join(f'<p style="margin:24px 0 0;color:#5b6770;font-size:14px">{text(line)}</p>' for line in closing)
    return (
        f'<!doctype html><html lang="{text(language)}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{text(subject)}</title></head>'
        '<body style="margin:0;padding:24px;font-family:system-ui,-apple-system,sans-serif;font-size:16px;'
        'line-height:1.5;color:#17212b"><div style="max-width:560px;margin:0 auto">'
        f'<p style="margin:0 0 16px">{text(greeting)}</p><p style="margin:0 0 16px">{text(opening)}</p>'
        f'<table role="presentation" style="border-collapse:collapse">{rows}</table>'
        f"{buttons}{end}</div></body></html>\n"
    )


def _kind(rule_key: str) -> str:
    return "reminder" if is_reminder(rule_key) else rule_key.rpartition(":")[2]


def _when(appointment: Appointment) -> dict[str, str]:
    return {
        "day": date_text(appointment.start, appointment.zone, appointment.language),
        "time": time_text(appointment.start, appointment.zone),
    }


def _span(appointment: Appointment) -> str:
    day = date_text(appointment.start, appointment.zone, appointment.language)
    begin, end = time_text(appointment.start, appointment.zone), time_text(appointment.end, appointment.zone)
    return f"{day}, {begin}–{end}"


@lru_cache(maxsize=16)
def _locale(language: str) -> Locale:
    # British English: day before month, as the pages have it
    return Locale.parse("en_GB" if language == "en" else language)
