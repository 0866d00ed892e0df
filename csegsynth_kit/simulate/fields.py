"""Fields on grids: interpolation, flows and smooth noise."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from csegsynth_kit.maps import Grid

_SQUARINGS = 6
_FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))


def sample(volume: Tensor, where: Tensor, grid: Grid) -> Tensor:
    """Interpolate trilinearly; beyond the box, the value at its border.

    Args:
        volume: (C, X, Y, Z) on ``grid``.
        where: (3, ...) positions (mm).
        grid: Voxels of ``volume``.

    Returns:
        (C, ...) values.
    """
    center = torch.tensor(grid.center_mm).view(3, *[1] * (where.ndim - 1))
    half = torch.tensor(grid.extent_mm).view_as(center) / 2
    # grid_sample wants the last axis of the volume first, as shares of half the box.
    points = ((where - center) / half).flip(0).flatten(1).T.view(1, 1, 1, -1, 3)
    values = F.grid_sample(volume[None], points, padding_mode="border", align_corners=False)
    return values.view(len(volume), *where.shape[1:])


def exponentiate(velocity: Tensor, grid: Grid) -> Tensor:
    """Follow a stationary velocity for one unit of time, by scaling and squaring.

    Args:
        velocity: (3, x, y, z) mm per unit of time.
        grid: Its voxels.

    Returns:
        (3, x, y, z) displacement (mm).
    """
    points = positions(grid)
    displacement = velocity / 2**_SQUARINGS
    for _ in range(_SQUARINGS):
        displacement = displacement + sample(displacement, points + displacement, grid)
    return displacement


def positions(grid: Grid) -> Tensor:
    """Return (3, X, Y, Z) world positions (mm) of the voxel centers."""
    axes = [
        torch.arange(n, dtype=torch.float32) * s + float(o)
        for n, s, o in zip(grid.shape, grid.spacing_mm, grid.affine[:3, 3], strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], fwhm: float) -> np.ndarray:
    """Draw periodic Gaussian noise of SD 1, smoothed over the last three axes.

    Args:
        rng: Its source.
        shape: (C, X, Y, Z).
        fwhm: Full width at half maximum of the kernel (voxels).

    Returns:
        (C, X, Y, Z) float32.
    """
    noise = rng.standard_normal(shape, dtype=np.float32)
    sigma = fwhm / _FWHM_PER_SIGMA
    for axis in (1, 2, 3):
        gaussian_filter1d(noise, sigma, axis, mode="wrap", truncate=3.0, output=noise)
    # Scaled by what smoothing does on average, not by this draw's own SD.
    reach = np.arange(-int(3 * sigma + 0.5), int(3 * sigma + 0.5) + 1)
    kernel = np.exp(-(reach**2) / (2 * sigma**2))
    return noise / float(np.sum((kernel / kernel.sum()) ** 2) ** 1.5)


def growth_flow(source: Tensor, sink: Tensor, spacing_mm: float) -> Tensor:
    """Velocity that lets a region grow by its own volume in one unit of time.

    The gradient of the Poisson solution with a unit source in the region and a sink of equal
    strength elsewhere: what lies between is pushed outward, not eaten.

    Args:
        source: (x, y, z) share of the region that grows.
        sink: (x, y, z) share of what gives way.
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
