"""From raw scores to numbers that can be mixed: calibration of one reward, and the weighted mean of several."""

from __future__ import annotations

import math
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

from streamt1_plugins.config.rewards import FixedCalibration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamt1_plugins.api.types import Reading

Calibration = str | FixedCalibration


def calibrate(raws: Sequence[float], earlier: Sequence[float], calibration: Calibration) -> list[float]:
    """The raw scores of one chunk's candidates on a common scale. NaN stays NaN.

    none: as they are. fixed: ``(raw - mean) / std``. running: standardised by every raw score so far, this chunk's
    included, so values stay comparable across chunks. group: standardised within this chunk (all equal gives 0).
    rank: share of this chunk's candidates that are worse, 0..1. The last two cannot be compared across chunks.
    """
    if isinstance(calibration, FixedCalibration):
        return [(raw - calibration.mean) / calibration.std for raw in raws]
    if calibration == "rank":
        return _ranks(raws)
    if calibration == "none":
        return list(raws)
    pool = [raw for raw in (*raws, *(earlier if calibration == "running" else ())) if math.isfinite(raw)]
    spread = pstdev(pool) if pool else 0.0
    return [(raw - fmean(pool)) / spread if spread > 0 else raw * 0.0 for raw in raws]


def _ranks(raws: Sequence[float]) -> list[float]:
    others = max(1, len(raws) - 1)
    return [sum(other < raw for other in raws) / others if math.isfinite(raw) else raw for raw in raws]


def combine(readings: Mapping[str, Reading]) -> float:
    """The weighted mean of calibrated readings; NaN where none has a weight."""
    deciding = [reading for reading in readings.values() if reading.weight > 0]
    total = sum(reading.weight for reading in deciding)
    return sum(reading.weight * reading.value for reading in deciding) / total if deciding else math.nan
