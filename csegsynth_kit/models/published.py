"""The published networks (CSegSynth, arXiv 2504.12352), with every size derived from the grid.

``base`` is 32 in the paper; the latent code has 32 x base entries. Parameter counts of the
published size (grid 80 x 128 x 128, base 32) are part of the test suite.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from csegsynth_kit.constants import TISSUES
from csegsynth_kit.maps import Grid
from csegsynth_kit.models.blocks import ChannelNorm, ConvNeXtBlock, GroupedConv, mlp


def latent_length(base: int) -> int:
    """Entries of the latent code."""
    return 32 * base


class PublishedGenerator(nn.Module):
    """Latent code to tissue logits: one spatial template per code entry, three doublings."""

    def __init__(self, grid: Grid, base: int):
        super().__init__()
        grid.require_divisible_by(8)
        seed = tuple(n // 8 for n in grid.shape)
        c0, c1, c2, c3 = 32 * base, 8 * base, 2 * base, len(TISSUES)
        self.seed = nn.ConvTranspose3d(c0, c0, seed, groups=c0)
        self.levels = nn.ModuleList(
            [
                nn.Sequential(ChannelNorm(c0), ConvNeXtBlock(c0)),
                _up(c0, c1, blocks=1),
                _up(c1, c2, blocks=3),
                _up(c2, c3, blocks=1),
            ]
        )
        _initialize(self.levels)

    def forward(self, code: Tensor) -> Tensor:
        """Map (N, L) codes to (N, T, X, Y, Z) logits."""
        # A transposed convolution of one voxel: each entry's template times the entry.
        x = code[:, :, None, None, None] * self.seed.weight[:, 0]
        x = x + self.seed.bias[:, None, None, None]
        for level in self.levels:
            x = level(x)
        return x


class PublishedTrunk(nn.Module):
    """Maps to a pooled vector, the start of encoder and image critic."""

    def __init__(self, base: int):
        super().__init__()
        widths = (base // 2, 2 * base, 8 * base, 32 * base)
        stem = nn.Sequential(GroupedConv(len(TISSUES), widths[0], stride=2), ChannelNorm(widths[0]))
        levels = [nn.Sequential(stem, ConvNeXtBlock(widths[0]))]
        for i, blocks in ((1, 1), (2, 3), (3, 1)):
            down = [ChannelNorm(widths[i - 1]), GroupedConv(widths[i - 1], widths[i], stride=2)]
            levels.append(nn.Sequential(*down, *(ConvNeXtBlock(widths[i]) for _ in range(blocks))))
        self.levels = nn.Sequential(*levels)
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        _initialize(self)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) to (N, 32 base)."""
        return self.norm(self.levels(maps).mean(dim=(-3, -2, -1)))


class PublishedEncoder(nn.Module):
    """Maps to a deterministic code."""

    def __init__(self, base: int):
        super().__init__()
        width = latent_length(base)
        self.trunk = PublishedTrunk(base)
        self.head = mlp(width, 4 * width, width)
        _initialize(self.head)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) to (N, L)."""
        return self.head(self.trunk(maps))


class PublishedCritic(nn.Module):
    """Maps to one score each."""

    def __init__(self, base: int):
        super().__init__()
        width = latent_length(base)
        self.trunk = PublishedTrunk(base)
        self.head = mlp(width, 4 * width, 1)
        _initialize(self.head)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) to (N,)."""
        return self.head(self.trunk(maps)).squeeze(-1)


class PublishedCodeCritic(nn.Module):
    """Codes to one score each."""

    def __init__(self, base: int):
        super().__init__()
        width = latent_length(base)
        self.layers = mlp(width, 4 * width, 4 * width, 1)

    def forward(self, code: Tensor) -> Tensor:
        """Map (N, L) to (N,)."""
        return self.layers(code).squeeze(-1)


class PublishedTransform(nn.Module):
    """T(z, c) = z + f(c): features only shift the code."""

    def __init__(self, n_features: int, base: int):
        super().__init__()
        width = latent_length(base)
        self.shift = mlp(n_features, 2 * base, 8 * base, width, activation=nn.LeakyReLU)

    def forward(self, code: Tensor, features: Tensor) -> Tensor:
        """Map (N, L) codes and (N, F) features to (N, L)."""
        return code + self.shift(features)


def _up(channels_in: int, channels_out: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        ChannelNorm(channels_in),
        nn.Upsample(scale_factor=2, mode="trilinear"),
        GroupedConv(channels_in, channels_out),
        *(ConvNeXtBlock(channels_out) for _ in range(blocks)),
    )


def _initialize(module: nn.Module) -> None:
    """Draw convolutions and linear layers from N(0, 0.02^2), biases 0."""
    for layer in _weighted(module):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)


def _weighted(module: nn.Module) -> Iterator[nn.Conv3d | nn.Linear]:
    return (m for m in module.modules() if isinstance(m, nn.Conv3d | nn.Linear))
