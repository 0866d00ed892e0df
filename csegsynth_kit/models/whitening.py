"""Latents whose entries neither vary alike nor alone, to ones that are independent, and back."""

import math

import torch
from torch import Tensor, nn

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

    def whiten(self, latents: Tensor) -> Tensor:
        """Map centered latents (N, *latent_shape) to white numbers of that shape."""
        return self._stretched(latents, 1 / self.mode_sd, 1 / self.rest_sd)

    def color(self, white: Tensor) -> Tensor:
        """Map white numbers (N, *latent_shape) to centered latents; inverts :meth:`whiten`."""
        return self._stretched(white, self.mode_sd, self.rest_sd)

    @torch.no_grad()
    def measure(self, latents: Tensor, variance: Tensor, fitted: int = 1) -> None:
        """Take the covariance of people's latents.

        It is not shrunk: of any sum of entries, and volumes nearly are such sums, the variance
        is then right on average, however few people there are.

        Args:
            latents: (N, *latent_shape) means of people's posteriors, centered.
            variance: (*latent_shape) mean variance of these posteriors.
            fitted: Parameters per entry that centering has fitted to the same people.
        """
        people = latents.flatten(1).double()
        n, length = people.shape
        people = people / max(n - fitted, 1) ** 0.5
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

    def _stretched(self, x: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """Multiply (N, *latent_shape) by ``along`` on each mode and ``across`` elsewhere."""
        amounts = x.flatten(1) @ self.axes.T
        return across * x + ((amounts * (along - across)) @ self.axes).view_as(x)
