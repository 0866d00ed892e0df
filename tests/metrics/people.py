"""Toy people: nested ellipsoids of varying size and place, on voxels that are not cubic."""

import numpy as np
import torch

from csegsynth_kit.maps import Grid, SegmentationMaps, average_pool, with_background

GRID = Grid("people", (12, 16, 14), (13.0, 11.0, 12.0))


def people(n: int, *, seed: int = 0, lopsided: float = 0.0) -> SegmentationMaps:
    """Draw people; ``lopsided`` moves white matter to the right by that share of the half box."""
    rng = np.random.default_rng(seed)
    fine = [np.linspace(-1, 1, 2 * s, endpoint=False) + 0.5 / s for s in GRID.shape]
    x, y, z = np.meshgrid(*fine, indexing="ij")
    maps = np.empty((n, 3, *x.shape), np.float32)
    for i in range(n):
        size = (1 + 0.04 * rng.normal()) * (1 + 0.01 * rng.normal(size=3))
        radii = np.array([0.48, 0.66, 0.8]) * size
        stretch = 1 + 0.04 * rng.normal(size=3)
        center = 0.03 * rng.normal(size=3)
        distance = [
            np.sqrt(
                (stretch[0] * (x - center[0] - shift)) ** 2
                + (stretch[1] * (y - center[1])) ** 2
                + (stretch[2] * (z - center[2])) ** 2
            )
            for shift in (lopsided, 0.0, 0.0)
        ]
        inside = [d < r for d, r in zip(distance, radii, strict=True)]
        maps[i] = inside[0], inside[1] & ~inside[0], inside[2] & ~inside[1] & ~inside[0]
    pooled = with_background(average_pool(torch.from_numpy(maps), 2))
    return SegmentationMaps(pooled, GRID, tuple(f"p{seed}-{i}" for i in range(n)))
