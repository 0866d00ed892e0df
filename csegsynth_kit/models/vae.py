"""Variational autoencoder, and its conditional descendant C-VAE.

The encoder gives each map a Gaussian over codes, the generator maps a code to a map. C-VAE lets
a person's features c into all three parts: encoder (h + f(c)), prior p(z|c) and generator input
(z + g(c)). A latent is standard normal noise that the prior scales and shifts, so that the same
latent is the same individual whatever the answers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from csegsynth_kit.data.features import Features
from csegsynth_kit.models import compact, losses, terms
from csegsynth_kit.models.base import Batch, GroupLoss, Rng
from csegsynth_kit.models.codes import CodeConfig, CodeFamily
from csegsynth_kit.models.variational import (
    CompactPosterior,
    CompactPrior,
    CompactShift,
    PublishedPosterior,
    PublishedPrior,
    PublishedShift,
)


@dataclass(frozen=True)
class VAEObjective:
    """Weights of one stage. There is no adversarial part, so there is no warm-up.

    Args:
        reconstruction: Weight of rendering a given map.
        kl: Weight of the divergence of posterior from prior, per code entry: the loss holds
            this times the mean over entries (and persons), not the sum.
        volume: Weight of the volumes of maps generated from the prior (conditional only).
        reconstructed_volume: Weight of the volumes of reconstructed maps (conditional only).
    """

    reconstruction: float = 1.0
    kl: float = 0.5
    volume: float = 0.0
    reconstructed_volume: float = 0.0


@dataclass(frozen=True)
class VAEConfig(CodeConfig):
    """Hyper-parameters of VAE and C-VAE, besides those of every code.

    Args:
        reconstruction_loss: ``cross_entropy``, or the published ``bce`` per channel.
        unconditional: Objective of pre-training.
        conditional: Objective of fine-tuning.
    """

    family: ClassVar[str] = "cvae"
    reconstruction_loss: Literal["cross_entropy", "bce"] = "cross_entropy"
    unconditional: VAEObjective = VAEObjective()
    conditional: VAEObjective = VAEObjective(volume=1.0)


class VAE(CodeFamily):
    """VAE without features, C-VAE with them."""

    conditional_parts = ("encoder_shift.", "prior.", "decoder_shift.")

    def __init__(self, config: VAEConfig, features: Features | None = None):
        super().__init__(config, features)
        c = config
        if c.architecture == "published":
            self.encoder = PublishedPosterior(c.base)
        else:
            self.encoder = CompactPosterior(c.grid, c.doublings, c.latent, c.reader_widths)
        if not self.conditional:
            return
        if c.architecture == "published":
            self.encoder_shift = PublishedShift(self.n_inputs, c.base)
            self.prior = PublishedPrior(self.n_inputs, c.base)
            self.decoder_shift = PublishedShift(self.n_inputs, c.base)
        else:
            self.encoder_shift = CompactShift(self.n_inputs, c.hidden, self.encoder.trunk.length)
            self.prior = self.new_transform(CompactPrior)
            self.decoder_shift = CompactShift(self.n_inputs, c.hidden, c.latent)

    @property
    def reader(self) -> compact.ComponentReader:
        """The encoder reads components."""
        return self.encoder

    @property
    def transform(self) -> nn.Module:
        """The prior takes the place of T: it turns noise into the codes of such people."""
        return self.prior

    def groups(self) -> dict[str, dict[str, nn.Module]]:
        """Everything steps together."""
        modules = {"encoder": self.encoder, "generator": self.generator}
        if self.conditional:
            modules |= {
                "encoder_shift": self.encoder_shift,
                "prior": self.prior,
                "decoder_shift": self.decoder_shift,
            }
        return {"generator": modules}

    def posterior(self, maps: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """Map (N, T, X, Y, Z) maps to mean and log-variance (N, L) of their codes."""
        if not self.conditional:
            mean, log_variance = self.encoder(maps)
            return self.without_spare(mean), log_variance
        return self.encoder(maps, self.encoder_shift(features[:, : self.n_inputs]))

    def encode(self, maps: Tensor, features: Tensor | None = None) -> Tensor:
        """Map (N, T, X, Y, Z) maps to (N, L) codes: the posterior's mean.

        A conditional model without ``features`` takes everybody for the average person.
        """
        if self.conditional and features is None:
            features = maps.new_zeros(len(maps), self.n_inputs)
        return self.posterior(maps, features)[0]

    def code(self, latents: Tensor, features: Tensor | None) -> Tensor:
        """Map (N, L) noise to the generator's input for people with these features."""
        return self._shifted(super().code(latents, features), features)

    def reconstruct(self, maps: Tensor, features: Tensor | None = None) -> Tensor:
        """Encode and generate (N, T, X, Y, Z) maps again."""
        return self.generator(self.rendering_code(maps, features)).float().softmax(1)

    def rendering_code(self, maps: Tensor, features: Tensor | None) -> Tensor:
        """Map (N, T, X, Y, Z) maps of people to the generator's input (N, L) for them."""
        return self._shifted(self.encode(maps, features), features)

    def divergence(self, mean: Tensor, log_variance: Tensor, features: Tensor | None) -> Tensor:
        """KL divergence (N,) of posterior from prior, in nats per code entry in use."""
        mean, log_variance = mean.float(), log_variance.float()
        if self.conditional:
            total = self.prior.divergence(mean, log_variance, features[:, : self.n_inputs])
            return total / mean.shape[1]
        used = mean.shape[1] - self.config.spare
        mean, log_variance = mean[:, :used], log_variance[:, :used]
        zero = torch.zeros_like(mean)
        return losses.gaussian_divergence(mean, log_variance, zero, zero).mean(1)

    def losses(self, batch: Batch, rng: Rng, step: int) -> Iterator[GroupLoss]:
        """Yield the one loss there is."""
        goal = self.objective
        mean, log_variance = self.posterior(batch.maps, batch.features)
        noise = rng.normal(mean.shape[1])
        codes = [self.without_spare(mean + (0.5 * log_variance).exp() * noise)]
        codes[0] = self._shifted(codes[0], batch.features)
        latents = []
        if self.conditional and goal.volume:
            latents = [rng.normal(*self.latent_shape) for _ in range(self.draws_per_person)]
            codes += [self.code(z, batch.features) for z in latents]
        logits = list(self.generator(torch.cat(codes)).float().chunk(len(codes)))
        logits[1:] = (self.textured(*pair) for pair in zip(logits[1:], latents, strict=True))
        error = terms.reconstruction(logits[0], batch.maps, self.config.reconstruction_loss)
        divergence = self.divergence(mean, log_variance, batch.features).mean()
        loss = {"reconstruction": goal.reconstruction * error, "kl": goal.kl * divergence}
        rendered, *draws = (part.softmax(1) for part in logits)
        if draws:
            error = terms.volume_error(self, draws, batch, self.config.volume_loss)
            loss["volume"] = goal.volume * error
        if self.conditional and goal.reconstructed_volume:
            error = terms.volume_error(self, [rendered], batch, "absolute")
            loss["reconstructed_volume"] = goal.reconstructed_volume * error
        yield "generator", loss

    def _shifted(self, code: Tensor, features: Tensor | None) -> Tensor:
        if features is None or not self.conditional:
            return code
        return code + self.decoder_shift(features[:, : self.n_inputs])
