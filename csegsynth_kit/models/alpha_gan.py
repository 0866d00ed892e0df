"""alpha-GAN, and its conditional descendant CSegSynth (arXiv 2504.12352).

Four networks: the generator G maps a code to a map, the encoder E a map to a code, the image
critic D scores maps, the code critic K scores codes. CSegSynth adds T(z, c), which moves a
random code z by a person's features c.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from csegsynth_kit.data.features import Features
from csegsynth_kit.models import compact, losses, published, terms
from csegsynth_kit.models.base import Batch, GroupLoss, Rng, TrainingSet
from csegsynth_kit.models.codes import CodeConfig, CodeFamily


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
class AlphaGANConfig(CodeConfig):
    """Hyper-parameters of alpha-GAN and CSegSynth, besides those of every code.

    Args:
        reconstruction_loss: ``cross_entropy``, or the published ``bce`` per channel.
        penalty_norm: ``per_sample``, or the published ``reference`` over channels.
        volume_unit: Training standard deviations (``sd``), or the published ``mm3``.
        code_term: Fine-tuning only. ``gaussian``: K pulls E(x) and T(z, c) to N(0, I), as
            published; ``energy``: T(z, c) must be distributed as the codes of people with
            features c (energy score against E(x)); ``off``.
        triplet_negative: ``participant``: another participant's features, margin their true
            distance, no gradient; ``reference``: the own features plus noise, no margin, with
            gradient, as published.
        prior_restart: Pre-training only. Generate from the mean and the variance that codes of
            training maps have, entry by entry, taken anew after every epoch that is
            validated. K asks for N(0, I), but hardly holds long trainings there, and volumes
            drift with the codes.
        unconditional: Objective of pre-training.
        conditional: Objective of fine-tuning.
    """

    family: ClassVar[str] = "csegsynth"
    reconstruction_loss: Literal["cross_entropy", "bce"] = "cross_entropy"
    penalty_norm: Literal["per_sample", "reference"] = "per_sample"
    volume_unit: Literal["sd", "mm3"] = "sd"
    code_term: Literal["gaussian", "energy", "off"] = "energy"
    triplet_negative: Literal["participant", "reference"] = "participant"
    prior_restart: bool = False
    unconditional: Objective = Objective()
    conditional: Objective = Objective(volume=1.0)


class AlphaGAN(CodeFamily):
    """alpha-GAN without features, CSegSynth with them."""

    conditional_parts = ("transform.",)
    rebuilt_parts = ("prior_",)

    def __init__(self, config: AlphaGANConfig, features: Features | None = None):
        super().__init__(config, features)
        c = config
        if c.architecture == "published":
            self.encoder = published.PublishedEncoder(c.base)
            self.critic = published.PublishedCritic(c.base)
            self.code_critic = published.PublishedCodeCritic(c.base)
        else:
            self.encoder = compact.CompactEncoder(c.grid, c.doublings, c.latent, c.reader_widths)
            self.critic = compact.CompactCritic(c.grid, c.reader_widths)
            self.code_critic = compact.CompactCodeCritic(self.used, c.hidden)
        if self.conditional:
            self.transform = self.new_transform()
        elif c.prior_restart:
            self.register_buffer("prior_mean", torch.zeros(self.code_length))
            self.register_buffer("prior_sd", torch.ones(self.code_length))

    @property
    def reader(self) -> compact.ComponentReader:
        """The encoder reads components."""
        return self.encoder

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

    def encode(self, maps: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) maps to (N, L) codes."""
        return self.without_spare(self.encoder(maps))

    def code(self, latents: Tensor, features: Tensor | None) -> Tensor:
        """Map latents to the codes (N, L) to generate from."""
        code = self._standard_code(latents, features)
        return code * self.prior_sd + self.prior_mean if self._follows else code

    def _standard_code(self, latents: Tensor, features: Tensor | None) -> Tensor:
        """Codes to train with, where K wants codes to be."""
        return super().code(latents, features)

    @property
    def _follows(self) -> bool:
        return not self.conditional and self.config.prior_restart

    @torch.no_grad()
    def settle(self, training: TrainingSet) -> Iterable[str]:
        """Fit the prior to the present codes, besides what all families with a code fit."""
        if self._follows:
            codes = torch.cat([self.encode(maps) for maps in training.maps()])
            self.prior_mean.copy_(codes.mean(0))
            self.prior_sd.copy_(codes.std(0))
        return super().settle(training)

    def _judged(self, code: Tensor) -> Tensor:
        """Let the code critic see the entries that pre-training uses."""
        return self.code_critic(code[:, : self.used])

    def reconstruct(self, maps: Tensor, features: Tensor | None = None) -> Tensor:
        """Encode and generate (N, T, X, Y, Z) maps again."""
        return self.generator(self.encode(maps)).float().softmax(1)

    def losses(self, batch: Batch, rng: Rng, step: int) -> Iterator[GroupLoss]:
        """Yield the generator's loss, then those of the critics when it is their turn."""
        goal = self.objective
        encoded = self.encode(batch.maps)
        latents = [rng.normal(*self.latent_shape) for _ in range(self.draws_per_person)]
        codes = [self._standard_code(z, batch.features) for z in latents]
        logits = self.generator(torch.cat([encoded, *codes])).float().chunk(1 + len(codes))
        reconstruction = logits[0]
        # Critics would tell maps without texture at a glance; it is no error of reconstruction.
        textures = [self.texture_of(z) for z in latents]
        pairs = zip(logits, [textures[0], *textures], strict=True)
        rendered, *draws = (self.with_texture(*pair).softmax(1) for pair in pairs)

        phase, whole = terms.warmup(step, goal.warmup_steps, goal.warmup)
        opinion = self._opinion(rendered) + self._opinion(torch.cat(draws))
        loss = {
            "reconstruction": goal.reconstruction * self._reconstruction(reconstruction, batch),
            "adversarial": -phase * goal.adversarial * opinion,
            **self._code_term(encoded, codes, phase),
        }
        if self.conditional:
            loss |= self._volume_terms(batch, reconstruction, draws)
            if goal.triplet:
                loss["triplet"] = goal.triplet * self._triplet(batch, latents[0], draws[0], rng)
        yield "generator", terms.scaled(loss, whole)

        if not terms.critics_turn(step, goal.critic_every, goal.cadence):
            return
        if goal.train_image_critic:
            fakes = [torch.cat(draws).detach()[: len(rendered)], rendered.detach()]
            for _ in range(goal.critic_steps):
                loss = terms.image_wasserstein(
                    self.critic,
                    batch.maps,
                    fakes,
                    rng,
                    penalty=goal.penalty,
                    norm=self.config.penalty_norm,
                )
                yield "critic", terms.scaled(loss, whole)
        if self._has_code_critic:
            for _ in range(goal.code_critic_steps):
                yield "code_critic", terms.scaled(self._code_critic_terms(batch, rng), whole)

    @property
    def energy_scored(self) -> bool:
        """Volumes, or codes, may be scored."""
        return super().energy_scored or self.config.code_term == "energy"

    def _opinion(self, maps: Tensor) -> Tensor:
        return terms.opinion(self.critic, maps, self.config.penalty_norm)

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

    def _volume_terms(self, batch, reconstruction, draws) -> dict[str, Tensor]:
        goal, kind, unit = self.objective, self.config.volume_loss, self.config.volume_unit
        loss = {"volume": goal.volume * terms.volume_error(self, draws, batch, kind, unit)}
        if goal.reconstructed_volume:
            rendered = [reconstruction.softmax(1)]
            error = terms.volume_error(self, rendered, batch, "absolute", unit)
            loss["reconstructed_volume"] = goal.reconstructed_volume * error
        return loss

    def _triplet(self, batch: Batch, latents: Tensor, drawn: Tensor, rng: Rng) -> Tensor:
        c = self.config
        return terms.triplet(
            self, batch, latents, drawn, rng, negative=c.triplet_negative, unit=c.volume_unit
        )

    def _reconstruction(self, logits: Tensor, batch: Batch) -> Tensor:
        return terms.reconstruction(logits, batch.maps, self.config.reconstruction_loss)

    def _code_critic_terms(self, batch: Batch, rng: Rng) -> dict[str, Tensor]:
        real = rng.normal(self.code_length)
        with torch.no_grad():
            fakes = [self.encode(batch.maps).float()]
            if self.conditional:
                fakes.append(self.code(rng.normal(*self.latent_shape), batch.features).float())
        penalty, norm = self.objective.penalty, self.config.penalty_norm
        return terms.wasserstein(self._judged, real, fakes, rng, penalty=penalty, norm=norm)


def _per_entry(codes: Tensor, truth: Tensor) -> Tensor:
    """Energy score of (M, N, L) codes per square root of their length."""
    return losses.energy_score(codes.float(), truth.float()) / truth.shape[-1] ** 0.5
