"""Rigid alignment of tissue maps to the MNI152 template.

Headers of segmentations are not to be trusted: pitch differs by tens of degrees between
scanners and tools. Rotation, shift and size are therefore fitted on smoothed 4 mm maps, from
the center of mass; rotation and shift are applied, size is not, so that volumes stay.
"""

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from torch import Tensor

from csegsynth_kit.constants import MEASURED, TEMPLATE_CENTER_MM
from csegsynth_kit.data.nifti import spacing_mm
from csegsynth_kit.data.readers.base import SubjectMaps
from csegsynth_kit.data.template import template_maps
from csegsynth_kit.maps import GRIDS, Grid

_FIT_GRID = GRIDS["small"]
_FIT_MM = 4.0
#: (steps, take every n-th point): most of the way is found on a few of the points.
_SCHEDULE = ((90, 7), (20, 1))
_LEARNING_RATE = 0.02
#: One unit of the fitted shift (mm), so that one learning rate suits angles and shift.
_SHIFT_UNIT_MM = 50.0
#: Overlap with the template below which other starting poses are tried.
_GOOD_OVERLAP = 0.75
#: Rotation from which the fit is repeated from where it ended.
_FAR_RAD = 0.8
#: Starting poses (degrees about x, y, z) for heads whose header is wrong.
_OTHER_STARTS = (
    *((180, 0, 0), (0, 180, 0), (0, 0, 180)),
    *((90, 0, 0), (-90, 0, 0), (0, 0, 90), (0, 0, -90), (0, 90, 0), (0, -90, 0)),
    *((50, 0, 0), (-50, 0, 0)),
)


@dataclass(frozen=True)
class Rigid:
    """A rotation and shift from the template's space to a participant's.

    A template point p (mm) lies at ``rotation @ (p - TEMPLATE_CENTER_MM) + center_mm``.

    Args:
        rotation: (3, 3) rotation.
        center_mm: (3,) the participant's position of the template's center of mass (mm).
        shift_mm: (3,) that position relative to the participant's own center of mass (mm).
        scale: Size of this head relative to the template; fitted, never applied.
        overlap: Dice overlap of smoothed WM and GM with the template after the fit, size
            included; 0 to 1.
    """

    rotation: np.ndarray
    center_mm: np.ndarray
    shift_mm: np.ndarray
    scale: float
    overlap: float

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4) from template positions to the participant's (mm)."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation
        matrix[:3, 3] = self.center_mm - self.rotation @ np.array(TEMPLATE_CENTER_MM)
        return matrix

    @property
    def angles_deg(self) -> np.ndarray:
        """(3,) rotation about the x, y and z axes (degrees): pitch, roll, yaw."""
        return Rotation.from_matrix(self.rotation).as_euler("xyz", degrees=True)


def center_of_mass_mm(maps: SubjectMaps) -> np.ndarray:
    """(3,) world position (mm) of the center of mass of white and gray matter."""
    return maps.affine[:3, :3] @ center_of_mass(maps) + maps.affine[:3, 3]


def center_of_mass(maps: SubjectMaps) -> np.ndarray:
    """(3,) voxel index of the center of mass of white and gray matter."""
    brain = maps.tissues[MEASURED.index("WM")] + maps.tissues[MEASURED.index("GM")]
    sums = [brain.sum(axis=others, dtype=np.float64) for others in ((1, 2), (0, 2), (0, 1))]
    return np.array([(s @ np.arange(len(s))) / s.sum() for s in sums])


def fit_rigid(maps: SubjectMaps) -> Rigid:
    """Fit rotation, shift and size to the template (about 2 s on two cores).

    If the header's axes turn out to be far off, other starting poses are tried and the best
    fit is kept.

    Args:
        maps: One participant's tissues.
    """
    moving, to_index = _coarse(maps)
    center = torch.tensor(center_of_mass_mm(maps), dtype=torch.float32)
    # CSF takes part only where it means what the template calls CSF.
    channels = 2 if maps.csf_definition == "ventricular" else 3
    best = _fit(moving, to_index, center, torch.zeros(3), channels)
    if best.overlap < _GOOD_OVERLAP:
        for start in _OTHER_STARTS:
            start_rad = torch.deg2rad(torch.tensor(start, dtype=torch.float32))
            other = _fit(moving, to_index, center, start_rad, channels)
            best = max(best, other, key=lambda rigid: rigid.overlap)
            if best.overlap >= _GOOD_OVERLAP:
                break
    turned = Rotation.from_matrix(best.rotation)
    if turned.magnitude() > _FAR_RAD:  # So long a way leaves no steps for the last degrees.
        again = torch.from_numpy(turned.as_rotvec()).float()
        best = max(best, _fit(moving, to_index, center, again, channels), key=lambda r: r.overlap)
    return best


