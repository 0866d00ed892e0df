"""Random 3D networks as a second, offline extractor: sensitive to texture, not to meaning.

Distances on untrained networks often, not always, rank generators as trained ones do (Lee, Kim
and Lee, 2022, arXiv 2208.09218, against O'Reilly and Asadi, 2021, BMEiCON). One random network
can mislead, so several fixed seeds are averaged and their spread is reported.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.maps import Grid, SegmentationMaps
from csegsynth_kit.metrics.extractors import (
    Standardizer,
    batched,
    digest,
    fit_standardizer,
    require_same_box,
)

#: Channels of the levels; each halves the grid of the one before.
_WIDTHS = (8, 16, 32)
_SEEDS = tuple(range(8))


class RandomConv3d:
    """Fixed random convolutions, mean and SD of every channel at every level.

    Args:
        seeds: One network each.
    """

    name = "random_conv3d"
    published: Literal[""] = ""

    def __init__(self, seeds: Sequence[int] = _SEEDS):
        self.seeds = tuple(seeds)
        self._networks = [_weights(seed) for seed in self.seeds]
        self._scales: list[Standardizer] = []
        self._grid: Grid | None = None
        self._fitted_on = 0

    def fit(self, train: SegmentationMaps) -> Self:
        """Learn each feature's mean and SD."""
        self._grid, self._fitted_on = train.grid, len(train)
        families = [f"level-{i}" for i, width in enumerate(_WIDTHS) for _ in range(2 * width)]
        self._scales = [fit_standardizer(raw, families) for raw in self._raw(train)]
        # Every space keeps the same number of features, so that they stack.
        keep = np.logical_and.reduce([scale.keep for scale in self._scales])
        self._scales = [_restricted(scale, keep) for scale in self._scales]
        return self

    def features(self, maps: SegmentationMaps) -> np.ndarray:
        """Return (S, N, D) z-scores, one space for each seed."""
        require_same_box(self._grid, maps, self.name)
        raw = self._raw(maps)
        return np.stack([scale(r) for scale, r in zip(self._scales, raw, strict=True)])

    def _raw(self, maps: SegmentationMaps) -> np.ndarray:
        def run(probabilities: Tensor) -> Tensor:
            tissues = probabilities[:, : len(MEASURED)]
            return torch.stack([_pooled(tissues, network) for network in self._networks], dim=1)

        with torch.inference_mode():
            return batched(run, maps).swapaxes(0, 1)

    @property
    def dim(self) -> int:
        """Features kept for each seed."""
        return int(self._scales[0].keep.sum())

    @property
    def passport(self) -> dict:
        """Seeds and a digest of the networks and of everything that was fitted."""
        arrays = [w.numpy() for network in self._networks for w in network]
        arrays += [a for scale in self._scales for a in (scale.keep, scale.mean, scale.sd)]
        return {
            "extractor": self.name,
            "seeds": list(self.seeds),
            "dim": self.dim,
            "fitted_on": self._fitted_on,
            "hash": digest(*arrays),
        }


def _weights(seed: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    channels = (len(MEASURED), *_WIDTHS)
    return [
        torch.randn(after, before, 3, 3, 3, generator=rng) * (2 / (27 * before)) ** 0.5
        for before, after in pairwise(channels)
    ]


def _pooled(x: Tensor, network: Sequence[Tensor]) -> Tensor:
    """Return (N, 2 * sum of widths) means and SDs of the channels of every level."""
    found = []
    for level, weight in enumerate(network):
        x = F.leaky_relu(F.conv3d(x, weight, padding=1), 0.1)
        mean = x.mean((2, 3, 4), keepdim=True)
        # As x.std, which takes four times as long on a CPU.
        length = torch.linalg.vector_norm(x - mean, dim=(2, 3, 4))
        found += [mean.flatten(1), length / math.sqrt(x[0, 0].numel() - 1)]
        if level + 1 < len(network):
            x = F.avg_pool3d(x, 2)
    return torch.cat(found, dim=1)


def _restricted(scale: Standardizer, keep: np.ndarray) -> Standardizer:
    chosen = keep[scale.keep]
    return Standardizer(keep, scale.mean[chosen], scale.sd[chosen])
