"""The charts of one session: what people saw and heard, over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from consult.record import queries
from consult.record.quality import Sample
from web.admin.charts import Series, line_chart
from web.i18n import gettext
from web.pages import number


def stream_text(direction: str, source: str) -> str:
    sources = {
        "camera": gettext("camera"),
        "microphone": gettext("microphone"),
        "screen": gettext("screen"),
        "screen_audio": gettext("screen sound"),
    }
    name = sources.get(source, source)
    return (gettext("sends %(what)s") if direction == "publish" else gettext("receives %(what)s")) % {"what": name}


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its legend; `rows` is the same as a table: (label, least, mean, most)."""

    title: str
    svg: Markup
    legend: tuple[str, ...]
    rows: tuple[tuple[str, str, str, str], ...]


def charts_of(detail: queries.SessionDetail, zone: str) -> list[Chart]:
    """Bitrate of cameras and microphones, loss, round trip, jitter: what the receiving side measured."""
    names = {who.id: who.name for who in detail.participants}
    # what people saw and heard; where no browser reported, what the relay got from them
    received = [one for one in detail.series if (one.direction, one.measured_by) == ("subscribe", "browser")] or [
        one for one in detail.series if (one.direction, one.measured_by) == ("publish", "relay")
    ]

    def lines(value: Callable[[Sample], float | None], wanted: Callable[[queries.Series], bool]) -> list[Series]:
        found = [
            Series(
                f"{names.get(one.participant_id, '—')} {stream_text(one.direction, one.source)}",
                [(sample.at, value(sample)) for sample in one.samples],
            )
            for one in received
            if wanted(one)
        ]
        return [line for line in found if any(item is not None for _, item in line.points)][:4]

    def kbit(value: float) -> str:
        if value < 1_000_000:
            return gettext("%(number)s kbit/s") % {"number": number(value / 1000)}
        return gettext("%(number)s Mbit/s") % {"number": number(value / 1e6, 1)}

    def milliseconds(value: float) -> str:
        return gettext("%(number)s ms") % {"number": number(value)}

    def percent(value: float) -> str:
        return f"{number(value, 1)} %"

    plans: list[tuple[str, list[Series], Callable[[float], str], float]] = [
        (
            gettext("Video bitrate"),
            lines(lambda sample: float(sample.bitrate_bps), lambda one: one.kind == "video"),
            kbit,
            500_000,
        ),
        (
            gettext("Sound bitrate"),
            lines(lambda sample: float(sample.bitrate_bps), lambda one: one.kind == "audio"),
            kbit,
            40_000,
        ),
        (
            gettext("Packet loss"),
            lines(
                lambda sample: None if sample.loss is None else sample.loss * 100, lambda one: one.source != "screen"
            ),
            percent,
            4,
        ),
        (
            gettext("Round trip"),
            lines(lambda sample: sample.rtt_ms, lambda one: one.kind == "audio"),
            milliseconds,
            100,
        ),
        (gettext("Jitter"), lines(lambda sample: sample.jitter_ms, lambda one: one.kind == "audio"), milliseconds, 40),
    ]
    charts: list[Chart] = []
    for title, series, format_value, minimum in plans:
        if series:
            description = "; ".join(" ".join((row[0], row[1], "–", row[3])) for row in _table(series, format_value))
            svg = line_chart(
                series,
                title=title,
                description=description,
                zone=zone,
                format_value=format_value,
                minimum_top=minimum,
            )
            charts.append(Chart(title, svg, tuple(line.label for line in series), _table(series, format_value)))
    return charts


def _table(series: Sequence[Series], format_value: Callable[[float], str]) -> tuple[tuple[str, str, str, str], ...]:
    rows: list[tuple[str, str, str, str]] = []
    for line in series:
        values = [value for _, value in line.points if value is not None]
        rows.append(
            (
                line.label,
                format_value(min(values)),
                format_value(sum(values) / len(values)),
                format_value(max(values)),
            )
        )
    return tuple(rows)
