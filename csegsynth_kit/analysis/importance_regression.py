"""What a linear regression would lose without a question: partial R2, test and interval."""

from collections.abc import Sequence

import numpy as np
import statsmodels.api as sm
from scipy.optimize import brentq
from scipy.stats import ncf

from csegsynth_kit.analysis.design import AGE_SQUARED, regressors_to_fit
from csegsynth_kit.analysis.importance_groups import Groups, checked_groups, columns_of
from csegsynth_kit.analysis.importance_scores import Importance
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.metrics.volumes import resamples

_TIMES = 500
#: Largest noncentrality looked for, per participant: a partial R2 of .999.
_MOST_NONCENTRAL = 1000.0


def by_partial_r2(
    train: Cohort,
    features: Features,
    *,
    groups: Groups | None = None,
    seed: int = 0,
    times: int = _TIMES,
) -> Importance:
    """Share of what a linear regression leaves over without a question that it explains.

    Least squares of the volumes on all features and age squared, whose two columns count as
    one question. Missing answers are imputed.

    Args:
        train: Training participants; of each person the first row counts.
        features: Fitted on the same participants.
        groups: Name to questions; by default every question alone.
        seed: Of the bootstrap.
        times: Bootstrap resamples of participants, for ranks only: bootstrapped R2 are too large.

    Returns:
        Partial R2 with the F test's ``p`` (statsmodels) and the 95 % interval from the
        noncentral F distribution (Steiger 2004, doi 10.1037/1082-989X.9.2.164), right if errors
        are normal and alike.

    Raises:
        ConfigError: if there are no more participants than regressors.
    """
    groups = checked_groups(features, groups)
    train = train.one_scan_each()
    x, encoded = regressors_to_fit(features, train.table)
    y = train.volumes.to_numpy()
    members = [_members(features, encoded, questions) for questions in groups.values()]
    fits = [sm.OLS(volumes, x).fit() for volumes in y.T]
    tests = np.array([[_tested(fit, x, own) for fit in fits] for own in members])
    rows = resamples(len(y), times=times, seed=seed)
    resampled = np.stack([_partial_r2(x[chosen], y[chosen], members) for chosen in rows])
    return Importance(
        method="partial R2",
        unit="share",
        groups=tuple(groups),
        values=tests[..., 0],
        resampled=resampled,
        low=tests[..., 1],
        high=tests[..., 2],
        over="training samples",
        n=len(y),
        p=tests[..., 3],
    )


def _members(features: Features, encoded: np.ndarray, questions: Sequence[str]) -> np.ndarray:
    """Return the indices of the regressors of some questions; the square goes with age."""
    own = np.isin(encoded, columns_of(features, questions))
    return np.flatnonzero(own | ((encoded == AGE_SQUARED) & ("age" in questions)))


def _tested(fit, x: np.ndarray, own: np.ndarray) -> tuple[float, float, float, float]:
    """Return partial R2, its interval and the p of the F test of the columns ``own``."""
    smaller = sm.OLS(fit.model.endog, np.delete(x, own, axis=1)).fit()
    f, p, extra = fit.compare_f_test(smaller)
    if extra < 1:  # These columns follow from the others.
        return 0.0, 0.0, 1.0, 1.0
    low, high = (_noncentrality(f, extra, fit.df_resid, q) for q in (0.975, 0.025))
    n = len(x)
    return 1 - fit.ssr / smaller.ssr, low / (low + n), high / (high + n), p


def _noncentrality(f: float, extra: float, left: float, quantile: float) -> float:
    """Return the noncentrality under which an F of at most ``f`` has this probability, or 0."""

    def above(noncentrality: float) -> float:
        return ncf.cdf(f, extra, left, noncentrality) - quantile

    if above(0.0) <= 0:
        return 0.0
    most = _MOST_NONCENTRAL * (left + extra)
    upper = max(10.0, 2 * f * extra)
    while above(upper) > 0 and upper < most:
        upper *= 2
    return brentq(above, 0.0, upper, xtol=1e-6)


def _partial_r2(x: np.ndarray, y: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
    """Return (G, 3) partial R2 from one fit: what leaving columns out adds has a formula."""
    inverse = np.linalg.pinv(x.T @ x)
    slopes = inverse @ (x.T @ y)
    left = ((y - x @ slopes) ** 2).sum(axis=0)
    added = [
        np.einsum("kv,kv->v", slopes[own], np.linalg.pinv(inverse[np.ix_(own, own)]) @ slopes[own])
        for own in members
    ]
    return np.stack([gain / (gain + left) for gain in added])
