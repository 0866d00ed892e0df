"""What does each question buy? Errors with and without its answer, so that a study can choose.

Unanswered questions are imputed from the answers given, and flagged to the model, which heeds
that only if answers were hidden at random in its training. A regression that is fitted anew to
the questions asked is what a study would use instead, and the honest reference.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from csegsynth_kit.analysis.comparable import require_trained_alike
from csegsynth_kit.analysis.generate import predict_volumes
from csegsynth_kit.analysis.regression import fit_ridge
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.draws import energy_score
from csegsynth_kit.metrics.volumes import ratio_of_means, resamples, shares_of
from csegsynth_kit.models import Family

#: The error of each tissue's volume, and the energy score of all of them together.
LOSSES = (*MEASURED, "all three")
MODEL, REFITTED = "model", "ridge refitted"
#: Half of the draws are independent, and an energy score takes two.
_LEAST_DRAWS = 4


def question_values(
    model: Family,
    people: pd.DataFrame,
    volumes: np.ndarray,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    base: Sequence[str] = ("age", "sex"),
    draws: int = 8,
    times: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure by how much errors fall with the answer to each question.

    Args:
        model: A trained conditional model.
        people: (N rows) answers of people it has not seen, one row of each.
        volumes: (N, 3) their volumes (mL).
        groups: Name to questions that are answered, or not, together; each question by itself
            is always measured, too.
        base: Questions that every study asks; those the model does not ask are ignored.
        draws: Antithetic draws per person, at least 4; the same with all sets of answers.
        times: Bootstrap resamples of people, the same for all questions.
        seed: Of latents and bootstrap.

    Returns:
        One row per ``question`` (or group) and ``tissue``: by how many mL the mean absolute
        error of the mean of draws (for ``all three`` the energy score of the draws) falls with
        the answer ``in_full_ml``, when all others are given; ``beside_base_ml``, when only
        those of ``base`` are; and ``alone_ml``, when there are no others. Each with its 95 %
        paired bootstrap interval over people, ``_low`` and ``_high``, and ``n``. Below 0 where
        the answer does harm.
    """
    questions = model.features.questions
    sets = {**{name: (name,) for name in questions}, **(groups or {})}
    for name in (name for members in sets.values() for name in members):
        model.features.column(name)
    everything, base = set(questions), set(base) & set(questions)
    losses: dict[frozenset, np.ndarray] = {}

    def loss(asked: set) -> np.ndarray:
        key = frozenset(asked)
        if key not in losses:
            losses[key] = _losses(model, people, volumes, key, draws=draws, seed=seed)
        return losses[key]

    shares = shares_of(resamples(len(people), times=times, seed=seed))
    rows = []
    for name, members in sets.items():
        own = set(members)
        gains = {
            "in_full_ml": loss(everything - own) - loss(everything),
            "beside_base_ml": loss(base - own) - loss(base | own),
            "alone_ml": loss(set()) - loss(own),
        }
        values = {}
        for label, gain in gains.items():
            low, high = np.percentile(shares @ gain, [2.5, 97.5], axis=0)
            values |= {label: gain.mean(axis=0), f"{label}_low": low, f"{label}_high": high}
        for i, tissue in enumerate(LOSSES):
            row = {label: value[i] for label, value in values.items()}
            rows.append({"question": name, "tissue": tissue, **row, "n": len(people)})
    return pd.DataFrame(rows)


