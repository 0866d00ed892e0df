"""The perturbation ladder of the two metrics that work on voxels, without an extractor."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from csegsynth_kit.maps import SegmentationMaps
from csegsynth_kit.metrics.compare import Floor, Sets, linear_mmd_of_sets
from csegsynth_kit.metrics.ladder import duplicated, ladder_row, require_pool
from csegsynth_kit.metrics.perturb import MAP_PERTURBATIONS, perturb
from csegsynth_kit.metrics.resampling import disjoint_sets
from csegsynth_kit.metrics.structural import (
    SimilarityPlan,
    pair_similarity,
    plan_similarity,
    random_pairs,
)

_DELTA = "delta_ms_ssim"


def voxel_ladder(
    train: SegmentationMaps,
    real: SegmentationMaps,
    *,
    sizes: Sequence[int],
    repeats: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Find which perturbations linear MMD and |delta MS-SSIM| tell from real maps.

    As ``ladder.perturbation_ladder``, but here ``variance x0.5`` moves the maps themselves
    toward the mean training map.

    Args:
        train: Real maps that choose the box and the scales.
        real: Other real maps, at least twice the largest size.
        sizes: Maps in each set, N.
        repeats: Pairs of sets.
        seed: Of the draws.
    """
    require_pool(train, real, sizes)
    plan = plan_similarity(train.probabilities)
    pairs = random_pairs(len(real), seed=seed)
    clean = real.probabilities
    rows = []
    for n in sizes:
        chosen = disjoint_sets(len(pairs), n // 2, n // 2, times=repeats, seed=seed)
        sets = [(pairs[a].ravel(), pairs[b].ravel()) for a, b in chosen]
        floors = _values(clean, clean, sets, plan)
        for name, first, second, rows_of in _perturbed(train, real, sets, seed):
            for metric, values in _values(first, second, rows_of, plan).items():
                head = {"extractor": "voxels", "metric": metric, "n": n, "perturbation": name}
                rows.append(head | ladder_row(values, Floor(floors[metric]), centered=False))
    return pd.DataFrame(rows)


def _values(
    first: Tensor, second: Tensor, sets: Sequence[Sets], plan: SimilarityPlan
) -> dict[str, np.ndarray]:
    return {
        "mmd_linear": linear_mmd_of_sets(first, second, sets, plan=plan),
        _DELTA: _deltas(first, second, sets, plan),
    }


def _perturbed(
    train: SegmentationMaps, real: SegmentationMaps, sets: list[Sets], seed: int
) -> Iterator[tuple[str, Tensor, Tensor, list[Sets]]]:
    """Yield name, real and damaged maps, and rows into the two."""
    clean, fitted = real.probabilities, train.probabilities
    for name in MAP_PERTURBATIONS:
        yield name, clean, perturb(real, name).probabilities, sets
    mean = fitted.mean(0, keepdim=True)
    yield "variance x0.5", clean, mean + 0.5**0.5 * (clean - mean), sets
    rng = np.random.default_rng(seed)
    copies = [(a, rng.permutation(duplicated(b))) for a, b in sets]
    yield "duplicates", clean, clean, copies
    pairs = random_pairs(len(train), seed=seed)
    copied = [pairs[rng.permutation(len(pairs))[: len(a) // 2]].ravel() for a, _ in sets]
    against_real = [(a, rows) for (a, _), rows in zip(sets, copied, strict=True)]
    yield "memorized", clean, fitted, against_real
    machine = [(rows, rng.choice(rows.reshape(-1, 2), len(rows) // 2).ravel()) for rows in copied]
    yield "memorized, against training", fitted, fitted, machine


def _deltas(
    first: Tensor, second: Tensor, sets: Sequence[Sets], plan: SimilarityPlan
) -> np.ndarray:
    """Return (R,) |difference of mean similarity|; consecutive rows are pairs."""
    means = [
        _mean_similarity(maps, [s[side].reshape(-1, 2) for s in sets], plan)
        for side, maps in enumerate((first, second))
    ]
    return np.abs(means[0] - means[1])


def _mean_similarity(maps: Tensor, pairs: Sequence[np.ndarray], plan: SimilarityPlan) -> np.ndarray:
    """Return (R,) mean similarities of R sets of pairs; each pair is computed once."""
    stacked = np.sort(np.concatenate(pairs), axis=1)
    unique, where = np.unique(stacked, axis=0, return_inverse=True)
    values = pair_similarity(maps, unique, plan=plan)[where.ravel()]
    ends = np.cumsum([len(p) for p in pairs])[:-1]
    return np.array([part.mean() for part in np.split(values, ends)])
