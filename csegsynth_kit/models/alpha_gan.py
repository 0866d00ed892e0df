"""alpha-GAN, and its conditional descendant CSegSynth (arXiv 2504.12352).

Four networks: the generator G maps a code to a map, the encoder E a map to a code, the image
critic D scores maps, the code critic K scores codes. CSegSynth adds T(z, c), which moves a
random code z by a person's features c.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import Grid
from csegsynth_kit.models import compact, losses, published
from csegsynth_kit.models.base import Batch, Family, GroupLoss, Rng, TrainingSet

#: mL to the cubic millimeters of the published volume loss.
_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class Objective:
    """Weights and schedule of one stage.

    Args:
        reconstruction: Weight of E and G rendering a given map.
        adversarial: Weight of the image critic's opinion.
        code: Weight of the term on codes.
        volume: Weight of the volumes of generated maps (conditional only).
        reconstructed_volume: Weight of the volumes of reconstructed maps (conditional only).
        triplet: Weight of the triplet loss (conditional only).
        penalty: Weight of the gradient penalty of each critic.
        warmup_steps: Steps over which adversarial and code terms phase in.
        warmup: ``adversarial`` phases in those terms only, ``whole`` scales every term, as the
            published scripts do.
        critic_steps: Image critic steps after each generator step that has any.
        code_critic_steps: Code critic steps after each generator step that has any.
        critic_every: Generator steps per round of critic steps.
        cadence: ``every`` runs critics in one of ``critic_every`` batches; ``reference`` in all
            but one of them, as the published scripts do.
        train_image_critic: False freezes D, as the published fine-tuning does.
    """

    reconstruction: float = 10.0
    adversarial: float = 1.0
    code: float = 1.0
    volume: float = 0.0
    reconstructed_volume: float = 0.0
    triplet: float = 0.0
    penalty: float = 10.0
    warmup_steps: int = 200
    warmup: Literal["adversarial", "whole"] = "adversarial"
    critic_steps: int = 1
    code_critic_steps: int = 1
    critic_every: int = 1
    cadence: Literal["every", "reference"] = "every"
    train_image_critic: bool = True


@dataclass(frozen=True)
class AlphaGANConfig:
    """Hyper-parameters of alpha-GAN and CSegSynth.

    Args:
        grid: Voxels of the maps.
        architecture: ``published`` or ``compact`` networks.
        base: Channel base of the published networks (32 in the paper).
        latent: Entries of the code, and spatial templates, of the compact networks.
        spare: Code entries that pre-training leaves unused; fine-tuning gives them to what its
            cohort shows and the pre-training cohort did not, such as old age.
        doublings: Doublings from the template grid to ``grid``, which must be divisible by
            2 ** (doublings + 1).
        width: Channels of the compact generator's refining convolutions.
        reader_widths: Channels per level of the compact encoder and critic, fine to coarse, from
            patches of 4 voxels on; the grid must be divisible by 2 ** (len(reader_widths) + 1).
        hidden: Width of the compact code critic and transform.
        component_start: Start compact generator and encoder from principal components.
        regression_start: Start the compact transform from the regression of codes on features.
        answer_flags: Tell T which questions are unanswered.
        reconstruction_loss: ``cross_entropy``, or the published ``bce`` per channel.
        penalty_norm: ``per_sample``, or the published ``reference`` over channels.
        volume_loss: ``energy`` score of several draws, or the published ``absolute`` error.
        volume_unit: Training standard deviations (``sd``), or the published ``mm3``.
        volume_draws: Draws per person where an energy score is taken; at least 2.
        code_term: Fine-tuning only. ``gaussian``: K pulls E(x) and T(z, c) to N(0, I), as
            published; ``energy``: T(z, c) must be distributed as the codes of people with
            features c (energy score against E(x)); ``off``.
        triplet_negative: ``participant``: another participant's features, margin their true
            distance, no gradient; ``reference``: the own features plus noise, no margin, with
            gradient, as published.
        unconditional: Objective of pre-training.
        conditional: Objective of fine-tuning.
    """

    family: ClassVar[str] = "csegsynth"
    grid: Grid
    architecture: Literal["published", "compact"] = "compact"
    base: int = 32
    latent: int = 64
    spare: int = 0
    doublings: int = 0
    width: int = 16
    reader_widths: tuple[int, ...] = (64,)
    hidden: int = 128
    component_start: bool = True
    regression_start: bool = True
    answer_flags: bool = True
    reconstruction_loss: Literal["cross_entropy", "bce"] = "cross_entropy"
    penalty_norm: Literal["per_sample", "reference"] = "per_sample"
    volume_loss: Literal["energy", "absolute"] = "energy"
    volume_unit: Literal["sd", "mm3"] = "sd"
    volume_draws: int = 2
    code_term: Literal["gaussian", "energy", "off"] = "energy"
    triplet_negative: Literal["participant", "reference"] = "participant"
    unconditional: Objective = Objective()
    conditional: Objective = Objective(volume=1.0)

    def __post_init__(self):
        if self.volume_draws < 2:
            raise ConfigError(
                f"{self.volume_draws} draws per person have no energy score",
                "Set volume_draws to 2 or more.",
            )


class AlphaGAN(Family):
    """alpha-GAN without features, CSegSynth with them."""

    conditional_parts = ("transform.",)

    def __init__(self, config: AlphaGANConfig, features: Features | None = None):
        super().__init__(config, features)
        c = config
        if c.architecture == "published":
            self.latent_shape = (published.latent_length(c.base),)
            self.generator = published.PublishedGenerator(c.grid, c.base)
            self.encoder = published.PublishedEncoder(c.base)
            self.critic = published.PublishedCritic(c.base)
            self.code_critic = published.PublishedCodeCritic(c.base)
        else:
            self.latent_shape = (c.latent,)
            self.generator = compact.CompactGenerator(c.grid, c.doublings, c.latent, c.width)
            self.encoder = compact.CompactEncoder(c.grid, c.doublings, c.latent, c.reader_widths)
            self.critic = compact.CompactCritic(c.grid, c.reader_widths)
            self.code_critic = compact.CompactCodeCritic(c.latent - c.spare, c.hidden)
        if features is not None:
            self.n_inputs = features.n_inputs if c.answer_flags else len(features.names)
            if c.architecture == "published":
                self.transform = published.PublishedTransform(self.n_inputs, c.base)
            else:
                squared = [i for i, name in enumerate(features.names) if name == "age"]
                self.transform = compact.CompactTransform(
                    self.n_inputs, c.latent, c.hidden, squared
                )

    @property
    def objective(self) -> Objective:
        """The weights of the stage this model is in."""
        return self.config.conditional if self.conditional else self.config.unconditional

    def groups(self) -> dict[str, dict[str, nn.Module]]:
        """Encoder, generator and transform step together; each critic by itself."""
        makers = {"encoder": self.encoder, "generator": self.generator}
        if self.conditional:
            makers["transform"] = self.transform
        groups = {"generator": makers}
        if self.objective.train_image_critic:
            groups["critic"] = {"critic": self.critic}
        if self._has_code_critic:
            groups["code_critic"] = {"code_critic": self.code_critic}
        return groups

    @property
    def _has_code_critic(self) -> bool:
        return not self.conditional or self.config.code_term == "gaussian"

    def code(self, latents: Tensor, features: Tensor | None) -> Tensor:
        """Map (N, L) random codes to the codes of people with these features."""
        if not self.conditional:
            return self._without_spare(latents)
        return self.transform(latents, features[:, : self.n_inputs])

    def encode(self, maps: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) maps to (N, L) codes."""
        return self._without_spare(self.encoder(maps))

    def _without_spare(self, code: Tensor) -> Tensor:
        """Set the entries to 0 that pre-training leaves to fine-tuning."""
        if self.conditional or not self.config.spare:
            return code
        return F.pad(code[:, : -self.config.spare], (0, self.config.spare))

    def _judged(self, code: Tensor) -> Tensor:
        """Let the code critic see the entries that pre-training uses."""
        return self.code_critic(code[:, : code.shape[1] - self.config.spare])

    def logits_from(self, latents: Tensor, features: Tensor | None) -> Tensor:
        """Map (N, L) latents and (N, n_inputs) features to (N, T, X, Y, Z) logits."""
        return self.generator(self.code(latents, features))

    def reconstruct(self, maps: Tensor) -> Tensor:
        """Encode and generate (N, T, X, Y, Z) maps again."""
        return self.generator(self.encode(maps)).float().softmax(1)

    def fit_statistics(self, training: TrainingSet) -> None:
        """Take volume units, and start where principal components and regression lead to."""
        super().fit_statistics(training)
        if self.config.architecture != "compact":
            return
        used, everything = self.config.latent - self.config.spare, self.config.latent
        start = partial(compact.start_from_components, self.generator, self.encoder)
        if self.config.component_start and not self.warm_started:
            start(training.maps(), first=0, last=used)
        if self.config.component_start and self.conditional:
            start(training.maps(), first=used, last=everything)
        if self.config.regression_start and self.conditional:
            with torch.no_grad():
                codes = torch.cat([self.encode(maps) for maps in training.maps()])
            inputs = training.features[:, : self.n_inputs]
            compact.start_from_regression(self.transform, inputs, codes)

    def losses(self, batch: Batch, rng: Rng, step: int) -> Iterator[GroupLoss]:
        """Yield the generator's loss, then those of the critics when it is their turn."""
        goal = self.objective
        encoded = self.encode(batch.maps)
        latents = [rng.normal(*self.latent_shape) for _ in range(self._draws_per_person)]
        codes = [self.code(z, batch.features) for z in latents]
        logits = self.generator(torch.cat([encoded, *codes])).float()
        rendered, *draws = logits.softmax(1).chunk(1 + len(codes))
        reconstruction = logits[: len(encoded)]

        ramp = min(1.0, (step + 1) / goal.warmup_steps)
        phase, whole = (ramp, 1.0) if goal.warmup == "adversarial" else (1.0, ramp)
        opinion = self._opinion(rendered) + self._opinion(torch.cat(draws))
        terms = {
            "reconstruction": goal.reconstruction * self._reconstruction(reconstruction, batch),
            "adversarial": -phase * goal.adversarial * opinion,
            **self._code_term(encoded, codes, phase),
        }
        if self.conditional:
            terms |= self._volume_terms(batch, rendered, draws)
            if goal.triplet:
                negative, margin = self._negative(batch, latents[0], rng)
                truth = self._truth(batch.volumes)
                loss = losses.triplet(truth, self._volumes(draws[0]), negative, margin)
                terms["triplet"] = goal.triplet * loss
        yield "generator", _scaled(terms, whole)

        if not self._critics_step(step):
            return
        if goal.train_image_critic:
            fakes = [torch.cat(draws).detach()[: len(rendered)], rendered.detach()]
            for _ in range(goal.critic_steps):
                terms = self._wasserstein(self.critic, batch.maps, fakes, rng)
                yield "critic", _scaled(terms, whole)
        if self._has_code_critic:
            for _ in range(goal.code_critic_steps):
                yield "code_critic", _scaled(self._code_critic_terms(batch, rng), whole)

    def _opinion(self, maps: Tensor) -> Tensor:
        """Mean score of the image critic, per root-mean-square difference of a voxel.

        The penalty lets scores rise by 1 per Euclidean unit of a whole map; dividing by the
        root of the number of voxels makes the weight mean the same on every grid.
        """
        score = self.critic(maps).mean()
        return score if self.config.penalty_norm == "reference" else score / maps[0].numel() ** 0.5

    @property
    def _draws_per_person(self) -> int:
        scored = "energy" in (self.config.volume_loss, self.config.code_term)
        return self.config.volume_draws if self.conditional and scored else 1

    def _code_term(self, encoded: Tensor, codes: list[Tensor], phase: float) -> dict[str, Tensor]:
        weight = self.objective.code
        if self._has_code_critic:
            pulled = self._judged(encoded).mean()
            if self.conditional:
                pulled = pulled + self._judged(codes[0]).mean()
            return {"code": -phase * weight * pulled}
        if self.config.code_term == "energy":
            # E is not moved by this term: T learns where the codes of such people lie.
            return {"code": weight * _per_entry(torch.stack(codes), encoded.detach())}
        return {}

    def _volume_terms(self, batch, rendered, draws) -> dict[str, Tensor]:
        goal = self.objective
        terms = {"volume": goal.volume * self._volume_loss(draws, batch)}
        if goal.reconstructed_volume:
            truth = self._truth(batch.volumes)
            error = losses.absolute_error(self._volumes(rendered)[None], truth)
            terms["reconstructed_volume"] = goal.reconstructed_volume * error
        return terms

    def _reconstruction(self, logits: Tensor, batch: Batch) -> Tensor:
        if self.config.reconstruction_loss == "bce":
            return losses.bce_on_softmax(logits, batch.maps)
        return losses.cross_entropy(logits, batch.maps)

    def _volumes(self, maps: Tensor) -> Tensor:
        """Volumes in the configured unit, apart from a constant."""
        scale = self.volume_sd_ml * _MM3_PER_ML if self.config.volume_unit == "mm3" else 1.0
        return self.standardized_volumes(maps) * scale

    def _truth(self, volumes_ml: Tensor) -> Tensor:
        scale = self.volume_sd_ml * _MM3_PER_ML if self.config.volume_unit == "mm3" else 1.0
        return (volumes_ml - self.volume_mean_ml) / self.volume_sd_ml * scale

    def _volume_loss(self, draws: list[Tensor], batch: Batch) -> Tensor:
        volumes = torch.stack([self._volumes(draw) for draw in draws])
        if self.config.volume_loss == "energy":
            return losses.energy_score(volumes, self._truth(batch.volumes))
        return losses.absolute_error(volumes, self._truth(batch.volumes))

    def _negative(self, batch: Batch, latents: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """Volumes generated from features that are not this person's, and the triplet margin."""
        if self.config.triplet_negative == "reference":
            other = batch.features + rng.normal(batch.features.shape[1])
            return self._volumes(self.generate(latents, other)), torch.zeros(())
        apart = self._truth(batch.volumes) - self._truth(batch.other_volumes)
        margin = apart.abs().sum(1)
        with torch.no_grad():  # Otherwise the loss falls by spoiling the other person's map.
            negative = self.generate(latents, batch.other_features)
        return self._volumes(negative), margin

    def _critics_step(self, step: int) -> bool:
        turn = step % self.objective.critic_every == 0
        if self.objective.cadence == "reference" and self.objective.critic_every > 1:
            return not turn
        return turn

    def _code_critic_terms(self, batch: Batch, rng: Rng) -> dict[str, Tensor]:
        real = rng.normal(*self.latent_shape)
        with torch.no_grad():
            fakes = [self.encode(batch.maps).float()]
            if self.conditional:
                fakes.append(self.code(rng.normal(*self.latent_shape), batch.features).float())
        return self._wasserstein(self._judged, real, fakes, rng)

    def _wasserstein(self, critic, real, fakes, rng) -> dict[str, Tensor]:
        """Wasserstein loss with gradient penalty, in float32: both differentiate twice."""
        with torch.autocast(real.device.type, enabled=False):
            real_score = critic(real).mean()
            distance = sum(critic(fake).mean() - real_score for fake in fakes)
            penalty = sum(
                losses.gradient_penalty(critic, real, fake, rng.uniform(), self.config.penalty_norm)
                for fake in fakes
            )
        return {"distance": distance, "penalty": self.objective.penalty * penalty}


def _scaled(terms: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    return terms if factor == 1.0 else {name: factor * term for name, term in terms.items()}


def _per_entry(codes: Tensor, truth: Tensor) -> Tensor:
    """Energy score of (M, N, L) codes per square root of their length."""
    return losses.energy_score(codes.float(), truth.float()) / truth.shape[-1] ** 0.5
