"""Scores on validation participants, from latents that never change."""

import numpy as np
import torch
from torch import Tensor

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.maps import at_once, dequantize
from csegsynth_kit.models.base import Family, Rng
from csegsynth_kit.models.losses import energy_score


@torch.no_grad()
def validate(model: Family, cohort: Cohort, *, draws: int, seed: int) -> dict[str, float]:
    """Score a model on validation participants.

    Args:
        model: On any device.
        cohort: Validation participants.
        draws: Maps per participant, at least 3; antithetic pairs of latents, so that their mean
            is precise. An energy score counts one of each pair: twins are further apart than
            independent draws, and a model would pass for one that spreads too much.
        seed: Of the latents.

    Returns:
        ``energy_score`` and ``mae`` (of the mean of the draws) in training standard deviations,
        ``sd_ratio`` of one draw per participant to the real volumes, per tissue ``r_…``; without
        features the energy distance of the volumes instead of the first two; and
        ``reconstruction``, the mean absolute error of reconstructed maps, where there is one.
    """
    device = model.volume_mean_ml.device
    truth = torch.tensor(cohort.volumes.to_numpy(), dtype=torch.float32, device=device)
    truth = (truth - model.volume_mean_ml) / model.volume_sd_ml
    inputs = _inputs(model, cohort)
    generated = draw_volumes(model, inputs, draws=draws, seed=seed, n=len(cohort))
    scores = {"sd_ratio": float((generated[0].std(0) / truth.std(0)).mean())}
    if model.conditional:
        mean = generated.mean(0)
        independent = generated[: (draws + 1) // 2]  # the others are their antithetic twins
        scores["energy_score"] = float(energy_score(independent, truth))
        scores["mae"] = float((mean - truth).abs().mean())
        for i, tissue in enumerate(MEASURED):
            scores[f"r_{tissue.lower()}"] = _correlation(mean[:, i], truth[:, i])
    else:
        scores["energy_distance"] = energy_distance(generated[0], truth)
    return scores | _reconstruction_error(model, cohort, inputs)


@torch.no_grad()
def draw_volumes(model: Family, inputs: Tensor | None, *, draws: int, seed: int, n: int) -> Tensor:
    """Standardized volumes (draws, N, 3) of generated maps, from antithetic pairs of latents."""
    device = model.volume_mean_ml.device
    half = Rng(seed, total=n, device=device).normal((draws + 1) // 2, *model.latent_shape)
    latents = torch.cat([half, -half], dim=1)[:, :draws]
    volumes = []
    for part in torch.arange(n).split(max(1, at_once(model.config.grid) // draws)):
        features = None
        if inputs is not None:
            features = inputs[part.to(device)].repeat_interleave(draws, 0)
        maps = model.generate(latents[part.to(device)].flatten(0, 1), features)
        volumes.append(model.standardized_volumes(maps).unflatten(0, (-1, draws)))
    return torch.cat(volumes).transpose(0, 1)


def energy_distance(a: Tensor, b: Tensor) -> float:
    """Energy distance between two samples (N, D) and (M, D), unbiased."""
    n, m = len(a), len(b)
    within_a = torch.cdist(a, a).sum() / (n * (n - 1))
    within_b = torch.cdist(b, b).sum() / (m * (m - 1))
    return float(2 * torch.cdist(a, b).mean() - within_a - within_b)


def _inputs(model: Family, cohort: Cohort) -> Tensor | None:
    if not model.conditional:
        return None
    inputs = model.features.inputs(model.features.encode(cohort.table))
    return torch.from_numpy(inputs).to(model.volume_mean_ml.device)


def _reconstruction_error(model: Family, cohort: Cohort, inputs: Tensor | None) -> dict[str, float]:
    errors, quantized = [], torch.from_numpy(cohort.quantized())
    for part in torch.arange(len(quantized)).split(at_once(model.config.grid)):
        maps = dequantize(quantized[part].to(model.volume_mean_ml.device))
        rendered = model.reconstruct(maps, None if inputs is None else inputs[part])
        if rendered is None:
            return {}
        errors.append((rendered - maps).abs().mean((1, 2, 3, 4)))
    return {"reconstruction": float(torch.cat(errors).mean())}


def _correlation(a: Tensor, b: Tensor) -> float:
    if min(float(a.std()), float(b.std())) < 1e-9:
        return float("nan")
    return float(np.corrcoef(a.cpu().numpy(), b.cpu().numpy())[0, 1])
