"""Between the room and the domain: consult's admission and session log as signaling wants them.

signaling may not know consult (nor the other way round), so the two sides' equal shapes are translated here.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Literal

from consult.booking import admission
from consult.db import Database
from consult.privacy.vault import Vault
from consult.record.log import SessionLog
from signaling.admission import Grant, Refusal
from signaling.messages import ChatLine, StatsSample


class DomainAdmission:
    """`signaling.admission.Admission` over consult/booking/admission.py; a transaction per call."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def redeem(self, ticket: str, now: datetime) -> Grant:
        try:
            async with self._database.write() as session:
                return _grant(await admission.redeem_ticket(session, self._vault, ticket, now))
        except admission.TicketRefused as error:
            raise Refusal(error.code) from None

    async def admitted(self, consultation: str, participant: str, now: datetime) -> None:
        async with self._database.write() as session:
            await admission.admitted(session, consultation, participant, now)

    async def refused(self, consultation: str, participant: str, now: datetime) -> None:
        async with self._database.write() as session:
            await admission.refused(session, consultation, participant, now)

    async def finished(self, consultation: str, now: datetime) -> None:
        async with self._database.write() as session:
            await admission.finished(session, consultation, now)


def _grant(grant: admission.Grant) -> Grant:
    return Grant(**asdict(grant))


class DomainRecord:
    """`signaling.admission.Record` over consult/record/log.py."""

    def __init__(self, log: SessionLog) -> None:
        self._log = log

    async def event(
        self, consultation: str, participant: str | None, at: datetime, kind: str, detail: str = ""
    ) -> None:
        await self._log.event(consultation, participant, at, kind, detail)

    async def sample(
        self,
        consultation: str,
        participant: str,
        at: datetime,
        measured_by: Literal["relay", "browser"],
        sample: StatsSample,
    ) -> None:
        await self._log.sample(consultation, participant, at, measured_by, sample)

    async def chat(self, consultation: str, line: ChatLine, at: datetime) -> bool:
        return await self._log.chat(consultation, line, at)

    async def chat_history(self, consultation: str) -> list[ChatLine]:
        return [
            ChatLine(
                id=line.id,
                participant=line.participant,
                name=line.name,
                text=line.text,
                at=line.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            )
            for line in await self._log.chat_history(consultation)
        ]
