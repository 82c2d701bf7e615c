"""What one participant publishes over one connection: its m-sections and their tracks in the plane."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from media.api import Kind, Source
from media.connection import Connection
from media.negotiation import Incoming, merged_extensions
from media.plane import Plane, UnknownSsrc
from media.reports import ArrivalLog, Meter, ReceiverReports

_DEFAULT_SOURCES: dict[Kind, Source] = {"audio": "microphone", "video": "camera"}


@dataclass(slots=True, eq=False)
class PublishedSection:
    """One accepted m-section. `plane_track` is its number in the plane while it sends, `started` once a
    packet came."""

    incoming: Incoming
    source: Source
    plane_track: int | None = None
    started: bool = False
    # the SSRC that media comes with, as told by the SDP or seen on a packet
    ssrc: int | None = None
    # an RTX SSRC that was seen before its primary
    early_rtx: int | None = None


class Publication:
    """See the module docstring. `numbers` yields fresh plane track numbers; `owners` (plane track →
    publication) is kept up to date for whoever has only the number."""

    def __init__(
        self, connection: Connection, plane: Plane, numbers: Iterator[int], owners: dict[int, Publication]
    ) -> None:
        self.connection = connection
        self.sections: dict[str, PublishedSection] = {}
        self.arrivals = ArrivalLog(connection.ssrc)
        self.reports = ReceiverReports(connection.ssrc)
        self.meters: dict[int, Meter] = {}  # by plane track
        self.ready_at: float | None = None
        self._plane = plane
        self._numbers = numbers
        self._owners = owners

    def update(self, accepted: Sequence[Incoming], sources: Mapping[str, Source]) -> list[PublishedSection]:
        """Take an offer. Returns the sections that stopped sending: their plane tracks are gone."""
        stopped = []
        wanted = {one.mid: one for one in accepted}
        for mid, section in list(self.sections.items()):
            offered = wanted.get(mid)
            # A renegotiation need not name again what it named before.
            source = sources.get(mid, section.source)
            if offered is None or not offered.sending or not _same(section, offered, source):
                self._uninstall(section)
                del self.sections[mid]
                stopped.append(section)
        for mid, offered in wanted.items():
            if mid in self.sections:
                self.sections[mid].incoming = offered
            elif offered.sending:
                self.sections[mid] = PublishedSection(offered, self._source(offered, sources))
        self.connection.extensions = merged_extensions([one.spec.extensions for one in accepted])
        if self.connection.installed:
            self.install()
        return stopped

    def install(self) -> None:
        """Give the plane every sending section; the connection is installed."""
        number = self.connection.number
        for section in self.sections.values():
            incoming = section.incoming
            if section.plane_track is None:
                section.plane_track = next(self._numbers)
                self.meters[section.plane_track] = Meter()
                self._owners[section.plane_track] = self
                self._plane.add_track(number, section.plane_track, incoming.spec)
            if incoming.ssrc is not None and incoming.ssrc != section.ssrc:
                self._bind(section, incoming.ssrc)
                if incoming.rtx_ssrc is not None:
                    self._plane.bind_ssrc(number, incoming.rtx_ssrc, section.plane_track, rtx_for=incoming.ssrc)

    def unknown_ssrc(self, seen: UnknownSsrc) -> bool:
        """Find the section of an SSRC that the SDP did not name: by mid, else by payload type (RFC 9143
        section 9.2). Returns whether it was bound."""
        section = self.sections.get(seen.mid) if seen.mid is not None else self._by_payload_type(seen)
        if section is None or section.plane_track is None:
            return False
        if seen.payload_type == section.incoming.spec.payload_type:
            self._bind(section, seen.ssrc)
            if section.early_rtx is not None:
                self._bind_rtx(section, section.early_rtx)
            return True
        if seen.payload_type == section.incoming.spec.rtx_payload_type:
            self._bind_rtx(section, seen.ssrc)
            return True
        return False

    def section_of(self, plane_track: int) -> PublishedSection | None:
        return next((one for one in self.sections.values() if one.plane_track == plane_track), None)

    def remove(self) -> None:
        """Take every track out of the plane."""
        for section in self.sections.values():
            self._uninstall(section)

    def _bind(self, section: PublishedSection, ssrc: int) -> None:
        assert section.plane_track is not None
        section.ssrc = ssrc
        self._plane.bind_ssrc(self.connection.number, ssrc, section.plane_track)

    def _bind_rtx(self, section: PublishedSection, ssrc: int) -> None:
        assert section.plane_track is not None
        if section.ssrc is None:
            section.early_rtx = ssrc
            return
        section.early_rtx = None
        self._plane.bind_ssrc(self.connection.number, ssrc, section.plane_track, rtx_for=section.ssrc)

    def _by_payload_type(self, seen: UnknownSsrc) -> PublishedSection | None:
        fitting = [
            one
            for one in self.sections.values()
            if seen.payload_type in (one.incoming.spec.payload_type, one.incoming.spec.rtx_payload_type)
        ]
        return fitting[0] if len(fitting) == 1 else None

    def _uninstall(self, section: PublishedSection) -> None:
        if section.plane_track is not None:
            self._plane.remove_track(section.plane_track)
            self.meters.pop(section.plane_track, None)
            self._owners.pop(section.plane_track, None)
            section.plane_track = None

    def _source(self, offered: Incoming, sources: Mapping[str, Source]) -> Source:
        return sources.get(offered.mid, _DEFAULT_SOURCES[offered.kind])


def _same(section: PublishedSection, offered: Incoming, source: Source) -> bool:
    """Whether the offer goes on with the same track: a new SSRC may continue it, another codec or source
    not."""
    return section.source == source and section.incoming.spec == offered.spec
