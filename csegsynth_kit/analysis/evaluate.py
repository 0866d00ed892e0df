"""How well generated volumes predict real ones, beside conventional regression."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np
import pandas as pd

from csegsynth_kit.analysis.comparable import (
    require_comparable,
    require_not_chosen_by,
    require_trained_alike,
)
from csegsynth_kit.analysis.generate import predict_volumes
from csegsynth_kit.analysis.regression import RIDGE, fit_baselines, residual_covariance
from csegsynth_kit.analysis.truth import Truth, known_truth
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.contest import mae_ratios, winners
from csegsynth_kit.metrics.draws import draw_scores, energy_scores
from csegsynth_kit.metrics.specificity import LEAST_PEOPLE, Specificity, specificity
from csegsynth_kit.metrics.volumes import SCORED, score_table, spread
from csegsynth_kit.models import Family

#: The predictor that knows the formula behind a simulated cohort.
BEST_POSSIBLE = "best possible"
#: Of which half are independent, and two independent draws are the least that have a spread.
_LEAST_DRAWS = 3
_WORDS = {
    "better": "beats",
    "tie": "ties with",
    "worse": "loses to",
    "too few": "cannot be told, from so few people, to be better or worse than",
}


@dataclass(frozen=True)
class VolumeEvaluation:
    """Volume prediction on people the models have not seen.

    Args:
        reference: The baseline beside which whole distributions are scored, and verdicts given.
        truth: (N, 3) real volumes (mL).
        draws: Model to (N, M, 3) volumes of generated maps (mL), antithetic: the second half
            are twins of the first.
        predictions: Predictor to (N, 3) predicted volumes: the baselines; of each model one
            draw and the mean of draws; the best possible prediction, where it is known.
        scores: One row per ``predictor`` and tissue; see ``metrics.volumes.score_table``.
        ratios: The mean of draws of each ``model`` against every ``reference``: the baselines,
            the other models, and the best possible; see ``metrics.contest.mae_ratios``.
        winners: Baselines and means of draws; see ``metrics.contest.winners``.
        spread: One row per ``model`` and tissue; see ``metrics.volumes.spread``.
            ``true_within_sd_ml`` is how much people with the same answers differ, if known.
        crps: Independent draws of each ``model`` against normal predictions about
            ``reference``; see ``metrics.draws.draw_scores``.
        energy: The same for all tissues together; see ``metrics.draws.energy_scores``.
        specificity: One row per ``predictor``, the means of draws and ``reference``; see
            ``metrics.specificity``. One row of each person counts; NaN for fewer than 10.
    """

    reference: str
    truth: np.ndarray
    draws: dict[str, np.ndarray]
    predictions: dict[str, np.ndarray]
    scores: pd.DataFrame
    ratios: pd.DataFrame
    winners: pd.DataFrame
    spread: pd.DataFrame
    crps: pd.DataFrame
    energy: pd.DataFrame
    specificity: pd.DataFrame

    def verdicts(self, reference: str | None = None) -> list[str]:
        """One sentence per model and tissue: does it beat the reference?

        Args:
            reference: A baseline, another model, or the best possible prediction; by default
                the evaluation's reference.

        Raises:
            ConfigError: for a reference nothing was compared with.
        """
        reference = self.reference if reference is None else reference
        rows = self.ratios[self.ratios["reference"] == reference]
        if rows.empty:
            known = "; ".join(dict.fromkeys(self.ratios["reference"]))
            raise ConfigError(f"nothing is compared with {reference!r}", f"There are: {known}.")
        name = "ridge" if reference == RIDGE else reference
        return [
            f"{row.tissue}: {row.model} {_WORDS[row.verdict]} {name} "
            f"(MAE ratio {row.ratio:.3f}, 95 % interval {row.ratio_low:.3f} to "
            f"{row.ratio_high:.3f}, n = {row.n})."
            for row in rows.itertuples()
        ]


def evaluate_volumes(
    models: Mapping[str, Family],
    train: Cohort,
    test: Cohort,
    *,
    n: int = 16,
    seed: int = 0,
    reference: str = RIDGE,
) -> VolumeEvaluation:
    """Compare models with conventional regression, and with each other, on test participants.

    Args:
        models: Name to trained conditional model.
        train: Their training participants, on which the baselines are fitted.
        test: Participants seen by neither training nor model selection. Of the latter only the
            very same participants are found out, and of pre-training nobody: see
            ``comparable.require_not_chosen_by``.
        n: Draws per person, at least 3.
        seed: Of latents, folds and resamples.
        reference: The baseline beside which whole distributions are scored, and verdicts given.

    Raises:
        CohortError: if test and training share participants or count CSF differently, or if the
            test participants are a model's validation participants.
        ConfigError: if the models do not compare, or there is no such reference.
    """
    require_comparable(models, train, test)
    require_not_chosen_by(models, test)
    return evaluate_people(
        models,
        train,
        test.table,
        test.volumes.to_numpy(),
        persons=test.persons.to_numpy(),
        n=n,
        seed=seed,
        reference=reference,
    )


def evaluate_people(
    models: Mapping[str, Family],
    train: Cohort,
    people: pd.DataFrame,
    volumes: np.ndarray,
    *,
    persons: np.ndarray | None = None,
    n: int = 16,
    seed: int = 0,
    reference: str = RIDGE,
) -> VolumeEvaluation:
    """As :func:`evaluate_volumes`, for people of whom only answers and volumes are known.

    Args:
        models: Name to trained conditional model.
        train: Their training participants.
        people: (N rows) answers.
        volumes: (N, 3) true volumes (mL).
        persons: (N,) person of each row, where rows may share one.
        n: Draws per person, at least 3.
        seed: Of latents, folds and resamples.
        reference: The baseline beside which whole distributions are scored, and verdicts given.
    """
    require_trained_alike(models, train)
    if n < _LEAST_DRAWS:
        raise ConfigError(f"n is {n}", f"Ask for {_LEAST_DRAWS} draws or more; 16 are usual.")
    features = next(iter(models.values())).features
    normal = residual_covariance(train, features, name=reference, seed=seed)
    asked = features.table_of(people[list(features.questions)])  # the same words for everybody
    fitted = fit_baselines(train, features, seed=seed)
    taken = set(models) & {*fitted, BEST_POSSIBLE}
    if taken:
        raise ConfigError(f"a model is called {taken.pop()!r}, as a baseline is", "Rename it.")
    return _evaluated(
        {name: predict_volumes(model, asked, n=n, seed=seed) for name, model in models.items()},
        {name: predict(asked) for name, predict in fitted.items()},
        _best_possible(train, people),
        volumes,
        reference=(reference, normal),
        train=train,
        persons=persons,
        seed=seed,
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
    return wide.loc[list(dict.fromkeys(scores["predictor"])), list(SCORED)]


def _evaluated(
    draws: dict[str, np.ndarray],
    baselines: dict[str, np.ndarray],
    best: dict[str, np.ndarray],
    volumes: np.ndarray,
    *,
    reference: tuple[str, np.ndarray],
    train: Cohort,
    persons: np.ndarray | None,
    seed: int,
) -> VolumeEvaluation:
    """Score draws, baselines and best possible predictions of the same people.

    Args:
        draws: Model to (N, M, 3) antithetic draws.
        baselines: Name to (N, 3).
        best: Likewise; may be empty.
        volumes: (N, 3) true volumes.
        reference: Name of a baseline, and the (3, 3) covariance of its errors.
        train: Training participants.
        persons: (N,) person of each row.
        seed: Of all resamples.
    """
    resampling = {"persons": persons, "seed": seed}
    means = {name: own.mean(axis=1) for name, own in draws.items()}
    # The second half are twins of the first: each is a fair draw, but they are not independent.
    independent = {name: own[:, : (own.shape[1] + 1) // 2] for name, own in draws.items()}
    predictions = {**baselines, **_of_draws(draws), **best}
    name, covariance = reference
    sd, normal = np.sqrt(np.diag(covariance)), {name: baselines[name]}
    return VolumeEvaluation(
        name,
        volumes,
        draws,
        predictions,
        score_table(predictions, volumes, **resampling),
        mae_ratios({**baselines, **means, **best}, volumes, of=list(means), **resampling),
        winners({**baselines, **means}, volumes, **resampling),
        _spreads(independent, volumes, known_truth(train) if best else None, **resampling),
        _distributions(draw_scores, independent, normal, sd, volumes, **resampling),
        _distributions(energy_scores, independent, normal, covariance, volumes, **resampling),
        _specificities({**normal, **means}, volumes, train, **resampling),
    )


def _of_draws(draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Name to predictions: one draw of each model, and the mean of its draws."""
    predictions = {}
    for name, own in draws.items():
        predictions[f"{name}, one draw"] = own[:, 0]
        predictions[f"{name}, mean of {own.shape[1]} draws"] = own.mean(axis=1)
    return predictions


