"""When an export will start and finish, judged by past runs.

One duration is predicted by the quantiles of those seen. A sum of several (what is left of the run in the
slot, the runs ahead) is taken as log-normal with the sum's mean and variance, which grow by what few samples
leave uncertain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import NormalDist, fmean, variance

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Kind
from app.ids import LaneKey

FEWEST_SAMPLES = 5
MOST_SAMPLES = 50
LIKELY, SURE = 0.5, 0.9
MOST_JUDGED = 100


@dataclass(frozen=True)
class Estimate:
    """Moments that will have come with a chance of 50 and of 90 percent."""

    start_p50: datetime | None
    start_p90: datetime | None
    finish_p50: datetime
    finish_p90: datetime
    sample_size: int


@dataclass(frozen=True)
class Durations:
    """Seconds that past runs were in the slot, and that their files took to archive."""

    in_slot: Sequence[float]
    archiving: Sequence[float]

    @property
    def enough(self) -> bool:
        return len(self.in_slot) >= FEWEST_SAMPLES and len(self.archiving) >= FEWEST_SAMPLES


@dataclass(frozen=True)
class Moments:
    """Mean and variance of a prediction, and from how many samples they come."""

    mean: float
    variance: float
    samples: int

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.mean + other.mean, self.variance + other.variance, min(self.samples, other.samples)
        )


NOTHING = Moments(0.0, 0.0, MOST_SAMPLES)


def estimate_queued(
    now: datetime, ahead: int, in_flight: float | None, lane: Durations, own: Durations
) -> Estimate | None:
    """For a queued export with so many runs ahead, and one in the slot for `in_flight` seconds if any.

    None with fewer than five samples.
    """
    if not (lane.enough and own.enough):
        return None
    size = len(own.in_slot)
    if not ahead and in_flight is None:
        whole = [sum(stages) for stages in zip(own.in_slot, own.archiving, strict=True)]
        likely, sure = (timedelta(seconds=_quantile(whole, share)) for share in (LIKELY, SURE))
        return Estimate(now, now, now + likely, now + sure, size)
    before = _many(lane.in_slot, ahead)
    if in_flight is not None:
        before += _rest(lane.in_slot, in_flight)
    through = before + _many(own.in_slot, 1) + _many(own.archiving, 1)
    return Estimate(
        start_p50=now + _seconds(before, LIKELY),
        start_p90=now + _seconds(before, SURE),
        finish_p50=now + _seconds(through, LIKELY),
        finish_p90=now + _seconds(through, SURE),
        sample_size=size,
    )


def estimate_running(now: datetime, elapsed: float, own: Durations) -> Estimate | None:
    """For an export whose job has been in progress for so many seconds."""
    if not own.enough:
        return None
    through = _rest(own.in_slot, elapsed) + _many(own.archiving, 1)
    return Estimate(
        None, None, now + _seconds(through, LIKELY), now + _seconds(through, SURE), len(own.in_slot)
    )


def _many(samples: Sequence[float], times: int) -> Moments:
    """The sum of so many durations. Their common mean is known from the samples alone, and an error in it is
    made as many times; few samples of something skewed mostly miss its tail."""
    if not times:
        return NOTHING
    size = len(samples)
    spread = variance(samples) * (size + 1) / (size - 1)
    return Moments(times * fmean(samples), times * spread + times * times * spread / size, size)


def _rest(samples: Sequence[float], elapsed: float) -> Moments:
    """What is left of a duration that has lasted so long; beyond all seen, half as long again."""
    longer = [sample - elapsed for sample in samples if sample > elapsed]
    if len(longer) < 2:
        guess = elapsed / 2
        return Moments(guess, guess * guess, FEWEST_SAMPLES)
    return Moments(fmean(longer), variance(longer) * (1 + 1 / len(longer)), len(longer))


def _quantile(samples: Sequence[float], share: float) -> float:
    """The value below which the next sample will be with this chance: between the sorted samples, and beyond
    the longest as far as that one is from the second (positions after Weibull)."""
    ordered = sorted(samples)
    place = share * (len(ordered) + 1) - 1
    low = min(max(math.floor(place), 0), len(ordered) - 2)
    return ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])


def _seconds(prediction: Moments, share: float) -> timedelta:
    """The seconds that are enough with this chance: a quantile of the log-normal distribution."""
    if prediction.mean <= 0:
        return timedelta()
    sigma = math.sqrt(math.log1p(prediction.variance / prediction.mean**2))
    middle = math.log(prediction.mean) - sigma * sigma / 2
    return timedelta(seconds=math.exp(middle + _student(share, prediction.samples - 1) * sigma))


def _student(share: float, freedom: int) -> float:
    """A quantile of Student's t, by the first terms of its expansion around the normal one.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z, n = NormalDist().inv_cdf(share), max(freedom, 1)
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n * n)


