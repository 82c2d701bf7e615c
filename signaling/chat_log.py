"""The chat lines of a room: each id once, shown and acknowledged only when kept."""

from __future__ import annotations

from collections.abc import Iterable

from signaling.messages import ChatLine

# What a welcome carries at most; the whole is in the record.
HISTORY_LINES = 200


class ChatLog:
    def __init__(self, history: Iterable[ChatLine]) -> None:
        self._kept: dict[str, ChatLine] = {line.id: line for line in history}
        self._pending: dict[str, tuple[ChatLine, list[int]]] = {}

    def author(self, line_id: str) -> str | None:
        """Whose line has this id, kept or on its way."""
        if line := self._kept.get(line_id):
            return line.participant
        if pending := self._pending.get(line_id):
            return pending[0].participant
        return None

    def is_kept(self, line_id: str) -> bool:
        return line_id in self._kept

    def begin(self, line: ChatLine, request: int) -> bool:
        """A new line is to be kept (True), or one on its way is sent again and will be acknowledged twice (False)."""
        if pending := self._pending.get(line.id):
            pending[1].append(request)
            return False
        self._pending[line.id] = (line, [request])
        return True

    def keep(self, line_id: str) -> tuple[ChatLine, list[int]] | None:
        """It is in the record: the line and the requests that wait for it."""
        pending = self._pending.pop(line_id, None)
        if pending is not None:
            self._kept[line_id] = pending[0]
        return pending

    def fail(self, line_id: str) -> tuple[ChatLine, list[int]] | None:
        return self._pending.pop(line_id, None)

    def after(self, line_id: str | None) -> list[ChatLine]:
        """The last lines, those after `line_id` if it is known."""
        lines = list(self._kept.values())
        if line_id in self._kept:
            position = next(i for i, line in enumerate(lines) if line.id == line_id)
            lines = lines[position + 1 :]
        return lines[-HISTORY_LINES:]
