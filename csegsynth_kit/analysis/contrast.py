"""What an ordinary regression says of a difference in answers, and how surely."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy.stats import t

from csegsynth_kit.analysis.design import regressors, regressors_to_fit
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features


@dataclass(frozen=True)
class VolumeRegression:
    """Ordinary regression of volumes on all answers and age squared, with its uncertainty.

    Args:
        features: The questions.
        fits: One statsmodels result per tissue.
    """

    features: Features
    fits: tuple

    @classmethod
    def fit(cls, train: Cohort, features: Features) -> "VolumeRegression":
        """Fit least squares to the training participants; rows of one person are one cluster.

        Raises:
            ConfigError: if there are no more rows than regressors.
        """
        x, _ = regressors_to_fit(features, train.table)
        groups = pd.factorize(train.persons)[0]
        fits = [
            sm.OLS(y, x).fit(cov_type="cluster", cov_kwds={"groups": groups})
            for y in train.volumes.to_numpy().T
        ]
        return cls(features, tuple(fits))

    def contrast(self, before: pd.DataFrame, after: pd.DataFrame) -> np.ndarray:
        """Return (N, 3, 3) difference, low and high end of its 95 % interval (mL) per tissue."""
        after, before = (regressors(self.features, table)[0] for table in (after, before))
        change = after - before
        parts = []
        for fit in self.fits:
            mean = change @ fit.params
            variance = np.einsum("nf,fg,ng->n", change, fit.cov_params(), change)
            margin = t.ppf(0.975, fit.df_resid) * np.sqrt(np.maximum(variance, 0))
            parts.append(np.stack([mean, mean - margin, mean + margin], axis=1))
        return np.stack(parts, axis=1)
