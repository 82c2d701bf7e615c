"""The verdict of a stream and its summary."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from consult.record.quality import VIDEO_TARGET_BPS, Sample, score, summarise, verdict

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def sample(step: int = 0, **values: object) -> Sample:
    base: dict[str, object] = {
        "at": NOW + timedelta(seconds=5 * step),
        "measured_by": "browser",
        "direction": "subscribe",
        "kind": "video",
        "source": "camera",
        "codec": "VP8",
        "bitrate_bps": 1_000_000,
        "loss": None,
        "rtt_ms": None,
        "jitter_ms": None,
        "width": None,
        "height": None,
        "frames_per_second": None,
        "freezes": None,
    }
    return Sample(**{**base, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1.4, "good"), (0.5, "good"), (0.499, "non_optimal"), (0.3, "non_optimal"), (0.299, "poor"), (0.1, "poor")],
)
def test_thresholds(share: float, expected: str) -> None:
    assert verdict(score("video", "camera", share * VIDEO_TARGET_BPS, 0.5)) == expected


def test_a_small_camera_that_sends_all_it_has_is_good() -> None:
    bitrate = 0.4 * VIDEO_TARGET_BPS
    assert verdict(score("video", "camera", bitrate, 0.0)) == "non_optimal"
    assert verdict(score("video", "camera", bitrate, 0.0, lines=720)) == "non_optimal"
    assert verdict(score("video", "camera", bitrate, 0.0, lines=360)) == "good"
    assert verdict(score("video", "camera", 0.05 * VIDEO_TARGET_BPS, 0.0, lines=360)) == "poor"


def test_below_a_tenth_nothing_usable_comes() -> None:
    assert verdict(0.0999) == "lost"
    assert verdict(None) is None


@pytest.mark.parametrize(
    ("loss", "expected"), [(0.0, "good"), (0.0299, "good"), (0.03, "non_optimal"), (0.10, "poor"), (0.9, "poor")]
)
def test_sound_is_judged_by_loss(loss: float, expected: str) -> None:
    assert verdict(score("audio", "microphone", 0, loss)) == expected


def test_what_is_not_judged() -> None:
    assert score("audio", "microphone", 30_000, None) is None
    assert score("video", "screen", 90_000, 0.0) is None
    assert score("audio", "screen_audio", 0, 0.5) is None
    assert score("video", "camera", None, 0.0) is None


def test_a_camera_that_is_off_is_no_bad_network() -> None:
    (stream,) = summarise([sample(0), sample(1, bitrate_bps=0), sample(2, bitrate_bps=0)])
    assert (stream.mean_bitrate_bps, stream.verdict) == (1_000_000, "good")
    (dark,) = summarise([sample(0, bitrate_bps=0)])
    assert (dark.mean_bitrate_bps, dark.verdict) == (0, None)


def test_the_receiving_side_counts() -> None:
    streams = summarise(
        [
            sample(0, bitrate_bps=900_000, loss=0.02, rtt_ms=50.0, width=1280, height=720, freezes=2),
            sample(0, measured_by="relay", bitrate_bps=1_200_000, loss=0.0, rtt_ms=30.0),
            sample(0, measured_by="relay", direction="publish", bitrate_bps=700_000, loss=0.01),
            sample(0, direction="publish", bitrate_bps=800_000, loss=0.03, rtt_ms=44.0, width=640, height=360),
        ]
    )
    published, subscribed = streams
    assert (published.direction, published.mean_bitrate_bps, published.mean_loss) == ("publish", 700_000, 0.01)
    assert (published.width, published.height, published.median_rtt_ms) == (640, 360, 44.0)
    assert (subscribed.mean_bitrate_bps, subscribed.mean_loss, subscribed.freezes) == (900_000, 0.02, 2)
    assert subscribed.median_rtt_ms == 40.0


def test_one_side_alone_is_better_than_nothing() -> None:
    (stream,) = summarise([sample(0, measured_by="relay", bitrate_bps=600_000, loss=0.04)])
    assert (stream.mean_bitrate_bps, stream.mean_loss, stream.verdict) == (600_000, 0.04, "non_optimal")


def test_the_last_picture_size_and_codec() -> None:
    (stream,) = summarise(
        [
            sample(2, width=320, height=180, codec=""),
            sample(0, width=1280, height=720, codec="VP8"),
            sample(1, width=640, height=360, codec="VP9"),
            sample(3),
        ]
    )
    assert (stream.width, stream.height) == (320, 180)
    assert stream.codec == "VP8"
    assert stream.seconds == 20