def _fit(moving: Tensor, to_index: Tensor, center: Tensor, start: Tensor, channels: int) -> Rigid:
    points, target = _template_points()
    middle = torch.tensor(TEMPLATE_CENTER_MM)
    rotation_vector = start.clone().requires_grad_()
    shift = torch.zeros(3, requires_grad=True)
    log_scale = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.Adam([rotation_vector, shift, log_scale], lr=_LEARNING_RATE)

    def warped(every: int) -> Tensor:
        rotation = torch.linalg.matrix_exp(_cross_matrix(rotation_vector))
        world = (points[::every] - middle) @ (rotation.T * log_scale.exp())
        world = world + center + shift * _SHIFT_UNIT_MM
        return _sample(moving, world @ to_index[:3, :3].T + to_index[:3, 3])

    with torch.enable_grad():
        for every in (every for steps, every in _SCHEDULE for _ in range(steps)):
            optimizer.zero_grad()
            loss = (warped(every)[:channels] - target[:channels, ::every]).square().mean()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        final = warped(1)[:2]
        overlap = 2 * torch.minimum(final, target[:2]).sum() / (final.sum() + target[:2].sum())
        rotation = torch.linalg.matrix_exp(_cross_matrix(rotation_vector.double()))
        shift_mm = (shift * _SHIFT_UNIT_MM).double().numpy()
    return Rigid(
        rotation.numpy(),
        center.double().numpy() + shift_mm,
        shift_mm,
        float(log_scale.detach().exp()),
        float(overlap),
    )


def _coarse(maps: SubjectMaps) -> tuple[Tensor, Tensor]:
    """Pool to about 4 mm and smooth.

    Returns:
        (3, X, Y, Z) float32 maps, and the (4, 4) matrix from world positions to their indices.
    """
    pooled, affine = pool_to(maps.tissues, maps.affine, _FIT_MM)
    sigma = _FIT_MM / spacing_mm(affine)
    # Room for the smoothed edge, or it would be cut off at the border of the crop.
    pooled = np.pad(pooled, [(0, 0), *[(2, 2)] * 3])
    affine = affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, 2.0)
    smooth = gaussian_filter(pooled, (0, *sigma), mode="constant")
    return torch.from_numpy(smooth), torch.from_numpy(np.linalg.inv(affine)).float()


def pool_to(tissues: np.ndarray, affine: np.ndarray, edge_mm: float):
    """Average (T, X, Y, Z) maps to voxels of about ``edge_mm``; finer maps stay as they are.

    Returns:
        The pooled maps, and their (4, 4) affine.
    """
    factors = [max(1, round(edge_mm / s)) for s in spacing_mm(affine)]
    padding = [(0, (-n) % f) for n, f in zip(tissues.shape[1:], factors, strict=True)]
    padded = torch.from_numpy(np.pad(tissues, [(0, 0), *padding]))
    pooled_affine = affine @ np.diag([*factors, 1.0])
    pooled_affine[:3, 3] += affine[:3, :3] @ [(f - 1) / 2 for f in factors]
    return F.avg_pool3d(padded[None], factors)[0].numpy(), pooled_affine


