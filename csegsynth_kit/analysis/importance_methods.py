"""Three ways to ask a model which answers matter; each takes questions or groups of them.

Gradients ask what a small change of an answer would do, integrated gradients what a person's
answers have done, permutation what knowing the answer is worth. They answer different questions
and need not agree.
"""

import numpy as np
import pandas as pd
import torch
from captum.attr import IntegratedGradients

from csegsynth_kit.analysis.generate import checked_people, latents_of, predict_volumes
from csegsynth_kit.analysis.importance import resample_shares, resampled_means, volume_gradients
from csegsynth_kit.analysis.importance_groups import Groups, checked_groups, group_effects
from csegsynth_kit.analysis.importance_scores import Importance, with_percentiles
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.maps import volumes_ml
from csegsynth_kit.models import Family

#: Resamples: enough for a 95 % interval, few enough for the ranks of all.
_TIMES = 500
_CHUNK = 16


def by_gradient(
    model: Family,
    people: pd.DataFrame,
    *,
    groups: Groups | None = None,
    draws: int = 4,
    seed: int = 0,
    times: int = _TIMES,
) -> Importance:
    """Mean gradient of generated volumes: the paper's measure.

    Args:
        model: A trained conditional model.
        people: Answers of participants the model has not seen.
        groups: Name to questions; by default every question alone. See
            ``importance_groups.group_effects`` for how several move together.
        draws: Antithetic draws per person.
        seed: Of latents and bootstrap.
        times: Bootstrap resamples of people.

    Returns:
        Effects (mL per training standard deviation), with intervals over people for this one
        model; see ``importance_refit`` for intervals over training samples.
    """
    groups = checked_groups(model.features, groups)
    gradients = volume_gradients(model, people, draws=draws, seed=seed)
    means = resampled_means(gradients, times, seed)
    return with_percentiles(
        group_effects(gradients.mean(axis=0), model.features, groups),
        group_effects(means, model.features, groups),
        method="gradient",
        unit="mL per SD",
        groups=tuple(groups),
        over="people",
        n=len(people),
        signed=True,
    )


def integrated_gradients(
    model: Family, people: pd.DataFrame, *, draws: int = 2, steps: int = 4, seed: int = 0
) -> np.ndarray:
    """What each answer adds to a person's volumes, from the mean training answers on.

    Integrated gradients (Sundararajan et al. 2017, captum) of the volumes of the mean draw,
    from the mean of the training answers, everything answered, to the person's own. They add
    up to the difference between the two predictions.

    Args:
        model: A trained conditional model.
        people: (N rows) answers.
        draws: Antithetic draws per person.
        steps: Points of the Gauss-Legendre quadrature along the path.
        seed: Of the latents.

    Returns:
        (N, Q, 3) mL per question. Leaving a question unanswered counts with that question.
    """
    table, _ = checked_people(model, people)
    features, device = model.features, model.volume_mean_ml.device
    inputs = torch.from_numpy(features.inputs(features.encode(table))).to(device)
    latents = [latents_of(model, i, n=draws, seed=seed, antithetic=True) for i in range(len(table))]
    inputs, latents = inputs.repeat_interleave(draws, 0), torch.cat(latents).to(device)

    def volumes(inputs: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        maps = model.generate(latents, inputs)
        return volumes_ml(maps[:, : len(MEASURED)], model.config.grid.voxel_ml)

    explain = IntegratedGradients(volumes)
    parts = [
        torch.stack(
            [
                explain.attribute(
                    inputs[rows],
                    target=t,
                    additional_forward_args=(latents[rows],),
                    n_steps=steps,
                    internal_batch_size=_CHUNK,
                )
                for t in range(len(MEASURED))
            ],
            dim=-1,
        )
        for rows in torch.arange(len(inputs)).split(_CHUNK)
    ]
    own = torch.cat(parts).detach().unflatten(0, (len(table), draws)).mean(1).double().cpu().numpy()
    question = np.concatenate([features.question, np.arange(len(features.columns))])
    return np.stack([own[:, question == q].sum(axis=1) for q in range(len(features.columns))], 1)


def by_integrated_gradients(
    model: Family,
    people: pd.DataFrame,
    *,
    groups: Groups | None = None,
    draws: int = 2,
    steps: int = 4,
    seed: int = 0,
    times: int = _TIMES,
) -> Importance:
    """Mean absolute integrated gradient (mL); of a group, of the sum over its questions.

    Arguments as of :func:`by_gradient` and :func:`integrated_gradients`.
    """
    groups = checked_groups(model.features, groups)
    own = integrated_gradients(model, people, draws=draws, steps=steps, seed=seed)
    questions = list(model.features.questions)
    sums = [own[:, [questions.index(q) for q in names]].sum(axis=1) for names in groups.values()]
    sizes = np.abs(np.stack(sums, axis=1))
    return with_percentiles(
        sizes.mean(axis=0),
        resampled_means(sizes, times, seed),
        method="integrated gradients",
        unit="mL",
        groups=tuple(groups),
        over="people",
        n=len(people),
    )


def by_permutation(
    model: Family,
    people: pd.DataFrame,
    volumes_ml: np.ndarray,
    *,
    groups: Groups | None = None,
    draws: int = 4,
    permutations: int = 3,
    seed: int = 0,
    times: int = _TIMES,
) -> tuple[Importance, Importance]:
    """Rise of the error when a question's answers are shuffled among people (Breiman 2001).

    The prediction is the mean of the draws, from the same latents before and after. A group's
    questions are shuffled together; answers and gaps move alike.

    Args:
        model: A trained conditional model.
        people: Answers of participants the model has not seen, one row per person.
        volumes_ml: (N, 3) their volumes (mL).
        groups: Name to questions; by default every question alone.
        draws: Antithetic draws per person.
        permutations: Shuffles of each question.
        seed: Of latents, shuffles and bootstrap.
        times: Bootstrap resamples of people and of shuffles.

    Returns:
        Rise of the mean absolute error (mL), and of the mean squared error (mL^2). Both fall
        below 0 by chance where a question is worth nothing.
    """
    groups = checked_groups(model.features, groups)
    before = predict_volumes(model, people, n=draws, seed=seed).mean(axis=1) - volumes_ml
    rng = np.random.default_rng([seed, 1])
    after = np.empty((permutations, len(groups), *volumes_ml.shape))
    for i in range(permutations):
        order = rng.permutation(len(people))
        for g, questions in enumerate(groups.values()):
            shuffled = people.assign(**{q: people[q].to_numpy()[order] for q in questions})
            predicted = predict_volumes(model, shuffled, n=draws, seed=seed).mean(axis=1)
            after[i, g] = predicted - volumes_ml
    described = {"groups": tuple(groups), "over": "people", "n": len(people)}
    return tuple(
        _rise(error(after) - error(before), times, seed, method=method, unit=unit, **described)
        for method, unit, error in (
            ("permutation, MAE", "mL", np.abs),
            ("permutation, MSE", "mL^2", np.square),
        )
    )


def _rise(rises: np.ndarray, times: int, seed: int, **described) -> Importance:
    """Average (P, G, N, 3) rises of errors, and resample shuffles and people."""
    people = resample_shares(rises.shape[2], times, seed)
    shuffles = resample_shares(rises.shape[0], times, seed + 1)
    resampled = np.einsum("bp,pgnv,bn->bgv", shuffles, rises, people, optimize=True)
    return with_percentiles(rises.mean(axis=(0, 2)), resampled, **described)
