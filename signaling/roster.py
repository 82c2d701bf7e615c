"""Which processes are alive, from their beats. Pure.

Every process sends a beat each BEAT_S over a channel that all hear, itself included. Silence of another is counted
in one's own beats that came back, not in seconds: when the channel itself is down, or this process was the one that
stood still, nobody is declared dead.
"""

from __future__ import annotations

from typing import Literal

import msgspec

BEAT_S = 0.5
MISSED_BEATS = 3
# After the channel was away others may need longer than we to find it again.
GRACE_BEATS = 6
CHANNEL_GAP_S = 2.0


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One process: `instance` is new at every start of the same `node`. `load` is what it carries (0: nothing)."""

    node: str
    instance: str
    kind: Literal["web", "media"]
    load: float = 0.0
    draining: bool = False
    leaving: bool = False


class Roster:
    def __init__(self, own: Member) -> None:
        self._own = own
        self._members: dict[str, Member] = {}
        self._missed: dict[str, int] = {}
        self._own_beat_at: float | None = None

    def hear(self, beat: Member, seconds: float) -> list[Member]:
        """A beat came in (ours too). Returns who is gone because of it; `seconds` are monotonic."""
        if (beat.node, beat.instance) == (self._own.node, self._own.instance):
            return self._own_came_back(seconds)
        before = self._members.get(beat.node)
        gone = [before] if before is not None and before.instance != beat.instance else []
        if beat.leaving:
            if before is not None:
                self._forget(beat.node)
                gone = [before]
            return gone
        self._members[beat.node] = beat
        self._missed[beat.node] = 0
        return gone

    def _own_came_back(self, seconds: float) -> list[Member]:
        if self._own_beat_at is not None and seconds - self._own_beat_at > CHANNEL_GAP_S:
            self._missed = dict.fromkeys(self._missed, -GRACE_BEATS)
        self._own_beat_at = seconds
        gone = []
        for node in list(self._members):
            self._missed[node] += 1
            if self._missed[node] > MISSED_BEATS:
                gone.append(self._members[node])
                self._forget(node)
        return gone

    def _forget(self, node: str) -> None:
        del self._members[node]
        del self._missed[node]

    def members(self, kind: Literal["web", "media"]) -> list[Member]:
        return [member for member in self._members.values() if member.kind == kind]
