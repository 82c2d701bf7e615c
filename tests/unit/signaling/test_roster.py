"""Who is taken for dead, and who is not."""

from __future__ import annotations

from itertools import count

import pytest

from signaling.roster import BEAT_S, GRACE_BEATS, MISSED_BEATS, Member, Roster

OWN = Member(node="w", instance="w1", kind="web")
MEDIA = Member(node="m", instance="m1", kind="media")


@pytest.fixture
def roster() -> Roster:
    roster = Roster(OWN)
    roster.hear(OWN, 0.0)
    assert roster.hear(MEDIA, 0.0) == []
    return roster


def test_silence_is_noticed_after_three_missed_beats(roster: Roster) -> None:
    beats = count(1)
    for _ in range(MISSED_BEATS):
        assert roster.hear(OWN, next(beats) * BEAT_S) == []
    assert roster.hear(OWN, next(beats) * BEAT_S) == [MEDIA]
    assert roster.members("media") == []
    assert roster.hear(OWN, next(beats) * BEAT_S) == [], "told once"


def test_a_member_who_beats_stays(roster: Roster) -> None:
    for beat in range(1, 100):
        assert roster.hear(OWN, beat * BEAT_S) == []
        assert roster.hear(MEDIA, beat * BEAT_S) == []
    assert roster.members("media") == [MEDIA]


def test_when_the_channel_is_down_nobody_is_dead(roster: Roster) -> None:
    # No beats at all for a minute; then ours come back first.
    for beat in range(GRACE_BEATS):
        assert roster.hear(OWN, 60 + beat * BEAT_S) == []
    assert roster.hear(MEDIA, 60 + GRACE_BEATS * BEAT_S) == []
    assert roster.members("media") == [MEDIA]


def test_who_does_not_come_back_after_an_outage_is_dead_after_all(roster: Roster) -> None:
    gone = [member for beat in range(20) for member in roster.hear(OWN, 60 + beat * BEAT_S)]
    assert gone == [MEDIA]


def test_a_restart_is_the_old_instances_end(roster: Roster) -> None:
    again = Member(node="m", instance="m2", kind="media")
    assert roster.hear(again, 1.0) == [MEDIA]
    assert roster.members("media") == [again]


def test_a_goodbye_is_heard_at_once(roster: Roster) -> None:
    leaving = Member(node="m", instance="m1", kind="media", leaving=True)
    assert roster.hear(leaving, 1.0) == [MEDIA]
    assert roster.hear(leaving, 1.1) == []
    assert roster.members("media") == []


def test_beats_carry_load_and_kind(roster: Roster) -> None:
    busy = Member(node="m", instance="m1", kind="media", load=4, draining=True)
    assert roster.hear(busy, 1.0) == []
    assert roster.members("media") == [busy]
    assert roster.members("web") == []
