"""From log lines to stays, waits and reconnects; also from logs that a killed server left behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from consult.record.timeline import EventLine, ParticipantLog, participant_logs

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
SEAT = ("p", "Clara", "client")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def log_of(*lines: tuple[float, str] | tuple[float, str, str], over: float | None = None) -> ParticipantLog:
    events = [EventLine(at(line[0]), line[1], line[2] if len(line) == 3 else "", "p", "Clara") for line in lines]
    (log,) = participant_logs([SEAT], events, {}, at(over) if over is not None else None)
    return log


def test_a_plain_visit() -> None:
    log = log_of((0, "waiting"), (40, "admitted"), (41, "joined"), (641, "left", "finished"))
    assert (log.waited_seconds, log.seconds, log.reconnects) == (40, 600, 0)
    assert [(stay.joined_at, stay.left_at, stay.reason) for stay in log.stays] == [(at(41), at(641), "finished")]


def test_leaving_and_coming_back() -> None:
    log = log_of((0, "joined"), (100, "left", "left"), (160, "joined"), (200, "left", "finished"))
    assert [stay.seconds for stay in log.stays] == [100, 40]
    assert log.seconds == 140


def test_a_lost_socket_does_not_end_the_stay() -> None:
    log = log_of((0, "joined"), (50, "reconnecting", "socket_lost"), (55, "reconnected"), (100, "left"))
    assert (log.reconnects, log.seconds, len(log.stays)) == (1, 100, 1)


def test_who_does_not_come_back_left_when_the_socket_was_lost() -> None:
    log = log_of((0, "joined"), (50, "reconnecting", "socket_lost"), (140, "left", "socket_lost"))
    assert [(stay.left_at, stay.reason) for stay in log.stays] == [(at(50), "socket_lost")]
    # sent away while the socket was gone: until then the place was theirs
    refused = log_of((0, "joined"), (50, "reconnecting", "socket_lost"), (80, "left", "finished"))
    assert refused.seconds == 80
    # an earlier loss that healed does not count
    healed = log_of(
        (0, "joined"), (10, "reconnecting", "socket_lost"), (12, "reconnected"), (140, "left", "socket_lost")
    )
    assert healed.seconds == 140


def test_a_killed_server_writes_no_leave() -> None:
    open_ended = log_of((0, "joined"))
    assert open_ended.stays[0].left_at is None
    assert (open_ended.stays[0].seconds, open_ended.seconds) == (None, 0)
    closed = log_of((0, "joined"), over=300)
    assert closed.seconds == 300
    # the next server sees a join without a leave before it: one stay, not two
    again = log_of((0, "joined"), (20, "joined"), (100, "left"))
    assert [stay.seconds for stay in again.stays] == [100]
    assert log_of((100, "joined"), over=50).seconds == 0


def test_waiting_without_being_admitted() -> None:
    assert log_of((0, "waiting"), (90, "left", "refused")).waited_seconds == 90
    assert log_of((0, "waiting"), (90, "left", "refused")).stays == ()
    # told twice (a reconnect while waiting) it is still one wait
    assert log_of((0, "waiting"), (30, "waiting"), (60, "joined")).waited_seconds == 60


def test_the_last_route_counts_and_codecs_are_named_once() -> None:
    log = log_of(
        (0, "route", "udp"), (1, "codec", "VP8"), (2, "codec", "opus"), (3, "codec", "VP8"), (4, "route", "relayed")
    )
    assert (log.route, log.codecs) == ("relayed", ("VP8", "opus"))


def test_other_peoples_lines_are_not_counted() -> None:
    events = [EventLine(at(0), "joined", "", "q", "Other"), EventLine(at(9), "started", "", None, None)]
    (log,) = participant_logs([SEAT], events, {}, None)
    assert (log.stays, log.seconds) == ((), 0)


KINDS = st.sampled_from(["waiting", "admitted", "joined", "left", "reconnecting", "reconnected", "route", "codec"])


@given(st.lists(st.tuples(st.integers(0, 5_000), KINDS), max_size=30), st.integers(5_000, 6_000))
def test_any_order_of_lines_gives_times_within_the_session(lines: list[tuple[int, str]], over: int) -> None:
    log = log_of(*sorted(lines), over=over)
    assert 0 <= log.seconds <= over
    assert 0 <= log.waited_seconds <= over
    for before, after in zip(log.stays, log.stays[1:], strict=False):
        assert before.left_at is not None
        assert before.left_at <= after.joined_at
    assert all(stay.left_at is not None and stay.left_at >= stay.joined_at for stay in log.stays)
