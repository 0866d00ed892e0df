"""Value, interval and floor of a metric, for sets given as rows of feature spaces or maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from csegsynth_kit.metrics.resampling import half_samples, recentered_interval
from csegsynth_kit.metrics.spaces import FeatureSpace, Metric
from csegsynth_kit.metrics.structural import SimilarityPlan

#: Rows of the reference (real) set, and rows of the synthetic set.
Sets = tuple[np.ndarray, np.ndarray]
#: Percentiles of the real-vs-real floor: above the last is worse than real, and below the first
#: is closer than real people are to each other.
ALARM_PERCENT, DETECT_PERCENT = 1.0, 95.0


@dataclass(frozen=True)
class Floor:
    """Values of a metric between disjoint sets of real maps.

    Args:
        values: (R,) one for each pair of sets.
        higher_is_closer: As of the metric.
    """

    values: np.ndarray
    higher_is_closer: bool = False

    @property
    def median(self) -> float:
        """What equal distributions give at this N."""
        return float(np.median(self.values))

    @property
    def detect(self) -> float:
        """Values on the far side of this one are worse than real sets."""
        return self._percentile(DETECT_PERCENT)

    @property
    def alarm(self) -> float:
        """Values on the near side of this one are too good: copies, not people."""
        return self._percentile(ALARM_PERCENT)

    def worse(self, value: float | np.ndarray) -> bool | np.ndarray:
        """Tell whether a value is worse than 95 % of the floor."""
        return value < self.detect if self.higher_is_closer else value > self.detect

    def too_good(self, value: float | np.ndarray) -> bool | np.ndarray:
        """Tell whether a value is better than 99 % of the floor."""
        return value > self.alarm if self.higher_is_closer else value < self.alarm

    def _percentile(self, percent: float) -> float:
        percent = 100 - percent if self.higher_is_closer else percent
        return float(np.percentile(self.values, percent))


def values_of_sets(
    spaces: Sequence[FeatureSpace], metric: Metric, sets: Sequence[Sets]
) -> np.ndarray:
    """Return (S, R) values of a metric in S spaces for R pairs of sets."""
    return np.array([[metric.compare(space, *rows) for rows in sets] for space in spaces])


def interval_of_sets(
    spaces: Sequence[FeatureSpace], metric: Metric, sets: Sets, *, times: int, seed: int
) -> tuple[float, float]:
    """95 % interval from random half-samples of both sets.

    Against a training set that is audited for copies, only the synthetic set is halved: the
    question is about these training maps, not about others like them.
    """
    real, synthetic = sets
    halves = half_samples(len(synthetic), times=times, seed=seed)
    if metric.audits_training:
        chosen = [(real, synthetic[half]) for half in halves]
    else:
        others = half_samples(len(real), times=times, seed=seed + 1)
        chosen = [(real[a], synthetic[b]) for a, b in zip(others, halves, strict=True)]
    value = float(values_of_sets(spaces, metric, [sets]).mean())
    replicates = values_of_sets(spaces, metric, chosen).mean(0)
    return recentered_interval(value, replicates, bounds=metric.bounds)


def linear_mmd_of_sets(
    real: Tensor, synthetic: Tensor, sets: Sequence[Sets], *, plan: SimilarityPlan
) -> np.ndarray:
    """Biased linear MMD on the voxels of the brains' box, of R pairs of sets.

    Squared distance between mean maps, summed over voxels and the measured tissues.

    Args:
        real: (N, T, X, Y, Z) maps that the first rows count.
        synthetic: (M, T, X, Y, Z) maps that the second rows count; may be ``real`` again.
        sets: R pairs of rows.
        plan: Holds the box.

    Returns:
        (R,) values.
    """
    first = _averaging([rows for rows, _ in sets], len(real))
    second = _averaging([rows for _, rows in sets], len(synthetic))
    total = torch.zeros(len(sets), dtype=torch.float64)
    a, b = plan.crop(real), plan.crop(synthetic)
    for x in range(a.shape[2]):  # Plane by plane, so that only a plane is held in float64.
        means = [w @ m[:, :, x].flatten(1).double() for w, m in ((first, a), (second, b))]
        total += ((means[0] - means[1]) ** 2).sum(1)
    return total.numpy()


def _averaging(sets: Sequence[np.ndarray], n: int) -> Tensor:
    """Return (R, n) weights that average the rows of each set."""
    return torch.from_numpy(np.stack([np.bincount(r, minlength=n) / len(r) for r in sets]))
