"""Which answers matter for which tissue, by gradients (CSegSynth, feature importance)."""

import numpy as np
import pandas as pd
import torch

from csegsynth_kit.analysis.generate import checked_people, latents_of
from csegsynth_kit.analysis.importance_groups import group_effects, single_questions
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.features import Features
from csegsynth_kit.maps import volumes_ml
from csegsynth_kit.metrics.volumes import resamples
from csegsynth_kit.models import Family

_CHUNK = 16


def volume_gradients(
    model: Family, people: pd.DataFrame, *, draws: int = 4, seed: int = 0
) -> np.ndarray:
    """Gradient of generated volumes with respect to standardized features.

    Args:
        model: A trained conditional model.
        people: (N rows) answers.
        draws: Antithetic draws per person over which gradients are averaged.
        seed: Of the latents.

    Returns:
        (N, F, 3) mL per training standard deviation of each encoded feature. Where a person
        left a question unanswered it is 0, and an answer's effect includes what it lets expect
        of the unanswered ones: their imputed values move with it.
    """
    table, _ = checked_people(model, people)
    encoded = model.features.encode(table)
    inputs = torch.from_numpy(model.features.inputs(encoded))
    inputs = inputs.repeat_interleave(draws, 0).to(model.volume_mean_ml.device)
    latents = torch.cat(
        [latents_of(model, i, n=draws, seed=seed, antithetic=True) for i in range(len(table))]
    ).to(inputs.device)
    gradients = [
        _chunk_gradients(model, latents[part], inputs[part])
        for part in torch.arange(len(inputs), device=inputs.device).split(_CHUNK)
    ]
    n_features = len(model.features.names)
    mean = torch.cat(gradients)[:, :n_features].unflatten(0, (len(table), draws)).mean(1)
    return of_answers(model.features, encoded.values, mean.double().cpu().numpy())


def gradient_importance(
    model: Family,
    people: pd.DataFrame,
    *,
    draws: int = 4,
    seed: int = 0,
    times: int = 2000,
) -> pd.DataFrame:
    """Summarize gradients per question and tissue.

    Args:
        model: A trained conditional model.
        people: Answers of participants the model has not seen.
        draws: Draws per person.
        seed: Of latents and bootstrap.
        times: Bootstrap resamples of people.

    Returns:
        One row per question and tissue: ``effect_ml``, the mean gradient (mL per standard
        deviation; for a question with k > 2 unordered answers the SD of the changes from the
        average to each of them), its 95 % interval over people ``effect_low`` and ``effect_high``,
        ``importance_ml``, the mean over people of its size, and ``n``.

        The interval tells how the effect varies between samples of people for this one model,
        not how it would vary had the model been trained on other people.
    """
    features = model.features
    gradients = volume_gradients(model, people, draws=draws, seed=seed)
    questions = single_questions(features)
    effects = group_effects(gradients.mean(axis=0), features, questions)
    resampled = group_effects(resampled_means(gradients, times, seed), features, questions)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    sizes = np.abs(group_effects(gradients, features, questions)).mean(axis=0)
    table = []
    for i, question in enumerate(questions):
        for t, tissue in enumerate(MEASURED):
            row = {"effect_ml": effects[i, t], "effect_low": low[i, t], "effect_high": high[i, t]}
            entry = {"feature": question, "tissue": tissue, **row}
            table.append({**entry, "importance_ml": sizes[i, t], "n": len(people)})
    return pd.DataFrame(table)


def resampled_means(values: np.ndarray, times: int, seed: int) -> np.ndarray:
    """Means (B, ...) of (N, ...) values over bootstrap resamples of people."""
    return np.einsum("bn,n...->b...", resample_shares(len(values), times, seed), values)


def resample_shares(n: int, times: int, seed: int) -> np.ndarray:
    """Share (B, n) that each of ``n`` people has of each resample."""
    rows = resamples(n, times=times, seed=seed)
    return np.stack([np.bincount(own, minlength=n) for own in rows]) / n


def of_answers(features: Features, values: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Turn gradients in imputed values into gradients in the answers given.

    Imputation is linear in the answers: row j of its matrix is what a unit of answer j adds.

    Args:
        features: That encoded the answers.
        values: (N, F) standardized answers, NaN where unanswered.
        gradients: (N, F, 3) in the imputed values.

    Returns:
        (N, F, 3), 0 where unanswered.
    """
    unanswered, total = np.isnan(values), np.empty_like(gradients)
    for pattern in np.unique(unanswered, axis=0):
        here = (unanswered == pattern).all(axis=1)
        imputed = features.impute(np.where(pattern, np.nan, np.eye(len(pattern))))
        total[here] = imputed @ gradients[here]
    return total


def _chunk_gradients(model: Family, latents: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Gradients (n, n_inputs, 3) of a few draws."""
    inputs = inputs.clone().requires_grad_(True)
    maps = model.generate(latents, inputs)
    volumes = volumes_ml(maps[:, : len(MEASURED)], model.config.grid.voxel_ml)
    per_tissue = [
        torch.autograd.grad(volumes[:, t].sum(), inputs, retain_graph=t + 1 < len(MEASURED))[0]
        for t in range(len(MEASURED))
    ]
    return torch.stack(per_tissue, dim=-1)
