"""What a room wants kept, in order, without holding the room up: the session log, chat, admissions.

The record may be away for a while (its database restarts). Events and admissions then wait and are tried again; a
chat line is answered with an error at once, so that its writer knows; samples are dropped when too many wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable

from signaling.admission import Admission, Record
from signaling.effects import KeepChat, KeepSample, LogEvent, NoteAdmission, NoteFinished

log = logging.getLogger(__name__)

Entry = LogEvent | KeepSample | KeepChat | NoteAdmission | NoteFinished

MAX_WAITING_SAMPLES = 500
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0


class Journal:
    """`chat_done(line id, kept)` is called for every line."""

    def __init__(
        self, consultation: str, record: Record, admission: Admission, chat_done: Callable[[str, bool], None]
    ) -> None:
        self._consultation = consultation
        self._record = record
        self._admission = admission
        self._chat_done = chat_done
        self._entries: deque[Entry] = deque()
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._run(), name=f"journal {consultation}")

    def put(self, entry: Entry) -> None:
        if isinstance(entry, KeepSample) and len(self._entries) > MAX_WAITING_SAMPLES:
            return
        self._entries.append(entry)
        self._idle.clear()
        self._more.set()

    async def close(self, timeout_s: float) -> bool:
        """Write what waits, then stop. False when the record did not take everything in time."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            log.error("the session log lost %d entries: the record is unavailable", len(self._entries))
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        return not self._entries

    async def _run(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._entries:
                await self._keep(self._entries[0])
                self._entries.popleft()
            self._idle.set()

    async def _keep(self, entry: Entry) -> None:
        delay = FIRST_RETRY_S
        while True:
            try:
                await self._write(entry)
                return
            except Exception:
                # Whatever the record's database raises: the entry must not be lost, the room must not stop.
                log.exception("the record did not keep an entry (%s)", type(entry).__name__)
            if isinstance(entry, KeepChat):
                self._chat_done(entry.line.id, False)
                return
            if isinstance(entry, KeepSample):
                return
            self._refuse_waiting_chat()
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_S)

    def _refuse_waiting_chat(self) -> None:
        """The record is away: who wrote a line is told now, not when it is back."""
        chat = [entry for entry in self._entries if isinstance(entry, KeepChat)]
        for entry in chat:
            self._entries.remove(entry)
            self._chat_done(entry.line.id, False)

    async def _write(self, entry: Entry) -> None:
        consultation = self._consultation
        match entry:
            case LogEvent():
                await self._record.event(consultation, entry.participant, entry.at, entry.kind, entry.detail)
            case KeepSample():
                await self._record.sample(consultation, entry.participant, entry.at, entry.measured_by, entry.sample)
            case KeepChat():
                # False (already kept) is fine, too: a retry after the answer of the first was lost
                await self._record.chat(consultation, entry.line, entry.at)
                self._chat_done(entry.line.id, True)
            case NoteAdmission(admitted=True):
                await self._admission.admitted(consultation, entry.participant, entry.at)
            case NoteAdmission():
                await self._admission.refused(consultation, entry.participant, entry.at)
            case NoteFinished():
                await self._admission.finished(consultation, entry.at)
