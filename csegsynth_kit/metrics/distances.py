"""How alike maps are: diversity within a set of maps."""

import numpy as np
import pandas as pd
import torch
from monai.metrics.regression import compute_ssim_and_cs
from torch import Tensor

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.metrics.structural import Box, brain_box

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
        (N // 2,) mean SSIM over WM, GM and CSF; Gaussian window of 7 voxels, data range 1.
    """
    box = brain_box(maps, at_least=_WINDOW) if box is None else box
    tissues = maps[(slice(None), slice(0, len(MEASURED)), *(slice(*edges) for edges in box))]
    first, second = (
        np.random.default_rng(seed).permutation(len(maps))[: len(maps) // 2 * 2].reshape(2, -1)
    )
    parts = np.array_split(np.arange(len(first)), max(1, len(first) // 16))
    return np.concatenate([_ssim(tissues[first[p]], tissues[second[p]]) for p in parts])


def diversity(sets: dict[str, Tensor], *, seed: int = 0) -> pd.DataFrame:
    """Compare the mean pairwise similarity of several sets of maps, all in one box.

    Returns:
        One row per set: ``n`` maps, ``pairs``, mean ``ssim`` and its 95 % bootstrap interval over
        pairs. A set that is less diverse than real maps has a larger mean.
    """
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


def _ssim(a: Tensor, b: Tensor) -> np.ndarray:
    similarity, _ = compute_ssim_and_cs(
        a,
        b,
        spatial_dims=3,
        kernel_size=(_WINDOW,) * 3,
        kernel_sigma=(1.5,) * 3,
        data_range=1.0,
        kernel_type="gaussian",
    )
    return similarity.mean(dim=(1, 2, 3, 4)).numpy()
