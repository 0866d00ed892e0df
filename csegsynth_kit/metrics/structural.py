"""Multi-scale structural similarity of maps, and whether two sets are equally diverse."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from monai.metrics.regression import compute_ms_ssim
from torch import Tensor

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.errors import ConfigError

#: Weights of the scales, finest first (Wang, Simoncelli and Bovik, 2003).
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_LARGEST_WINDOW = 11
_SMALLEST_WINDOW = 5
_PAIRS_AT_ONCE = 16
#: First and last-plus-one voxel along each axis.
Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SimilarityPlan:
    """Where and how similarity is measured; part of the passport of every number.

    Args:
        box: First and last-plus-one voxel along each axis: the union of the brains.
        scales: How often the maps are halved, plus one.
        window: Edge of the Gaussian window (voxels), its standard deviation being 1.5.
        weights: Exponent of each scale, finest first, summing to 1.
    """

    box: Box
    scales: int
    window: int
    weights: tuple[float, ...]

    def crop(self, maps: Tensor) -> Tensor:
        """Return the measured tissues of (N, T, X, Y, Z) maps inside the box."""
        slices = (slice(low, high) for low, high in self.box)
        return maps[(slice(None), slice(0, len(MEASURED)), *slices)]

    def to_dict(self) -> dict:
        """Return a JSON-ready description."""
        return asdict(self)


def brain_box(maps: Tensor, *, at_least: int) -> Box:
    """Box around every voxel where any map is mostly tissue.

    Background is alike in all maps and would hide differences.

    Args:
        maps: (N, T, X, Y, Z) shares.
        at_least: Edge (voxels) that the box has, if the grid has it.

    Returns:
        First and last-plus-one voxel along each axis.
    """
    inside = (maps[:, : len(MEASURED)].sum(1) > 0.5).any(0)
    if not inside.any():
        raise ConfigError("the maps hold no tissue", "Check the generator; all is background.")
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        where = torch.nonzero(inside.any(dim=others[1]).any(dim=others[0]))
        low, high = int(where.min()), int(where.max()) + 1
        size = min(max(high - low, at_least), inside.shape[axis])
        low = max(0, min(low, inside.shape[axis] - size))
        box.append((low, low + size))
    return tuple(box)


def plan_similarity(train: Tensor) -> SimilarityPlan:
    """Choose box, scales and window that the grid can carry.

    As many of the five published scales as leave the coarsest one wider than the smallest
    window, and then the largest odd window, up to the published 11, that fits there.

    Args:
        train: (N, T, X, Y, Z) real training maps, which alone decide.
    """
    box = brain_box(train, at_least=_SMALLEST_WINDOW)
    smallest = min(high - low for low, high in box)
    if smallest < _SMALLEST_WINDOW:
        raise ConfigError(
            f"maps of {smallest} voxels are too small for a window of {_SMALLEST_WINDOW}",
            "Use a finer grid.",
        )
    carried = [s for s in range(1, 6) if smallest // _shrunk(s) >= _SMALLEST_WINDOW]
    scales = max(carried)
    window = min(_LARGEST_WINDOW, smallest // _shrunk(scales))
    window -= 1 - window % 2
    weights = np.array(_WEIGHTS[:scales]) / sum(_WEIGHTS[:scales])
    return SimilarityPlan(box, scales, window, tuple(weights.tolist()))


def random_pairs(n: int, *, seed: int) -> np.ndarray:
    """Return (n // 2, 2) rows of pairs; no row is in two, so that pairs are independent."""
    return np.random.default_rng(seed).permutation(n)[: n // 2 * 2].reshape(-1, 2)


def pair_similarity(maps: Tensor, pairs: np.ndarray, *, plan: SimilarityPlan) -> np.ndarray:
    """Multi-scale structural similarity (MS-SSIM) of pairs of maps, tissues as channels.

    Args:
        maps: (N, T, X, Y, Z) shares.
        pairs: (K, 2) rows of ``maps``.
        plan: From :func:`plan_similarity` of real training maps.

    Returns:
        (K,) similarities; 1 for equal maps.
    """
    tissues = plan.crop(maps)
    values = []
    for part in np.array_split(pairs, max(1, -(-len(pairs) // _PAIRS_AT_ONCE))):
        first, second = torch.from_numpy(part.T)
        similarity = compute_ms_ssim(
            tissues[first],
            tissues[second],
            spatial_dims=3,
            data_range=1.0,
            kernel_size=(plan.window,) * 3,
            kernel_sigma=(1.5,) * 3,
            weights=plan.weights,
        )
        values.append(similarity[:, 0].double().numpy())
    return np.concatenate(values)


def delta_similarity(
    real: np.ndarray, synthetic: np.ndarray, *, times: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Return |mean similarity of synthetic pairs - of real pairs| with its 95 % interval.

    Pairs are independent, so they are resampled by the ordinary bootstrap. The interval is that
    of the signed difference, folded at 0: it starts at 0 where the signed one holds 0.

    Args:
        real: (K,) similarities of real pairs.
        synthetic: (L,) similarities of synthetic pairs.
        times: Resamples.
        seed: Of the resamples.
    """
    rng = np.random.default_rng(seed)
    means = [
        values[rng.integers(0, len(values), (times, len(values)))].mean(1)
        for values in (synthetic, real)
    ]
    low, high = np.percentile(means[0] - means[1], [2.5, 97.5])
    folded = (0.0 if low <= 0 <= high else min(abs(low), abs(high)), max(abs(low), abs(high)))
    return abs(float(synthetic.mean() - real.mean())), float(folded[0]), float(folded[1])


def _shrunk(scales: int) -> int:
    """By how much the coarsest scale is smaller, or what MONAI demands if that is more."""
    return max(2 ** (scales - 1), (scales - 1) ** 2, 1)
