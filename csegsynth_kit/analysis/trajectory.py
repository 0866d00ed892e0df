"""One individual at other ages (CSegSynth, trajectory simulation).

All of this is cross-sectional: a model that has seen each person once says how people of
another age differ, not how this person will age.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy.stats import t

from csegsynth_kit.analysis.generate import grid_of_people, predict_shared_volumes
from csegsynth_kit.analysis.truth import Truth
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import TableError
from csegsynth_kit.models import Family

CROSS_SECTIONAL = "These curves compare people of different ages; nobody was followed over time."


@dataclass(frozen=True)
class AgeRegression:
    """How the other answers go with age among the training participants.

    Args:
        features: The questions.
        slopes: (F,) change of each standardized feature per year of age.
    """

    features: Features
    slopes: np.ndarray

    @classmethod
    def fit(cls, train: pd.DataFrame, features: Features) -> "AgeRegression":
        """Regress every encoded feature on age (statsmodels OLS), training participants only."""
        _require_age(features)
        train = train.dropna(subset="age")
        values = features.impute(features.encode(train).values)
        age = sm.add_constant(train["age"].to_numpy(float))
        slopes = [sm.OLS(column, age).fit().params[1] for column in values.T]
        return cls(features, np.asarray(slopes))

    def moved(self, person: Mapping, ages_years: Sequence[float]) -> pd.DataFrame:
        """Return the person at each age, ordered answers moving along their regression lines.

        Answers without an order, such as sex, stay as they are, as do unanswered questions.
        Numbers stay within what the training participants answered.
        """
        start = self.features.table_of(person)
        encoded = self.features.encode(start).values
        years = np.asarray(ages_years, float) - float(start["age"].iloc[0])
        table = self.features.decode(encoded + years[:, None] * self.slopes)
        for column, seen in zip(self.features.columns, self.features.support, strict=True):
            if column.name == "age":
                table["age"] = np.asarray(ages_years, float)
            elif column.kind == "categorical":
                table[column.name] = start[column.name].iloc[0]
            elif column.numeric:
                table[column.name] = table[column.name].clip(*seen)
        return table


def scenario(
    person: Mapping,
    ages_years: Sequence[float],
    *,
    regression: AgeRegression | None = None,
) -> pd.DataFrame:
    """Return the person at each age: only age moves, or with ``regression`` the rest too."""
    if regression is None:
        return grid_of_people(person, "age", np.asarray(ages_years, float))
    return regression.moved(person, ages_years)


def simulate_trajectory(
    model: Family, people: pd.DataFrame, *, draws: int = 16, seed: int = 0
) -> pd.DataFrame:
    """Volumes along a scenario, with the same latents at every age.

    Args:
        model: A trained conditional model.
        people: One row per age, from :func:`scenario`.
        draws: Individuals who share the answers; each keeps its latent over all ages.
        seed: Of the latents.

    Returns:
        Tidy table: ``age_years``, ``draw``, ``tissue``, ``volume_ml``, and ``supported``:
        whether training participants reach this age.
    """
    _require_age(model.features)
    volumes = predict_shared_volumes(model, people, n=draws, seed=seed)
    ages = people["age"].to_numpy(float)
    youngest, oldest = model.features.support[model.features.questions.index("age")]
    index = pd.MultiIndex.from_product(
        [ages, range(draws), MEASURED], names=["age_years", "draw", "tissue"]
    )
    table = pd.DataFrame({"volume_ml": volumes.reshape(-1)}, index=index).reset_index()
    return table.assign(supported=table["age_years"].between(youngest, oldest))


def regression_lines(
    trajectory: pd.DataFrame, ages_years: Sequence[float] | None = None
) -> pd.DataFrame:
    """Straight line through each tissue's volumes with its 95 % confidence band (statsmodels).

    Draws keep their latent over ages, and come in antithetic pairs, so rows are not independent:
    standard errors are clustered by pair.

    Returns:
        ``age_years``, ``tissue``, ``line_ml``, ``low_ml``, ``high_ml``, ``slope_ml_per_decade``.
    """
    ages = np.asarray(
        sorted(set(trajectory["age_years"])) if ages_years is None else ages_years, float
    )
    pairs = (trajectory["draw"].nunique() + 1) // 2
    parts = []
    for tissue in MEASURED:
        rows = trajectory[trajectory["tissue"] == tissue]
        x = sm.add_constant(rows["age_years"].to_numpy())
        fit = sm.OLS(rows["volume_ml"].to_numpy(), x).fit(
            cov_type="cluster", cov_kwds={"groups": rows["draw"].to_numpy() % pairs}
        )
        band = fit.get_prediction(sm.add_constant(ages)).summary_frame(alpha=0.05)
        parts.append(
            pd.DataFrame(
                {
                    "age_years": ages,
                    "tissue": tissue,
                    "line_ml": band["mean"].to_numpy(),
                    "low_ml": band["mean_ci_lower"].to_numpy(),
                    "high_ml": band["mean_ci_upper"].to_numpy(),
                    "slope_ml_per_decade": 10 * fit.params[1],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def slopes(
    model: Family,
    person: Mapping,
    regression: AgeRegression,
    *,
    around: Sequence[float] = (30, 50, 70),
    truth: Truth | None = None,
    draws: int = 32,
    seed: int = 0,
) -> pd.DataFrame:
    """Change per decade around some ages, in both scenarios.

    Args:
        model: A trained conditional model.
        person: Answers.
        regression: How the other answers go with age.
        around: Ages (years); the slope is over the decade around each. Decades the training
            participants do not span are left out.
        truth: The truth behind the cohort, where it is known.
        draws: Individuals whose mean is taken.
        seed: Of the latents.

    Returns:
        ``scenario``, ``age_years``, ``tissue``, ``slope_ml_per_decade``, ``true_slope``, and
        ``monte_carlo_error``: the half-width of the 95 % interval from so few draws. It says
        nothing of the error of the model, which only the truth, or other training participants,
        can tell.
    """
    youngest, oldest = model.features.support[model.features.questions.index("age")]
    centers = [age for age in around if youngest <= age - 5 and age + 5 <= oldest]
    rows = []
    for name, moving in (("ideal", None), ("regressed", regression)):
        for center in centers:
            people = scenario(person, (center - 5, center + 5), regression=moving)
            volumes = predict_shared_volumes(model, people, n=draws, seed=seed)
            change = volumes[1] - volumes[0]
            pairs = change.reshape(2, -1, len(MEASURED)).mean(0)  # antithetic twins
            margin = t.ppf(0.975, len(pairs) - 1) * pairs.std(0, ddof=1) / np.sqrt(len(pairs))
            known = np.full(len(MEASURED), np.nan)
            if truth is not None:
                known = np.subtract(*truth.predict(people)[::-1])
            for i, tissue in enumerate(MEASURED):
                slope = pairs[:, i].mean()
                estimate = {"slope_ml_per_decade": slope, "true_slope": known[i]}
                about = {"scenario": name, "age_years": center, "tissue": tissue}
                rows.append({**about, **estimate, "monte_carlo_error": margin[i]})
    return pd.DataFrame(rows)


def _require_age(features: Features) -> None:
    if "age" not in features.questions:
        raise TableError(
            "this model has no feature 'age'", "Trajectories need a model trained with age."
        )
