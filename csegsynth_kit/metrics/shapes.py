"""Geometry of soft tissue maps, on voxels of any edge lengths: pure tensor functions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from csegsynth_kit.maps import Grid


def surface_area_mm2(shares: Tensor, *, spacing_mm: Sequence[float]) -> Tensor:
    """Area of the surface of soft maps: the integral of the length of their gradient.

    By the coarea formula it is the area where the share passes a threshold, averaged over all
    thresholds, so it sees parts of voxels. The gradient is taken between voxel centers, in cells
    of 2 x 2 x 2; outside of the grid the share is 0.

    Args:
        shares: (..., X, Y, Z) shares of the voxel.
        spacing_mm: Edge lengths of a voxel (mm).

    Returns:
        (...) areas (mm^2).
    """
    padded = F.pad(shares, (1, 1, 1, 1, 1, 1))
    squared = torch.zeros(1, dtype=shares.dtype)
    for axis, step in zip((-3, -2, -1), spacing_mm, strict=True):
        change = padded.diff(dim=axis) / step
        for other in {-3, -2, -1} - {axis}:
            n = change.shape[other] - 1
            change = (change.narrow(other, 0, n) + change.narrow(other, 1, n)) / 2
        squared = squared + change**2
    volume = float(torch.tensor(list(spacing_mm), dtype=torch.float64).prod())
    return squared.sqrt().sum((-3, -2, -1)) * volume


def interface_area_mm2(a: Tensor, b: Tensor, *, spacing_mm: Sequence[float]) -> Tensor:
    """Area where two tissues touch: half of (area of a + area of b - area of both together).

    Args:
        a: (..., X, Y, Z) shares of one tissue.
        b: (..., X, Y, Z) shares of the other.
        spacing_mm: Edge lengths of a voxel (mm).

    Returns:
        (...) areas (mm^2).
    """
    areas = [surface_area_mm2(shares, spacing_mm=spacing_mm) for shares in (a, b, a + b)]
    return (areas[0] + areas[1] - areas[2]) / 2


def euler_number(inside: Tensor) -> Tensor:
    """Euler number of closed voxels: components - tunnels + cavities, 26-connected.

    Counted as vertices - edges + faces - cubes of the cubical complex.

    Args:
        inside: (..., X, Y, Z) booleans.

    Returns:
        (...) float32 whole numbers.
    """
    cells = [(3, F.pad(inside, (1, 1, 1, 1, 1, 1)))]
    for axis in (-3, -2, -1):
        # Between two voxels lies a cell of one dimension less, which either of them brings along.
        n = cells[0][1].shape[axis] - 1
        cells += [(d - 1, c.narrow(axis, 0, n) | c.narrow(axis, 1, n)) for d, c in cells]
    counts = [(-1) ** d * c.sum((-3, -2, -1), dtype=torch.int32) for d, c in cells]
    return torch.stack(counts).sum(0).float()


def centroids_mm(shares: Tensor, grid: Grid) -> Tensor:
    """Center of mass of soft maps, from the center of the grid.

    Args:
        shares: (..., X, Y, Z) shares of the voxel.
        grid: Their voxels.

    Returns:
        (..., 3) positions (mm); 0 for an empty map.
    """
    mass = shares.sum((-3, -2, -1)).clamp(min=1e-6)
    profiles = [shares.sum([a for a in (-3, -2, -1) if a != axis]) for axis in (-3, -2, -1)]
    moments = [p @ c for p, c in zip(profiles, _positions(grid, shares.dtype), strict=True)]
    return torch.stack(moments, -1) / mass[..., None]


def second_moments_mm2(shares: Tensor, grid: Grid) -> Tensor:
    """Covariances of position within soft maps: xx, yy, zz, xy, xz, yz.

    Args:
        shares: (..., X, Y, Z) shares of the voxel.
        grid: Their voxels.

    Returns:
        (..., 6) covariances (mm^2).
    """
    mass = shares.sum((-3, -2, -1)).clamp(min=1e-6)
    center = centroids_mm(shares, grid)
    positions = _positions(grid, shares.dtype)
    moments = []
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        plane = shares.sum([a - 3 for a in range(3) if a not in (i, j)])
        inner = plane * positions[i] if i == j else plane @ positions[j]
        product = inner @ positions[i]
        moments.append(product / mass - center[..., i] * center[..., j])
    return torch.stack(moments, -1)


def cell_volumes_ml(shares: Tensor, edges: Sequence[Tensor], *, voxel_ml: float) -> Tensor:
    """Volume inside the cells of a rectangular partition; voxels are cut where cells cut them.

    Args:
        shares: (..., X, Y, Z) shares of the voxel.
        edges: For each axis, (A + 1,) increasing cell edges (voxels, 0 at the grid's border).
        voxel_ml: Volume of a voxel (mL).

    Returns:
        (..., A, B, C) volumes (mL).
    """
    weights = [
        _overlap(edge, n).to(shares.dtype) for edge, n in zip(edges, shares.shape[-3:], strict=True)
    ]
    return torch.einsum("...xyz,ax,by,cz->...abc", shares, *weights) * voxel_ml


def _overlap(edges: Tensor, n: int) -> Tensor:
    """Return (A, n) shares of each of ``n`` unit voxels inside each cell."""
    starts = torch.arange(n, dtype=torch.float64)
    low, high = edges[:-1, None].double(), edges[1:, None].double()
    return (torch.minimum(high, starts + 1) - torch.maximum(low, starts)).clamp(min=0)


def _positions(grid: Grid, dtype: torch.dtype) -> list[Tensor]:
    """Return voxel centers along each axis (mm), 0 at the center of the grid."""
    return [
        ((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * s).to(dtype)
        for n, s in zip(grid.shape, grid.spacing_mm, strict=True)
    ]
