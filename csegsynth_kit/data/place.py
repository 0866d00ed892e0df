"""Putting one participant's maps onto the voxels of a cohort.

Four ways, from the one that changes least: ``exact`` if the maps already lie on the grid,
``cropped`` about the center of mass if only whole voxels need to move, ``resampled`` if the
voxels have another size, and ``aligned`` rigidly to the template.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from csegsynth_kit.data.align import center_of_mass, center_of_mass_mm, fit_rigid, resample
from csegsynth_kit.data.nifti import spacing_mm
from csegsynth_kit.data.readers.base import SubjectMaps
from csegsynth_kit.errors import ConfigError, MapError
from csegsynth_kit.maps import Grid

#: Tissue outside the box above which a map counts as cut off (mL).
_MOST_OUTSIDE_ML = 0.1
#: Relative difference of spacings that counts as none: 0.05 mL on the largest tissue.
_SAME_SPACING = 2e-5
#: Relative difference of voxel edges from which sampling one point per voxel is not enough.
_SAME_EDGE = 0.01


@dataclass(frozen=True)
class Placed:
    """Maps on the grid of a cohort.

    Args:
        shares: (3, X, Y, Z) float32 WM, GM and CSF.
        how: ``exact``, ``cropped``, ``resampled`` or ``aligned``.
        volume_change_ml: (3,) what placing changed in each tissue (mL).
        alignment: JSON-ready rotation, shift, scale and overlap, if aligned.
    """

    shares: torch.Tensor
    how: str
    volume_change_ml: tuple[float, float, float]
    alignment: dict = field(default_factory=dict)


def place(maps: SubjectMaps, grid: Grid, *, align: bool = True) -> Placed:
    """Put maps onto a grid.

    Args:
        maps: One participant's tissues.
        grid: The voxels wanted. A grid in native space is never rotated to.
        align: Rotate and shift to the template. Maps whose .json says that they already lie on
            this grid of the template are taken as they are.

    Raises:
        MapError: if more than 0.1 mL of tissue lies outside the grid's box.
    """
    rotate = align and grid.space == "template"
    factor = _refines(maps, grid)
    if factor and (not rotate or lies_on(maps.sidecar, grid)):
        return _exact(maps, grid, factor)
    if rotate:
        return _aligned(maps, grid)
    factors = np.rint(np.array(grid.spacing_mm) / spacing_mm(maps.affine))
    error = np.abs(factors * spacing_mm(maps.affine) / grid.spacing_mm - 1)
    if factors.min() >= 1 and error.max() < _SAME_SPACING:
        return _cropped(maps, grid, tuple(int(f) for f in factors))
    return _resampled(maps, grid)


def lies_on(sidecar: Mapping, grid: Grid) -> bool:
    """Tell whether the .json beside a map states that it lies in this grid's box and space."""
    try:
        stated = Grid(**sidecar["Grid"])
    except (KeyError, TypeError, ConfigError):
        return False
    return (stated.space, stated.center_mm, stated.extent_mm) == (
        grid.space,
        grid.center_mm,
        grid.extent_mm,
    )


def _refines(maps: SubjectMaps, grid: Grid) -> int:
    """Return k if the image has exactly the grid's box with voxels k times as short, else 0."""
    factor = round(maps.field_shape[0] / grid.shape[0])
    if factor < 1 or tuple(n * factor for n in grid.shape) != tuple(maps.field_shape):
        return 0
    same = np.allclose(maps.field_affine, grid.refined(factor).affine, rtol=0, atol=1e-3)
    return factor if same else 0


def _exact(maps: SubjectMaps, grid: Grid, factor: int) -> Placed:
    to_field = np.linalg.inv(maps.field_affine) @ maps.affine
    start = -np.rint(to_field[:3, 3]).astype(int)
    return _pooled(maps, grid, (factor,) * 3, start, "exact")


def _cropped(maps: SubjectMaps, grid: Grid, factors: tuple[int, int, int]) -> Placed:
    size = np.array(grid.shape) * factors
    start = np.rint(center_of_mass(maps) - (size - 1) / 2).astype(int)
    return _pooled(maps, grid, factors, start, "cropped")


