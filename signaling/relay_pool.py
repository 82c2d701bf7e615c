"""The relays that a hub can place rooms on. `LocalPool`: the one in this process; `RemotePool`
(signaling/remote_relay.py): media processes found through the directory."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from media.api import Relay, RelayEvent
from signaling.directory import Lease, Place


@dataclass(frozen=True, slots=True)
class Placement:
    """A room's relay. `place.session` is the `media_session` of the protocol."""

    relay: Relay
    place: Place


class RelayPool(Protocol):
    async def place(self, lease: Lease, *, renew: bool = False) -> Placement:
        """The relay for this room: where it is, if that relay lives, else the one with the least load. `renew`: a new
        session in any case. Raises RelayError('unavailable')."""
        ...

    def forget(self, room: str) -> None:
        """The room is closed or no longer ours."""
        ...

    def on_event(self, listener: Callable[[str, RelayEvent], None]) -> None:
        """Called with the relay's instance and what it tells."""
        ...

    def on_lost(self, listener: Callable[[str], None]) -> None:
        """Called with the instance of a relay that is gone, with all that was on it."""
        ...


class LocalPool:
    """The embedded form: one relay, called directly."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._instance = secrets.token_hex(8)
        self._sessions: dict[str, str] = {}

    async def place(self, lease: Lease, *, renew: bool = False) -> Placement:
        if renew or lease.room not in self._sessions:
            self._sessions[lease.room] = secrets.token_hex(8)
        session = self._sessions[lease.room]
        return Placement(self._relay, Place(node="local", instance=self._instance, session=session))

    def forget(self, room: str) -> None:
        self._sessions.pop(room, None)

    def on_event(self, listener: Callable[[str, RelayEvent], None]) -> None:
        self._relay.on_event(lambda event: listener(self._instance, event))

    def on_lost(self, listener: Callable[[str], None]) -> None:
        """Never called: the relay lives as long as the hub."""
