"""The quality of a session as one number, in SQL: the worst stream's share of what it should be.

The same as `quality.score` over `quality.summarise`; a test holds the two together.
"""

from __future__ import annotations

from sqlalchemy import Float, ScalarSelect, and_, case, cast, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from consult.booking.models import Consultation
from consult.record import quality
from consult.record.models import QualitySample


def score_of(consultation_id: str) -> ScalarSelect[float]:
    """NULL when no stream of the session can be judged."""
    receiver = or_(
        and_(QualitySample.direction == "publish", QualitySample.measured_by == "relay"),
        and_(QualitySample.direction == "subscribe", QualitySample.measured_by == "browser"),
    )
    flowing = func.nullif(QualitySample.bitrate_bps, 0)
    # the average of integers is a decimal on PostgreSQL
    bitrate = cast(func.coalesce(func.avg(case((receiver, flowing))), func.avg(flowing)), Float)
    loss = func.coalesce(func.avg(case((receiver, QualitySample.loss))), func.avg(QualitySample.loss))
    width, height = func.nullif(QualitySample.width, 0), func.nullif(QualitySample.height, 0)
    lines = func.max(case((width < height, width), (width >= height, height)))
    target = case(
        (lines <= quality.SMALL_VIDEO_LINES, float(quality.SMALL_VIDEO_TARGET_BPS)),
        else_=float(quality.VIDEO_TARGET_BPS),
    )
    is_camera = and_(QualitySample.kind == "video", QualitySample.source == "camera")
    is_microphone = and_(QualitySample.kind == "audio", QualitySample.source == "microphone")
    streams = (
        select(
            case(
                (is_camera, bitrate / target),
                (
                    and_(is_microphone, loss.is_not(None)),
                    case(
                        (loss < quality.AUDIO_GOOD_LOSS, 1.0),
                        (loss < quality.AUDIO_NON_OPTIMAL_LOSS, quality.NON_OPTIMAL),
                        else_=quality.POOR,
                    ),
                ),
            ).label("score")
        )
        .where(QualitySample.consultation_id == consultation_id)
        .group_by(QualitySample.participant_id, QualitySample.direction, QualitySample.kind, QualitySample.source)
        .subquery("streams")
    )
    return select(func.min(streams.c.score)).scalar_subquery()


async def keep_score(session: AsyncSession, consultation_id: str) -> None:
    """Compute the score of everything measured so far and keep it on the consultation, where lists find it."""
    await session.execute(
        update(Consultation)
        .where(Consultation.id == consultation_id)
        .values(quality_score=score_of(consultation_id))
        .execution_options(synchronize_session=False)
    )
