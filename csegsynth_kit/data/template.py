"""The MNI152 tissue template that nilearn carries, made ready for alignment and simulation."""

from functools import cache

import numpy as np
from nilearn.datasets import (
    load_mni152_brain_mask,
    load_mni152_gm_template,
    load_mni152_wm_template,
)
from scipy.ndimage import gaussian_filter

#: Soft regions in MNI space: (center mm, semi-axes mm).
_BRAINSTEM = (((0, -23, -12), (15, 12, 9)), ((0, -27, -31), (19, 13, 17)))
#: Share of the brainstem's gray matter that label maps call white matter.
_BRAINSTEM_TO_WM = 0.9


@cache
def template_maps() -> tuple[np.ndarray, np.ndarray]:
    """Average tissue shares of 152 people at 1 mm.

    The average calls half of the brainstem gray matter, label maps call it white matter; it
    is moved there.

    Returns:
        (3, 197, 233, 189) float32 WM, GM and what remains inside the brain mask, and the
        (4, 4) affine. Do not modify them.
    """
    gm_image = load_mni152_gm_template(resolution=1)
    gm = np.asarray(gm_image.dataobj, dtype=np.float32)
    wm = np.asarray(load_mni152_wm_template(resolution=1).dataobj, dtype=np.float32)
    mask = np.asarray(load_mni152_brain_mask(resolution=1).dataobj).astype(bool)
    moved = _BRAINSTEM_TO_WM * gm * _brainstem(gm.shape, gm_image.affine)
    wm, gm = wm + moved, gm - moved
    rest = np.where(mask, np.clip(1 - gm - wm, 0, 1), 0)
    maps = np.stack([wm, gm, rest]).astype(np.float32)
    maps.setflags(write=False)
    return maps, gm_image.affine


def world_coordinates(shape: tuple[int, int, int], affine: np.ndarray) -> list[np.ndarray]:
    """Return the world x, y and z (mm) of every voxel of a grid without rotation, broadcastable."""
    axes = [affine[i, i] * np.arange(n) + affine[i, 3] for i, n in enumerate(shape)]
    return list(np.meshgrid(*axes, indexing="ij", sparse=True))


def ellipsoid(coordinates: list[np.ndarray], center_mm: tuple, semi_axes_mm: tuple) -> np.ndarray:
    """Return where points lie inside an ellipsoid."""
    distance = sum(
        ((x - c) / r) ** 2 for x, c, r in zip(coordinates, center_mm, semi_axes_mm, strict=True)
    )
    return distance < 1


def _brainstem(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """Soft mask of midbrain, pons and medulla."""
    coordinates = world_coordinates(shape, affine)
    inside = np.zeros(shape, dtype=bool)
    for center, semi_axes in _BRAINSTEM:
        inside |= ellipsoid(coordinates, center, semi_axes)
    x, y, z = coordinates
    inside |= (np.abs(x) < 10) & (np.abs(y + 36 + 0.45 * (-44 - z)) < 9) & (z > -64) & (z < -38)
    sigma = 1.2 / np.abs(np.diag(affine)[:3])
    return gaussian_filter(inside.astype(np.float32), sigma)