@cache
def _template_points() -> tuple[Tensor, Tensor]:
    """Positions (P, 3) in mm near the template's brain, and its (3, P) smoothed maps there."""
    maps, affine = template_maps()
    fine = _FIT_GRID.refined(round(_FIT_GRID.spacing_mm[0]))
    pooled = resample(torch.from_numpy(maps.copy()), np.linalg.inv(affine), fine, _FIT_GRID)[0]
    smooth = gaussian_filter(pooled.numpy(), (0, 1, 1, 1), mode="constant")
    smooth = torch.from_numpy(smooth)
    near = F.max_pool3d(smooth.sum(0)[None, None], 5, stride=1, padding=2)[0, 0] > 0.02
    grids = [torch.arange(n, dtype=torch.float32) for n in _FIT_GRID.shape]
    index = torch.stack(torch.meshgrid(*grids, indexing="ij"), dim=-1)
    to_world = torch.from_numpy(_FIT_GRID.affine).float()
    points = index[near] @ to_world[:3, :3].T + to_world[:3, 3]
    return points, smooth[:, near]


def resample(
    maps: Tensor, to_index: np.ndarray, fine: Grid, grid: Grid, *, twice: bool = False
) -> tuple[Tensor, np.ndarray]:
    """Sample maps linearly at the voxels of ``fine`` and average them onto ``grid``.

    Works slab by slab, so that the fine maps never exist as a whole.

    Args:
        maps: (T, X, Y, Z) float32; 0 outside.
        to_index: (4, 4) from positions of ``fine`` (mm) to indices of ``maps``.
        fine: ``grid`` refined by an integer.
        grid: The voxels wanted.
        twice: Take two points per fine voxel. Where ``maps`` has other voxels than ``fine``,
            one point leaves up to 0.3 mL of aliasing in a volume, two leave less than 0.1 mL.

    Returns:
        (T, *grid.shape) float32, and the (T,) sums over the voxels of ``fine`` in float64.
    """
    factor = fine.shape[0] // grid.shape[0]
    offsets = (-0.25, 0.25) if twice else (0.0,)
    matrix = torch.from_numpy(to_index @ fine.affine)
    low, high = _reached(tuple(maps.shape[1:]), to_index, grid)
    steps = [
        torch.arange(i * factor, j * factor, dtype=torch.float64)[:, None] * matrix[:3, axis]
        for axis, (i, j) in enumerate(zip(low, high, strict=True))
    ]
    plane = steps[1][:, None] + steps[2][None, :] + matrix[:3, 3]
    diagonal = matrix[:3, :3].sum(dim=1)
    pooled = torch.zeros(len(maps), *grid.shape)
    inside = pooled[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    sums = np.zeros(len(maps))
    planes = max(1, 16 // factor)
    for start in range(0, inside.shape[1], planes):
        x = steps[0][start * factor : (start + planes) * factor]
        index = plane + x[:, None, None]
        for offset in offsets:
            moved = (index + offset * diagonal).float()
            slab = _sample(maps, moved.view(-1, 3)).view(len(maps), *moved.shape[:3])
            inside[:, start : start + planes] += F.avg_pool3d(slab[None], factor)[0] / len(offsets)
            sums += slab.sum(dim=(1, 2, 3), dtype=torch.float64).numpy() / len(offsets)
    return pooled, sums


def _reached(shape: tuple[int, ...], to_index: np.ndarray, grid: Grid) -> tuple[list, list]:
    """Return the first and one past the last voxel of ``grid`` that maps of a shape touch."""
    corners = np.array(list(itertools.product(*((-1, n) for n in shape))), dtype=float)
    to_grid = np.linalg.inv(to_index @ grid.affine)
    touched = corners @ to_grid[:3, :3].T + to_grid[:3, 3]
    low = np.clip(np.floor(touched.min(axis=0) + 0.5), 0, grid.shape).astype(int)
    high = np.clip(np.ceil(touched.max(axis=0) - 0.5) + 1, 0, grid.shape).astype(int)
    return low.tolist(), np.maximum(low, high).tolist()


def _sample(maps: Tensor, index: Tensor) -> Tensor:
    """Interpolate (T, X, Y, Z) maps at (P, 3) voxel indices; 0 outside. Returns (T, P)."""
    size = torch.tensor(maps.shape[1:], dtype=index.dtype)
    # grid_sample wants positions in [-1, 1], the last axis first.
    positions = ((2 * index + 1) / size - 1).flip(-1)[None, None, None]
    return F.grid_sample(maps[None], positions, align_corners=False)[0, :, 0, 0]


def _cross_matrix(vector: Tensor) -> Tensor:
    """(3, 3) matrix whose exponential is the rotation about ``vector`` by its length."""
    x, y, z = vector.unbind()
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)
