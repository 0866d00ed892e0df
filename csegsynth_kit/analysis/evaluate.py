"""How well generated volumes predict real ones, beside conventional regression."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csegsynth_kit.analysis.generate import predict_volumes
from csegsynth_kit.analysis.regression import fit_baselines
from csegsynth_kit.analysis.truth import known_truth
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.errors import CohortError
from csegsynth_kit.metrics.volumes import SCORED, mae_ratio, score_table, spread
from csegsynth_kit.models import Family


@dataclass(frozen=True)
class VolumeEvaluation:
    """Volume prediction on people the model has not seen.

    Args:
        truth: (N, 3) real volumes (mL).
        draws: (N, M, 3) volumes of generated maps (mL).
        predictions: Predictor to (N, 3) predicted volumes.
        scores: One row per predictor and tissue; see ``metrics.volumes.score_table``.
        ratios: Model against ridge; see ``metrics.volumes.mae_ratio``.
        spread: See ``metrics.volumes.spread``.
    """

    truth: np.ndarray
    draws: np.ndarray
    predictions: dict[str, np.ndarray]
    scores: pd.DataFrame
    ratios: pd.DataFrame
    spread: pd.DataFrame

    @property
    def verdicts(self) -> list[str]:
        """One sentence per tissue: does the model beat ridge?"""
        words = {"better": "beats", "tie": "ties with", "worse": "loses to"}
        return [
            f"{row.tissue}: the model {words[row.verdict]} ridge "
            f"(MAE ratio {row.ratio:.3f}, 95 % interval {row.ratio_low:.3f} to "
            f"{row.ratio_high:.3f}, n = {row.n})."
            for row in self.ratios.itertuples()
        ]


def evaluate_volumes(
    model: Family, train: Cohort, test: Cohort, *, n: int = 16, seed: int = 0, name: str = "model"
) -> VolumeEvaluation:
    """Compare the model with conventional regression on test participants.

    Args:
        model: A trained conditional model.
        train: Its training participants, on which the baselines are fitted.
        test: Participants seen by neither training nor model selection.
        n: Draws per person.
        seed: Of the latents.
        name: Name of the model in tables.

    Raises:
        CohortError: if test and training share participants or count CSF differently.
    """
    _require_comparable(model, train, test)
    return evaluate_people(
        model,
        train,
        test.table,
        test.volumes.to_numpy(),
        persons=test.persons.to_numpy(),
        n=n,
        seed=seed,
        name=name,
    )


def evaluate_people(
    model: Family,
    train: Cohort,
    people: pd.DataFrame,
    volumes: np.ndarray,
    *,
    persons: np.ndarray | None = None,
    n: int = 16,
    seed: int = 0,
    name: str = "model",
) -> VolumeEvaluation:
    """As :func:`evaluate_volumes`, for people of whom only answers and volumes are known.

    Args:
        model: A trained conditional model.
        train: Its training participants.
        people: (N rows) answers.
        volumes: (N, 3) true volumes (mL).
        persons: (N,) person of each row, where rows may share one.
        n: Draws per person.
        seed: Of the latents.
        name: Name of the model in tables.
    """
    truth = known_truth(train)
    draws = predict_volumes(model, people[list(model.features.questions)], n=n, seed=seed)
    baselines = fit_baselines(train, model.features)
    predictions = {baseline.name: baseline.predict(people) for baseline in baselines}
    ridge = predictions[baselines[-1].name]
    predictions[f"{name}, one draw"] = draws[:, 0]
    predictions[f"{name}, mean of {n} draws"] = draws.mean(axis=1)
    spreads = spread(draws[:, : (n + 1) // 2], volumes)  # the others are antithetic twins of these
    best = None if truth is None else truth.predict(people)
    if best is not None and np.isfinite(best).all():
        predictions["best possible"] = best
        spreads["true_within_sd_ml"] = truth.floor()["sd_ml"].to_numpy()
    return VolumeEvaluation(
        volumes,
        draws,
        predictions,
        score_table(predictions, volumes, persons=persons, seed=seed),
        mae_ratio(draws.mean(axis=1), ridge, volumes, persons=persons, seed=seed),
        spreads,
    )


def wide_table(scores: pd.DataFrame, statistic: str = "mae_ml", digits: int = 1) -> pd.DataFrame:
    """Lay scores out for reading: a row per predictor, a column per tissue, with intervals."""
    cells = scores.apply(
        lambda row: (
            f"{row[statistic]:.{digits}f} "
            f"[{row[f'{statistic}_low']:.{digits}f}, {row[f'{statistic}_high']:.{digits}f}]"
            if np.isfinite(row[statistic])
            else "-"
        ),
        axis=1,
    )
    wide = scores.assign(cell=cells).pivot(index="predictor", columns="tissue", values="cell")
    return wide.loc[_unique(scores["predictor"]), list(SCORED)]


def _require_comparable(model: Family, train: Cohort, test: Cohort) -> None:
    shared = set(train.persons) & set(test.persons)
    if shared:
        raise CohortError(
            f"{len(shared)} persons are in both training and test ({sorted(shared)[0]})",
            "Use Cohort.split for both.",
            test.path,
        )
    if model.card["train"] not in (None, train.fingerprint):
        raise CohortError(
            f"these {len(train)} are not the training participants of the model",
            "Give the split it was trained with (Cohort.split with the same fractions and seed).",
            train.path,
        )
    definitions = {train.csf_definition, test.csf_definition, model.card["csf_definition"]}
    if len(definitions) > 1:
        raise CohortError(
            f"CSF is counted in different ways: {', '.join(sorted(definitions))}",
            "Compare only cohorts with the same csf_definition.",
            test.path,
        )


def _unique(values: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(values))
