"""Principal components of the patches of maps: where an autoencoder may start from."""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csegsynth_kit.constants import TISSUES
from csegsynth_kit.maps import Grid
from csegsynth_kit.models.blocks import crop_to, pad_to, shuffle_down, shuffle_up
from csegsynth_kit.models.compact import log_shares

#: Components below this share of a patch's largest are round-off.
_SMALLEST_EIGENVALUE = 1e-6


class PatchComponents(nn.Module):
    """Linear and fixed: log shares to amounts of each patch's own components, and back.

    Amounts of all patches share one scale, so that what varies much in heads varies much in
    latents.

    Args:
        grid: Voxels of the maps; padded to what ``edge`` divides.
        edge: Edge of a patch (voxels).
        channels: Components per patch.
    """

    def __init__(self, grid: Grid, edge: int, channels: int):
        super().__init__()
        self.edge, self.size = edge, grid.shape
        self.counts = tuple(-(-n // edge) for n in grid.shape)
        length = len(TISSUES) * edge**3
        self.register_buffer("axes", torch.zeros(math.prod(self.counts), channels, length))
        self.register_buffer("scale", torch.ones(()))

    def amounts(self, change: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) changes of log shares to amounts (N, C, *counts)."""
        amounts = torch.einsum("npd,pcd->ncp", self._patches(change), self.axes)
        return amounts.unflatten(2, self.counts) * self.scale

    def render(self, amounts: Tensor) -> Tensor:
        """Map amounts (N, C, *counts) to (N, T, X, Y, Z) changes of log shares."""
        change = torch.einsum("ncp,pcd->ndp", amounts.flatten(2) / self.scale, self.axes)
        return crop_to(shuffle_up(change.unflatten(2, self.counts), self.edge), self.size)

    @torch.no_grad()
    def fit(self, chunks: Iterable[Tensor], mean: Tensor, *, first: int, last: int) -> None:
        """Set components ``first`` to ``last`` to the principal ones earlier ones leave over.

        Args:
            chunks: (n, T, X, Y, Z) training maps, a few at a time.
            mean: (1, T, X, Y, Z) log shares that amounts count from.
            first: First component.
            last: One after the last.
        """
        change = [self._patches(log_shares(maps) - mean) for maps in chunks]
        self.axes[:, first:last] = 0
        for patch in range(len(self.axes)):
            known = self.axes[patch, :first]
            here = torch.cat([some[:, patch] for some in change])
            left = here - (here @ known.T) @ known
            values, vectors = torch.linalg.eigh((left @ left.T).double())
            kept = min(last - first, int((values > _SMALLEST_EIGENVALUE * values[-1]).sum()))
            if kept == 0 or values[-1] <= 0:
                continue  # the same in everybody
            values, vectors = values[-kept:].flip(0), vectors[:, -kept:].flip(1)
            axes = (left.T.double() @ vectors / values.sqrt()).T
            sign = torch.where(axes.sum(1, keepdim=True) < 0, -1.0, 1.0)  # else arbitrary
            self.axes[patch, first : first + kept] = (axes * sign).float()
        self._align(change, first, last)
        if first == 0:
            self.scale.copy_(1 / self._unscaled(change, first, last).std())

    def _unscaled(self, change: Sequence[Tensor], first: int, last: int) -> Tensor:
        """Map changes (n, P, D), a few at a time, to amounts (N, P, C) of some components."""
        axes = self.axes[:, first:last]
        return torch.cat([torch.einsum("npd,pcd->npc", some, axes) for some in change])

    def _align(self, change: Sequence[Tensor], first: int, last: int) -> None:
        """Rotate each patch's components so that a channel means the same everywhere.

        The first channel becomes what grows in each patch with the first component of whole
        heads, and so on: otherwise a network that treats all places alike could not tell how
        patches vary together.
        """
        amounts = self._unscaled(change, first, last).double()
        _, vectors = torch.linalg.eigh(amounts.flatten(1) @ amounts.flatten(1).T)
        heads = vectors[:, -(last - first) :].flip(1)
        loadings = torch.einsum("npc,nm->pcm", amounts, heads)
        loadings = F.pad(loadings, (0, amounts.shape[2] - heads.shape[1]))  # of few heads
        rotation, triangle = torch.linalg.qr(loadings)
        signs = triangle.diagonal(dim1=1, dim2=2).sign()
        rotation = rotation * torch.where(signs == 0, 1.0, signs)[:, None]
        self.axes[:, first:last] = (rotation.mT @ self.axes[:, first:last].double()).float()

    def _patches(self, maps: Tensor) -> Tensor:
        return shuffle_down(pad_to(maps, self.edge), self.edge).flatten(2).transpose(1, 2)
