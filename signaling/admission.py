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

    async def regrant(self, participant: str, now: datetime) -> Grant:
        """The current grant of a participant who resumes on another node or after a restart; Refusal('closed')."""
        ...

    async def admitted(self, consultation: str, participant: str, now: datetime) -> None: ...

    async def finished(self, consultation: str, now: datetime) -> None:
        """The specialist ended it: no ticket opens it again."""
        ...


class Record(Protocol):
    """The session log. Called in order per room; must not lose what it accepted."""

    async def event(
        self, consultation: str, participant: str | None, at: datetime, kind: str, detail: str = ""
    ) -> None: ...

    async def sample(
        self, consultation: str, participant: str, at: datetime, measured_by: Literal["relay", "browser"], sample: StatsSample
    ) -> None: ...

    async def chat(self, consultation: str, line: ChatLine, at: datetime) -> bool:
        """Keep a line; False when this id is already kept."""
        ...

    async def chat_history(self, consultation: str) -> list[ChatLine]: ...
