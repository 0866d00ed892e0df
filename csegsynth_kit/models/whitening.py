"""Latents whose entries neither vary alike nor alone, to ones that are independent, and back."""

import math

import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor, nn

#: Standard deviation that entries have at least, as a share of that of all entries together.
_SMALLEST_SD = 1e-3


class Whitening(nn.Module):
    """Linear and fixed once measured: latents to numbers of variance 1, uncorrelated over places.

    Volumes are sums over places. A denoiser that is a little wrong at each place, and not in
    the same way everywhere, gets what places share wrong by far more than any one of them, so
    that people come out too alike. In white numbers whole heads count as much as single
    places, and noise of one size reaches all of them at the same time.

    Of all linear maps that whiten, it is the one that changes standardized entries least: a
    place remains a place.

    Args:
        latent_shape: Of the latents.
        modes: Principal modes of the correlation of all entries that are kept apart; what they
            leave over is taken to be alike in all directions. 0: one scale for all entries.
    """

    def __init__(self, latent_shape: tuple[int, ...], modes: int):
        super().__init__()
        length = math.prod(latent_shape)
        self.modes = min(modes, length)
        self.register_buffer("sd", torch.ones((1, *latent_shape) if modes else ()))
        self.register_buffer("axes", torch.zeros(self.modes, length))
        self.register_buffer("mode_sd", torch.ones(self.modes))
        self.register_buffer("rest_sd", torch.ones(()))

    def whiten(self, latents: Tensor) -> Tensor:
        """Map centered latents (N, *latent_shape) to white numbers of that shape."""
        return self._stretched(latents / self.sd, 1 / self.mode_sd, 1 / self.rest_sd)

    def color(self, white: Tensor) -> Tensor:
        """Map white numbers (N, *latent_shape) to centered latents; inverts :meth:`whiten`."""
        return self._stretched(white, self.mode_sd, self.rest_sd) * self.sd

    @torch.no_grad()
    def measure(self, latents: Tensor, variance: Tensor) -> None:
        """Take the covariance of people's latents.

        Args:
            latents: (N, *latent_shape) means of people's posteriors, centered.
            variance: (*latent_shape) mean variance of these posteriors.
        """
        if not self.modes:
            self.sd.fill_(float(latents.std()))
            return
        spread = latents.square().mean(0, keepdim=True) + variance
        self.sd.copy_(spread.sqrt().clamp(min=_SMALLEST_SD * float(spread.mean().sqrt())))
        people = (latents / self.sd).flatten(1).double()
        n, length = people.shape
        # With few people for many entries, correlations are mostly noise: shrink them.
        kept = 1 - float(ledoit_wolf_shrinkage(people.cpu().numpy(), assume_centered=True))
        values, vectors = torch.linalg.eigh(people @ people.T / n)  # n is far smaller than length
        found = min(self.modes, n - 1, length - 1)
        values, vectors = values[-found:].flip(0).clamp(min=0), vectors[:, -found:].flip(1)
        # Posteriors, and what shrinkage takes from correlations, vary in all directions alike.
        alike = 1 - kept * float(people.square().sum()) / n / length
        mode_variance = kept * values + alike
        self.axes.zero_()
        self.mode_sd.fill_(1.0)
        self.axes[:found] = torch.nn.functional.normalize(vectors.T @ people, dim=1).float()
        self.mode_sd[:found] = mode_variance.sqrt().float()
        self.rest_sd.copy_(((length - mode_variance.sum()) / (length - found)).sqrt())

    def _stretched(self, x: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """Multiply (N, *latent_shape) by ``along`` on each mode and ``across`` elsewhere."""
        amounts = x.flatten(1) @ self.axes.T
        return across * x + ((amounts * (along - across)) @ self.axes).view_as(x)
