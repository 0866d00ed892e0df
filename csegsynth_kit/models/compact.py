"""Our networks: the published roles with far fewer operations.

The last doubling is a pixel shuffle, convolutions are dense at low resolution, and the
generator adds its output to the logarithm of the mean training map, so that it only has to
learn how a person differs from the mean. ``widths`` gives the channels from the coarsest to
the finest level; a grid must be divisible by 2 ** len(widths).
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csegsynth_kit.constants import TISSUES
from csegsynth_kit.maps import Grid
from csegsynth_kit.models.blocks import (
    ChannelNorm,
    ResidualBlock,
    mlp,
    shuffle_down,
    shuffle_up,
)

#: Shares below this are treated as this in the logarithm of the mean map.
_SMALLEST_SHARE = 1e-3


class CompactGenerator(nn.Module):
    """Latent code to tissue logits, as a deviation from the mean training map."""

    def __init__(self, grid: Grid, latent: int, widths: Sequence[int], blocks: int):
        super().__init__()
        grid.require_divisible_by(2 ** len(widths))
        self.seed_shape = (widths[0], *(n // 2 ** len(widths) for n in grid.shape))
        self.seed = nn.Linear(latent, math.prod(self.seed_shape))
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(blocks))) for width in widths
        )
        self.narrow = nn.ModuleList(
            nn.Conv3d(wide, narrow, 1) for wide, narrow in itertools.pairwise(widths)
        )
        self.norm = ChannelNorm(widths[-1])
        self.head = nn.Conv3d(widths[-1], 8 * len(TISSUES), 3, padding=1)
        self.register_buffer("mean_logits", torch.zeros(1, len(TISSUES), *grid.shape))
        with torch.no_grad():
            self.head.weight.mul_(0.3)

    def set_mean_map(self, mean: Tensor) -> None:
        """Take the mean (T, X, Y, Z) of the training maps as the point of departure."""
        self.mean_logits.copy_(mean.clamp(min=_SMALLEST_SHARE).log()[None])

    def forward(self, code: Tensor) -> Tensor:
        """Map (N, L) codes to (N, T, X, Y, Z) logits."""
        x = self.seed(code).unflatten(1, self.seed_shape)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        for i, level in enumerate(self.levels):
            if i:
                x = F.interpolate(self.narrow[i - 1](x), scale_factor=2, mode="trilinear")
            x = level(x)
        return shuffle_up(self.head(F.gelu(self.norm(x)))) + self.mean_logits


class CompactTrunk(nn.Module):
    """Maps to a vector that keeps where things are."""

    def __init__(self, grid: Grid, widths: Sequence[int], blocks: int):
        super().__init__()
        grid.require_divisible_by(2 ** len(widths))
        fine_to_coarse = tuple(reversed(widths))
        self.stem = nn.Conv3d(8 * len(TISSUES), fine_to_coarse[0], 3, padding=1)
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
            for width in fine_to_coarse
        )
        self.down = nn.ModuleList(
            nn.Conv3d(fine, coarse, 3, stride=2, padding=1)
            for fine, coarse in itertools.pairwise(fine_to_coarse)
        )
        self.length = widths[0] * math.prod(n // 2 ** len(widths) for n in grid.shape)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) to (N, length)."""
        x = shuffle_down(maps).contiguous(memory_format=torch.channels_last_3d)
        x = self.stem(x)
        for i, level in enumerate(self.levels):
            x = level(self.down[i - 1](F.gelu(x)) if i else x)
        return F.gelu(x).flatten(1)


class CompactEncoder(nn.Module):
    """Maps to a deterministic code."""

    def __init__(self, grid: Grid, latent: int, widths: Sequence[int], blocks: int):
        super().__init__()
        self.trunk = CompactTrunk(grid, widths, blocks)
        self.head = nn.Linear(self.trunk.length, latent)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) to (N, L)."""
        return self.head(self.trunk(maps))


class CompactCritic(nn.Module):
    """Maps to one score each."""

    def __init__(self, grid: Grid, widths: Sequence[int], blocks: int):
        super().__init__()
        self.trunk = CompactTrunk(grid, widths, blocks)
        self.head = mlp(self.trunk.length, 128, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) to (N,)."""
        return self.head(self.trunk(maps)).squeeze(-1)


class CompactCodeCritic(nn.Module):
    """Codes to one score each."""

    def __init__(self, latent: int, hidden: int):
        super().__init__()
        self.layers = mlp(latent, hidden, hidden, 1)

    def forward(self, code: Tensor) -> Tensor:
        """Map (N, L) to (N,)."""
        return self.layers(code).squeeze(-1)


class CompactTransform(nn.Module):
    """T(z, c) = exp(s(c)) z + m(c): features shift the code and set its spread.

    ``m`` is linear plus a small network, both starting at 0, as is ``s``: at first T changes
    nothing, and the pre-trained generator is used as it is.
    """

    def __init__(self, n_features: int, latent: int, hidden: int):
        super().__init__()
        self.linear = nn.Linear(n_features, latent)
        self.nonlinear = mlp(n_features, hidden, 2 * latent)
        for layer in (self.linear, self.nonlinear[-1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, code: Tensor, features: Tensor) -> Tensor:
        """Map (N, L) codes and (N, F) features to (N, L)."""
        shift, spread = self.nonlinear(features).chunk(2, dim=1)
        return code * torch.tanh(spread).exp() + shift + self.linear(features)
