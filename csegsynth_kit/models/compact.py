"""Our networks: the published roles with far fewer operations.

On a CPU, 3D convolutions at full resolution cost nearly everything, so there are hardly any:
the code sets the amounts of spatial templates on an 8 mm grid (the published seed, too, has
one template per code entry), and light convolutions refine their sum up to the grid of the
maps. Templates and encoder start from the principal components of the training maps, so
that adversarial training starts from a plausible brain instead of from noise.
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csegsynth_kit.constants import TISSUES
from csegsynth_kit.maps import Grid, average_pool
from csegsynth_kit.models.blocks import Pointwise, doubled, mlp, shuffle_down, shuffle_up

#: Shares below this are treated as this in logarithms: what lies below is noise.
_SMALLEST_SHARE = 1e-3
#: Edge of the patches in which the trunk reads maps (voxels).
_PATCH = 4
_T = len(TISSUES)


def log_shares(maps: Tensor) -> Tensor:
    """Centered logarithms (N, T, X, Y, Z) of shares; softmax inverts them but for tiny shares."""
    logs = maps.clamp(min=_SMALLEST_SHARE).log()
    return logs - logs.mean(1, keepdim=True)


class CompactGenerator(nn.Module):
    """Latent code to tissue logits: templates at 8 mm, refined up to the grid.

    Args:
        grid: Voxels of the maps.
        doublings: How often the template grid is doubled to reach ``grid``.
        latent: Length of the code, and number of templates.
        width: Channels of the refining convolutions.
    """

    def __init__(self, grid: Grid, doublings: int, latent: int, width: int):
        super().__init__()
        self.coarse_shape = coarse_grid(grid, doublings).shape
        self.templates = nn.Linear(latent, _T * math.prod(self.coarse_shape), bias=False)
        nn.init.normal_(self.templates.weight, std=0.1)
        self.polish = _Refinement(8 * _T, width)
        self.doublings = nn.ModuleList(_Detail(width) for _ in range(doublings))
        self.register_buffer("coarse_mean", torch.zeros(1, _T, *self.coarse_shape))
        self.fine_mean = nn.Parameter(torch.zeros(1, _T, *grid.shape))

    def forward(self, code: Tensor) -> Tensor:
        """Map (N, L) codes to (N, T, X, Y, Z) logits."""
        change = self.templates(code).unflatten(1, (_T, *self.coarse_shape))
        patches = shuffle_down((change + self.coarse_mean).softmax(1), 2)
        change = change + shuffle_up(self.polish(patches), 2)
        for i, refine in enumerate(self.doublings, start=1):
            shares = (change + _resized(self.coarse_mean, change)).softmax(1)
            mean = average_pool(self.fine_mean.detach(), 2 ** (len(self.doublings) - i))
            detail = refine(shares, shuffle_down(mean.softmax(1), 2))
            change = doubled(change).add_(shuffle_up(detail, 2))
        return change + self.fine_mean  # not in place: under autocast, only the mean is float32


class _Refinement(nn.Module):
    """A 3x3x3 and a 1x1x1 convolution to 8 T channels, starting at 0."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.gather = nn.Conv3d(channels, width, 3, padding=1)
        self.spread = Pointwise(width, 8 * _T)
        nn.init.zeros_(self.spread.weight)
        nn.init.zeros_(self.spread.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last_3d)
        return self.spread(F.gelu(self.gather(x)))


class _Detail(nn.Module):
    """Shares to the details of a grid twice as fine, starting at 0.

    The mean on the fine grid is read as well, in patches of 2: where a person's fold lies beside
    the average one is told by both together. It is the same for a whole batch, and so costs
    hardly anything.
    """

    def __init__(self, width: int):
        super().__init__()
        self.gather = nn.Conv3d(_T, width, 3, padding=1)
        self.place = nn.Conv3d(8 * _T, width, 3, padding=1, bias=False)
        self.mix = Pointwise(width, width)
        self.spread = Pointwise(width, 8 * _T)
        nn.init.zeros_(self.spread.weight)
        nn.init.zeros_(self.spread.bias)

    def forward(self, shares: Tensor, mean: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) shares and (1, 8 T, X, Y, Z) mean patches to (N, 8 T, X, Y, Z)."""
        shares = shares.contiguous(memory_format=torch.channels_last_3d)
        mean = mean.contiguous(memory_format=torch.channels_last_3d)
        return self.spread(F.gelu(self.mix(F.gelu(self.gather(shares).add_(self.place(mean))))))


class CompactTrunk(nn.Module):
    """Maps to a vector that keeps where things are: patches of 4 voxels, then strided steps."""

    def __init__(self, grid: Grid, widths: Sequence[int]):
        super().__init__()
        grid.require_divisible_by(_PATCH * 2 ** (len(widths) - 1))
        self.stem = Pointwise(_PATCH**3 * _T, widths[0])
        self.down = nn.ModuleList(
            nn.Conv3d(fine, coarse, 3, stride=2, padding=1)
            for fine, coarse in itertools.pairwise(widths)
        )
        last = [n // _PATCH // 2 ** (len(widths) - 1) for n in grid.shape]
        self.length = widths[-1] * math.prod(last)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) to (N, length)."""
        return self.of_patches(patches(maps))

    def of_patches(self, x: Tensor) -> Tensor:
        """Map :func:`patches` to (N, length)."""
        x = F.gelu(self.stem(x.movedim(-1, 1)))
        for down in self.down:
            x = F.gelu(down(x))
        return x.flatten(1)


