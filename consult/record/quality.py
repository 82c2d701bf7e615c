"""From samples to a verdict: good, non-optimal, poor, or lost. Pure.

A camera is judged by its mean bitrate against the target of the largest picture it sent: good from 50 %, non-optimal
from 30 %, poor from 10 %. A small camera that sends all it has is not at fault. Sound
is cheap and often silent, so it is judged by loss: Opus with in-band repair is clean below 3 % and hard to follow
above 10 %. A shared screen that does not move needs next to nothing and is not judged. The worst stream decides.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

Verdict = Literal["good", "non_optimal", "poor", "lost"]
VERDICTS: tuple[Verdict, ...] = ("good", "non_optimal", "poor", "lost")

VIDEO_TARGET_BPS = 1_500_000  # 720p
SMALL_VIDEO_LINES = 480
SMALL_VIDEO_TARGET_BPS = 600_000  # for a camera that never sent more than SMALL_VIDEO_LINES
GOOD, NON_OPTIMAL, POOR = 0.5, 0.3, 0.1
AUDIO_GOOD_LOSS, AUDIO_NON_OPTIMAL_LOSS = 0.03, 0.10


class Sample(NamedTuple):
    """A row of quality_sample, without whose it is."""

    at: datetime
    measured_by: str
    direction: str
    kind: str
    source: str
    codec: str
    bitrate_bps: int
    loss: float | None
    rtt_ms: float | None
    jitter_ms: float | None
    width: int | None
    height: int | None
    frames_per_second: float | None
    freezes: int | None


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """One participant, direction and source over the whole session. Loss is 0..1; None = never measured."""

    direction: str
    kind: str
    source: str
    codec: str
    seconds: int
    median_rtt_ms: float | None
    mean_loss: float | None
    mean_jitter_ms: float | None
    mean_bitrate_bps: int
    freezes: int
    width: int | None
    height: int | None
    verdict: Verdict | None


def score(
    kind: str, source: str, mean_bitrate_bps: float | None, mean_loss: float | None, lines: int | None = None
) -> float | None:
    """A stream's share of what it should be, 0..1 and above; None when it is not judged. `lines`: the shorter side of
    the largest picture, None when nobody said.

    consult/record/scores.py says the same in SQL; a test holds the two together."""
    if kind == "video" and source == "camera":
        small = lines is not None and lines <= SMALL_VIDEO_LINES
        target = SMALL_VIDEO_TARGET_BPS if small else VIDEO_TARGET_BPS
        return None if mean_bitrate_bps is None else mean_bitrate_bps / target
    if kind == "audio" and source == "microphone" and mean_loss is not None:
        if mean_loss < AUDIO_GOOD_LOSS:
            return 1.0
        return NON_OPTIMAL if mean_loss < AUDIO_NON_OPTIMAL_LOSS else POOR
    return None


def verdict(value: float | None) -> Verdict | None:
    """good ≥ 50 %, non-optimal ≥ 30 %, poor ≥ 10 %, else lost; None for nothing measured."""
    if value is None:
        return None
    if value >= GOOD:
        return "good"
    if value >= NON_OPTIMAL:
        return "non_optimal"
    return "poor" if value >= POOR else "lost"


def summarise(samples: Iterable[Sample], interval_seconds: int = 5) -> list[StreamSummary]:
    """Summaries per direction, kind and source. Where relay and browser both measured, the receiving side counts:
    the relay for what is published, the browser for what is subscribed to."""
    streams: dict[tuple[str, str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        streams[sample.direction, sample.kind, sample.source].append(sample)
    return [
        _summary(direction, kind, source, found, interval_seconds)
        for (direction, kind, source), found in sorted(streams.items())
    ]


def _summary(direction: str, kind: str, source: str, found: Sequence[Sample], interval_seconds: int) -> StreamSummary:
    receiver = "relay" if direction == "publish" else "browser"
    counted = [sample for sample in found if sample.measured_by == receiver] or list(found)
    last = max(found, key=lambda sample: sample.at)
    sized = [sample for sample in found if sample.width and sample.height]
    sized.sort(key=lambda sample: sample.at)
    lines = max((min(sample.width or 0, sample.height or 0) for sample in sized), default=None)
    loss = _mean(sample.loss for sample in counted)
    if loss is None:
        loss = _mean(sample.loss for sample in found)
    # a camera that is switched off sends nothing, which is no fault of the network
    bitrate = _mean(sample.bitrate_bps or None for sample in counted)
    if bitrate is None:
        bitrate = _mean(sample.bitrate_bps or None for sample in found)
    rtts = [sample.rtt_ms for sample in found if sample.rtt_ms is not None]
    codecs = [sample.codec for sample in sorted(found, key=lambda sample: sample.at) if sample.codec]
    return StreamSummary(
        direction=direction,
        kind=kind,
        source=source,
        codec=codecs[-1] if codecs else last.codec,
        seconds=len({sample.at for sample in counted}) * interval_seconds,
        median_rtt_ms=statistics.median(rtts) if rtts else None,
        mean_loss=loss,
        mean_jitter_ms=_mean(sample.jitter_ms for sample in counted),
        mean_bitrate_bps=round(bitrate or 0),
        freezes=sum(sample.freezes or 0 for sample in found),
        width=sized[-1].width if sized else None,
        height=sized[-1].height if sized else None,
        verdict=verdict(score(kind, source, bitrate, loss, lines)),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
