"""Loss terms and schedules that several families share."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.models import compact, losses
from csegsynth_kit.models.base import Batch, Family, Rng

#: mL to the cubic millimeters of the published volume loss.
_MM3_PER_ML = 1000.0

Critic = Callable[[Tensor], Tensor]
Unit = Literal["sd", "mm3"]
VolumeLoss = Literal["energy", "absolute"]
Norm = Literal["per_sample", "reference"]
Warmup = Literal["adversarial", "whole"]


def require_draws(draws: int) -> None:
    """Raise ConfigError if there are too few draws per person for an energy score."""
    if draws < 2:
        raise ConfigError(
            f"{draws} draws per person have no energy score", "Set volume_draws to 2 or more."
        )


def warmup(step: int, steps: int, kind: Warmup) -> tuple[float, float]:
    """Factors of the adversarial terms, and of every term of every group; never 0.

    Args:
        step: Generator steps so far, over all epochs.
        steps: Over how many the factors rise to 1.
        kind: ``adversarial`` phases in those terms only, ``whole`` scales every term, as the
            published scripts do.
    """
    ramp = min(1.0, (step + 1) / steps)
    return (ramp, 1.0) if kind == "adversarial" else (1.0, ramp)


def scaled(terms: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Multiply all terms of a loss by a factor."""
    return terms if factor == 1.0 else {name: factor * term for name, term in terms.items()}


def critics_turn(
    step: int, critic_every: int, cadence: Literal["every", "reference"] = "every"
) -> bool:
    """Whether critics step after this generator step.

    Args:
        step: Generator steps so far, over all epochs.
        critic_every: Generator steps per round of critic steps.
        cadence: ``every`` runs critics in one of ``critic_every`` batches; ``reference`` in all
            but one of them, as the published scripts do.
    """
    turn = step % critic_every == 0
    if cadence == "reference" and critic_every > 1:
        return not turn
    return turn


def opinion(critic: Critic, maps: Tensor, norm: Norm) -> Tensor:
    """Mean score of an image critic, per root-mean-square difference of a voxel.

    The penalty lets scores rise by 1 per Euclidean unit of a whole map; dividing by the
    root of the number of voxels makes the weight mean the same on every grid.
    """
    score = critic(maps).mean()
    return score if norm == "reference" else score / maps[0].numel() ** 0.5


def wasserstein(
    critic: Critic, real: Tensor, fakes: list[Tensor], rng: Rng, *, penalty: float, norm: Norm
) -> dict[str, Tensor]:
    """Wasserstein loss with gradient penalty, in float32: both differentiate twice.

    Args:
        critic: Maps (N, ...) to (N,).
        real: (N, ...).
        fakes: Each (N, ...), detached from what generated them.
        rng: Random numbers of this step.
        penalty: Weight of the gradient penalty.
        norm: See ``losses.gradient_penalty``.
    """
    with torch.autocast(real.device.type, enabled=False):
        real_score = critic(real).mean()
        distance = sum(critic(fake).mean() - real_score for fake in fakes)
        steepness = sum(
            losses.gradient_penalty(critic, real, fake, rng.uniform(), norm) for fake in fakes
        )
    return {"distance": distance, "penalty": penalty * steepness}


def image_wasserstein(
    critic: nn.Module, real: Tensor, fakes: list[Tensor], rng: Rng, *, penalty: float, norm: Norm
) -> dict[str, Tensor]:
    """:func:`wasserstein` of maps; a compact critic's are cut into patches once.

    Patches are the same numbers in another order: distances and gradients are as long.
    """
    if isinstance(critic, compact.CompactCritic) and norm == "per_sample":
        real, fakes = compact.patches(real), [compact.patches(fake) for fake in fakes]
        critic = critic.of_patches
    return wasserstein(critic, real, fakes, rng, penalty=penalty, norm=norm)


def reconstruction(logits: Tensor, maps: Tensor, kind: Literal["cross_entropy", "bce"]) -> Tensor:
    """Mean error per voxel of (N, T, X, Y, Z) logits: soft cross-entropy, or as published."""
    if kind == "bce":
        return losses.bce_on_softmax(logits, maps)
    return losses.cross_entropy(logits, maps)


def volumes(model: Family, maps: Tensor, unit: Unit = "sd") -> Tensor:
    """Volumes (N, 3) in training standard deviations, or mm^3, apart from a constant."""
    return model.standardized_volumes(maps) * _scale(model, unit)


def true_volumes(model: Family, volumes_ml: Tensor, unit: Unit = "sd") -> Tensor:
    """Convert measured volumes (N, 3) from mL to the units of :func:`volumes`."""
    return (volumes_ml - model.volume_mean_ml) / model.volume_sd_ml * _scale(model, unit)


def volume_error(
    model: Family, draws: list[Tensor], batch: Batch, kind: VolumeLoss, unit: Unit = "sd"
) -> Tensor:
    """Error of the volumes of each person's draws.

    Args:
        model: Knows the units.
        draws: One (N, T, X, Y, Z) per draw.
        batch: The N persons.
        kind: ``energy`` score of two or more draws, or the published ``absolute`` error.
        unit: See :func:`volumes`.
    """
    drawn = torch.stack([volumes(model, draw, unit) for draw in draws])
    error = losses.energy_score if kind == "energy" else losses.absolute_error
    return error(drawn, true_volumes(model, batch.volumes, unit))


def triplet(
    model: Family,
    batch: Batch,
    latents: Tensor,
    drawn: Tensor,
    rng: Rng,
    *,
    negative: Literal["participant", "reference"],
    unit: Unit = "sd",
) -> Tensor:
    """Triplet loss: volumes must fit a person better than those from other features do.

    Args:
        model: Generates the negatives.
        batch: The N persons.
        latents: (N, *latent_shape) latents that ``drawn`` came from.
        drawn: (N, T, X, Y, Z) maps generated from the own features.
        rng: Random numbers of this step.
        negative: ``participant``: another participant's features, margin their true distance,
            no gradient; ``reference``: the own features plus noise, no margin, with gradient,
            as published.
        unit: See :func:`volumes`.
    """
    truth, margin = true_volumes(model, batch.volumes, unit), torch.zeros(())
    if negative == "reference":
        other = model.generate(latents, batch.features + rng.normal(batch.features.shape[1]))
    else:
        margin = (truth - true_volumes(model, batch.other_volumes, unit)).abs().sum(1)
        with torch.no_grad():  # Otherwise the loss falls by spoiling the other person's map.
            other = model.generate(latents, batch.other_features)
    return losses.triplet(truth, volumes(model, drawn, unit), volumes(model, other, unit), margin)


def _scale(model: Family, unit: Unit) -> Tensor | float:
    return model.volume_sd_ml * _MM3_PER_ML if unit == "mm3" else 1.0
