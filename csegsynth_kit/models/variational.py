"""Networks of the variational autoencoders: posteriors, priors, and shifts by features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from csegsynth_kit.maps import Grid
from csegsynth_kit.models import losses
from csegsynth_kit.models.blocks import mlp
from csegsynth_kit.models.compact import CompactEncoder, CompactTransform
from csegsynth_kit.models.published import PublishedTrunk, latent_length

#: Beyond these, exponentials overflow or a posterior is a point; gradients stop there.
LOG_VARIANCES = (-20.0, 10.0)
#: Log-variance at which posteriors start beside components: small beside their variance of 1, so
#: that the first reconstructions are not drowned.
FIRST_LOG_VARIANCE = -3.0


class PublishedPosterior(nn.Module):
    """Maps to mean and log-variance of their codes; features may shift the pooled vector."""

    def __init__(self, base: int):
        super().__init__()
        width = latent_length(base)
        self.trunk = PublishedTrunk(base)
        self.mean = mlp(width, 4 * width, width)
        self.log_variance = mlp(width, 4 * width, width)

    def forward(self, maps: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map (N, T, X, Y, Z), shifted by (N, L), to mean and log-variance (N, L)."""
        h = self.trunk(maps)
        h = h if shift is None else h + shift
        return self.mean(h), self.log_variance(h).clamp(*LOG_VARIANCES)


class CompactPosterior(CompactEncoder):
    """As the compact encoder, with a log-variance that starts at one small constant."""

    def __init__(self, grid: Grid, doublings: int, latent: int, widths: Sequence[int]):
        super().__init__(grid, doublings, latent, widths)
        self.log_variance = mlp(self.trunk.length + latent, 2 * latent, latent)
        nn.init.zeros_(self.log_variance[-1].weight)
        nn.init.constant_(self.log_variance[-1].bias, FIRST_LOG_VARIANCE)

    def forward(self, maps: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map (N, T, X, Y, Z), shifted by (N, trunk length), to mean and log-variance (N, L)."""
        scores, h = self.scores(maps), self.trunk(maps)
        seen = torch.cat([h if shift is None else h + shift, scores], dim=1)
        return scores + self.correction(seen), self.log_variance(seen).clamp(*LOG_VARIANCES)


class PublishedShift(nn.Sequential):
    """Features (N, F) to a shift (N, L)."""

    def __init__(self, n_features: int, base: int):
        width = latent_length(base)
        super().__init__(*mlp(n_features, 2 * base, 8 * base, width, activation=nn.LeakyReLU))


class CompactShift(nn.Sequential):
    """Features (N, F) to a shift (N, width), starting at 0."""

    def __init__(self, n_features: int, hidden: int, width: int):
        super().__init__(*mlp(n_features, hidden, width))
        nn.init.zeros_(self[-1].weight)
        nn.init.zeros_(self[-1].bias)


class PublishedPrior(nn.Module):
    """p(z|c) with mean and log-variance of each entry from networks of their own."""

    def __init__(self, n_features: int, base: int):
        super().__init__()
        self.mean = PublishedShift(n_features, base)
        self.log_variance = PublishedShift(n_features, base)

    def forward(self, noise: Tensor, features: Tensor) -> Tensor:
        """Map standard normal (N, L) noise to codes of people with (N, F) features."""
        mean, log_variance = self._moments(features)
        return mean + (0.5 * log_variance).exp() * noise

    def divergence(self, mean: Tensor, log_variance: Tensor, features: Tensor) -> Tensor:
        """KL divergence (N,) of N(mean, variance) from p(z|c), in nats."""
        return losses.gaussian_divergence(mean, log_variance, *self._moments(features)).sum(1)

    def _moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(features), self.log_variance(features).clamp(*LOG_VARIANCES)


class CompactPrior(CompactTransform):
    """p(z|c) as the law of T(z, c): features set the mean and the spread of each entry.

    Unlike in the published prior, entries may be correlated: what a regression of codes on
    features leaves over is.
    """

    def divergence(self, mean: Tensor, log_variance: Tensor, features: Tensor) -> Tensor:
        """KL divergence (N,) of N(mean, variance) from p(z|c), in nats.

        The prior's covariance is A A', with A = spread M. All is expressed in the prior's own
        noise, A^-1 z, where the prior is standard normal.
        """
        center, log_spread = self.moments(features)
        unmix = torch.linalg.inv(self.mix.weight)
        from_center = (mean - center) * (-log_spread).exp() @ unmix.T
        variances = (log_variance - 2 * log_spread).exp() @ unmix.square().T
        log_volume = 2 * (log_spread.sum(1) + torch.linalg.slogdet(self.mix.weight).logabsdet)
        inner = variances.sum(1) + from_center.square().sum(1) - mean.shape[1]
        return 0.5 * (inner + log_volume - log_variance.sum(1))
