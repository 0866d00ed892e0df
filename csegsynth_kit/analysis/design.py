"""The one design of regressions on answers: every answer, and age squared.

Brains do not age along a straight line. So age enters with its square wherever an ordinary
regression is what a model is compared with, and the effect of age is its slope at each
person's age, averaged.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError, TableError

#: What a regressor is, where it is no encoded column.
CONSTANT, AGE_SQUARED = -1, -2


def answers_and_square(
    features: Features, table: pd.DataFrame, chosen: Sequence[int] | None = None
) -> np.ndarray:
    """Lay out imputed answers, and age squared if age is among them.

    Args:
        features: The questions.
        table: (N rows) answers.
        chosen: Encoded columns; all by default.

    Returns:
        (N, P) in training standard deviations, the square last.
    """
    chosen = list(range(len(features.names)) if chosen is None else chosen)
    x = features.impute(features.encode(table).values)[:, chosen]
    names = [features.names[i] for i in chosen]
    return np.column_stack([x, x[:, names.index("age")] ** 2]) if "age" in names else x


def regressors(features: Features, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Lay out the regressors of least squares on all answers.

    A constant, the imputed encoded answers, and age squared if age is among them. The first level
    of a question with several columns is left out: it follows from the others.

    Returns:
        (N, P) regressors, and the (P,) encoded column that each is, CONSTANT or AGE_SQUARED.
    """
    x = answers_and_square(features, table)
    first = np.diff(features.question, prepend=-1) != 0
    several = np.bincount(features.question)[features.question] > 1
    kept = np.flatnonzero(~(first & several))
    square = range(len(features.names), x.shape[1])
    encoded = np.array([CONSTANT, *kept, *(AGE_SQUARED for _ in square)])
    return np.column_stack([np.ones(len(x)), x[:, [*kept, *square]]]), encoded


def regressors_to_fit(features: Features, train: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Lay out the :func:`regressors` of training participants, for tests and intervals.

    Raises:
        ConfigError: if nobody is left over to tell the error by.
    """
    x, encoded = regressors(features, train)
    if len(x) <= x.shape[1]:
        raise ConfigError(
            f"{len(x)} participants are too few for a regression with {x.shape[1]} regressors",
            "Use more participants, or fewer features.",
        )
    return x, encoded


def of_known_age(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows that tell their age.

    Raises:
        TableError: if there is no feature 'age', or if it is told by brackets such as 22-25.
    """
    if "age" not in table:
        raise TableError("there is no feature 'age'", "Prepare a table with ages (years).")
    kept = table.dropna(subset="age")
    if not is_numeric_dtype(kept["age"]):
        found = ", ".join(map(repr, kept["age"].unique()[:3]))
        raise TableError(
            f"the feature 'age' has answers such as {found}, which are no numbers",
            "Prepare a table with ages in years; the middle of each bracket will do.",
        )
    return kept


def mean_slope(
    features: Features, people: pd.DataFrame, encoded: np.ndarray, column: int
) -> np.ndarray:
    """Return the (P,) weights of coefficients whose sum is the mean slope of a column.

    Args:
        features: The questions.
        people: Answers at which slopes are taken; it matters for age only.
        encoded: (P,) encoded column of each regressor, from :func:`regressors`.
        column: One of them.
    """
    weights = (encoded == column).astype(float)
    if features.names[column] == "age":
        age = features.impute(features.encode(people).values)[:, column]
        weights[encoded == AGE_SQUARED] = 2 * age.mean()
    return weights
