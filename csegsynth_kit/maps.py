"""Pure tensor functions on segmentations, the grids they live on, and generated maps.

A map is a soft segmentation: at every voxel the share of white matter, gray matter,
CSF and background, in the order of :data:`csegsynth_kit.constants.TISSUES`. Because the
share is a partial volume, a tissue's volume is its sum times the volume of a voxel, and
average pooling keeps it exactly.
"""

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from csegsynth_kit.constants import MEASURED, TEMPLATE_CENTER_MM, TISSUES
from csegsynth_kit.errors import ConfigError

Triple = tuple[int, int, int]
TripleMm = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """A box of voxels with right-anterior-superior axes.

    Args:
        name: A short name, shown in reports.
        shape: Voxels along x (left to right), y (back to front) and z (bottom to top).
        spacing_mm: Edge lengths of a voxel (mm).
        center_mm: World position (mm) of the middle of the box.
        space: ``template`` if the maps are rigidly aligned to the MNI152 template,
            ``native`` if they are only centered on each brain's center of mass.
    """

    name: str
    shape: Triple
    spacing_mm: TripleMm
    center_mm: TripleMm = TEMPLATE_CENTER_MM
    space: Literal["template", "native"] = "template"

    def __post_init__(self):
        for field in ("shape", "spacing_mm", "center_mm"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if len(self.shape) != 3 or min(self.shape) < 1 or min(self.spacing_mm) <= 0:
            raise ConfigError(
                f"grid '{self.name}' has shape {self.shape} and spacing {self.spacing_mm} mm",
                "Give three positive sizes and three positive spacings.",
            )

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel (mL)."""
        return math.prod(self.spacing_mm) / 1000.0

    @property
    def extent_mm(self) -> TripleMm:
        """Edge lengths of the whole box (mm)."""
        return tuple(n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) matrix from voxel indices to world positions (mm)."""
        affine = np.diag([*self.spacing_mm, 1.0])
        affine[:3, 3] = [
            c - (e - s) / 2
            for c, e, s in zip(self.center_mm, self.extent_mm, self.spacing_mm, strict=True)
        ]
        return affine

    def pooled(self, factor: int, name: str | None = None) -> "Grid":
        """Return the same box with voxels ``factor`` times as long."""
        self.require_divisible_by(factor)
        return Grid(
            name or f"{self.name}/{factor}",
            tuple(n // factor for n in self.shape),
            tuple(s * factor for s in self.spacing_mm),
            self.center_mm,
            self.space,
        )

    def refined(self, factor: int, name: str | None = None) -> "Grid":
        """Return the same box with voxels ``factor`` times as short."""
        return Grid(
            name or f"{self.name}x{factor}",
            tuple(n * factor for n in self.shape),
            tuple(s / factor for s in self.spacing_mm),
            self.center_mm,
            self.space,
        )

    def require_divisible_by(self, factor: int) -> None:
        """Raise ConfigError unless every size is a multiple of ``factor``."""
        if any(n % factor for n in self.shape):
            fitting = tuple(max(factor, factor * round(n / factor)) for n in self.shape)
            raise ConfigError(
                f"grid '{self.name}' of shape {self.shape} is not divisible by {factor}",
                f"Choose sizes that are multiples of {factor}, for example {fitting}.",
            )

    def same_box(self, other: "Grid") -> bool:
        """Tell whether both grids have the same voxels, whatever their names."""
        return (self.shape, self.spacing_mm, self.center_mm, self.space) == (
            other.shape,
            other.spacing_mm,
            other.center_mm,
            other.space,
        )

    def to_dict(self) -> dict:
        """Return a JSON-ready description."""
        return asdict(self)


_CANVAS = Grid("1mm", (192, 224, 192), (1.0, 1.0, 1.0))
#: The named grids: one canvas at 2, 4 and 8 mm, and the published grid (native space, 2 mm).
GRIDS = {
    "full": _CANVAS.pooled(2, "full"),
    "small": _CANVAS.pooled(4, "small"),
    "tiny": _CANVAS.pooled(8, "tiny"),
    "paper": Grid("paper", (80, 128, 128), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), "native"),
}

#: Maps to compute at once, at least and at most: enough to keep two cores busy.
_AT_ONCE = (16, 64)
#: Voxels of the maps computed at once, beyond the least: little enough for 2 GB at 2 mm.
_VOXELS_AT_ONCE = 16 * 96 * 112 * 96


def at_once(grid: Grid) -> int:
    """How many maps of a grid to compute at a time, where there may be many."""
    least, most = _AT_ONCE
    return min(max(_VOXELS_AT_ONCE // math.prod(grid.shape), least), most)


def grid_named(name: str) -> Grid:
    """Return the grid of that name, or raise ConfigError that lists the names."""
    if name not in GRIDS:
        raise ConfigError(f"there is no grid '{name}'", f"Choose one of {', '.join(GRIDS)}.")
    return GRIDS[name]


def with_background(tissues: Tensor) -> Tensor:
    """Append the background so that the channels sum to 1 at every voxel.

    Args:
        tissues: (..., 3, X, Y, Z) WM, GM, CSF. Round-off outside [0, 1], or a sum slightly
            above 1, is mended by clamping and rescaling.

    Returns:
        (..., 4, X, Y, Z) on the probability simplex.
    """
    tissues = tissues.clamp(0, 1)
    total = tissues.sum(-4, keepdim=True)
    tissues = tissues / total.clamp(min=1)
    return torch.cat([tissues, (1 - total).clamp(min=0)], dim=-4)


def average_pool(maps: Tensor, factor: int) -> Tensor:
    """Average non-overlapping cubes; every tissue's volume stays exactly what it was.

    Args:
        maps: (N, T, X, Y, Z), sizes divisible by ``factor``.
        factor: Voxels along each edge of a cube.

    Returns:
        (N, T, X / factor, Y / factor, Z / factor).
    """
    if any(n % factor for n in maps.shape[-3:]):
        raise ConfigError(
            f"maps of shape {tuple(maps.shape[-3:])} are not divisible by {factor}",
            "Pad or crop them first.",
        )
    return F.avg_pool3d(maps, factor)


def volumes_ml(maps: Tensor, voxel_ml: float) -> Tensor:
    """Volume of every tissue.

    Args:
        maps: (..., T, X, Y, Z) shares of the voxel.
        voxel_ml: Volume of one voxel (mL).

    Returns:
        (..., T) volumes (mL), accumulated in float32 or better.
    """
    dtype = torch.float64 if maps.dtype == torch.float64 else torch.float32
    return maps.sum(dim=(-3, -2, -1), dtype=dtype) * voxel_ml


def most_likely(maps: Tensor) -> Tensor:
    """Return (..., X, Y, Z) indices of the largest share of (..., T, X, Y, Z); first of equals."""
    # Over the last axis it takes a fifth of the time.
    return maps.movedim(-4, -1).contiguous().argmax(-1)


def quantize(tissues: Tensor) -> Tensor:
    """Store shares in steps of 1/255 that, with background, sum to 255 at every voxel.

    Steps are rounded by largest remainder, so that no tissue gains or loses on average.

    Args:
        tissues: (..., 3, X, Y, Z) in [0, 1], summing to at most 1.

    Returns:
        The same shape, uint8. A voxel is off by less than 1/255.
    """
    exact = with_background(tissues) * 255
    steps = exact.floor()
    remainder = exact - steps
    missing = 255 - steps.sum(-4, keepdim=True)
    rank = remainder.argsort(dim=-4, descending=True).argsort(dim=-4)
    return (steps + (rank < missing))[..., :3, :, :, :].to(torch.uint8)


def dequantize(quantized: Tensor) -> Tensor:
    """Return (..., 4, X, Y, Z) float32 shares with background from (..., 3, X, Y, Z) uint8."""
    return with_background(quantized.float() / 255)


@dataclass(frozen=True)
class SegmentationMaps:
    """Soft segmentations with the grid they live on.

    Args:
        probabilities: (N, T, X, Y, Z) float32, summing to 1 over T at every voxel.
        grid: Their voxels.
        labels: One name per map, such as a participant's id or the number of the draw.
    """

    probabilities: Tensor
    grid: Grid
    labels: tuple[str, ...]

    def __post_init__(self):
        expected = (len(self.labels), len(TISSUES), *self.grid.shape)
        if tuple(self.probabilities.shape) != expected:
            raise ConfigError(
                f"maps have shape {tuple(self.probabilities.shape)}, not {expected}",
                "Give (N, T, X, Y, Z) maps of the grid and one label for each.",
            )

    def __repr__(self) -> str:
        shape, kind = "x".join(map(str, self.grid.shape)), type(self).__name__
        return f"<{kind}: {len(self)} maps of {shape} voxels, grid '{self.grid.name}'>"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: slice) -> "SegmentationMaps":
        return SegmentationMaps(self.probabilities[chosen], self.grid, self.labels[chosen])

    def volumes_ml(self) -> pd.DataFrame:
        """Return a tidy table: ``map``, ``tissue``, ``volume_ml``."""
        volumes = volumes_ml(self.probabilities[:, : len(MEASURED)], self.grid.voxel_ml)
        return (
            pd.DataFrame(volumes.double().numpy(), columns=list(MEASURED))
            .assign(map=list(self.labels))
            .melt(id_vars="map", var_name="tissue", value_name="volume_ml")
        )

    def hard_labels(self) -> Tensor:
        """Return (N, X, Y, Z) indices into TISSUES of the most probable tissue."""
        return most_likely(self.probabilities)
