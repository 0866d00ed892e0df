"""The default extractor: measures that an anatomist can read, without any network."""

from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from csegsynth_kit.constants import MEASURED, TEMPLATE_CENTER_MM
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import Grid, SegmentationMaps, most_likely, volumes_ml
from csegsynth_kit.metrics.extractors import (
    Standardizer,
    batched,
    digest,
    fit_standardizer,
    require_same_box,
)
from csegsynth_kit.metrics.shapes import (
    cell_volumes_ml,
    centroids_mm,
    euler_number,
    interface_area_mm2,
    second_moments_mm2,
    surface_area_mm2,
)
from csegsynth_kit.metrics.structural import brain_box

#: MNI box (mm) around the lateral and third ventricles: low and high x, y, z.
VENTRICLE_BOX_MM = ((-32.0, 32.0), (-58.0, 38.0), (-12.0, 34.0))
#: Cells of the coarse partition of the training brains' box, along x, y and z.
_CELLS = (4, 4, 4)
_PAIRS = (("WM", "GM"), ("GM", "CSF"), ("WM", "CSF"))
_VERSION = 1


class Morphometry:
    """Volumes, places, shapes and surfaces of tissues, z-scored on real training maps.

    Volumes and fractions; centroids and second moments; surfaces, interfaces and
    surface-to-volume ratios; octant and grid-cell volumes; Euler numbers; CSF around the
    ventricles. Interpretable, offline, and steady in small sets (as Konz et al., 2026, argue for
    radiomics).
    """

    name = "morphometry"
    published: Literal[""] = ""

    def __init__(self):
        self._grid: Grid | None = None
        self._scale: Standardizer | None = None
        self.all_names: list[str] = []
        self._edges: dict[str, list[Tensor]] = {}
        self._fitted_on = 0

    def fit(self, train: SegmentationMaps) -> Self:
        """Learn the brains' box, each feature's mean and SD, and which features vary."""
        self._grid = train.grid
        self._edges = _partitions(train)
        raw = self.raw(train)
        families = [name.split(":")[0] for name in self.all_names]
        self._scale = fit_standardizer(raw, families)
        self._fitted_on = len(train)
        return self

    def features(self, maps: SegmentationMaps) -> np.ndarray:
        """Return (1, N, D) z-scores."""
        require_same_box(self._grid, maps, self.name)
        return self._scale(self.raw(maps))[None]

    def raw(self, maps: SegmentationMaps) -> np.ndarray:
        """Return (N, D) features in their units, before any is dropped."""
        if not self._edges:
            raise ConfigError("morphometry is not fitted", "Call fit with training maps first.")
        measured: dict[str, Tensor] = {}

        def measure(probabilities: Tensor) -> Tensor:
            measured.update(_measure(probabilities, maps.grid, self._edges))
            return torch.stack(list(measured.values()), dim=1)

        rows = batched(measure, maps)
        self.all_names = list(measured)
        return rows

    @property
    def names(self) -> list[str]:
        """Names of the kept features, ``family:member``."""
        return [n for n, kept in zip(self.all_names, self._scale.keep, strict=True) if kept]

    @property
    def dim(self) -> int:
        """Features kept."""
        return int(self._scale.keep.sum())

    @property
    def passport(self) -> dict:
        """Version, number of features and a digest of everything that was fitted."""
        scale = self._scale
        return {
            "extractor": self.name,
            "version": _VERSION,
            "dim": self.dim,
            "dropped": int((~scale.keep).sum()),
            "fitted_on": self._fitted_on,
            "hash": digest(scale.keep, scale.mean, scale.sd),
        }


def _measure(maps: Tensor, grid: Grid, edges: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """Return every feature of (N, T, X, Y, Z) maps as (N,) values."""
    tissues = maps[:, : len(MEASURED)]
    volumes = volumes_ml(tissues, grid.voxel_ml)
    total = volumes.sum(1)
    found = {"volume:total": total}
    found |= _per_tissue("volume", volumes)
    found |= _per_tissue("fraction", volumes / total.clamp(min=1e-6)[:, None])
    for name, values in (
        ("centroid", centroids_mm(tissues, grid)),
        ("moment", second_moments_mm2(tissues, grid)),
    ):
        for k in range(values.shape[-1]):
            found |= _per_tissue(name, values[..., k], f"-{k}")
    found |= _surfaces(tissues, volumes, grid)
    for name in ("octant", "cell"):
        cells = cell_volumes_ml(tissues, edges[name], voxel_ml=grid.voxel_ml).flatten(2)
        for k in range(cells.shape[-1]):
            found |= _per_tissue(name, cells[..., k], f"-{k}")
    hard = most_likely(maps)
    inside = torch.stack([hard == t for t in range(len(MEASURED))], dim=1)
    found |= _per_tissue("euler", euler_number(inside))
    csf = tissues[:, MEASURED.index("CSF")]
    box = cell_volumes_ml(csf, edges["ventricles"], voxel_ml=grid.voxel_ml)
    return found | {"ventricles:CSF": box[:, 0, 0, 0]}


def _surfaces(tissues: Tensor, volumes: Tensor, grid: Grid) -> dict[str, Tensor]:
    areas = surface_area_mm2(tissues, spacing_mm=grid.spacing_mm)
    found = _per_tissue("surface", areas)
    found |= _per_tissue("surface-to-volume", areas / (1000 * volumes.clamp(min=1e-6)))
    for a, b in _PAIRS:
        shares = [tissues[:, MEASURED.index(tissue)] for tissue in (a, b)]
        area = interface_area_mm2(*shares, spacing_mm=grid.spacing_mm)
        found[f"interface:{a}-{b}"] = area
    return found


def _per_tissue(family: str, values: Tensor, suffix: str = "") -> dict[str, Tensor]:
    return {f"{family}:{t}{suffix}": values[:, i] for i, t in enumerate(MEASURED)}


def _partitions(train: SegmentationMaps) -> dict[str, list[Tensor]]:
    """Return cell edges (voxels) of octants, grid cells and the ventricles' box."""
    grid = train.grid
    box = brain_box(train.probabilities, at_least=2)
    ends = [torch.linspace(low, high, n + 1) for (low, high), n in zip(box, _CELLS, strict=True)]
    middle = [torch.tensor([0.0, (low + high) / 2, n]) for (low, high), n in _sizes(box, grid)]
    ventricles = []
    for axis, limits in enumerate(VENTRICLE_BOX_MM):
        # Native grids are centered on the brain's center of mass instead of MNI's origin.
        native = grid.space == "native"
        shift = TEMPLATE_CENTER_MM[axis] if native else 0.0
        first = grid.affine[axis, 3] - grid.spacing_mm[axis] / 2 + shift
        edges = (torch.tensor(limits, dtype=torch.float64) - first) / grid.spacing_mm[axis]
        ventricles.append(edges.clamp(0, grid.shape[axis]))
    return {"octant": middle, "cell": ends, "ventricles": ventricles}


def _sizes(box: tuple[tuple[int, int], ...], grid: Grid) -> list[tuple[tuple[int, int], int]]:
    return list(zip(box, grid.shape, strict=True))
