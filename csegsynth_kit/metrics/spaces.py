"""Feature spaces in which many pairs of sets can be compared without computing anything twice.

Floors, intervals and ladders compare hundreds of subsets of the same maps. A space holds all
maps once; sets are given as rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from csegsynth_kit.metrics.coverage import (
    NEIGHBORS,
    authenticity,
    ball_radii,
    coverage,
    density,
    precision,
    recall,
)
from csegsynth_kit.metrics.frechet import Projection, fit_projection, gaussian_distance
from csegsynth_kit.metrics.kernels import (
    median_bandwidths,
    mmd_linear,
    polynomial_kernel,
    rbf_kernel,
    squared_distances,
    unbiased_mmd_of_rows,
)


@dataclass(frozen=True)
class FeatureSpace:
    """All maps in one feature space, with what training maps determine there.

    Args:
        features: (N, D) features of all maps, of whatever set.
        bandwidths: Of the RBF kernel, from training maps.
        projection: For the Frechet distance, from training maps, if N is too small without.
    """

    features: np.ndarray = field(repr=False)
    bandwidths: tuple[float, ...]
    projection: Projection | None = field(repr=False)
    _radii: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def squared(self) -> np.ndarray:
        """(N, N) squared distances."""
        return squared_distances(self.features, self.features)

    @cached_property
    def rbf(self) -> np.ndarray:
        """(N, N) multi-bandwidth RBF kernel."""
        return rbf_kernel(self.squared, self.bandwidths)

    @cached_property
    def polynomial(self) -> np.ndarray:
        """(N, N) polynomial kernel of KID."""
        return polynomial_kernel(self.features, self.features)

    def radii(self, rows: np.ndarray, neighbors: int) -> np.ndarray:
        """Squared radii of the balls about some maps, among themselves; kept for other metrics."""
        key = neighbors, rows.tobytes()
        if key not in self._radii:
            self._radii[key] = ball_radii(self.squared[np.ix_(rows, rows)], neighbors=neighbors)
        return self._radii[key]

    @cached_property
    def reduced(self) -> np.ndarray:
        """(N, P) features for the Frechet distance."""
        return self.features if self.projection is None else self.projection(self.features)


def feature_space(features: np.ndarray, train: np.ndarray, *, n: int) -> FeatureSpace:
    """Make a space; bandwidths and projection come from training maps alone.

    Args:
        features: (N, D) features of all maps to compare.
        train: (K, D) features of the real training maps.
        n: Maps of the smaller set in any comparison, which limits the projection.
    """
    return FeatureSpace(features, median_bandwidths(train), fit_projection(train, n=n))


#: Of a space, the rows of the reference (real) set and the rows of the synthetic set.
Compare = Callable[[FeatureSpace, np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Metric:
    """A distance or score of two sets in a feature space.

    Args:
        name: As in tables.
        compare: Computes it.
        higher_is_closer: Whether sets that are closer to the real ones score higher.
        bounds: Smallest and largest possible value.
        tells_copies: Whether sets closer than real ones are copies. Neighbors cannot tell them
            from sets that vary too little and so lie in the middle of the training maps.
        audits_training: Whether it asks how close synthetic maps are to single training maps,
            so that it makes sense against the whole training set only.
    """

    name: str
    compare: Compare = field(repr=False)
    higher_is_closer: bool = False
    bounds: tuple[float, float] = (-np.inf, np.inf)
    tells_copies: bool = False
    audits_training: bool = False

    @property
    def centered(self) -> bool:
        """Whether equal distributions give 0 on average, at any N."""
        return self.bounds[0] < 0


def _frechet(space: FeatureSpace, real: np.ndarray, synthetic: np.ndarray) -> float:
    return gaussian_distance(space.reduced[real], space.reduced[synthetic])


def _kernel(name: str) -> Compare:
    def compare(space: FeatureSpace, real: np.ndarray, synthetic: np.ndarray) -> float:
        return unbiased_mmd_of_rows(getattr(space, name), real, synthetic)

    return compare


def _linear(space: FeatureSpace, real: np.ndarray, synthetic: np.ndarray) -> float:
    return mmd_linear(space.features[real], space.features[synthetic])


def _neighbors(
    score: Callable[..., float], *, among_real: bool = True, neighbors: int = NEIGHBORS
) -> Compare:
    def compare(space: FeatureSpace, real: np.ndarray, synthetic: np.ndarray) -> float:
        radii = space.radii(real if among_real else synthetic, neighbors)
        return score(radii, space.squared[np.ix_(real, synthetic)])

    return compare


#: On the features of an extractor.
FEATURE_METRICS = (
    Metric("frechet", _frechet, bounds=(0, np.inf)),
    Metric("mmd_rbf", _kernel("rbf"), tells_copies=True),
    Metric("kid", _kernel("polynomial"), tells_copies=True),
    Metric("precision", _neighbors(precision), True, (0, 1)),
    Metric("recall", _neighbors(recall, among_real=False), True, (0, 1)),
    Metric("density", _neighbors(density), True, (0, np.inf)),
    Metric("coverage", _neighbors(coverage), True, (0, 1)),
    Metric(
        "authenticity", _neighbors(authenticity, neighbors=1), False, (0, 1), audits_training=True
    ),
)
#: On flattened voxels.
MMD_LINEAR = Metric("mmd_linear", _linear, bounds=(0, np.inf))
