"""What signaling needs from whoever decides who may enter and keeps the record. web/app.py hands in the domain's."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol

import msgspec

from signaling.messages import ChatLine, Role, StatsSample


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A redeemed ticket: who this is and what they may do."""

    consultation: str
    participant: str
    role: Role
    name: str
    admitted: bool  # was let in before (also before a restart)
    # True: a specialist lets in participants and viewers, too. Clients always wait, specialists never.
    lobby: bool = False
    # when two people first talked, if that was before a restart
    started_at: datetime | None = None
    encryption: Literal["end_to_end", "transport"]
    opens_at: datetime
    closes_at: datetime


class Refusal(Exception):
    """`code`: bad_ticket (unknown, used, expired) or closed (the consultation is over or cancelled)."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Admission(Protocol):
    async def redeem(self, ticket: str, now: datetime) -> Grant:
        """Use a ticket up, atomically: the second use raises Refusal('bad_ticket')."""
        ...

    async def admitted(self, consultation: str, participant: str, now: datetime) -> None:
        """A specialist let them in: the next grant says `admitted`."""
        ...

    async def refused(self, consultation: str, participant: str, now: datetime) -> None:
        """A specialist turned them away or removed them: the next grant says not `admitted`."""
        ...

    async def finished(self, consultation: str, now: datetime) -> None:
        """The specialist ended it: no ticket opens it again. May be called twice."""
        ...


class Record(Protocol):
    """The session log. Called in order per room; an exception means "not kept" and the call is made again later
    (a chat line instead is answered with an error). Nothing here is called while the room's state is held."""

    async def event(
        self, consultation: str, participant: str | None, at: datetime, kind: str, detail: str = ""
    ) -> None: ...

    async def sample(
        self,
        consultation: str,
        participant: str,
        at: datetime,
        measured_by: Literal["relay", "browser"],
        sample: StatsSample,
    ) -> None: ...

    async def chat(self, consultation: str, line: ChatLine, at: datetime) -> bool:
        """Keep a line; False when this id is already kept (then nothing changes)."""
        ...

    async def chat_history(self, consultation: str) -> list[ChatLine]: ...
