"""Fine detail that no code describes: random, as large and as coarse as in real maps.

A code of some hundred entries cannot tell where every fold lies. A generator that is asked for
the likeliest map answers with a blur, the mean of all maps that have this code. What real maps
have beyond it is modeled here as a Gaussian random field per tissue, added to the logits: its
local size and its spectrum are those of what training maps have beyond their reconstructions.
The blur is undone at the same time, so that the mean over textures remains nearly what it was.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csegsynth_kit.constants import TISSUES
from csegsynth_kit.maps import Grid, average_pool

_T = len(TISSUES)
#: A logit m with normal noise of variance v has the mean share sigmoid(m / sqrt(1 + v pi / 8))
#: (MacKay 1992, doi:10.1162/neco.1992.4.5.720). The logit of one tissue against another is the
#: difference of two, with twice the variance of one.
_BLUR = 2 * math.pi / 8
#: Texture is at most this large (logits): beyond, every voxel is of one tissue.
_LARGEST = 4.0
#: Corrections of the local size, each towards the share's variance that is wanted.
_ROUNDS = 6
#: Differences of this variance, and this slope of a share with a logit, keep ratios from meaning
#: nothing where there is only one tissue.
_NOTHING, _FLAT = 1e-4, 1e-2
#: Share of all pairs of voxels below which an autocorrelation is not trusted.
_FEW_PAIRS = 0.05
#: Voxels per slab in which fields are added where no gradients are wanted.
_SLAB = 8


def _precise(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compute a method without autocast."""

    @functools.wraps(method)
    def precise(self, first: Tensor, *others: Tensor) -> Tensor:
        with torch.autocast(first.device.type, enabled=False):
            return method(self, first, *others)

    return precise


class Texture(nn.Module):
    """Adds a random field to logits; 0 until it is fitted.

    A field is a sum of ``waves`` plane waves with random amplitudes (Shinozuka and Deodatis 1991,
    doi:10.1115/1.3119501), so that it is given by about a thousand numbers on any grid.

    Args:
        grid: Voxels of the maps.
        factor: Voxels per edge of the coarser grid on which the local size is kept.
        waves: Number of plane waves.
    """

    def __init__(self, grid: Grid, factor: int, waves: int):
        super().__init__()
        self.shape, self.factor, self.waves = grid.shape, factor, waves
        self.register_buffer("frequencies", torch.zeros(waves, 3))  # cycles per voxel
        self.register_buffer("size", torch.zeros(1, _T, *grid.pooled(factor).shape))

    @property
    def length(self) -> int:
        """How many standard normal numbers give a texture."""
        return 2 * _T * self.waves

    @_precise
    def added(self, logits: Tensor, fields: Tensor) -> Tensor:
        """Undo the blur of logits and add fields, both (N, T, X, Y, Z)."""
        logits = logits.to(self.size.dtype)
        size = F.interpolate(self.size, size=self.shape, mode="trilinear")
        if torch.is_grad_enabled() or logits.device.type != "cpu":
            return self._added(logits, fields, size)
        # Slab by slab, what one line of this leaves is still in the cache for the next.
        slabs = zip(*(part.split(_SLAB, dim=2) for part in (logits, fields, size)), strict=True)
        return torch.cat([self._added(*slab) for slab in slabs], dim=2)

    @staticmethod
    def _added(logits: Tensor, fields: Tensor, size: Tensor) -> Tensor:
        # Of the tissues between which a voxel is undecided.
        undecided = logits.softmax(1)
        undecided = undecided * (1 - undecided) + _NOTHING
        variance = (undecided * size.square()).sum(1, keepdim=True)
        sharper = (1 + _BLUR * variance / undecided.sum(1, keepdim=True)).sqrt()
        return torch.addcmul(logits * sharper, fields, size)

    @_precise
    def fields(self, amplitudes: Tensor) -> Tensor:
        """Map (N, length) standard normal numbers to (N, T, X, Y, Z) fields of variance 1."""
        amplitudes = amplitudes.to(self.size.dtype)
        x, y, z = (self._wave(axis) for axis in range(3))
        plane = y[:, :, None] * z[:, None, :]
        plane = torch.cat([plane.real, plane.imag]).flatten(1) / self.waves**0.5
        c = torch.complex(*amplitudes.unflatten(1, (2, _T, self.waves)).unbind(1))
        line = (c[..., None] * x).transpose(-1, -2)  # (N, T, X, waves)
        line = torch.cat([line.real, -line.imag], dim=-1)
        return (line @ plane).unflatten(-1, self.shape[1:])

    def _wave(self, axis: int) -> Tensor:
        place = torch.arange(self.shape[axis], device=self.frequencies.device)
        phase = 2 * math.pi * self.frequencies[:, axis, None] * place
        return torch.polar(torch.ones_like(phase), phase)

    @torch.no_grad()
    def fit(self, pairs: Sequence[tuple[Tensor, Tensor]], amplitudes: Tensor) -> None:
        """Take size and spectrum from what maps have beyond their reconstructions.

        Args:
            pairs: Maps (n, T, X, Y, Z) and the logits of their reconstructions, a few at a time.
            amplitudes: (sum of n, length) standard normal numbers to try sizes with.
        """
        bias = _mean(maps - logits.softmax(1) for maps, logits in pairs)
        counts = [len(maps) for maps, _ in pairs]

        def left() -> Iterable[Tensor]:
            return (maps - logits.softmax(1) - bias for maps, logits in pairs)

        unbiased = sum(counts) / max(1, sum(counts) - 1)
        variance = unbiased * _mean(difference.square() for difference in left())
        self.frequencies.copy_(_frequencies(left(), variance, self.waves))
        wanted = average_pool(variance, self.factor) + _NOTHING
        share = average_pool(_mean(logits.softmax(1) for _, logits in pairs), self.factor)
        # To first order, a logit's noise moves its share by share (1 - share).
        steep = share * (1 - share) + _FLAT
        self.size.copy_(((wanted - _NOTHING).sqrt() / steep).clamp(max=_LARGEST))
        for _ in range(_ROUNDS):
            got = _mean(
                (self.added(logits, self.fields(some)).softmax(1) - logits.softmax(1)).square()
                for (_, logits), some in zip(pairs, amplitudes.split(counts), strict=True)
            )
            got = average_pool(got, self.factor) + _NOTHING
            ratio = (wanted / got).sqrt().clamp(0.5, 2.0)
            self.size.copy_((self.size * ratio).clamp(max=_LARGEST))


