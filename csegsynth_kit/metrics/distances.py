"""How alike maps are: diversity within a set of maps."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.structural import Box, SimilarityPlan, brain_box, pair_similarity

#: Window of the similarity (voxels); an odd number below every grid's smallest size.
_WINDOW = 7


def pairwise_ssim(maps: Tensor, *, box: Box | None = None, seed: int = 0) -> np.ndarray:
    """Structural similarity (SSIM) of random pairs of maps within the union of their brains.

    No map is in two pairs, so that the pairs are independent and an interval over them is right.

    Background is alike in all maps and would hide differences, so maps are cropped to the box
    around every voxel where any map has tissue.

    Args:
        maps: (N, T, X, Y, Z) shares.
        box: First and last-plus-one voxel along each axis; around all tissue by default.
        seed: Of the pairing.

    Returns:
        (N // 2,) mean SSIM over WM, GM and CSF; Gaussian window of 7 voxels, data range 1. It is
        ``structural.pair_similarity`` at one scale, which does not depend on the grid.
    """
    box = brain_box(maps, at_least=_WINDOW) if box is None else box
    order = np.random.default_rng(seed).permutation(len(maps))[: len(maps) // 2 * 2]
    plan = SimilarityPlan(box, scales=1, window=_WINDOW, weights=(1.0,))
    return pair_similarity(maps, order.reshape(2, -1).T, plan=plan)


def diversity(sets: dict[str, Tensor], *, seed: int = 0) -> pd.DataFrame:
    """Compare the mean pairwise similarity of several sets of maps, all in one box.

    Returns:
        One row per set: ``n`` maps, ``pairs``, mean ``ssim`` and its 95 % bootstrap interval over
        pairs. A set that is less diverse than real maps has a larger mean.

    Raises:
        ConfigError: if a set has fewer than two maps.
    """
    for name, maps in sets.items():
        if len(maps) < 2:
            raise ConfigError(f"set {name!r} holds no pair of maps (n = {len(maps)})", "Give more.")
    rng = np.random.default_rng(seed)
    box = brain_box(torch.cat(list(sets.values())), at_least=_WINDOW)
    rows = []
    for name, maps in sets.items():
        ssim = pairwise_ssim(maps, box=box, seed=seed)
        means = ssim[rng.integers(0, len(ssim), (2000, len(ssim)))].mean(1)
        low, high = np.percentile(means, [2.5, 97.5])
        row = {"n": len(maps), "pairs": len(ssim), "ssim": ssim.mean()}
        rows.append({"set": name, **row, "ssim_low": low, "ssim_high": high})
    return pd.DataFrame(rows)
