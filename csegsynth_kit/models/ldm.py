"""Latent diffusion model, and its conditional descendant C-LDM (after Pinaya et al. 2022).

A training has two parts. First an autoencoder learns to map maps to a small grid of latents
and back; then it stays as it is, and a denoiser learns to turn noise into such latents, in
C-LDM given a person's features. The latents' mean and covariance are measured in between.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn

from csegsynth_kit.constants import TISSUES
from csegsynth_kit.data.features import Features
from csegsynth_kit.models import diffusion, losses, terms
from csegsynth_kit.models.base import Batch, Family, GroupLoss, Rng, TrainingSet
from csegsynth_kit.models.latents import Denoiser, FeatureToken, LatentAutoencoder
from csegsynth_kit.models.ldm_config import LDMConfig, LDMObjective
from csegsynth_kit.models.start import ridge_left_over
from csegsynth_kit.models.whitening import Whitening

#: Maps rendered at once while volumes are matched.
_PART = 16
#: How often they are matched.
_ROUNDS = 3


class LDM(Family):
    """LDM without features, C-LDM with them."""

    conditional_parts = ("transform.",)

    def __init__(self, config: LDMConfig, features: Features | None = None):
        super().__init__(config, features)
        c = config
        self.autoencoder = LatentAutoencoder(
            c.grid,
            patch=c.patch,
            channels=c.channels,
            latent_channels=c.latent_channels,
            norm_groups=c.norm_groups,
            attention=c.attention,
            mean_start=c.mean_start,
            component_start=c.component_start,
        )
        self.latent_shape = self.autoencoder.latent_shape
        self.n_inputs = 0
        if features is not None:
            self.n_inputs = features.n_inputs if c.answer_flags else len(features.names)
        self.denoiser = Denoiser(
            self.latent_shape,
            places=c.places,
            channels=c.denoiser_channels,
            attention=c.denoiser_attention,
            head_channels=c.head_channels,
            norm_groups=c.denoiser_norm_groups,
            token=c.token or self.n_inputs,
            concat=c.concat,
        )
        if self.conditional and c.token:
            curved = [i for i, name in enumerate(features.names) if name == "age"]
            self.transform = FeatureToken(
                self.n_inputs, c.hidden, c.token, self.latent_shape, curved
            )
        if c.unconditional.adversarial or c.conditional.adversarial:
            self.patch_critic = _patch_critic(c)
        self.register_buffer("latent_mean", torch.zeros(1, *self.latent_shape))
        self.whitening = Whitening(self.latent_shape, c.modes)
        self.register_buffer("latents_measured", torch.zeros((), dtype=torch.bool))

    @property
    def rebuilt_parts(self) -> tuple[str, ...]:
        """Attention layers: without a token in pre-training, theirs is another form."""
        if self.config.token:
            return ()
        names = (name for name, _ in self.denoiser.named_modules(prefix="denoiser"))
        return tuple(f"{n}." for n in names if n.endswith((".attention", ".attentions")))

    @property
    def objective(self) -> LDMObjective:
        """The weights of the stage this model is in."""
        return self.config.conditional if self.conditional else self.config.unconditional

    @property
    def autoencoder_objective(self) -> LDMObjective:
        """The weights with which the autoencoder learns: from scratch, those of pre-training."""
        return self.objective if self.warm_started else self.config.unconditional

    def groups(self) -> dict[str, dict[str, nn.Module]]:
        """Autoencoder, its patch critic, and the denoiser step each by themselves."""
        makers = {"denoiser": self.denoiser}
        if self.conditional and self.config.token:
            makers["transform"] = self.transform
        groups = {"denoiser": makers}
        if self.autoencoder_objective.autoencoder_steps:
            groups["autoencoder"] = {"autoencoder": self.autoencoder}
            if self.autoencoder_objective.adversarial:
                groups["patch_critic"] = {"patch_critic": self.patch_critic}
        return groups

    def fit_statistics(self, training: TrainingSet) -> None:
        """Take volume units, and start the autoencoder at mean and components of the maps."""
        super().fit_statistics(training)
        c, net = self.config, self.autoencoder
        used = c.latent_channels - c.spare
        if c.mean_start and not self.warm_started:
            net.start_from_mean(training.maps())
        if c.component_start and not self.warm_started:
            net.start_from_components(training.maps(), first=0, last=used)
        if c.component_start and self.conditional and c.spare:
            net.start_from_components(training.maps(), first=used, last=c.latent_channels)

    def begin_epoch(self, training: TrainingSet, step: int) -> bool:
        """Measure the latents once the autoencoder has learned; True when it has just done so."""
        steps = self.autoencoder_objective.autoencoder_steps
        if step == 0 and (steps or self._regresses):
            self.latents_measured.fill_(False)
        if self.latents_measured or step < steps:
            return False
        with torch.no_grad():
            posteriors = [self.autoencoder.encode(maps) for maps in training.maps()]
        latents = torch.cat([mean for mean, _ in posteriors])
        variance = torch.cat([log_variance.exp() for _, log_variance in posteriors]).mean(0)
        if self._regresses:
            inputs = training.features[:, : self.n_inputs]
            self.latent_mean.copy_(self.transform.measure(inputs, latents)[None])
        elif self.config.center:
            self.latent_mean.copy_(latents.mean(0, keepdim=True))
        self.whitening.measure(self._left_over(latents, training), variance)
        if self.config.match_volumes and self.config.modes:
            self._match_volumes(training)
        self.latents_measured.fill_(True)
        return True

    def phases(self, steps: int) -> list[tuple[int, int]]:
        """First the autoencoder, then the denoiser."""
        cuts = [0, min(steps, self.autoencoder_objective.autoencoder_steps), steps]
        return [(a, b) for a, b in pairwise(cuts) if a < b]

    def _left_over(self, latents: Tensor, training: TrainingSet) -> Tensor:
        """What features leave over of latents (N, *latent_shape), as large as in new people."""
        left = latents - self._center(training.features)
        if not self._regresses:
            return left
        expanded = self.transform.expanded(training.features[:, : self.n_inputs])
        in_new = ridge_left_over(expanded, latents.flatten(1), training.persons)
        # One factor for all: training latents must stay within the directions that are kept.
        return left * (in_new.square().sum() / left.square().sum()).sqrt()

    def _match_volumes(self, training: TrainingSet) -> None:
        """Give volumes of colored noise the mean and covariance that people's volumes have."""
        truth = (training.volumes - self.volume_mean_ml) / self.volume_sd_ml
        n, rest = len(truth), truth - truth.mean(0)
        if self._regresses:
            expanded = self.transform.expanded(training.features[:, : self.n_inputs])
            rest = ridge_left_over(expanded, truth, training.persons)
        noise = Rng(0, total=n, device=truth.device).normal(2, *self.latent_shape)
        noise = torch.stack([noise, -noise]).movedim(2, 0)  # antithetic, for a precise mean
        gain = self._volume_gradient(noise[0, 0], training.features)
        for _ in range(_ROUNDS):  # volumes are curved: a changed spread changes means as well
            with torch.no_grad():
                drawn = [self._colored_volumes(z, training.features) for z in noise.flatten(0, 1)]
            drawn = torch.stack(drawn).unflatten(0, (2, 2))  # individual, sign, person, tissue
            apart = (drawn[0] - drawn[1]).flatten(0, 1)  # individuals with the same features
            self.whitening.match(gain, apart.T @ apart / len(apart) / 2, rest.T @ rest / (n - 1))
            bias = truth.mean(0) - drawn.mean((0, 1, 2))
            self.latent_mean += (bias @ self.whitening.lift).view_as(self.latent_mean)

    def _colored_volumes(self, noise: Tensor, features: Tensor | None) -> Tensor:
        """Volumes (N, 3) of (N, *latent_shape) noise that is only colored."""
        latents = self.whitening.color(noise) + self._center(features)
        maps = (self.autoencoder.decode(part).softmax(1) for part in latents.split(_PART))
        return torch.cat([self.standardized_volumes(part) for part in maps])

    @torch.enable_grad()
    def _volume_gradient(self, noise: Tensor, features: Tensor | None) -> Tensor:
        """Mean gradient (3, entries) of volumes in latents, where noise is colored to."""
        latents, total = self.whitening.color(noise) + self._center(features), 0.0
        for part in latents.detach().split(_PART):
            part.requires_grad_()
            volumes = self.standardized_volumes(self.autoencoder.decode(part).softmax(1))
            slopes = [torch.autograd.grad(v, part, retain_graph=True)[0] for v in volumes.sum(0)]
            total = total + torch.stack(slopes).sum(1)
        return total.flatten(1) / len(noise)

    @property
    def _regresses(self) -> bool:
        return self.conditional and self.config.regression_start and self.config.token > 0

    def _center(self, features: Tensor | None) -> Tensor:
        """What is subtracted from latents (N or 1, *latent_shape)."""
        if not self._regresses:
            return self.latent_mean
        return self.latent_mean + self.transform.expected(features[:, : self.n_inputs])

    def losses(self, batch: Batch, rng: Rng, step: int) -> Iterator[GroupLoss]:
        """Yield the autoencoder's losses, or, once latents are measured, the denoiser's."""
        if self.latents_measured:
            yield "denoiser", self._denoiser_terms(batch, rng)
        else:
            yield from self._autoencoder_terms(batch, rng, step)

    def logits_from(self, latents: Tensor, features: Tensor | None) -> Tensor:
        """Map (N, *latent_shape) noise and (N, n_inputs) features to (N, T, X, Y, Z) logits."""
        token = self._token(features)
        clean = diffusion.sample(
            lambda x, times: self.guess(x, times, token),
            latents,
            sampler=self.config.sampler,
            steps=self.config.sampling_steps,
            white=self.config.modes > 0,
        )
        return self.autoencoder.decode(self.whitening.color(clean) + self._center(features))

    def reconstruct(self, maps: Tensor, features: Tensor | None = None) -> Tensor:
        """Encode and decode (N, T, X, Y, Z) maps, without any diffusion."""
        return self.autoencoder.decode(self.autoencoder.encode(maps)[0]).float().softmax(1)

    def guess(self, noisy: Tensor, times: Tensor, token: Tensor | None) -> Tensor:
        """Ask the denoiser, with classifier-free guidance, and add what it started from.

        Args:
            noisy: (N, *latent_shape).
            times: (N,).
            token: (N, token), or None for an unconditional model.
        """
        scale, start = self.config.guidance, self._start(noisy, times)
        if token is None or scale == 1:
            return start + self.denoiser(noisy, times, token)
        both = torch.cat([token, torch.zeros_like(token)])
        guesses = self.denoiser(torch.cat([noisy] * 2), torch.cat([times] * 2), both)
        with_features, without = guesses.chunk(2)
        return start + without + scale * (with_features - without)

    def _start(self, noisy: Tensor, times: Tensor) -> Tensor | float:
        """Guess as if latents were Gaussian; the denoiser learns what that leaves over."""
        if not self.config.modes:
            return 0.0
        return diffusion.gaussian_guess(noisy, times, self.config.sampler)

    def _token(self, features: Tensor | None) -> Tensor | None:
        if not self.conditional:
            return None
        inputs = features[:, : self.n_inputs]
        return self.transform(inputs) if self.config.token else inputs

    def _denoiser_terms(self, batch: Batch, rng: Rng) -> dict[str, Tensor]:
        k = self.config.noises
        with torch.no_grad():
            mean, log_variance = self.autoencoder.encode(batch.maps)
            latents = mean + (0.5 * log_variance).exp() * rng.normal(*self.latent_shape)
            clean = self.whitening.whiten(latents - self._center(batch.features)).float()
        token = self._token(batch.features)
        if token is not None:
            hide = rng.uniform() < self.config.drop_features
            token = (token * ~hide[:, None]).repeat_interleave(k, 0)
        noise = rng.normal(k, *self.latent_shape).flatten(0, 1)
        clean, share = clean.repeat_interleave(k, 0), rng.uniform(k).flatten()
        noisy, times, target = diffusion.corrupt(clean, noise, share, self.config.sampler)
        guess = self._start(noisy, times) + self.denoiser(noisy, times, token).float()
        loss = {"denoising": F.mse_loss(guess, target)}
        if self.objective.volume:
            latents = [rng.normal(*self.latent_shape) for _ in range(self.config.volume_draws)]
            draws = [self.generate(z, batch.features) for z in latents]
            error = terms.volume_error(self, draws, batch, "energy")
            loss["volume"] = self.objective.volume * error
        return loss

    def _autoencoder_terms(self, batch: Batch, rng: Rng, step: int) -> Iterator[GroupLoss]:
        goal = self.autoencoder_objective
        mean, log_variance = self.autoencoder.encode(batch.maps)
        latents = mean + (0.5 * log_variance).exp() * rng.normal(*self.latent_shape)
        logits = self.autoencoder.decode(latents).float()
        zero = torch.zeros_like(mean)
        divergence = losses.gaussian_divergence(
            mean.float(), log_variance.float(), zero, zero
        ).mean()
        loss = {
            "reconstruction": goal.reconstruction * self._reconstruction(logits, batch.maps),
            "kl": goal.kl * divergence,
        }
        if not goal.adversarial:
            yield "autoencoder", loss
            return
        rendered = logits.softmax(1)
        opinion = (self.patch_critic(rendered)[-1] - 1).square().mean()
        phase, _ = terms.warmup(step, goal.warmup_steps, "adversarial")
        yield "autoencoder", {**loss, "adversarial": phase * goal.adversarial * opinion}
        on_real = (self.patch_critic(batch.maps)[-1] - 1).square().mean()
        on_fake = self.patch_critic(rendered.detach())[-1].square().mean()
        yield "patch_critic", {"least_squares": goal.adversarial * 0.5 * (on_real + on_fake)}

    def _reconstruction(self, logits: Tensor, maps: Tensor) -> Tensor:
        if self.config.reconstruction_loss == "l1":
            return (logits.softmax(1) - maps).abs().mean()
        return losses.cross_entropy(logits, maps)


def _patch_critic(config: LDMConfig) -> nn.Module:
    """Build the critic that scores patches of (N, T, X, Y, Z) maps."""
    return PatchDiscriminator(
        spatial_dims=3,
        in_channels=len(TISSUES),
        num_layers_d=config.critic_layers,
        channels=config.critic_channels,
    )
