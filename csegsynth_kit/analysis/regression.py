"""Conventional predictors of the volumes: what a generative model has to beat."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.api as sm
from sklearn.linear_model import RidgeCV

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features

#: Penalties among which leave-one-out cross-validation on the training participants chooses.
_PENALTIES = np.logspace(-1, 4, 26)


@dataclass(frozen=True)
class Baseline:
    """A fitted predictor.

    Args:
        name: Shown in tables.
        predict: Maps a table of answers to (N, 3) volumes (mL).
    """

    name: str
    predict: Callable[[pd.DataFrame], np.ndarray]


def fit_baselines(train: Cohort, features: Features) -> list[Baseline]:
    """Fit the training mean, age and sex (with age squared), and ridge on all features.

    Args:
        train: Training participants.
        features: Fitted on the same participants; missing answers are imputed as for the model.
    """
    volumes = train.volumes.to_numpy()
    baselines = [Baseline("training mean", lambda table: _repeat(volumes.mean(0), len(table)))]
    chosen = [i for i, name in enumerate(features.names) if name in ("age", "sex")]
    if chosen:
        name = " + ".join(features.names[i] for i in chosen)
        baselines.append(_least_squares(name, train, features, chosen))
    return [*baselines, _ridge(train, features)]


def regression_effects(train: Cohort, features: Features) -> pd.DataFrame:
    """Effects of a linear regression on all features, with what the sample size allows to tell.

    Args:
        train: Training participants.
        features: Fitted on the same participants.

    Returns:
        One row per question with one column and tissue: ``effect_ml`` (mL per standard deviation)
        and its 95 % confidence interval ``effect_low`` and ``effect_high`` (statsmodels OLS).
    """
    x = sm.add_constant(features.impute(features.encode(train.table).values))
    rows = []
    for tissue, y in zip(MEASURED, train.volumes.to_numpy().T, strict=True):
        fit = sm.OLS(y, x).fit()
        table = np.column_stack([fit.params, fit.conf_int()])[1:]
        for name, (effect, low, high) in zip(features.names, table, strict=True):
            if name in features.questions:
                interval = {"effect_low": low, "effect_high": high}
                rows.append({"feature": name, "tissue": tissue, "effect_ml": effect, **interval})
    return pd.DataFrame(rows)


def _least_squares(name: str, train: Cohort, features: Features, chosen: list[int]) -> Baseline:
    def design(table: pd.DataFrame) -> np.ndarray:
        return sm.add_constant(_design(features, table, chosen), has_constant="add")

    fits = [sm.OLS(y, design(train.table)).fit() for y in train.volumes.to_numpy().T]
    return Baseline(name, lambda table: np.stack([f.predict(design(table)) for f in fits], 1))


def _ridge(train: Cohort, features: Features) -> Baseline:
    everything = list(range(len(features.names)))
    x = _design(features, train.table, everything)
    fits = [RidgeCV(_PENALTIES).fit(x, y) for y in train.volumes.to_numpy().T]

    def predict(table: pd.DataFrame) -> np.ndarray:
        x = _design(features, table, everything)
        return np.stack([fit.predict(x) for fit in fits], axis=1)

    return Baseline("ridge, all features", predict)


def _design(features: Features, table: pd.DataFrame, chosen: list[int]) -> np.ndarray:
    """Standardized, imputed features, and age squared where age is among them."""
    x = features.impute(features.encode(table).values)[:, chosen]
    names = [features.names[i] for i in chosen]
    if "age" not in names:
        return x
    return np.column_stack([x, x[:, names.index("age")] ** 2])


def _repeat(row: np.ndarray, n: int) -> np.ndarray:
    return np.tile(row, (n, 1))
