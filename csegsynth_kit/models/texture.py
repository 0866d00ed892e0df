"""Fine detail that no code describes: random, as large and as coarse as in real maps.

A code of some hundred entries cannot tell where every fold lies. A generator that is asked for
the likeliest map answers with a blur, the mean of all maps that have this code. What real maps
have beyond it is modeled here as a Gaussian random field per tissue, added to the logits: its
local size and its spectrum are those of what training maps have beyond their reconstructions.
The blur is undone at the same time, so that the mean over textures remains what it was.
"""

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csegsynth_kit.constants import TISSUES
from csegsynth_kit.maps import Grid, average_pool

_T = len(TISSUES)
#: Variance of a logistic law in units of which the blur of a softmax is measured: a logit m with
#: normal noise of variance v has the mean share sigmoid(m / sqrt(1 + v * pi / 8)) (MacKay 1992,
#: doi:10.1162/neco.1992.4.5.720). The difference of two tissues has twice the variance of one.
_BLUR = 2 * math.pi / 8
#: Texture is at most this large (logits): beyond, every voxel is of one tissue.
_LARGEST = 4.0
#: Waves longer than this share of the grid are no texture: codes describe them.
_LONGEST = 0.5
#: Corrections of the local size, each towards the share's variance that is wanted.
_ROUNDS = 6
#: Where there is nothing but one tissue, differences of this variance, and this slope of a share
#: with a logit, keep ratios from meaning nothing.
_NOTHING, _FLAT = 1e-6, 1e-2


class Texture(nn.Module):
    """Adds a random field to logits; 0 until it is fitted.

    A field is a sum of ``waves`` plane waves with random amplitudes (Shinozuka and Deodatis 1991,
    doi:10.1115/1.3119501), so that it is given by a few hundred numbers on any grid.

    Args:
        grid: Voxels of the maps.
        factor: Voxels per edge of the coarser grid on which the local size is kept.
        waves: Number of plane waves.
    """

    def __init__(self, grid: Grid, factor: int, waves: int):
        super().__init__()
        self.shape, self.factor, self.waves = grid.shape, factor, waves
        self.register_buffer("frequencies", torch.zeros(waves, 3))
        self.register_buffer("size", torch.zeros(1, _T, *grid.pooled(factor).shape))

    @property
    def length(self) -> int:
        """How many standard normal numbers give a texture."""
        return 2 * _T * self.waves

    def forward(self, logits: Tensor, amplitudes: Tensor) -> Tensor:
        """Add texture to (N, T, X, Y, Z) logits, given (N, length) standard normal numbers."""
        return self.added(logits, self.fields(amplitudes))

    def added(self, logits: Tensor, fields: Tensor) -> Tensor:
        """Undo the blur of logits and add fields, both (N, T, X, Y, Z)."""
        size = F.interpolate(self.size, size=self.shape, mode="trilinear")
        sharper = (1 + _BLUR * size.square().mean(1, keepdim=True)).sqrt()
        return torch.addcmul(logits.float() * sharper, fields, size)

    def fields(self, amplitudes: Tensor) -> Tensor:
        """Map (N, length) standard normal numbers to (N, T, X, Y, Z) fields of variance 1."""
        x, y, z = (self._wave(axis) for axis in range(3))
        plane = y[:, :, None] * z[:, None, :]
        plane = torch.cat([plane.real, plane.imag]).flatten(1)
        c = torch.complex(*amplitudes.unflatten(1, (2, _T, self.waves)).float().unbind(1))
        line = (c[..., None] * x).transpose(-1, -2)  # (N, T, X, waves)
        line = torch.cat([line.real, -line.imag], dim=-1)
        return (line @ plane).unflatten(-1, self.shape[1:]) / self.waves**0.5

    def _wave(self, axis: int) -> Tensor:
        place = torch.arange(self.shape[axis], device=self.frequencies.device)
        phase = 2 * math.pi * self.frequencies[:, axis, None] * place
        return torch.polar(torch.ones_like(phase), phase)

    @torch.no_grad()
    def fit(
        self,
        chunks: Iterable[Tensor],
        rendered: Callable[[Tensor], Tensor],
        draw: Callable[[int], Tensor],
    ) -> None:
        """Take size and spectrum from what maps have beyond their reconstructions.

        Args:
            chunks: (n, T, X, Y, Z) training maps, a few at a time.
            rendered: Maps those to the logits of their reconstructions.
            draw: Maps n to (n, length) standard normal numbers, the same each time.
        """
        pairs = [(maps, rendered(maps).float()) for maps in chunks]
        bias = _mean(maps - logits.softmax(1) for maps, logits in pairs)
        left = [maps - logits.softmax(1) - bias for maps, logits in pairs]
        wanted = self._variance(left)
        self.frequencies.copy_(_frequencies(left, self.waves))
        share = _mean(average_pool(logits.softmax(1), self.factor) for _, logits in pairs)
        # To first order, a logit's noise moves its share by share (1 - share).
        steep = share * (1 - share) + _FLAT
        self.size.copy_((wanted.sqrt() / steep).clamp(max=_LARGEST))
        fields = [self.fields(draw(len(maps))) for maps, _ in pairs]
        for _ in range(_ROUNDS):
            got = self._variance(
                [
                    self.added(logits, field).softmax(1) - logits.softmax(1)
                    for (_, logits), field in zip(pairs, fields, strict=True)
                ]
            )
            ratio = (wanted / got).sqrt().clamp(0.5, 2.0)
            self.size.copy_((self.size * ratio).clamp(max=_LARGEST))

    def _variance(self, left: list[Tensor]) -> Tensor:
        """Mean square (1, T, x, y, z) on the coarser grid of (n, T, X, Y, Z) differences."""
        return _mean(average_pool(d.square(), self.factor) for d in left) + _NOTHING


def _mean(chunks: Iterable[Tensor]) -> Tensor:
    return torch.cat(list(chunks)).mean(0, keepdim=True)


def _frequencies(left: list[Tensor], waves: int) -> Tensor:
    """Draw frequencies (waves, 3), in cycles per voxel, from the spectrum of differences.

    In order of wavelength, one is drawn from each of so many parts of equal power: plain draws
    would miss the spectrum by more.
    """
    power = sum(torch.fft.fftn(d, dim=(-3, -2, -1)).abs().square().sum((0, 1)) for d in left)
    shape = power.shape
    grid = torch.stack(torch.meshgrid(*(torch.fft.fftfreq(n) for n in shape), indexing="ij"), -1)
    grid = grid.to(power).flatten(0, -2)
    length = grid.norm(dim=1)
    power = power.flatten() * (length * max(shape) * _LONGEST >= 1)
    order = torch.argsort(length, stable=True)
    drawn = torch.rand(waves, 4, generator=torch.Generator().manual_seed(0)).to(power)
    at = (torch.arange(waves, device=power.device) + drawn[:, 0]) / waves
    cumulated = power[order].double().cumsum(0)
    found = torch.searchsorted(cumulated, at.double() * cumulated[-1])
    between = (drawn[:, 1:] - 0.5) / torch.tensor(shape).to(power)  # else it repeats at the border
    return grid[order[found.clamp(max=len(order) - 1)]] + between
