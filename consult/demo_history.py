"""The past of the demo: sessions as their log would have them, with a good, a troubled and a missed one.

The numbers come from a seeded generator, so that two demos look alike.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking import bookings, clients, services
from consult.booking.models import Booking, Consultation, Participant, Service
from consult.db import new_id
from consult.people import accounts
from consult.people.models import Person
from consult.privacy.vault import Keyring, Vault
from consult.record import notes
from consult.record.log import CHAT_BODY, chat_row
from consult.record.models import ChatMessage, QualitySample, SessionEvent
from consult.record.quality import VIDEO_TARGET_BPS
from consult.record.scores import keep_score

INTERVAL = timedelta(seconds=5)
AUDIO_BPS = 34_000


@dataclass(frozen=True, slots=True)
class _Past:
    days_ago: int
    hour: int
    minutes: int  # 0 = nobody came
    client: tuple[str, str]
    specialist: int
    service: int
    network: str  # good | weak | broken
    route: str
    cancelled: bool = False


_OTHERS = (
    ("Tomas Novak", "tomas.novak@example.net"),
    ("Amira Haddad", "amira.haddad@example.net"),
    ("Oskar Lehmann", "oskar.lehmann@example.net"),
)
_NOTE = "Sleep diary from now on, 22:30 to 6:30. Next time: the evening routine."


def _history(client: tuple[str, str]) -> tuple[_Past, ...]:
    return (
        _Past(1, 10, 23, client, 0, 1, "good", "udp"),
        _Past(2, 15, 18, _OTHERS[0], 0, 1, "weak", "udp"),
        _Past(3, 9, 21, _OTHERS[1], 1, 0, "good", "relayed"),
        _Past(4, 11, 0, _OTHERS[2], 1, 0, "good", ""),
        _Past(6, 14, 15, _OTHERS[2], 0, 0, "broken", "relayed"),
        _Past(7, 16, 0, _OTHERS[0], 0, 1, "good", "", cancelled=True),
        _Past(9, 10, 24, client, 0, 0, "good", "udp"),
    )


async def write(
    session: AsyncSession,
    vault: Vault,
    practice_id: str,
    offered: tuple[Service, Service],
    specialist_ids: Sequence[str],
    client: tuple[str, str],
    zone: str,
    now: datetime,
) -> None:
    """Past bookings of both specialists with their consultations, logs, samples, chat, and a note."""
    generator = random.Random(20_260)  # noqa: S311  the same picture every time, nothing secret
    for past in _history(client):
        service = offered[past.service]
        local = (now.astimezone(ZoneInfo(zone)) - timedelta(days=past.days_ago)).replace(
            hour=past.hour, minute=0, second=0, microsecond=0
        )
        start = local.astimezone(now.tzinfo)
        client_id = await client_person(session, vault, practice_id, past.client, zone, start - timedelta(days=5))
        specialist_id = specialist_ids[past.specialist]
        ring = await vault.keyring(session, [specialist_id, client_id])
        booking = _booking(practice_id, service, specialist_id, client_id, past, start, zone)
        booking.reason_sealed = ring.seal(bookings.ANSWERS, booking.id, client_id, '{"reason": "As discussed."}')
        session.add(booking)
        await session.flush()
        consultation, guest = await clients.open_seats(session, ring, booking, past.client[0], booking.created_at)
        if past.cancelled:
            consultation.status = "cancelled"
        if past.minutes == 0:
            await session.flush()
            continue
        host = (
            await session.execute(
                select(Participant).where(
                    Participant.consultation_id == consultation.id, Participant.role == "specialist"
                )
            )
        ).scalar_one()
        await _session(session, ring, consultation, host, guest, past, start, generator)
        if past.client == client:
            written_at = start + timedelta(minutes=past.minutes + 5)
            await notes.create_note(
                session,
                vault,
                consultation_id=consultation.id,
                specialist_id=specialist_id,
                text=_NOTE,
                now=written_at,
            )


async def client_person(
    session: AsyncSession, vault: Vault, practice_id: str, client: tuple[str, str], zone: str, now: datetime
) -> str:
    """The id of the person with this (name, e-mail), created when there is none."""
    name, email = client
    statement = select(Person.id).where(
        Person.practice_id == practice_id, Person.email_index == vault.email_index(email)
    )
    found = (await session.execute(statement.order_by(Person.created_at))).scalars().first()
    if found is not None:
        return found
    person, _ring = await accounts.create_person(
        session, vault, practice_id=practice_id, name=name, email=email, zone=zone, language="en", now=now
    )
    return person.id


def _booking(
    practice_id: str,
    service: Service,
    specialist_id: str,
    client_id: str,
    past: _Past,
    start: datetime,
    zone: str,
) -> Booking:
    blocked = services.rules_of(service).blocked(start)
    status = "cancelled" if past.cancelled else "completed" if past.minutes else "no_show"
    return Booking(
        id=new_id(),
        practice_id=practice_id,
        service_id=service.id,
        specialist_id=specialist_id,
        client_id=client_id,
        status=status,
        starts_at=start,
        ends_at=start + timedelta(minutes=service.duration_minutes),
        blocks_from=blocked[0],
        blocks_until=blocked[1],
        zone=zone,
        language="en",
        sequence=1 if past.cancelled else 0,
        cancelled_by="client" if past.cancelled else None,
        consented_at=start - timedelta(days=5),
        created_at=start - timedelta(days=5),
        changed_at=start - timedelta(days=1),
    )


async def _session(
    session: AsyncSession,
    ring: Keyring,
    consultation: Consultation,
    host: Participant,
    guest: Participant,
    past: _Past,
    start: datetime,
    generator: random.Random,
) -> None:
    begin = start + timedelta(seconds=generator.randint(20, 90))
    end = begin + timedelta(minutes=past.minutes, seconds=generator.randint(0, 59))
    consultation.status, consultation.started_at, consultation.ended_at = "ended", begin, end
    host.admitted_at = guest.admitted_at = begin
    lines: list[tuple[datetime, str | None, str, str]] = [
        (begin - timedelta(seconds=75), guest.id, "waiting", ""),
        (begin - timedelta(seconds=20), host.id, "joined", ""),
        (begin - timedelta(seconds=3), guest.id, "admitted", ""),
        (begin, guest.id, "joined", ""),
        (begin, None, "started", ""),
    ]
    for seat, route in ((host.id, "udp"), (guest.id, past.route)):
        lines.append((begin + timedelta(seconds=1), seat, "route", route))
        lines += [(begin + timedelta(seconds=2), seat, "codec", codec) for codec in ("VP8", "opus")]
    if past.network == "broken":
        for minute in (4, 9):
            lost = begin + timedelta(minutes=minute, seconds=12)
            lines.append((lost, guest.id, "reconnecting", "socket_lost"))
            lines.append((lost + timedelta(seconds=generator.randint(3, 9)), guest.id, "reconnected", ""))
    lines += [(end, guest.id, "left", ""), (end, host.id, "left", "finished"), (end, None, "ended", "finished")]
    await session.execute(
        insert(SessionEvent),
        [
            {
                "id": new_id(),
                "consultation_id": consultation.id,
                "participant_id": seat,
                "at": at,
                "kind": kind,
                "detail": detail,
            }
            for at, seat, kind, detail in lines
        ],
    )
    rows = [
        {"id": new_id(), "consultation_id": consultation.id, **row}
        for row in _samples(host.id, guest.id, past.network, begin, end, generator)
    ]
    await session.execute(insert(QualitySample).execution_options(render_nulls=True), rows)
    await session.flush()
    await keep_score(session, consultation.id)
    talk = ((host, "Can you hear me well?"), (guest, "Yes, very clear. Thank you!"))
    for number, (speaker, text) in enumerate(talk):
        line = f"line{number}"
        session.add(
            ChatMessage(
                consultation_id=consultation.id,
                id=line,
                participant_id=speaker.id,
                at=begin + timedelta(seconds=30 + 12 * number),
                body_sealed=ring.seal(CHAT_BODY, chat_row(consultation.id, line), speaker.person_id, text),
            )
        )
    await session.flush()


def _samples(
    host: str, guest: str, network: str, begin: datetime, end: datetime, generator: random.Random
) -> Iterator[dict[str, Any]]:
    """What the relay measured of each sender and each browser of what it received, every 5 s."""
    step = 0
    at = begin + INTERVAL
    while at < end:
        step += 1
        seconds = step * INTERVAL.total_seconds()
        # encoders start low and find their rate within half a minute
        ramp = min(1.0, 0.25 + seconds / 30)
        for sender, receiver, net in ((host, guest, "good"), (guest, host, network)):
            share, loss, rtt = _weather(net, seconds, generator)
            video = int(VIDEO_TARGET_BPS * ramp * share)
            small = share < 0.45
            size = (640, 360) if small else (1280, 720)
            for seat, measured_by, direction in ((sender, "relay", "publish"), (receiver, "browser", "subscribe")):
                common = {
                    "participant_id": seat,
                    "at": at,
                    "measured_by": measured_by,
                    "direction": direction,
                    "loss": round(loss, 4),
                    "rtt_ms": round(rtt * generator.uniform(0.95, 1.1), 1),
                    "jitter_ms": round(rtt * generator.uniform(0.04, 0.12), 1),
                }
                browser = measured_by == "browser"
                yield {
                    **common,
                    "kind": "video",
                    "source": "camera",
                    "codec": "VP8",
                    "bitrate_bps": video,
                    "width": size[0] if browser else None,
                    "height": size[1] if browser else None,
                    "frames_per_second": round(generator.uniform(14, 20) if small else generator.uniform(28, 30), 1)
                    if browser
                    else None,
                    "freezes": (1 if loss > 0.06 and generator.random() < 0.5 else 0) if browser else None,
                }
                yield {
                    **common,
                    "kind": "audio",
                    "source": "microphone",
                    "codec": "opus",
                    "bitrate_bps": int(AUDIO_BPS * generator.uniform(0.85, 1.05)),
                    "width": None,
                    "height": None,
                    "frames_per_second": None,
                    "freezes": None,
                }
        at += INTERVAL


def _weather(network: str, seconds: float, generator: random.Random) -> tuple[float, float, float]:
    """(share of the target bitrate, loss, round trip in ms) of a network at this moment."""
    wave = 0.05 * math.sin(seconds / 47)
    if network == "good":
        return 0.9 + wave + generator.uniform(-0.06, 0.06), generator.uniform(0, 0.004), generator.uniform(24, 38)
    if network == "weak":
        return 0.4 + wave + generator.uniform(-0.08, 0.08), generator.uniform(0.01, 0.04), generator.uniform(70, 130)
    tired = 0.5 + 0.5 * math.sin(seconds / 90)
    return (
        0.14 + 0.2 * tired + generator.uniform(-0.03, 0.03),
        generator.uniform(0.03, 0.09) * (1.3 - tired),
        generator.uniform(140, 320),
    )
