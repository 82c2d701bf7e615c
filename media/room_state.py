"""What a relay knows of its rooms: plain state, changed by `media.rooms` only."""

from __future__ import annotations

from dataclasses import dataclass, field

from media.api import Track
from media.connection import Connection
from media.publication import Publication, PublishedSection
from media.subscription import Subscription


@dataclass(slots=True, eq=False)
class PublishedTrack:
    """A track as the room knows it; its feed changes when the publisher comes back with another
    connection."""

    track: Track
    publication: Publication
    section: PublishedSection
    plane_track: int
    # when a key frame was asked for because a viewer came back
    refreshed_at: float = float("-inf")


@dataclass(slots=True, eq=False)
class Participant:
    """pending: a new publish connection that takes over once it is connected; until then the old one goes on.
    lost_at: since when the publication is gone without a farewell (its tracks linger)."""

    id: str
    publication: Publication | None = None
    pending: Publication | None = None
    subscription: Subscription | None = None
    lost_at: float | None = None

    @property
    def connections(self) -> list[Connection]:
        parts = (self.publication, self.pending, self.subscription)
        return [part.connection for part in parts if part is not None]


@dataclass(slots=True, eq=False)
class Room:
    id: str
    participants: dict[str, Participant] = field(default_factory=dict)
    tracks: dict[str, PublishedTrack] = field(default_factory=dict)
    idle_since: float | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose connection a transport number is."""

    room: Room
    participant: Participant
    publication: Publication | None
    subscription: Subscription | None

    @property
    def connection(self) -> Connection:
        part = self.publication or self.subscription
        assert part is not None
        return part.connection
