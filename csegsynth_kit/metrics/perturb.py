"""Known damage to real maps, to see which of it a metric can find."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from csegsynth_kit.constants import TISSUES
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import SegmentationMaps

_WM, _GM, _CSF = (TISSUES.index(tissue) for tissue in ("WM", "GM", "CSF"))


def blur(maps: Tensor, *, sd_voxels: float = 0.6) -> Tensor:
    """Smooth (N, T, X, Y, Z) shares with a Gaussian; sums over tissues stay 1."""
    reach = max(1, round(3 * sd_voxels))
    offsets = torch.arange(-reach, reach + 1, dtype=maps.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sd_voxels**2))
    kernel = kernel / kernel.sum()
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = len(kernel)
        pad = [0, 0, 0, 0, 0, 0]
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = reach
        flat = F.pad(maps.flatten(0, 1)[:, None], pad, mode="replicate")
        maps = F.conv3d(flat, kernel.reshape(shape)).reshape(maps.shape)
    return maps


def noise(maps: Tensor, *, sd: float = 0.5, seed: int = 0) -> Tensor:
    """Multiply shares by log-normal noise and renormalize; voxels of one tissue stay as is.

    Args:
        maps: (N, T, X, Y, Z) shares.
        sd: Of the logarithm of the factors.
        seed: Of the noise.
    """
    factors = torch.randn(maps.shape, generator=torch.Generator().manual_seed(seed))
    noisy = maps * torch.exp(sd * factors)
    return noisy / noisy.sum(1, keepdim=True)


def atrophy(maps: Tensor, *, share: float) -> Tensor:
    """Turn ``share`` of each map's gray matter into CSF, where the two meet.

    Args:
        maps: (N, T, X, Y, Z) shares.
        share: Of the gray matter volume, between 0 and 1.
    """
    gray, csf = maps[:, _GM], maps[:, _CSF]
    pressure = gray * blur(csf[:, None], sd_voxels=1.0)[:, 0]
    wanted = share * gray.sum((1, 2, 3), keepdim=True)
    low = torch.zeros(len(maps), 1, 1, 1)
    high = torch.full_like(low, 1e6)
    for _ in range(60):  # Bisection: how hard to press until the wanted volume has gone.
        middle = (low + high) / 2
        lost = torch.minimum(gray, middle * pressure).sum((1, 2, 3), keepdim=True)
        short = lost < wanted
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    lost = torch.minimum(gray, high * pressure)
    shrunk = maps.clone()
    shrunk[:, _GM] -= lost
    shrunk[:, _CSF] += lost
    return shrunk


def swap_tissues(maps: Tensor) -> Tensor:
    """Exchange white and gray matter of (N, T, X, Y, Z) maps."""
    order = list(range(len(TISSUES)))
    order[_WM], order[_GM] = _GM, _WM
    return maps[:, order]


def mirror(maps: Tensor) -> Tensor:
    """Exchange left and right of (N, T, X, Y, Z) maps."""
    return maps.flip(2)


#: Damage to single maps, each a function of (N, T, X, Y, Z) shares.
MAP_PERTURBATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "blur": blur,
    "noise": noise,
    "atrophy 2 %": partial(atrophy, share=0.02),
    "atrophy 5 %": partial(atrophy, share=0.05),
    "atrophy 10 %": partial(atrophy, share=0.10),
    "tissue swap": swap_tissues,
    "mirror": mirror,
}


def perturb(maps: SegmentationMaps, name: str) -> SegmentationMaps:
    """Return damaged copies of maps, a few at a time.

    Args:
        maps: Real maps.
        name: Key of :data:`MAP_PERTURBATIONS`.
    """
    if name not in MAP_PERTURBATIONS:
        raise ConfigError(
            f"there is no perturbation '{name}'", f"Choose among {', '.join(MAP_PERTURBATIONS)}."
        )
    function = MAP_PERTURBATIONS[name]
    if name == "noise":  # Equal noise in every batch would be a pattern, not noise.
        parts = [noise(m, seed=i) for i, m in enumerate(maps.probabilities.split(32))]
    else:
        parts = [function(part) for part in maps.probabilities.split(32)]
    return SegmentationMaps(torch.cat(parts), maps.grid, maps.labels)
