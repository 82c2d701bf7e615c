"""The zones a visitor can choose from: one per region with its own clock, named with the offset of a moment."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

from web.i18n import all_zones, zone_label


@lru_cache
def listed_zones() -> tuple[str, ...]:
    """Zone names of tzdata's zone1970.tab (regions whose clocks agree since 1970 appear once), sorted, UTC last."""
    table = resources.files("tzdata").joinpath("zoneinfo", "zone1970.tab").read_text(encoding="utf-8")
    names = {line.split("\t")[2] for line in table.splitlines() if line and not line.startswith("#")}
    return (*sorted(names & all_zones()), "UTC")


def zone_choices(selected: str, at: datetime) -> list[tuple[str, str]]:
    """(value, label) of every choice; the selected zone is always among them, also when it is an alias or rare."""
    names = listed_zones()
    if selected not in names:
        names = (selected, *names)
    # every zone changes its offset at a full minute of an hour's quarter; by the hour is near enough for a label
    hour = at.replace(minute=0, second=0, microsecond=0)
    return [(name, _label(name, hour)) for name in names]


@lru_cache(maxsize=4_096)
def _label(name: str, at: datetime) -> str:
    return zone_label(name, at)


def same_clock(one: str, other: str, at: datetime) -> bool:
    """Whether two zones show the same time at a moment."""
    return at.astimezone(ZoneInfo(one)).utcoffset() == at.astimezone(ZoneInfo(other)).utcoffset()
