"""What distances between sets of maps are computed on: the contract of feature extractors.

An extractor is fitted on real training maps only, then turns maps into feature vectors. It may
offer several feature spaces at once, such as networks of several seeds or views from three
sides; a distance is then the mean over spaces, and its spread over them is reported.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

import numpy as np
from torch import Tensor

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import Grid, SegmentationMaps

#: A feature is kept if its training SD is at least this share of its family's median SD.
_LEAST_SD = 0.05
#: A feature is dropped if more than this share of training maps have one and the same value.
_LARGEST_SHARE = 0.95
_MAPS_AT_ONCE = 32


class Extractor(Protocol):
    """What every feature extractor offers.

    Attributes:
        name: As in tables, such as ``morphometry``.
        published: ``2D-FID`` or ``3D-FID`` for the published networks with their published
            weights, otherwise empty. Only these may be printed under such a name, and only where
            all their features are compared.
    """

    name: str
    published: Literal["", "2D-FID", "3D-FID"]

    def fit(self, train: SegmentationMaps) -> Self:
        """Learn scales from real training maps, and nothing from any other map."""
        ...

    def features(self, maps: SegmentationMaps) -> np.ndarray:
        """Return (S, N, D) float64 features in S spaces."""
        ...

    @property
    def dim(self) -> int:
        """Features D of one space, after fitting."""
        ...

    @property
    def passport(self) -> dict:
        """JSON-ready identity: what is needed to compute the same number again."""
        ...


@dataclass(frozen=True)
class Standardizer:
    """Center and scale of features, and which of them vary at all, on training maps.

    Args:
        keep: (D,) booleans: features that vary.
        mean: (D',) training mean of the kept ones.
        sd: (D',) training SD of the kept ones.
    """

    keep: np.ndarray = field(repr=False)
    mean: np.ndarray = field(repr=False)
    sd: np.ndarray = field(repr=False)

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Return (N, D') z-scores of (N, D) raw features."""
        return (raw[:, self.keep] - self.mean) / self.sd


def fit_standardizer(raw: np.ndarray, families: Sequence[str]) -> Standardizer:
    """Fit z-scores, dropping features that hardly vary within their family.

    A cell at the rim that is empty in nearly all training maps would otherwise turn a trace of
    tissue into hundreds of standard deviations.

    Args:
        raw: (N, D) features of real training maps.
        families: (D,) family of each feature; members share a unit.
    """
    if len(raw) < 2 or not np.isfinite(raw).all():
        raise ConfigError(
            f"features of {len(raw)} training maps cannot be standardized",
            "Give at least two finite training maps.",
        )
    sd = raw.std(axis=0, ddof=1)
    names = np.asarray(families)
    usual = {name: np.median(sd[names == name]) for name in set(families)}
    varies = sd > _LEAST_SD * np.array([usual[name] for name in families])
    common = np.array([np.unique(c, return_counts=True)[1].max() for c in raw.T]) / len(raw)
    keep = varies & (common <= _LARGEST_SHARE) & (sd > 1e-9)
    if not keep.any():
        raise ConfigError("no feature varies among the training maps", "Give other maps.")
    return Standardizer(keep, raw[:, keep].mean(axis=0), sd[keep])


def batches(maps: SegmentationMaps, *, size: int = _MAPS_AT_ONCE) -> Iterator[SegmentationMaps]:
    """Cut maps into batches."""
    for start in range(0, len(maps), size):
        yield maps[start : start + size]


def batched(
    function: Callable[[Tensor], Tensor], maps: SegmentationMaps, *, size: int = _MAPS_AT_ONCE
) -> np.ndarray:
    """Apply a function of (n, T, X, Y, Z) maps batch by batch and stack its (n, ...) rows."""
    parts = [function(batch.probabilities).double().numpy() for batch in batches(maps, size=size)]
    return np.concatenate(parts)


def digest(*arrays: np.ndarray) -> str:
    """Twelve digits that change with any element, type or shape."""
    content = hashlib.sha256()
    for array in arrays:
        content.update(f"{array.dtype}{array.shape}".encode())
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()[:12]


def require_same_box(grid: Grid | None, maps: SegmentationMaps, name: str) -> None:
    """Raise ConfigError if an extractor is not fitted, or was on other voxels."""
    if grid is None:
        raise ConfigError(
            f"the extractor '{name}' is not fitted", "Call fit with real training maps first."
        )
    if not grid.same_box(maps.grid):
        raise ConfigError(
            f"the extractor '{name}' was fitted on grid '{grid.name}', but these maps are on "
            f"'{maps.grid.name}'",
            "Compare maps of one grid; resampling alone changes every distance.",
        )


def label(extractor: Extractor, projection: int | None = None) -> str:
    """Name of the Frechet distance on an extractor: only the published ones are called FID.

    On principal components the distance is another one than on all features, and no FID.

    Args:
        extractor: Whose features are compared.
        projection: Principal components that are kept, if any.
    """
    kind = (projection is None and extractor.published) or "Frechet distance"
    reduced = "" if projection is None else f", PCA {projection}"
    return f"{kind} ({extractor.name}{reduced})"