def _mean(chunks: Iterable[Tensor]) -> Tensor:
    """Mean (1, ...) of rows that come a few at a time."""
    total, count = 0.0, 0
    for chunk in chunks:
        total, count = total + chunk.sum(0, keepdim=True), count + len(chunk)
    return total / count


def _frequencies(left: Iterable[Tensor], variance: Tensor, waves: int) -> Tensor:
    """Draw frequencies (waves, 3), in cycles per voxel, from the spectrum of differences.

    The spectrum is that of their autocorrelation: products of differences so far apart, over
    products of their local sizes. By itself, the power of differences would pass thin folds in
    which maps differ for short waves, however far differences reach along them. In order of
    wavelength, one frequency is drawn from each of so many parts of equal power: plain draws
    would miss the spectrum by more.

    Args:
        left: Differences (n, T, X, Y, Z), a few at a time.
        variance: (1, T, X, Y, Z) of these.
        waves: How many.
    """
    products = _products(variance.sqrt())
    found = _mean(_products(some)[None].expand(len(some), -1, -1, -1) for some in left)[0]
    # Where few pairs of voxels are so far apart, hardly anything is known: taken as unrelated.
    correlation = found / (products + _FEW_PAIRS * products.max())
    power = torch.fft.fftn(correlation).real.clamp(min=0)
    shape = power.shape
    grid = torch.stack(torch.meshgrid(*(torch.fft.fftfreq(n) for n in shape), indexing="ij"), -1)
    grid = grid.to(power).flatten(0, -2)
    length = grid.norm(dim=1)
    power = power.flatten() * (length > 0)
    order = torch.argsort(length, stable=True)
    drawn = torch.rand(waves, 4, generator=torch.Generator().manual_seed(0)).to(power)
    at = (torch.arange(waves, device=power.device) + drawn[:, 0]) / waves
    cumulated = power[order].double().cumsum(0)
    found = torch.searchsorted(cumulated, at.double() * cumulated[-1])
    between = (drawn[:, 1:] - 0.5) / torch.tensor(shape).to(power)  # else it repeats at the border
    return grid[order[found.clamp(max=len(order) - 1)]] + between


def _products(maps: Tensor) -> Tensor:
    """Sums (X, Y, Z) of products of voxels so far apart, over tissues, mean over maps."""
    spectrum = torch.fft.fftn(maps, dim=(-3, -2, -1)).abs().square()
    return torch.fft.ifftn(spectrum.sum(1).mean(0)).real