class ComponentReader(nn.Module):
    """Reads amounts of principal components off maps: fixed, linear in the log shares at 8 mm."""

    def __init__(self, grid: Grid, doublings: int, latent: int):
        super().__init__()
        self.factor = 2**doublings
        shape = coarse_grid(grid, doublings).shape
        self.register_buffer("axes", torch.zeros(latent, _T * math.prod(shape)))
        self.register_buffer("offset", torch.zeros(latent))

    def scores(self, maps: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) to (N, L)."""
        return F.linear(pooled_log_shares(maps, self.factor), self.axes, self.offset)


class CompactEncoder(ComponentReader):
    """Maps to a deterministic code: fixed component scores plus a learned correction from 0.

    The tens of thousands of weights of the scores stay as they are: a learning rate that suits
    the other layers would drown them.
    """

    def __init__(self, grid: Grid, doublings: int, latent: int, widths: Sequence[int]):
        super().__init__(grid, doublings, latent)
        self.trunk = CompactTrunk(grid, widths)
        self.correction = mlp(self.trunk.length + latent, 2 * latent, latent)
        nn.init.zeros_(self.correction[-1].weight)
        nn.init.zeros_(self.correction[-1].bias)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) to (N, L)."""
        scores = self.scores(maps)
        return scores + self.correction(torch.cat([self.trunk(maps), scores], dim=1))


class CompactCritic(nn.Module):
    """Maps to one score each."""

    def __init__(self, grid: Grid, widths: Sequence[int]):
        super().__init__()
        self.trunk = CompactTrunk(grid, widths)
        self.head = mlp(self.trunk.length, 128, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) to (N,)."""
        return self.of_patches(patches(maps))

    def of_patches(self, x: Tensor) -> Tensor:
        """Map :func:`patches` to (N,)."""
        return self.head(self.trunk.of_patches(x)).squeeze(-1)


class CompactCodeCritic(nn.Module):
    """Codes to one score each."""

    def __init__(self, latent: int, hidden: int):
        super().__init__()
        self.layers = mlp(latent, hidden, hidden, 1)

    def forward(self, code: Tensor) -> Tensor:
        """Map (N, L) to (N,)."""
        return self.layers(code).squeeze(-1)


class CompactTransform(nn.Module):
    """T(z, c) = exp(s(c)) M z + m(c): features shift the code and set its spread.

    ``m`` is linear plus a small network, both starting at 0, as is ``s``; M starts as the
    identity: at first T changes nothing, and the pre-trained generator is used as it is.

    Args:
        n_features: Length of the features.
        latent: Length of the code.
        hidden: Width of the small network.
        curved: Features that enter the linear part squared and cubed as well: brains do not
            age along a straight line, and maps are curved in the code.
    """

    def __init__(self, n_features: int, latent: int, hidden: int, curved: Sequence[int] = ()):
        super().__init__()
        self.curved = list(curved)
        self.mix = nn.Linear(latent, latent, bias=False)
        self.linear = nn.Linear(n_features + 2 * len(self.curved), latent)
        self.nonlinear = mlp(n_features, hidden, 2 * latent)
        self.forget()

    @torch.no_grad()
    def forget(self) -> None:
        """Let T change nothing again."""
        nn.init.eye_(self.mix.weight)
        for layer in (self.linear, self.nonlinear[-1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, code: Tensor, features: Tensor) -> Tensor:
        """Map (N, L) codes and (N, F) features to (N, L)."""
        mean, log_spread = self.moments(features)
        return self.mix(code) * log_spread.exp() + mean

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, F) features to m(c) and s(c), each (N, L)."""
        shift, log_spread = self.nonlinear(features).chunk(2, dim=1)
        return shift + self.linear(self.expanded(features)), torch.tanh(log_spread)

    def expanded(self, features: Tensor) -> Tensor:
        """Append squares and cubes of the curved ones to (N, F) features."""
        return with_powers(features, self.curved, 3)


def with_powers(features: Tensor, columns: Sequence[int], highest: int) -> Tensor:
    """Append powers of some columns, from the square up, to (N, F) features."""
    some = features[:, list(columns)]
    return torch.cat([features, *(some**power for power in range(2, highest + 1))], dim=1)


def patches(maps: Tensor) -> Tensor:
    """Rearrange (N, T, X, Y, Z) maps into the patches (N, x, y, z, T patch) that trunks read."""
    return shuffle_down(maps, _PATCH).movedim(1, -1)


def coarse_grid(grid: Grid, doublings: int) -> Grid:
    """Return the template grid, or raise ConfigError if ``grid`` does not divide."""
    grid.require_divisible_by(2 ** (doublings + 1))
    return grid.pooled(2**doublings)


def pooled_log_shares(maps: Tensor, factor: int) -> Tensor:
    """Log shares (N, T * voxels) of (N, T, X, Y, Z) maps on the template grid."""
    return log_shares(maps if factor == 1 else average_pool(maps, factor)).flatten(1)


def _resized(mean: Tensor, like: Tensor) -> Tensor:
    if mean.shape[-3:] == like.shape[-3:]:
        return mean
    return F.interpolate(mean, size=like.shape[-3:], mode="trilinear")