def _pooled(
    maps: SubjectMaps, grid: Grid, factors: tuple[int, int, int], start: np.ndarray, how: str
) -> Placed:
    """Cut the box that begins at voxel ``start`` of the maps out of them, and average."""
    size = np.array(grid.shape) * factors
    box = np.zeros((len(maps.tissues), *size), np.float32)
    have = np.array(maps.tissues.shape[1:])
    first, last = np.maximum(start, 0), np.minimum(start + size, have)
    if (first < last).all():
        source = tuple(itertools.starmap(slice, zip(first, last, strict=True)))
        target = tuple(itertools.starmap(slice, zip(first - start, last - start, strict=True)))
        box[:, *target] = maps.tissues[:, *source]
    change = box.sum(axis=(1, 2, 3), dtype=np.float64) * maps.voxel_ml - maps.volumes_ml
    _require_inside(-float(change.sum()), grid)
    shares = F.avg_pool3d(torch.from_numpy(box)[None], factors)[0]
    return Placed(shares, how, tuple(float(c) for c in change))


def _resampled(maps: SubjectMaps, grid: Grid) -> Placed:
    # The image keeps its own axes, oblique or not: it is given other voxels, not turned.
    to_world = np.eye(4)
    to_world[:3, :3] = maps.affine[:3, :3] / spacing_mm(maps.affine)
    to_world[:3, 3] = center_of_mass_mm(maps) - to_world[:3, :3] @ np.array(grid.center_mm)
    return _through(maps, grid, to_world, "resampled", {})


def _aligned(maps: SubjectMaps, grid: Grid) -> Placed:
    rigid = fit_rigid(maps)
    alignment = {
        "rotation_deg": [round(float(a), 3) for a in rigid.angles_deg],
        "shift_mm": [round(float(s), 3) for s in rigid.shift_mm],
        "scale": round(rigid.scale, 4),
        "overlap": round(rigid.overlap, 4),
    }
    return _through(maps, grid, rigid.matrix, "aligned", alignment)


def _through(
    maps: SubjectMaps, grid: Grid, to_world: np.ndarray, how: str, alignment: dict
) -> Placed:
    """Sample at the grid's fine voxels, sent to the participant's space by ``to_world``."""
    factor = max(1, round(max(grid.spacing_mm)))
    fine = grid.refined(factor)
    to_index = np.linalg.inv(maps.affine) @ to_world
    _require_inside(_outside_ml(maps, np.linalg.inv(to_index), grid), grid)
    other = np.abs(spacing_mm(maps.affine) / fine.spacing_mm - 1).max() > _SAME_EDGE
    shares, sums = resample(torch.from_numpy(maps.tissues), to_index, fine, grid, twice=bool(other))
    change = sums * fine.voxel_ml - maps.volumes_ml
    return Placed(shares, how, tuple(float(c) for c in change), alignment)


def _outside_ml(maps: SubjectMaps, to_grid: np.ndarray, grid: Grid) -> float:
    """Volume (mL) of tissue whose voxel centers lie outside the grid's box."""
    total = maps.tissues.sum(axis=0)
    index = np.argwhere(total > 0)
    positions = index @ to_grid[:3, :3].T + to_grid[:3, 3]
    reach = np.array(grid.extent_mm) / 2
    outside = (np.abs(positions - grid.center_mm) > reach).any(axis=1)
    return float(total[tuple(index[outside].T)].sum(dtype=np.float64) * maps.voxel_ml)


def _require_inside(outside_ml: float, grid: Grid) -> None:
    if outside_ml <= _MOST_OUTSIDE_ML:
        return
    extent = " x ".join(f"{e:g}" for e in grid.extent_mm)
    raise MapError(
        f"{outside_ml:.1f} mL of tissue lie outside the {extent} mm box of grid '{grid.name}'",
        "Check the segmentation for tissue far from the brain (label clean-up removes it from "
        "label maps), or choose a larger grid.",
    )
