"""Intervals of set distances by random half-samples, and disjoint real-vs-real halves.

A bootstrap draws maps twice. Two copies of a map are at distance zero, which biases every
kernel, nearest-neighbor and covariance statistic. Random half-samples without replacement have
no copies. Their spread around their own mean estimates that of the full-sample statistic
without rescaling, the delete-half jackknife (Shao and Wu, 1989, Annals of Statistics 17:1176).
It is right for statistics that are smooth in the distribution of maps, and too wide, never too
narrow, where two sets are nearly equal and the linear term vanishes. Maps must be independent:
one per person.
"""

from collections.abc import Iterator

import numpy as np

#: Resamples of fewer persons than this are too alike to tell how far a statistic may be off.
FEWEST_PERSONS = 5


def half_samples(n: int, *, times: int, seed: int) -> np.ndarray:
    """Return (times, n // 2) rows, each drawn without replacement."""
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.arange(n), (times, 1)), axis=1)[:, : n // 2]


def recentered_interval(
    value: float,
    replicates: np.ndarray,
    *,
    level: float = 0.95,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[float, float]:
    """Move the spread of half-sample values onto the full-sample value.

    Half-samples share the bias of a smaller N, so only their spread is used, not their mean.

    Args:
        value: Of all maps.
        replicates: (times,) values of half-samples.
        level: Coverage.
        bounds: Smallest and largest value that the statistic can take.
    """
    tail = 50 * (1 - level)
    low, high = value + np.percentile(replicates - replicates.mean(), [tail, 100 - tail])
    return float(np.clip(low, *bounds)), float(np.clip(high, *bounds))


def disjoint_sets(
    n: int, first: int, second: int, *, times: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw two sets of rows that share none, ``times`` times.

    Args:
        n: Rows to draw from, at least ``first + second``.
        first: Rows of the first set.
        second: Rows of the second set.
        times: How often.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    for _ in range(times):
        rows = rng.permutation(n)[: first + second]
        yield rows[:first], rows[first:]
