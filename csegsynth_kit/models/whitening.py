"""Latents whose entries neither vary alike nor alone, to ones that are independent, and back."""

import math

import torch
from torch import Tensor, nn

from csegsynth_kit.constants import MEASURED

#: How much less or more variance than latents have may be right for volumes.
_LEAST, _MOST = 0.25, 4.0
#: Sums of volumes that vary less with latents than this share of what varies most are left.
_SMALLEST_GAIN = 3e-3
#: Variance that every direction has at least, as a share of that of the first mode.
_SMALLEST = 1e-6


class Whitening(nn.Module):
    """Linear and fixed once measured: latents to numbers of variance 1, uncorrelated over places.

    Volumes are sums over places. A denoiser that is a little wrong at each place, and not in
    the same way everywhere, gets what places share wrong by far more than any one of them, so
    that people come out too alike. In white numbers whole heads count as much as single
    places, and noise of one size reaches all of them at the same time.

    Of all linear maps that whiten, it is the one that changes latents least: a place remains a
    place.

    Args:
        latent_shape: Of the latents.
        modes: Principal modes of all entries together that are kept apart; what they leave over
            is taken to be alike in all directions. 0: one scale for all entries.
    """

    def __init__(self, latent_shape: tuple[int, ...], modes: int):
        super().__init__()
        length = math.prod(latent_shape)
        self.modes = min(modes, length - 1)
        self.register_buffer("axes", torch.zeros(self.modes, length))
        self.register_buffer("mode_sd", torch.ones(self.modes))
        self.register_buffer("rest_sd", torch.ones(()))
        matched = (len(MEASURED), length) if modes else (0, length)
        self.register_buffer("gain", torch.zeros(matched))
        self.register_buffer("lift", torch.zeros(matched))
        self.register_buffer("mix", torch.eye(len(self.gain)))
        self.register_buffer("unmix", torch.eye(len(self.gain)))

    def whiten(self, latents: Tensor) -> Tensor:
        """Map centered latents (N, *latent_shape) to white numbers of that shape."""
        latents = self._mixed(latents, self.unmix)
        return self._stretched(latents, 1 / self.mode_sd, 1 / self.rest_sd)

    def color(self, white: Tensor) -> Tensor:
        """Map white numbers (N, *latent_shape) to centered latents; inverts :meth:`whiten`."""
        return self._mixed(self._stretched(white, self.mode_sd, self.rest_sd), self.mix)

    @torch.no_grad()
    def measure(self, latents: Tensor, variance: Tensor) -> None:
        """Take the covariance of people's latents.

        It is not shrunk: of any sum of entries, and volumes nearly are such sums, the variance
        is then right on average, however few people there are.

        Args:
            latents: (N, *latent_shape) means of people's posteriors, centered.
            variance: (*latent_shape) mean variance of these posteriors.
        """
        self.gain.zero_()
        self.mix.copy_(torch.eye(len(self.mix)))
        self.unmix.copy_(self.mix)
        people = latents.flatten(1).double()
        n, length = people.shape
        people = people / max(n - 1, 1) ** 0.5
        if not self.modes:
            self.rest_sd.copy_(latents.std())
            return
        _, sizes, axes = torch.linalg.svd(people, full_matrices=False)
        found = min(self.modes, n - 1)
        values = sizes[:found].square()
        posterior = max(float(variance.mean()), _SMALLEST * float(values[0]), _SMALLEST)
        left = people.square().sum() - values.sum()
        self.rest_sd.copy_((posterior + left.clamp(min=0) / (length - found)).sqrt())
        self.axes.zero_()
        self.mode_sd.fill_(float(self.rest_sd))
        self.axes[:found] = axes[:found].float()
        self.mode_sd[:found] = (values + posterior).sqrt().float()

    @torch.no_grad()
    def match(self, gain: Tensor, generated: Tensor, wanted: Tensor) -> None:
        """Let volumes of Gaussian latents vary as those of people do.

        Volumes are curved in latents, and latents of people are not quite Gaussian, so that
        the covariance of latents alone does not give that of volumes. Only three sums of
        entries change, those that volumes follow, and with each entry what goes with them.

        Args:
            gain: (3, entries) mean gradient of volumes in latents.
            generated: (3, 3) covariance of volumes of colored noise, as it is colored now.
            wanted: (3, 3) covariance of people's volumes.
        """
        self.gain.copy_(gain)
        half = self._colored(gain)
        straight = half @ half.T  # what volumes' covariance would be if they were not curved
        values, vectors = torch.linalg.eigh(straight)
        follow = values > _SMALLEST_GAIN * values[-1]  # latents cannot move the other sums
        values, vectors = values[follow], vectors[:, follow]
        self.lift.copy_((vectors / values) @ vectors.T @ self._colored(half))
        curved = generated - self.mix @ straight @ self.mix.T
        inverse = vectors / values.sqrt()
        change, axes = torch.linalg.eigh(inverse.T @ (wanted - curved) @ inverse)
        change = axes * change.clamp(_LEAST, _MOST).sqrt() @ axes.T - torch.eye(len(axes)).to(axes)
        self.mix.copy_(torch.eye(len(gain)))
        self.mix += (vectors * values.sqrt()) @ change @ inverse.T
        self.unmix.copy_(torch.linalg.inv(self.mix))

    def _colored(self, rows: Tensor) -> Tensor:
        return self._stretched(rows, self.mode_sd, self.rest_sd)

    def _mixed(self, x: Tensor, mix: Tensor) -> Tensor:
        """Multiply the three sums of entries of (N, *latent_shape) that volumes follow."""
        change = mix - torch.eye(len(mix), device=x.device)
        return x + (x.flatten(1) @ self.gain.T @ change.T @ self.lift).view_as(x)

    def _stretched(self, x: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """Multiply (N, *latent_shape) by ``along`` on each mode and ``across`` elsewhere."""
        amounts = x.flatten(1) @ self.axes.T
        return across * x + ((amounts * (along - across)) @ self.axes).view_as(x)
