"""Server-drawn charts: honest axes, gaps as gaps, nothing that the content security policy forbids."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from web.admin.charts import Series, line_chart, nice_ceiling
from web.admin.sessions import safe_cell

START = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def draw(*series: Series, minimum_top: float = 0.0) -> str:
    return str(
        line_chart(
            series,
            title="Loss <b>",
            description="of & everything",
            zone="Europe/Berlin",
            format_value=lambda value: f"{value:g} %",
            minimum_top=minimum_top,
        )
    )


def points(*values: float | None, every: int = 5) -> list[tuple[datetime, float | None]]:
    return [(START + timedelta(seconds=every * index), value) for index, value in enumerate(values)]


@pytest.mark.parametrize(
    ("value", "ceiling"),
    [(0, 1), (0.3, 0.5), (1, 1), (1.1, 2), (2.3, 2.5), (40, 50), (99, 100), (250, 250), (251, 500)],
)
def test_ticks_are_round_numbers(value: float, ceiling: float) -> None:
    assert nice_ceiling(value) == pytest.approx(ceiling)


def test_it_is_well_formed_named_and_without_style_or_script() -> None:
    svg = draw(Series("Anna", points(1, 2, 3)))
    root = ElementTree.fromstring(svg)
    assert root.find("title").text == "Loss <b>"
    assert root.find("desc").text == "of & everything"
    assert "style=" not in svg
    assert "<script" not in svg


def test_every_point_is_inside_and_the_greatest_below_the_top_tick() -> None:
    svg = draw(Series("Anna", points(0, 7.3, 100.01, 3)))
    coordinates = [float(text) for text in re.findall(r"-?\d+\.?\d*", re.search(r' d="([^"]+)"', svg)[1])]
    xs, ys = coordinates[::2], coordinates[1::2]
    assert all(0 <= x <= 480 for x in xs)
    assert all(0 <= y <= 190 for y in ys)
    assert xs == sorted(xs)


def test_silence_is_a_gap() -> None:
    assert draw(Series("Anna", points(1, 2, 3, 4))).count("<path") == 1
    assert draw(Series("Anna", points(1, 2, None, 4, 5))).count("<path") == 2
    late = [*points(1, 2), (START + timedelta(minutes=2), 3.0), (START + timedelta(minutes=2, seconds=5), 3.0)]
    assert draw(Series("Anna", late)).count("<path") == 2
    assert draw(Series("Anna", points(1, None, 2))).count("<circle") == 2


def test_nothing_measured_draws_nothing() -> None:
    assert draw() == ""
    assert draw(Series("Anna", points(None, None))) == ""


def test_times_are_in_the_readers_zone() -> None:
    svg = draw(Series("Anna", [(START + timedelta(minutes=minute), 1.0) for minute in range(60)]))
    assert ">13:15<" in svg  # 12:15 UTC in Berlin in winter
    assert ">12:15<" not in svg


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "|cmd"])
def test_a_cell_is_never_a_formula(text: str) -> None:
    assert safe_cell(text) == f"'{text}"
    assert safe_cell(f"Visit {text}") == f"Visit {text}"
