"""Line charts as inline SVG: no script, no inline style, readable by a screen reader through title and description."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

WIDTH, HEIGHT = 480, 190
LEFT, RIGHT, TOP, BOTTOM = 72, 14, 12, 26
TICKS_WANTED = 4
TIME_STEPS_SECONDS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600)
TIME_LABELS_MAX = 5
# samples come every 5 s: a longer silence than two missed ones is drawn as a gap
GAP = timedelta(seconds=16)


@dataclass(frozen=True, slots=True)
class Series:
    """`points` in order of time; a None value is a gap. `label` names the line in the legend."""

    label: str
    points: Sequence[tuple[datetime, float | None]]


def nice_ceiling(value: float) -> float:
    """The least of 1, 2, 2.5, 5 × 10ⁿ that is not below `value` (1 for nothing)."""
    if value <= 0:
        return 1.0
    magnitude = 10.0 ** math.floor(math.log10(value))
    for factor in (1.0, 2.0, 2.5, 5.0, 10.0):
        if factor * magnitude >= value * (1 - 1e-9):
            return factor * magnitude
    return 10.0 * magnitude


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    description: str,
    zone: str,
    format_value: Callable[[float], str],
    minimum_top: float = 0.0,
) -> Markup:
    """An SVG of the series over their common time. `format_value` writes the axis; `minimum_top` keeps an axis of
    tiny values from looking dramatic. Series are told apart by dash as well as by colour."""
    moments = [at for line in series for at, value in line.points if value is not None]
    if not moments:
        return Markup("")
    start, end = min(moments), max(moments)
    if end - start < timedelta(seconds=10):
        end = start + timedelta(seconds=10)
    top_value = max((value for line in series for _, value in line.points if value is not None), default=0.0)
    step = nice_ceiling(max(top_value, minimum_top) / TICKS_WANTED)
    ticks = max(1, math.ceil(max(top_value, minimum_top) / step - 1e-9))
    span = (end - start).total_seconds()
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(at: datetime) -> float:
        return round(LEFT + (at - start).total_seconds() / span * plot_width, 1)

    def y(value: float) -> float:
        return round(TOP + plot_height * (1 - value / (step * ticks)), 1)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" preserveAspectRatio="xMidYMid meet">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    ]
    for index in range(ticks + 1):
        level = y(index * step)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level}" y2="{level}"/>'
            f'<text class="axis" x="{LEFT - 8}" y="{level + 4}" text-anchor="end">'
            f"{escape(format_value(index * step))}</text>"
        )
    parts.extend(_time_axis(start, end, zone, x))
    for number, line in enumerate(series):
        for run in _runs(line.points):
            path = "M" + "L".join(f"{x(at)} {y(value)}" for at, value in run)
            if len(run) == 1:
                at, value = run[0]
                parts.append(f'<circle class="dot series-{number}" cx="{x(at)}" cy="{y(value)}" r="2.5"/>')
            else:
                parts.append(f'<path class="line series-{number}" d="{path}"/>')
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 (every text is escaped above; the rest are numbers)


def _time_axis(start: datetime, end: datetime, zone: str, x: Callable[[datetime], float]) -> list[str]:
    span = (end - start).total_seconds()
    step = next((item for item in TIME_STEPS_SECONDS if span / item <= TIME_LABELS_MAX), TIME_STEPS_SECONDS[-1])
    first = math.ceil(start.timestamp() / step) * step
    pattern = "%H:%M:%S" if step < 60 else "%H:%M"
    labels = []
    moment = first
    while moment <= end.timestamp():
        at = datetime.fromtimestamp(moment, ZoneInfo(zone))
        labels.append(
            f'<text class="axis" x="{x(at)}" y="{HEIGHT - 6}" text-anchor="middle">{at.strftime(pattern)}</text>'
        )
        moment += step
    return labels


def _runs(points: Sequence[tuple[datetime, float | None]]) -> list[list[tuple[datetime, float]]]:
    runs: list[list[tuple[datetime, float]]] = []
    previous: datetime | None = None
    for at, value in points:
        if value is None:
            previous = None
            continue
        if previous is None or at - previous > GAP:
            runs.append([])
        runs[-1].append((at, value))
        previous = at
    return runs
