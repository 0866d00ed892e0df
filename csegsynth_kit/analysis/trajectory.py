"""One individual at other ages (CSegSynth, trajectory simulation).

All of this is cross-sectional: a model that has seen each person once says how people of
another age differ, not how this person will age.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.api as sm
from statsmodels.nonparametric.smoothers_lowess import lowess

from csegsynth_kit.analysis.contrast import VolumeRegression
from csegsynth_kit.analysis.design import of_known_age
from csegsynth_kit.analysis.draws import with_monte_carlo_error
from csegsynth_kit.analysis.generate import grid_of_people, predict_shared_volumes
from csegsynth_kit.analysis.support import Support
from csegsynth_kit.analysis.truth import Truth
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError, TableError
from csegsynth_kit.models import Family

CROSS_SECTIONAL = "This compares people of different ages; nobody was followed over time."
#: Share of the ages that each point of a smooth curve is a local line through.
_LOWESS_SHARE = 0.3
_SLOPE_COLUMNS = (
    "scenario",
    "age_years",
    "tissue",
    "slope_ml_per_decade",
    "true_slope",
    "monte_carlo_error",
)


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
        """Regress every encoded feature on age (statsmodels OLS), training participants only.

        Raises:
            TableError: if there is no feature 'age', or if its answers are no numbers.
        """
        _require_age(features)
        train = of_known_age(train)
        values = features.impute(features.encode(train).values)
        age = sm.add_constant(train["age"].to_numpy(float))
        slopes = [sm.OLS(column, age).fit().params[1] for column in values.T]
        return cls(features, np.asarray(slopes))

    def moved(self, person: Mapping, ages_years: Sequence[float]) -> pd.DataFrame:
        """Return the person at each age, ordered answers moving along their regression lines.

        Answers without an order, such as sex, stay as they are, as do unanswered questions.
        Numbers stay within what the training participants answered, or, beyond that, move no
        farther out than the person's own.

        Raises:
            TableError: if the person's age is unknown.
        """
        start = self.features.table_of(person)
        if start["age"].isna().any():
            raise TableError(
                "the person's age is unknown, so nothing can move with it",
                "Add 'age' to the answers, or ask for the ideal scenario.",
            )
        encoded = self.features.encode(start).values
        years = np.asarray(ages_years, float) - float(start["age"].iloc[0])
        table = self.features.decode(encoded + years[:, None] * self.slopes)
        for column, seen in zip(self.features.columns, self.features.support, strict=True):
            if column.name == "age":
                table["age"] = np.asarray(ages_years, float)
            elif column.kind == "categorical":
                table[column.name] = start[column.name].iloc[0]
            elif column.numeric:
                own = start[column.name].iloc[0]
                table[column.name] = table[column.name].clip(min(*seen, own), max(*seen, own))
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
    model: Family,
    people: pd.DataFrame,
    *,
    support: Support | None = None,
    draws: int = 16,
    seed: int = 0,
) -> pd.DataFrame:
    """Volumes along a scenario, with the same latents at every age.

    Args:
        model: A trained conditional model.
        people: One row per age, from :func:`scenario`.
        support: The training participants as neighbors.
        draws: Individuals who share the answers; each keeps its latent over all ages.
        seed: Of the latents.

    Returns:
        Tidy table: ``age_years``, ``draw``, ``tissue``, ``volume_ml``, and ``supported``:
        whether training participants are near this person at this age (without ``support``,
        only whether any reach this age).
    """
    _require_age(model.features)
    volumes = predict_shared_volumes(model, people, n=draws, seed=seed)
    ages = people["age"].to_numpy(float)
    youngest, oldest = model.features.support[model.features.questions.index("age")]
    index = pd.MultiIndex.from_product(
        [ages, range(draws), MEASURED], names=["age_years", "draw", "tissue"]
    )
    table = pd.DataFrame({"volume_ml": volumes.reshape(-1)}, index=index).reset_index()
    supported = (youngest <= ages) & (ages <= oldest)
    if support is not None:
        supported &= support.of(model.features.table_of(people))["supported"].to_numpy()
    return table.assign(supported=np.repeat(supported, draws * len(MEASURED)))


def smooth_curves(
    trajectory: pd.DataFrame, ages_years: Sequence[float] | None = None
) -> pd.DataFrame:
    """Smooth curve through the mean of draws of each tissue (statsmodels lowess).

    Args:
        trajectory: From :func:`simulate_trajectory`, at 4 ages or more.
        ages_years: Where the curve is wanted; every half year by default.

    Returns:
        ``age_years``, ``tissue``, ``volume_ml``.
    """
    means = trajectory.groupby(["tissue", "age_years"])["volume_ml"].mean()
    ages = means["GM"].index.to_numpy(float)
    wanted = np.arange(ages[0], ages[-1] + 0.01, 0.5) if ages_years is None else ages_years
    wanted = np.asarray(wanted, float)
    share = min(1.0, max(_LOWESS_SHARE, 4 / len(ages)))  # a local line needs a few points
    parts = []
    for tissue in MEASURED:
        values = lowess(means[tissue].to_numpy(), ages, frac=share, it=0, xvals=wanted)
        parts.append(pd.DataFrame({"age_years": wanted, "tissue": tissue, "volume_ml": values}))
    return pd.concat(parts, ignore_index=True)


def peak_age(
    model: Family,
    person: Mapping,
    *,
    tissue: str = "WM",
    regression: AgeRegression | None = None,
    draws: int = 16,
    seed: int = 0,
) -> float:
    """Age (years) at which the mean of draws is largest, of those training participants reach.

    It is the youngest or oldest of them where the volume only falls or rises.
    """
    youngest, oldest = model.features.support[model.features.questions.index("age")]
    ages = np.arange(np.ceil(youngest), np.floor(oldest) + 1)
    people = scenario(person, ages, regression=regression)
    volumes = predict_shared_volumes(model, people, n=draws, seed=seed).mean(1)
    return float(ages[volumes[:, MEASURED.index(tissue)].argmax()])


def regression_lines(
    trajectory: pd.DataFrame, ages_years: Sequence[float] | None = None
) -> pd.DataFrame:
    """Straight line through each tissue's volumes with its 95 % confidence band (statsmodels).

    Draws keep their latent over ages, and come in antithetic pairs, so rows are not independent:
    standard errors are clustered by pair.

    Returns:
        ``age_years``, ``tissue``, ``line_ml``, ``low_ml``, ``high_ml``, ``slope_ml_per_decade``.

    Raises:
        ConfigError: for fewer than two ages or two pairs of draws.
    """
    ages = np.asarray(
        sorted(set(trajectory["age_years"])) if ages_years is None else ages_years, float
    )
    draws, simulated = trajectory["draw"].nunique(), trajectory["age_years"].nunique()
    pairs = (draws + 1) // 2
    if simulated < 2 or pairs < 2:
        raise ConfigError(
            f"{simulated} ages and {draws} draws give no line with a band",
            "Simulate two ages or more, with 3 draws at least; 16 are usual.",
        )
    parts = []
    for tissue in MEASURED:
        rows = trajectory[trajectory["tissue"] == tissue]
        x = sm.add_constant(rows["age_years"].to_numpy())
        fit = sm.OLS(rows["volume_ml"].to_numpy(), x).fit(
            cov_type="cluster", cov_kwds={"groups": rows["draw"].to_numpy() % pairs}
        )
        wanted = sm.add_constant(ages, has_constant="add")  # one age is a constant, too
        band = fit.get_prediction(wanted).summary_frame(alpha=0.05)
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
    linear: VolumeRegression | None = None,
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
        linear: Regression of volumes on the answers of the training participants.
        truth: The truth behind the cohort, where it is known.
        draws: Individuals whose mean is taken.
        seed: Of the latents.

    Returns:
        ``scenario``, ``age_years``, ``tissue``, ``slope_ml_per_decade``, ``true_slope``, and
        ``monte_carlo_error``: the half-width of the 95 % interval from so few draws. It says
        nothing of the error of the model, which only the truth, or other training participants,
        can tell. With ``linear``, ``regression_low`` and ``regression_high``: the 95 % interval
        that so many training participants leave to the slope, however it is estimated. Without
        rows if the training participants span none of the decades.
    """
    youngest, oldest = model.features.support[model.features.questions.index("age")]
    centers = [age for age in around if youngest <= age - 5 and age + 5 <= oldest]
    rows = []
    for name, moving in (("ideal", None), ("regressed", regression)):
        for center in centers:
            people = scenario(person, (center - 5, center + 5), regression=moving)
            volumes = predict_shared_volumes(model, people, n=draws, seed=seed)
            (mean,), (margin,) = with_monte_carlo_error(volumes[1:] - volumes[:1])
            known = np.full(len(MEASURED), np.nan)
            if linear is not None:
                checked = model.features.table_of(people)
                (sampled,) = linear.contrast(checked.iloc[:1], checked.iloc[1:])
            if truth is not None:
                known = np.subtract(*truth.predict(people)[::-1])
            for i, tissue in enumerate(MEASURED):
                row = {"scenario": name, "age_years": center, "tissue": tissue}
                row |= {"slope_ml_per_decade": mean[i], "true_slope": known[i]}
                row |= {"monte_carlo_error": margin[i]}
                if linear is not None:
                    _, row["regression_low"], row["regression_high"] = sampled[i]
                rows.append(row)
    bounds = [] if linear is None else ["regression_low", "regression_high"]
    return pd.DataFrame(rows, columns=[*_SLOPE_COLUMNS, *bounds])


def _require_age(features: Features) -> None:
    if "age" not in features.questions:
        raise TableError(
            "this model has no feature 'age'", "Trajectories need a model trained with age."
        )
