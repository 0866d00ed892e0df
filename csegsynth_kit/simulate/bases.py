"""What the simulated heads are bent from.

A base is an average or a real head, split into background, white matter, gray matter, sulcal
CSF (everything outside the lateral ventricles) and CSF of the lateral ventricles, as logits on
a grid, with the flow along which its lateral ventricles grow.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import (
    binary_erosion,
    distance_transform_edt,
    gaussian_filter,
    maximum_filter1d,
    minimum_filter1d,
)
from torch import Tensor

from csegsynth_kit.data.template import ellipsoid, world_coordinates
from csegsynth_kit.maps import Grid, average_pool
from csegsynth_kit.simulate.fields import growth_flow

#: Axis of every five-class tensor of this wing.
CLASSES = ("background", "WM", "GM", "sulcal CSF", "ventricular CSF")
BACKGROUND, SULCAL, VENTRICULAR = 0, 3, 4
#: Spacing (mm) of the grid of velocities.
FLOW_SPACING_MM = 4.0
#: Share added before the logarithm, so that any tissue can appear anywhere at a price.
_FLOOR = 1e-4
#: Added to the logit of the background where nothing of the head can be.
_CERTAIN_LOGIT = 30.0
#: Where texture is damped because there are no gyri: (center mm, semi-axes mm).
_DEEP = (((0, -20, 2), (30, 38, 26)), ((0, -27, -35), (26, 20, 32)))
_DEEP_TEXTURE, _DEEP_SMOOTHING_MM = 0.15, 3.0


@dataclass(frozen=True)
class Base:
    """One base anatomy.

    Args:
        name: ``template`` or a participant's id.
        grid: Voxels of ``logits`` and ``texture``.
        logits: (5, X, Y, Z) float32, in the order of CLASSES.
        texture: (1, X, Y, Z) float32 factor of the texture, lower in deep nuclei.
        flow_grid: Voxels of ``flow``.
        flow: (3, x, y, z) float32 displacement (mm) per unit growth of the lateral ventricles.
        volumes_ml: (4,) volumes of WM, GM, sulcal CSF and lateral ventricles (mL).
    """

    name: str
    grid: Grid
    logits: Tensor
    texture: Tensor
    flow_grid: Grid
    flow: Tensor
    volumes_ml: np.ndarray

    @property
    def icv_ml(self) -> float:
        """Volume of the head (mL)."""
        return float(self.volumes_ml.sum())


def make_base(
    name: str,
    grid: Grid,
    shares: Tensor,
    *,
    outside: Tensor,
    gamma: float,
    texture: float,
) -> Base:
    """Make a base of shares.

    Args:
        name: ``template`` or a participant's id.
        grid: Voxels of ``shares``, of 2 or 4 mm, aligned to the template.
        shares: (5, X, Y, Z) float32, summing to 1.
        outside: (X, Y, Z) bool, where nothing of the head can be.
        gamma: Exponent of the shares; above 1 it sharpens.
        texture: Factor of the texture.
    """
    logits = gamma * torch.log(shares + _FLOOR)
    logits[BACKGROUND] += _CERTAIN_LOGIT * outside
    factor = round(FLOW_SPACING_MM / grid.spacing_mm[0])
    coarse, flow_grid = shares, grid
    if factor > 1:
        coarse, flow_grid = average_pool(shares[None], factor)[0], grid.pooled(factor)
    final = torch.softmax(logits, 0)[1:]
    return Base(
        name,
        grid,
        logits,
        texture * torch.from_numpy(1 - (1 - _DEEP_TEXTURE) * _deepness(grid))[None],
        flow_grid,
        growth_flow(coarse[VENTRICULAR], coarse[SULCAL], flow_grid.spacing_mm[0]),
        final.sum((1, 2, 3), dtype=torch.float64).numpy() * grid.voxel_ml,
    )


def head_distance(mask: np.ndarray, grid: Grid, closing_mm: float) -> np.ndarray:
    """Distance to the surface of the head, whose furrows are filled first.

    Args:
        mask: (X, Y, Z) bool.
        grid: Its voxels.
        closing_mm: Half edge of the cube that closes the mask.

    Returns:
        (X, Y, Z) float32 mm, negative inside.
    """
    spacing = grid.spacing_mm[0]
    size = 2 * round(closing_mm / spacing) + 1
    head = mask.astype(np.uint8)
    for grow in (maximum_filter1d, minimum_filter1d):
        for axis in range(3):
            head = grow(head, size, axis, mode="constant", cval=grow is minimum_filter1d)
    head = head.astype(bool)
    surface = head & ~binary_erosion(head)
    # One transform for both sides: the distance to the outermost voxels of the head, which
    # are themselves one voxel from the outside.
    distance = distance_transform_edt(~surface).astype(np.float32)
    distance[head] = -1 - distance[head]
    return distance * np.float32(spacing)


def _deepness(grid: Grid) -> np.ndarray:
    """Soft mask (X, Y, Z) of deep nuclei, brainstem and cerebellar core."""
    coordinates = world_coordinates(grid.shape, grid.affine)
    inside = np.zeros(grid.shape, dtype=bool)
    for center, semi_axes in _DEEP:
        inside |= ellipsoid(coordinates, center, semi_axes)
    sigma = _DEEP_SMOOTHING_MM / np.array(grid.spacing_mm)
    return gaussian_filter(inside.astype(np.float32), sigma)
