"""Volume errors and their intervals: pure functions of arrays.

Shapes: N people, 3 tissues, M draws per person; volumes in mL.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from csegsynth_kit.constants import MEASURED

Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]
#: What is scored: every tissue, and the brain as a whole (some tables tell no more than that).
SCORED = (*MEASURED, "WM+GM")
#: A prediction that varies less than this (mL, and relative to its variance) is constant.
_CONSTANT = 1e-9


def mean_absolute_error(
    predicted: np.ndarray, truth: np.ndarray, shares: np.ndarray | None = None
) -> np.ndarray:
    """Return (..., 3) mean absolute errors of (..., N, 3) predictions.

    Args:
        predicted: (..., N, 3).
        truth: (..., N, 3).
        shares: (B, N) how much each person counts in each of B resamples, summing to 1; see
            :func:`shares_of`. The result is then (B, 3), from (N, 3) predictions.
    """
    return _mean(np.abs(predicted - truth), shares)


def root_mean_squared_error(
    predicted: np.ndarray, truth: np.ndarray, shares: np.ndarray | None = None
) -> np.ndarray:
    """Return (..., 3) root mean squared errors; see :func:`mean_absolute_error`."""
    return np.sqrt(_mean((predicted - truth) ** 2, shares))


def bias(predicted: np.ndarray, truth: np.ndarray, shares: np.ndarray | None = None) -> np.ndarray:
    """Return (..., 3) mean signed errors: positive where too much is predicted."""
    return _mean(predicted - truth, shares)


def explained_variance(
    predicted: np.ndarray, truth: np.ndarray, shares: np.ndarray | None = None
) -> np.ndarray:
    """Return (..., 3) R^2: 1 minus squared errors over squared deviations from the truth's mean."""
    return 1 - _mean((predicted - truth) ** 2, shares) / _covariance(truth, truth, shares)


def pearson(
    predicted: np.ndarray, truth: np.ndarray, shares: np.ndarray | None = None
) -> np.ndarray:
    """Return (..., 3) correlations, NaN where the prediction is constant."""
    own = _variance(predicted, shares)
    return _covariance(predicted, truth, shares) / np.sqrt(own * _covariance(truth, truth, shares))


def slope(predicted: np.ndarray, truth: np.ndarray, shares: np.ndarray | None = None) -> np.ndarray:
    """Return (..., 3) calibration slopes: of the truth regressed on the prediction.

    1 is right; below 1, predictions differ more between people than they have reason to. NaN
    where the prediction is constant (Steyerberg 2010, doi:10.1097/EDE.0b013e3181c30fb2).
    """
    return _covariance(predicted, truth, shares) / _variance(predicted, shares)


def _mean(values: np.ndarray, shares: np.ndarray | None) -> np.ndarray:
    return values.mean(axis=-2) if shares is None else shares @ values


def _covariance(a: np.ndarray, b: np.ndarray, shares: np.ndarray | None) -> np.ndarray:
    # About the mean of everybody, so that little is lost where that of a resample is subtracted.
    a, b = a - a.mean(axis=-2, keepdims=True), b - b.mean(axis=-2, keepdims=True)
    return _mean(a * b, shares) - _mean(a, shares) * _mean(b, shares)


def _variance(predicted: np.ndarray, shares: np.ndarray | None) -> np.ndarray:
    """Variance of predictions, NaN where it is none."""
    variance = _covariance(predicted, predicted, shares)
    least = _CONSTANT**2 + _CONSTANT * predicted.var(axis=-2)
    return np.where(variance > least, variance, np.nan)


STATISTICS: dict[str, Statistic] = {
    "mae_ml": mean_absolute_error,
    "rmse_ml": root_mean_squared_error,
    "bias_ml": bias,
    "r2": explained_variance,
    "r": pearson,
    "slope": slope,
}


def with_brain(volumes: np.ndarray) -> np.ndarray:
    """Append white plus gray matter to (..., 3) volumes: (..., 4), in the order of SCORED."""
    brain = volumes[..., MEASURED.index("WM")] + volumes[..., MEASURED.index("GM")]
    return np.concatenate([volumes, brain[..., None]], axis=-1)


