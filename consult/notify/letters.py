"""From claimed messages to mails: loads the bookings and recipients of a batch in a constant number of queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking import agenda, links
from consult.booking.agenda import BookingView
from consult.calendars.ics import CalendarEntry, calendar_file
from consult.notify import templates
from consult.notify.channels import CalendarPart, Mail
from consult.notify.outbox import Claimed
from consult.notify.reminders import audience_of, is_reminder
from consult.people import accounts
from consult.people.models import Person, Practice
from consult.privacy.vault import Vault

# language → translate
Translator = Callable[[str], templates.Translate]


class LetterWriter:
    """Knows the installation: its address (no trailing slash), its sender, its languages. `translator(language)` gives
    a gettext."""

    def __init__(self, vault: Vault, *, public_url: str, mail_from: str, translator: Translator) -> None:
        self._vault = vault
        self._public_url = public_url
        self._host = urlsplit(public_url).hostname or "localhost"
        self._mail_from = mail_from
        self._translator = translator

    async def write(self, session: AsyncSession, claimed: Sequence[Claimed], now: datetime) -> dict[str, Mail]:
        """Mails by message id. A message without a reachable recipient (erased, or its booking gone) is left out."""
        views = await agenda.find_many(session, self._vault, {message.booking_id for message in claimed})
        people = {
            person.id: person
            for person in await session.scalars(
                select(Person).where(Person.id.in_({message.recipient_id for message in claimed}))
            )
        }
        rows = await session.execute(
            select(Practice.id, Practice.name).where(Practice.id.in_({message.practice_id for message in claimed}))
        )
        practices = {practice_id: name for practice_id, name in rows}
        keyring = await self._vault.keyring(session, people)
        mails = {}
        for message in claimed:
            view, person = views.get(message.booking_id), people.get(message.recipient_id)
            if view is None or person is None:
                continue
            address = keyring.open_or("", accounts.EMAIL, person.id, person.id, person.email_sealed)
            if address:
                mails[message.id] = self._mail(message, view, person, address, practices[message.practice_id], now)
        return mails

    def _mail(
        self,
        message: Claimed,
        view: BookingView,
        person: Person,
        address: str,
        practice_name: str,
        now: datetime,
    ) -> Mail:
        if audience_of(message.rule_key) == "client":
            # the booking's own zone, language and name: the person on file may have others
            appointment = self._appointment(
                message.rule_key, view, view.language, view.zone, practice_name, view.client_name
            )
        else:
            appointment = self._appointment(
                message.rule_key, view, person.language, person.zone, practice_name, view.specialist_name
            )
        translate = self._translator(appointment.language)
        calendar = None
        if not is_reminder(message.rule_key):
            calendar = self._calendar_part(appointment, view, message.rule_key.endswith("cancelled"), now)
        return Mail(
            id=message.id,
            host=self._host,
            to_name="",
            to_address=address,
            from_name=practice_name,
            language=appointment.language,
            letter=templates.write(appointment, translate, now),
            calendar=calendar,
            date=now,
        )

    def _appointment(
        self, rule_key: str, view: BookingView, language: str, zone: str, practice_name: str, recipient_name: str
    ) -> templates.Appointment:
        for_client = audience_of(rule_key) == "client"
        return templates.Appointment(
            rule_key=rule_key,
            language=language,
            zone=zone,
            practice_name=practice_name,
            recipient_name=recipient_name,
            client_name=view.client_name,
            specialist_name=view.specialist_name,
            service_name=view.service_name,
            start=view.start,
            end=view.end,
            # a specialist signs in: their mail opens nothing by itself
            join_url=links.join_url(self._public_url, self._vault, view.consultation_id, view.client_participant_id)
            if for_client
            else links.desk_url(self._public_url, view.consultation_id),
            manage_url=links.manage_url(self._public_url, self._vault, view.id) if for_client else None,
            change_deadline=view.change_deadline,
        )

    def _calendar_part(
        self, appointment: templates.Appointment, view: BookingView, cancelled: bool, now: datetime
    ) -> CalendarPart:
        translate = self._translator(appointment.language)
        entry = CalendarEntry(
            booking_id=view.id,
            host=self._host,
            sequence=view.sequence,
            start=view.start,
            end=view.end,
            zone=appointment.zone,
            summary=templates.calendar_summary(appointment, translate),
            description=templates.calendar_description(appointment, translate),
            url=appointment.manage_url or appointment.join_url,
            organizer_name=appointment.practice_name,
            organizer_email=self._mail_from,
            changed_at=view.changed_at,
            cancelled=cancelled,
        )
        return CalendarPart(content=calendar_file(entry, now), method=entry.method)
