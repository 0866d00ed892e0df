"""What the observed cohort looks like at each age: the background of a person's trajectory."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import statsmodels.api as sm
from sklearn.preprocessing import SplineTransformer

from csegsynth_kit.analysis.design import of_known_age
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.errors import TableError

#: Quantiles of a group reference, by name.
QUANTILES = {"low_ml": 0.05, "median_ml": 0.5, "high_ml": 0.95}
#: A group of fewer people has no 5th percentile worth drawing.
_FEWEST = 20
_KNOTS, _DEGREE = 3, 2


def reference_for(
    train: Cohort, ages_years: Sequence[float], person: Mapping
) -> pd.DataFrame | None:
    """Return the reference of a person's sex, as far as there are enough participants.

    Args:
        train: Training participants.
        ages_years: Where the curves are wanted.
        person: Answers.

    Returns:
        As :func:`group_reference`: of the person's sex; of everybody, if fewer than 20
        participants of that sex tell their age, or the sex is unknown; None, if fewer than 20
        tell it at all.
    """
    table = train.one_scan_each().table.dropna(subset="age")
    sex = person.get("sex")
    if sex is not None and "sex" in table and (table["sex"] == sex).sum() < _FEWEST:
        sex = None
    return None if len(table) < _FEWEST else group_reference(train, ages_years, sex=sex)


def group_reference(
    train: Cohort, ages_years: Sequence[float], *, sex: str | None = None
) -> pd.DataFrame:
    """Median and middle 90 % of observed volumes by age, as smooth curves.

    Quantile regression (statsmodels) on a quadratic spline of age with three knots. These are
    different people at every age.

    Args:
        train: Training participants; every person counts once.
        ages_years: Where the curves are wanted. Ages nobody has get NaN.
        sex: Only participants of this sex; all, if None or if there is no such question.

    Returns:
        ``age_years``, ``tissue``, ``low_ml`` (5 %), ``median_ml``, ``high_ml`` (95 %), and ``n``.

    Raises:
        TableError: if fewer than 20 participants remain, or if ages are no numbers.
    """
    train = train.one_scan_each()
    table = of_known_age(train.table)
    if sex is not None and "sex" in table:
        table = table[table["sex"] == sex]
    if len(table) < _FEWEST:
        raise TableError(
            f"only {len(table)} participants {f'({sex}) ' if sex else ''}tell their age",
            f"A group reference needs {_FEWEST}; leave out the sex, or draw none.",
        )
    ages, wanted = table["age"].to_numpy(float), np.asarray(ages_years, float)
    # The basis sums to 1, so that it holds the constant.
    spline = SplineTransformer(n_knots=_KNOTS, degree=_DEGREE, knots="quantile")
    basis = spline.fit(ages[:, None]).transform(ages[:, None])
    inside = (ages.min() <= wanted) & (wanted <= ages.max())
    at = spline.transform(np.clip(wanted, ages.min(), ages.max())[:, None])
    parts = []
    for tissue, y in zip(MEASURED, train.volumes.loc[table.index].to_numpy().T, strict=True):
        fits = [sm.QuantReg(y, basis).fit(q=q).predict(at) for q in QUANTILES.values()]
        curves = np.sort(np.stack(fits, axis=1), axis=1)  # quantiles fitted apart may cross
        curves[~inside] = np.nan
        own = pd.DataFrame(curves, columns=list(QUANTILES))
        parts.append(own.assign(age_years=wanted, tissue=tissue, n=len(table)))
    columns = ["age_years", "tissue", *QUANTILES, "n"]
    return pd.concat(parts, ignore_index=True)[columns]