def resamples(
    n: int, *, times: int = 2000, seed: int = 0, persons: np.ndarray | None = None
) -> np.ndarray:
    """Return (times, n) row indices of bootstrap resamples.

    Args:
        n: Rows.
        times: Resamples.
        seed: Of the resamples; equal seeds pair the resamples of several predictors.
        persons: (N,) person of each row. If some have several rows, whole persons are drawn,
            and rows are cut or repeated to ``n``.
    """
    rng = np.random.default_rng(seed)
    if persons is None or len(set(persons)) == n:
        return rng.integers(0, n, (times, n))
    rows_of = [np.flatnonzero(persons == person) for person in sorted(set(persons))]
    return np.stack(
        [
            np.resize(np.concatenate([rows_of[i] for i in drawn]), n)
            for drawn in rng.integers(0, len(rows_of), (times, len(rows_of)))
        ]
    )


def shares_of(rows: np.ndarray) -> np.ndarray:
    """Return (B, N) how much each of N people counts in (B, N) resamples of their rows."""
    n = rows.shape[1]
    return np.stack([np.bincount(drawn, minlength=n) for drawn in rows]) / n


def score_table(
    predictions: dict[str, np.ndarray],
    truth: np.ndarray,
    *,
    persons: np.ndarray | None = None,
    times: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Score several predictors on the same people.

    Args:
        predictions: Name to (N, 3) predicted volumes.
        truth: (N, 3).
        persons: (N,) person of each row, where rows may share one.
        times: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        One row per predictor and tissue, and for the brain (``WM+GM``): every statistic with
        ``_low`` and ``_high`` of its 95 % bootstrap interval over people, and ``n``.
    """
    truth = with_brain(truth)
    shares = shares_of(resamples(len(truth), times=times, seed=seed, persons=persons))
    table = []
    for name, volumes in predictions.items():
        predicted = with_brain(volumes)
        scores = {}
        for label, statistic in STATISTICS.items():
            resampled = statistic(predicted, truth, shares)
            low, high = np.percentile(resampled, [2.5, 97.5], axis=0)  # NaN stays NaN
            scores[label] = statistic(predicted, truth, None)
            scores[f"{label}_low"], scores[f"{label}_high"] = low, high
        for i, tissue in enumerate(SCORED):
            values = {label: float(value[i]) for label, value in scores.items()}
            table.append({"predictor": name, "tissue": tissue, "n": len(truth), **values})
    return pd.DataFrame(table)


def ratio_of_means(losses: np.ndarray, others: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Compare two predictors by their (N, K) losses on the same people, resample by resample.

    Returns:
        (3, K): the ratio of mean losses, and its 95 % interval over the (times, N) resamples.
    """
    shares = shares_of(rows)
    ratios = (shares @ losses) / (shares @ others)
    low, high = np.percentile(ratios, [2.5, 97.5], axis=0)
    return np.stack([losses.mean(axis=0) / others.mean(axis=0), low, high])


def spread(
    draws: np.ndarray,
    truth: np.ndarray,
    *,
    persons: np.ndarray | None = None,
    times: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare how much draws vary with how much people do.

    Args:
        draws: (N, M, 3) volumes of M independent draws per person.
        truth: (N, 3).
        persons: (N,) person of each row, where rows may share one.
        times: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        One row per tissue: ``within_sd_ml`` of a person's draws, ``cohort_sd_ml`` of a cohort
        with one draw per person, ``real_sd_ml`` of the real cohort, and ``sd_ratio`` of the
        last two, with ``sd_ratio_low`` and ``sd_ratio_high`` of its 95 % bootstrap interval over
        people, each of whom is drawn with real volumes and draws together.
    """
    within = np.sqrt(draws.var(axis=1, ddof=1).mean(axis=0))
    cohort = draws.std(axis=0, ddof=1).mean(axis=0)
    real = truth.std(axis=0, ddof=1)
    shares = shares_of(resamples(len(truth), times=times, seed=seed, persons=persons))
    ratios = _sd_ratios(draws, truth, shares)
    low, high = np.percentile(ratios, [2.5, 97.5], axis=0)
    return pd.DataFrame(
        {
            "tissue": list(MEASURED),
            "within_sd_ml": within,
            "cohort_sd_ml": cohort,
            "real_sd_ml": real,
            "sd_ratio": cohort / real,
            "sd_ratio_low": low,
            "sd_ratio_high": high,
        }
    )


def _sd_ratios(draws: np.ndarray, truth: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return (B, 3) ratios of the SD of cohorts of one draw each to that of (N, 3) truth."""
    by_draw = draws.reshape(len(draws), -1)
    variances = _covariance(by_draw, by_draw, shares).reshape(len(shares), *draws.shape[1:])
    # Round-off may leave a resample of one person a variance just below 0.
    cohort = np.sqrt(variances.clip(min=0)).mean(axis=1)
    return cohort / np.sqrt(_variance(truth, shares))
