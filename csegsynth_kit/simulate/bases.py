"""Base anatomies: what the simulated heads are bent from.

A base is an average or a real head, split into background, white matter, gray matter, sulcal
CSF (everything outside the lateral ventricles) and CSF of the lateral ventricles, as logits on
a grid, with the flow along which its lateral ventricles grow.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from nilearn.datasets import load_mni152_brain_mask
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter, label
from torch import Tensor

from csegsynth_kit.data.template import ellipsoid, template_maps, world_coordinates
from csegsynth_kit.errors import MapError
from csegsynth_kit.maps import Grid, average_pool

#: Axis of every five-class tensor of this wing.
CLASSES = ("background", "WM", "GM", "sulcal CSF", "ventricular CSF")
BACKGROUND, SULCAL, VENTRICULAR = 0, 3, 4

#: Exponent that makes the average of 152 people look like one person.
_GAMMA_AVERAGE = 2.6
_GAMMA_REAL = 1.0
#: Share added before the logarithm, so that any tissue can appear anywhere at a price.
_FLOOR = 1e-4
#: The template's rim of CSF is about one voxel wide; the head ends this far outside its mask,
#: over this width (mm), and certainly beyond the last distance.
_RIM_MM, _RIM_WIDTH_MM, _CERTAIN_MM = 1.5, 0.7, 9.0
_CERTAIN_LOGIT = 30.0
#: Half edge (mm) of the cube that closes furrows of the brain mask.
_CLOSING_MM = 4

#: Lateral ventricles: CSF this deep inside the head, connected to one of these MNI points (mm).
_DEPTH_MM, _VENTRICLE_SHARE, _DILATION_MM = 12.0, 0.5, 2.0
_VENTRICLE_SEEDS_MM = ((8.0, 10.0, 10.0), (-8.0, 10.0, 10.0))

#: Where texture is damped because there are no gyri: (center mm, semi-axes mm).
_DEEP = (((0, -20, 2), (30, 38, 26)), ((0, -27, -35), (26, 20, 32)))
_DEEP_TEXTURE, _DEEP_SMOOTHING_MM = 0.15, 3.0

#: Part of the template's 1 mm grid that holds the head and 10 mm around it: voxels cut off
#: (positive) or added (negative) at the lower and upper end of every axis.
_TEMPLATE_CROP = ((12, 13), (12, 9), (-16, 17))
#: Spacing (mm) of the grid of velocities.
FLOW_SPACING_MM = 4.0


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


@cache
def template_base(spacing_mm: float) -> Base:
    """Return the base made of the MNI152 average, at 2 or 4 mm; a few seconds the first time."""
    shares, deep, distance, grid = _template_at_2mm()
    factor = round(spacing_mm / grid.spacing_mm[0])
    if factor > 1:
        grid = grid.pooled(factor, "template")
        shares, deep, distance = (
            average_pool(x[None], factor)[0] for x in (shares, deep, distance)
        )
    logits = _GAMMA_AVERAGE * torch.log(shares + _FLOOR)
    logits[BACKGROUND] += _CERTAIN_LOGIT * (distance[0] > _CERTAIN_MM)
    return _base("template", grid, shares, logits, deep)


@cache
def _template_at_2mm() -> tuple[Tensor, Tensor, Tensor, Grid]:
    """Return (5, X, Y, Z) shares, (1, X, Y, Z) deepness and distance to the head (mm)."""
    maps, affine = template_maps()
    mask = np.asarray(load_mni152_brain_mask(resolution=1).dataobj).astype(bool)
    wm, gm, mask = (_cropped(x) for x in (maps[0], maps[1], mask))
    origin = affine[:3, 3] + [low for low, _ in _TEMPLATE_CROP]
    grid = Grid(
        "template",
        mask.shape,
        (1.0, 1.0, 1.0),
        tuple((origin + (np.array(mask.shape) - 1) / 2).tolist()),
    )

    head = _closed(mask)
    depth = distance_transform_edt(head)
    distance = np.where(head, -depth, distance_transform_edt(~head)).astype(np.float32)
    background = 1 / (1 + np.exp(-(distance - _RIM_MM) / _RIM_WIDTH_MM))
    rest = np.clip(1 - wm - gm, 0, 1)
    ventricles = _ventricles(np.where(mask, rest, 0), depth, grid)
    shares = np.stack([wm, gm, rest * ~ventricles, rest * ventricles])
    shares = np.concatenate([background[None], (1 - background) * shares / shares.sum(0)])
    fine = torch.from_numpy(np.stack([*shares, _deepness(grid), distance]).astype(np.float32))
    pooled = average_pool(fine[None], 2)[0]
    return pooled[:5], pooled[5:6], pooled[6:7], grid.pooled(2, "template")


def _cropped(volume: np.ndarray) -> np.ndarray:
    for axis, (low, high) in enumerate(_TEMPLATE_CROP):
        stop = volume.shape[axis] - high
        volume = np.take(volume, np.arange(max(low, 0), stop), axis)
        padding = [(0, 0)] * 3
        padding[axis] = (max(-low, 0), 0)
        volume = np.pad(volume, padding)
    return volume


def _closed(mask: np.ndarray) -> np.ndarray:
    """Fill furrows: dilate, then erode, by a cube."""
    x = torch.from_numpy(mask.astype(np.float32))[None, None]
    size = 2 * _CLOSING_MM + 1
    for sign in (1, -1):
        for axis in range(3):
            kernel, padding = [1, 1, 1], [0, 0, 0]
            kernel[axis], padding[axis] = size, _CLOSING_MM
            x = sign * F.max_pool3d(sign * x, kernel, stride=1, padding=padding)
    return x[0, 0].numpy() > 0.5


def _deepness(grid: Grid) -> np.ndarray:
    """Soft mask of deep nuclei, brainstem and cerebellar core."""
    coordinates = world_coordinates(grid.shape, grid.affine)
    inside = np.zeros(grid.shape, dtype=bool)
    for center, semi_axes in _DEEP:
        inside |= ellipsoid(coordinates, center, semi_axes)
    return gaussian_filter(
        inside.astype(np.float32), _DEEP_SMOOTHING_MM / np.array(grid.spacing_mm)
    )


def _ventricles(csf: np.ndarray, depth: np.ndarray, grid: Grid) -> np.ndarray:
    """Find the lateral ventricles.

    Args:
        csf: (X, Y, Z) share of CSF.
        depth: (X, Y, Z) distance to the surface of the head (mm).
        grid: Their voxels.

    Returns:
        (X, Y, Z) bool, a little larger than the ventricles.
    """
    components, _ = label((csf > _VENTRICLE_SHARE) & (depth > _DEPTH_MM))
    coordinates = world_coordinates(grid.shape, grid.affine)
    found = set()
    for seed in _VENTRICLE_SEEDS_MM:
        squared = sum((x - c) ** 2 for x, c in zip(coordinates, seed, strict=True))
        nearest = np.argmin(np.where(components > 0, squared, np.inf))
        found.add(int(components.flat[nearest]))
    if 0 in found:
        raise MapError(
            f"'{grid.name}' has no CSF deep inside the head", "Give a map with lateral ventricles."
        )
    steps = max(1, round(_DILATION_MM / grid.spacing_mm[0]))
    return binary_dilation(np.isin(components, list(found)), iterations=steps)


def _base(name: str, grid: Grid, shares: Tensor, logits: Tensor, deep: Tensor) -> Base:
    factor = round(FLOW_SPACING_MM / grid.spacing_mm[0])
    coarse, flow_grid = shares, grid
    if factor > 1:
        coarse, flow_grid = average_pool(shares[None], factor)[0], grid.pooled(factor)
    return Base(
        name,
        grid,
        logits.contiguous(),
        1 - (1 - _DEEP_TEXTURE) * deep,
        flow_grid,
        _ventricle_flow(coarse[VENTRICULAR], coarse[SULCAL], flow_grid.spacing_mm[0]),
        torch.softmax(logits, 0)[1:].sum((1, 2, 3), dtype=torch.float64).numpy() * grid.voxel_ml,
    )


def _ventricle_flow(source: Tensor, sink: Tensor, spacing_mm: float) -> Tensor:
    """Velocity that lets the ventricles grow by their own volume in one unit of time.

    The gradient of the Poisson solution with a unit source in the ventricles and a sink of
    equal strength in sulcal CSF: what lies between is pushed outward, not eaten.

    Args:
        source: (x, y, z) share of ventricles.
        sink: (x, y, z) share of sulcal CSF.
        spacing_mm: Edge length of a voxel.

    Returns:
        (3, x, y, z) float32 mm per unit of time.
    """
    divergence = source.double() - sink.double() * (source.double().sum() / sink.double().sum())
    k = torch.meshgrid(
        *(
            2 * torch.pi * torch.fft.fftfreq(n, spacing_mm, dtype=torch.float64)
            for n in source.shape
        ),
        indexing="ij",
    )
    squared = sum(component**2 for component in k)
    squared[0, 0, 0] = 1.0
    potential = -torch.fft.fftn(divergence) / squared
    potential[0, 0, 0] = 0.0
    return torch.stack([torch.fft.ifftn(1j * c * potential).real for c in k]).float()
