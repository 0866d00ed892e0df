"""Fixtures of the simulator's tests."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from csegsynth_kit.data.parallel import one_thread
from csegsynth_kit.maps import GRIDS, Grid
from csegsynth_kit.simulate.anatomy import Anatomy

#: The tiny canvas at 4 mm: quick to draw on, and not cubic.
QUICK_GRID: Grid = GRIDS["tiny"].refined(2)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def anatomy() -> Anatomy:
    return Anatomy(QUICK_GRID)


def synthetic_head(grid: Grid, *, ventricle_mm: float = 14.0) -> torch.Tensor:
    """A head of nested ellipsoids, (3, X, Y, Z): CSF around GM around WM around ventricles."""
    x, y, z = np.meshgrid(
        *(
            np.arange(n) * s + o - c
            for n, s, o, c in zip(
                grid.shape, grid.spacing_mm, grid.affine[:3, 3], grid.center_mm, strict=True
            )
        ),
        indexing="ij",
    )

    def soft(a: float, b: float, c: float, dx: float = 0, dy: float = 0, dz: float = 0):
        r = np.sqrt(((x - dx) / a) ** 2 + ((y - dy) / b) ** 2 + ((z - dz) / c) ** 2)
        return 1 / (1 + np.exp((r - 1) * min(a, b, c) / 1.5))

    head, brain, wm = soft(68, 85, 66), soft(60, 76, 58), soft(48, 62, 45)
    side = ventricle_mm
    lateral = np.maximum(
        soft(side / 2, 2 * side, side, 11, 22, 2), soft(side / 2, 2 * side, side, -11, 22, 2)
    )
    csf = (head - brain).clip(0) + lateral
    gm = (brain - wm).clip(0) * (1 - lateral)
    shares = np.stack([wm * (1 - lateral), gm, csf.clip(0, 1)])
    return torch.from_numpy((shares / np.maximum(shares.sum(0), 1)).astype(np.float32))