def _best_possible(train: Cohort, people: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the predictions of the known formula by name; empty if they are not all known."""
    truth = known_truth(train)
    best = np.array([np.nan]) if truth is None else truth.predict(people)
    return {BEST_POSSIBLE: best} if np.isfinite(best).all() else {}


def _spreads(
    draws: Mapping[str, np.ndarray],
    volumes: np.ndarray,
    truth: Truth | None,
    *,
    persons: np.ndarray | None,
    seed: int,
) -> pd.DataFrame:
    tables = {name: spread(own, volumes, persons=persons, seed=seed) for name, own in draws.items()}
    table = _stacked(tables)
    if truth is not None:
        table["true_within_sd_ml"] = np.tile(truth.floor()["sd_ml"], len(draws))
    return table


def _distributions(
    score: Callable[..., pd.DataFrame],
    draws: Mapping[str, np.ndarray],
    normal: Mapping[str, np.ndarray],
    noise: np.ndarray,
    volumes: np.ndarray,
    *,
    persons: np.ndarray | None,
    seed: int,
) -> pd.DataFrame:
    """Score independent draws of every model beside normal predictions about a baseline."""
    ((reference, mean),) = normal.items()
    tables = {
        name: score(own, mean, noise, volumes, persons=persons, seed=seed)
        for name, own in draws.items()
    }
    table = _stacked(tables)
    table.insert(1, "reference", reference)
    return table


def _specificities(
    predictions: Mapping[str, np.ndarray],
    volumes: np.ndarray,
    train: Cohort,
    *,
    persons: np.ndarray | None,
    seed: int,
) -> pd.DataFrame:
    """One row per predictor; one row of each person counts."""
    persons = np.arange(len(volumes)) if persons is None else persons.astype(str)
    _, first = np.unique(persons, return_index=True)
    scale = train.volumes.std().to_numpy()
    table = []
    for name, predicted in predictions.items():
        own = {"n": len(first)}
        if len(first) >= LEAST_PEOPLE:
            own = asdict(specificity(predicted[first], volumes[first], scale, seed=seed))
        table.append({"predictor": name, **own})
    columns = ["predictor", *(field.name for field in fields(Specificity))]
    return pd.DataFrame(table, columns=columns)


def _stacked(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put the tables of models below one another, their names in front."""
    return pd.concat(tables, names=["model"]).reset_index("model").reset_index(drop=True)
