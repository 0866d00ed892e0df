"""Wasserstein GAN, and its conditional descendant C-GAN.

Two networks: the generator G maps a code to a map, the image critic D scores maps. C-GAN adds
T(z, c), which moves a random code z by a person's features c.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from csegsynth_kit.data.features import Features
from csegsynth_kit.models import compact, published, terms
from csegsynth_kit.models.base import Batch, GroupLoss, Rng
from csegsynth_kit.models.codes import CodeConfig, CodeFamily


@dataclass(frozen=True)
class GANObjective:
    """Weights and schedule of one stage.

    Args:
        adversarial: Weight of the critic's opinion.
        volume: Weight of the volumes of generated maps (conditional only).
        triplet: Weight of the triplet loss (conditional only).
        penalty: Weight of the critic's gradient penalty.
        warmup_steps: Steps over which the adversarial term phases in.
        warmup: ``adversarial`` phases in that term only, ``whole`` scales every term, as the
            published scripts do.
        critic_steps: Critic steps after each generator step that has any.
        critic_every: Generator steps per round of critic steps.
    """

    adversarial: float = 1.0
    volume: float = 0.0
    triplet: float = 0.0
    penalty: float = 10.0
    warmup_steps: int = 200
    warmup: terms.Warmup = "adversarial"
    critic_steps: int = 1
    critic_every: int = 1


@dataclass(frozen=True)
class GANConfig(CodeConfig):
    """Hyper-parameters of GAN and C-GAN, besides those of every code.

    Args:
        penalty_norm: ``per_sample``, or the published ``reference`` over channels.
        triplet_negative: ``participant``: another participant's features, margin their true
            distance, no gradient; ``reference``: the own features plus noise, no margin, with
            gradient, as published.
        unconditional: Objective of pre-training.
        conditional: Objective of fine-tuning.
    """

    family: ClassVar[str] = "cgan"
    penalty_norm: Literal["per_sample", "reference"] = "per_sample"
    triplet_negative: Literal["participant", "reference"] = "participant"
    unconditional: GANObjective = GANObjective()
    conditional: GANObjective = GANObjective(volume=1.0)


class GAN(CodeFamily):
    """GAN without features, C-GAN with them. It does not reconstruct: nothing learns to encode."""

    conditional_parts = ("transform.",)

    def __init__(self, config: GANConfig, features: Features | None = None):
        super().__init__(config, features)
        c = config
        if c.architecture == "published":
            self.critic = published.PublishedCritic(c.base)
        else:
            self.critic = compact.CompactCritic(c.grid, c.reader_widths)
            #: Fixed; it serves only the start from components and regression.
            self.components = compact.ComponentReader(c.grid, c.doublings, c.latent)
        if self.conditional:
            self.transform = self.new_transform()

    @property
    def reader(self) -> compact.ComponentReader:
        """The fixed component scores."""
        return self.components

    def encode(self, maps: Tensor) -> Tensor:
        """Read (N, L) component scores off (N, T, X, Y, Z) maps."""
        return self.without_spare(self.components.scores(maps))

    def rendered(self, maps: Tensor, features: Tensor | None = None) -> Tensor | None:
        """Render maps through the component scores that compact networks keep."""
        if self.config.architecture == "published":
            return None
        return self.generator(self.encode(maps)).float().softmax(1)

    def groups(self) -> dict[str, dict[str, nn.Module]]:
        """Generator and transform step together, the critic by itself."""
        makers = {"generator": self.generator}
        if self.conditional:
            makers["transform"] = self.transform
        return {"generator": makers, "critic": {"critic": self.critic}}

    def losses(self, batch: Batch, rng: Rng, step: int) -> Iterator[GroupLoss]:
        """Yield the generator's loss, then the critic's when it is its turn."""
        goal, norm = self.objective, self.config.penalty_norm
        latents = [rng.normal(*self.latent_shape) for _ in range(self.draws_per_person)]
        codes = torch.cat([self.code(z, batch.features) for z in latents])
        maps = self.textured(self.generator(codes).float(), torch.cat(latents)).softmax(1)
        draws = list(maps.chunk(len(latents)))
        phase, whole = terms.warmup(step, goal.warmup_steps, goal.warmup)
        opinion = terms.opinion(self.critic, maps, norm)
        loss = {"adversarial": -phase * goal.adversarial * opinion}
        if self.conditional:
            error = terms.volume_error(self, draws, batch, self.config.volume_loss)
            loss["volume"] = goal.volume * error
            if goal.triplet:
                loss["triplet"] = goal.triplet * terms.triplet(
                    self, batch, latents[0], draws[0], rng, negative=self.config.triplet_negative
                )
        yield "generator", terms.scaled(loss, whole)

        if not terms.critics_turn(step, goal.critic_every):
            return
        fakes = [draws[0].detach()]
        for _ in range(goal.critic_steps):
            loss = terms.image_wasserstein(
                self.critic, batch.maps, fakes, rng, penalty=goal.penalty, norm=norm
            )
            yield "critic", terms.scaled(loss, whole)