# The latest runs of the lane, and those most like one: of the same shape in the workspace, of the same kind
# in it, of the same kind anywhere. Each of the four is one look into an index.
PAST = text(
    " UNION ALL ".join(
        f"""
        (SELECT {level} AS level, extract(epoch FROM slot_freed_at - submitted_at) AS in_slot,
            extract(epoch FROM finished_at - slot_freed_at) AS archiving
        FROM runs WHERE status = 'succeeded' AND {condition}
        ORDER BY slot_freed_at DESC LIMIT {MOST_SAMPLES})"""  # noqa: S608 - constants
        for level, condition in enumerate(
            (
                "lane = :lane",
                "workspace = :workspace AND kind = :kind AND shape = :shape",
                "workspace = :workspace AND kind = :kind",
                "kind = :kind",
            )
        )
    )
)


# Of the latest runs, how long each took, and those before it that were most like it.
JUDGED = text(f"""
    SELECT extract(epoch FROM run.finished_at - run.submitted_at)::float AS took,
        array_agg(extract(epoch FROM past.finished_at - past.submitted_at)::float) AS past
    FROM (VALUES {", ".join(f"('{kind}')" for kind in Kind)}) AS kinds (kind)
    CROSS JOIN LATERAL (
        SELECT id, workspace, kind, submitted_at, finished_at FROM runs
        WHERE status = 'succeeded' AND runs.kind = kinds.kind
        ORDER BY slot_freed_at DESC LIMIT {MOST_JUDGED}) AS run
    CROSS JOIN LATERAL (
        SELECT submitted_at, finished_at FROM runs
        WHERE status = 'succeeded' AND (workspace, kind) = (run.workspace, run.kind)
          AND slot_freed_at < run.submitted_at AND finished_at < run.submitted_at
        ORDER BY slot_freed_at DESC LIMIT {MOST_SAMPLES}) AS past
    GROUP BY run.id, run.finished_at, run.submitted_at
    HAVING count(*) >= {FEWEST_SAMPLES}
""")  # noqa: S608 - constants


async def hit_ratio(session: AsyncSession) -> float | None:
    """Of the latest runs of each kind, the share whose file was kept by the moment which the runs before them
    promised with a chance of 90 percent when Asana took them; None where none had enough before it.

    Of good estimates that is 0.9.
    """
    judged = (await session.execute(JUDGED)).all()
    hits = [row.took <= _quantile(row.past, SURE) for row in judged]
    return fmean(hits) if hits else None


async def past_durations(
    session: AsyncSession, lane: LaneKey, workspace: str, kind: Kind, shape: str
) -> tuple[Durations, Durations]:
    """Of the latest runs of the lane, and of those most like one of this shape of which there are enough."""
    about = {"lane": lane, "workspace": workspace, "kind": kind, "shape": shape}
    rows = (await session.execute(PAST, about)).all()
    levels = [
        Durations(
            [float(row.in_slot) for row in rows if row.level == level],
            [float(row.archiving) for row in rows if row.level == level],
        )
        for level in range(4)
    ]
    return levels[0], next((found for found in levels[1:] if found.enough), levels[-1])
