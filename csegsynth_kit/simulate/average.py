"""The base anatomy made of the MNI152 average that nilearn carries."""

from functools import cache

import numpy as np
import torch
from nilearn.datasets import load_mni152_brain_mask
from scipy.ndimage import binary_dilation, distance_transform_edt, label
from torch import Tensor

from csegsynth_kit.data.template import template_maps, world_coordinates
from csegsynth_kit.maps import Grid, average_pool
from csegsynth_kit.simulate.bases import SULCAL, VENTRICULAR, Base, head_distance, make_base

#: Exponent that makes the average of 152 people look like one person.
_GAMMA = 2.6
#: The template's rim of CSF is about one voxel wide; the head ends this far outside its mask,
#: over this width (mm), and certainly beyond the last distance.
_RIM_MM, _RIM_WIDTH_MM, _CERTAIN_MM = 1.5, 0.7, 9.0
_CLOSING_MM = 4.0
#: Part of the template's 1 mm grid that holds the head and 10 mm around it: voxels cut off
#: (positive) or added (negative) at the lower and upper end of every axis.
_CROP = ((12, 13), (12, 9), (-16, 17))
#: Lateral ventricles: CSF this deep inside the head, connected to this MNI point (mm).
_DEPTH_MM, _VENTRICLE_SHARE, _DILATION_VOXELS = 12.0, 0.5, 2
_VENTRICLE_SEEDS_MM = ((8.0, 10.0, 10.0), (-8.0, 10.0, 10.0))


@cache
def template_base(spacing_mm: float) -> Base:
    """Return the template as a base of 2 or 4 mm; it takes some 5 seconds the first time."""
    shares, distance, grid = _template_at_2mm()
    factor = round(spacing_mm / grid.spacing_mm[0])
    if factor > 1:
        grid = grid.pooled(factor, "template")
        shares, distance = (average_pool(x[None], factor)[0] for x in (shares, distance))
    outside = distance[0] > _CERTAIN_MM
    return make_base("template", grid, shares, outside=outside, gamma=_GAMMA, texture=1.0)


@cache
def ventricle_side() -> tuple[Tensor, Grid]:
    """Return where the template's lateral ventricles are nearer than its other CSF.

    Returns:
        (1, X, Y, Z) distance to them minus distance to other CSF (mm), and its grid.
    """
    shares, _, grid = _template_at_2mm()
    lateral, other = (
        distance_transform_edt((shares[c] < _VENTRICLE_SHARE).numpy())
        for c in (VENTRICULAR, SULCAL)
    )
    nearer = (lateral - other).astype(np.float32) * np.float32(grid.spacing_mm[0])
    return torch.from_numpy(nearer)[None], grid


@cache
def _template_at_2mm() -> tuple[Tensor, Tensor, Grid]:
    """Return (5, X, Y, Z) shares, (1, X, Y, Z) distance to the head (mm), and their grid."""
    maps, affine = template_maps()
    mask = np.asarray(load_mni152_brain_mask(resolution=1).dataobj).astype(bool)
    wm, gm, mask = (_cropped(x) for x in (maps[0], maps[1], mask))
    corner = affine[:3, 3] + [low for low, _ in _CROP]
    center = corner + (np.array(mask.shape) - 1) / 2
    grid = Grid("template", mask.shape, (1.0, 1.0, 1.0), tuple(center.tolist()))

    distance = head_distance(mask, grid, _CLOSING_MM)
    rest = np.clip(1 - wm - gm, 0, 1)
    ventricles = _ventricles(np.where(mask, rest, 0), distance, grid)
    background = 1 / (1 + np.exp((_RIM_MM - distance) / _RIM_WIDTH_MM))
    inside = (1 - background) / (wm + gm + rest)
    planes = (
        background,
        inside * wm,
        inside * gm,
        inside * rest * ~ventricles,
        inside * rest * ventricles,
        distance,
    )
    pooled = torch.cat([average_pool(torch.from_numpy(p)[None, None], 2)[0] for p in planes])
    return pooled[:5], pooled[5:], grid.pooled(2, "template")


def _cropped(volume: np.ndarray) -> np.ndarray:
    """Cut off and add voxels as _CROP says; added voxels are 0."""
    kept = tuple(
        slice(max(low, 0), n - max(high, 0))
        for n, (low, high) in zip(volume.shape, _CROP, strict=True)
    )
    return np.pad(volume[kept], [(max(-low, 0), max(-high, 0)) for low, high in _CROP])


def _ventricles(csf: np.ndarray, distance: np.ndarray, grid: Grid) -> np.ndarray:
    """Find the lateral ventricles.

    Args:
        csf: (X, Y, Z) share of CSF.
        distance: (X, Y, Z) distance to the surface of the head (mm), negative inside.
        grid: Their voxels.

    Returns:
        (X, Y, Z) bool, a little larger than the ventricles.
    """
    components, _ = label((csf > _VENTRICLE_SHARE) & (distance < -_DEPTH_MM))
    coordinates = world_coordinates(grid.shape, grid.affine)
    found = []
    for seed in _VENTRICLE_SEEDS_MM:
        squared = sum((x - c) ** 2 for x, c in zip(coordinates, seed, strict=True))
        found.append(components.flat[np.argmin(np.where(components > 0, squared, np.inf))])
    return binary_dilation(np.isin(components, found), iterations=_DILATION_VOXELS)