def question_order(train: Cohort, features: Features) -> pd.DataFrame:
    """Order questions so that the first few tell as much as so few can (forward selection).

    The next question is the one with which ridge regression predicts training participants
    best who are left out one at a time, all tissues counting alike. Errors that served to
    choose flatter the choice: see :func:`question_curve` for people who did not.

    Args:
        train: Training participants.
        features: Fitted on the same participants.

    Returns:
        One row per step from 0: ``questions`` asked, the one ``added`` (empty at 0), and
        ``unexplained``, the share of variance that is left, mean over tissues.
    """
    train = train.one_scan_each()
    variance = fit_ridge(train, features, ())[1]
    asked: list[str] = []
    rows = [{"questions": 0, "added": "", "unexplained": 1.0}]
    while len(asked) < len(features.questions):
        left = {
            name: float((fit_ridge(train, features, [*asked, name])[1] / variance).mean())
            for name in features.questions
            if name not in asked
        }
        best = min(left, key=left.__getitem__)
        asked.append(best)
        rows.append({"questions": len(asked), "added": best, "unexplained": left[best]})
    return pd.DataFrame(rows)


def question_curve(
    model: Family,
    train: Cohort,
    people: pd.DataFrame,
    volumes: np.ndarray,
    order: pd.DataFrame,
    *,
    steps: Sequence[int] | None = None,
    draws: int = 8,
    times: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Errors with the first 0, 1, 2, ... questions of an order answered.

    Args:
        model: A trained conditional model; it stays as it is.
        train: Its training participants, to whom ridge regression is fitted at every step.
        people: (N rows) answers of people neither has seen, one row of each.
        volumes: (N, 3) their volumes (mL).
        order: From :func:`question_order`, or any table with its first two columns.
        steps: Numbers of questions to look at; all by default.
        draws: Antithetic draws per person, at least 4.
        times: Bootstrap resamples of people.
        seed: Of latents and bootstrap.

    Returns:
        One row per step, predictor (``model``, ``ridge refitted``) and tissue: ``questions``,
        ``added``, ``predictor``, ``tissue``, ``mae_ml`` with its 95 % bootstrap interval
        ``mae_low`` and ``mae_high``, its ``ratio`` to that of the refitted ridge with
        ``ratio_low`` and ``ratio_high``, and ``n``.

    Raises:
        CohortError: if the model was trained on others than ``train``.
    """
    require_trained_alike({"the model": model}, train)
    drawn = resamples(len(people), times=times, seed=seed)
    shares = shares_of(drawn)
    rows = []
    chosen = order if steps is None else order[order["questions"].isin(steps)]
    for step in chosen.itertuples():
        asked = list(order["added"].iloc[1 : step.questions + 1])
        predict, _ = fit_ridge(train, model.features, asked)
        refitted = np.abs(predict(people) - volumes)
        own = _losses(model, people, volumes, asked, draws=draws, seed=seed)[:, : len(MEASURED)]
        for name, loss in {MODEL: own, REFITTED: refitted}.items():
            low, high = np.percentile(shares @ loss, [2.5, 97.5], axis=0)
            ratio = ratio_of_means(loss, refitted, drawn)
            for i, tissue in enumerate(MEASURED):
                about = (step.questions, step.added, name, tissue)
                mae = (loss[:, i].mean(), low[i], high[i])
                rows.append((*about, *mae, *ratio[:, i], len(people)))
    columns = ["questions", "added", "predictor", "tissue", "mae_ml", "mae_low", "mae_high"]
    return pd.DataFrame(rows, columns=[*columns, "ratio", "ratio_low", "ratio_high", "n"])


def _losses(
    model: Family,
    people: pd.DataFrame,
    volumes: np.ndarray,
    asked: Sequence[str] | frozenset,
    *,
    draws: int,
    seed: int,
) -> np.ndarray:
    """Return (N, 4) losses (mL) of people who answer some questions only; see LOSSES."""
    if draws < _LEAST_DRAWS:
        raise ConfigError(f"there are {draws} draws per person", f"Take {_LEAST_DRAWS} or more.")
    answers = people.reindex(columns=[q for q in model.features.questions if q in asked])
    drawn = predict_volumes(model, answers, n=draws, seed=seed)
    independent = drawn[:, : (draws + 1) // 2]  # the others are antithetic twins
    error = np.abs(drawn.mean(axis=1) - volumes)
    return np.column_stack([error, energy_score(independent, volumes)])
