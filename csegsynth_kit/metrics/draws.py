"""Whole predictive distributions: how well a person's draws describe that person's volumes.

Shapes: N people, M draws per person, 3 tissues; volumes in mL. All scores are lower if better.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm, qmc

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.volumes import ratio_of_means, resamples

#: Points that stand for a normal distribution: 2 to this power.
_LOG2_POINTS = 11


def crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of an ensemble, in its fair form.

    Fair: its expectation does not depend on the number of draws, so that ensembles of different
    sizes compare (Ferro 2014, doi:10.1002/qj.2270; Gneiting and Raftery 2007, eq. 20).

    Args:
        draws: (N, M, K) independent draws, M at least 2.
        truth: (N, K).

    Returns:
        (N, K), in the unit of the draws. May be below 0 for one person, not on average.
    """
    m = _draws(draws)
    error = np.abs(draws - truth[:, None]).mean(axis=1)
    # Sum of |x_i - x_j| over all pairs from the order statistics, in M log M.
    weights = 2 * np.arange(1, m + 1) - m - 1
    pairs = (np.sort(draws, axis=1) * weights[None, :, None]).sum(axis=1)
    return error - pairs / (m * (m - 1))


def crps_normal(mean: np.ndarray, sd: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Closed form of the score of normal predictions (Gneiting and Raftery 2007, eq. 21).

    Args:
        mean: (N, K) of each prediction.
        sd: (K,) or (N, K), above 0.
        truth: (N, K).

    Returns:
        (N, K).
    """
    z = (truth - mean) / sd
    return sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))


def energy_score(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Energy score of an ensemble of vectors, in its fair form: (N,).

    The CRPS of all tissues together: it also notices wrong correlations between them (Gneiting
    and Raftery 2007, eq. 22).

    Args:
        draws: (N, M, K) independent draws, M at least 2.
        truth: (N, K).
    """
    m = _draws(draws)
    error = np.linalg.norm(draws - truth[:, None], axis=-1).mean(axis=1)
    pairs = np.linalg.norm(draws[:, :, None] - draws[:, None], axis=-1).sum(axis=(1, 2))
    return error - pairs / (2 * m * (m - 1))


def energy_score_normal(mean: np.ndarray, covariance: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Energy score of normal predictions that share a covariance: (N,).

    There is no closed form; both expectations are averages over the same evenly spread points
    (Sobol), exact to about a thousandth. The difference of two draws is sqrt(2) times a draw
    about 0.

    Args:
        mean: (N, K) of each prediction.
        covariance: (K, K) of every prediction, positive definite.
        truth: (N, K).
    """
    points = qmc.Sobol(len(covariance), scramble=False).random_base2(_LOG2_POINTS)
    normal = norm.ppf(points + 0.5 / len(points)) @ np.linalg.cholesky(covariance).T
    deviation = truth - mean
    error = np.array([np.linalg.norm(normal - own, axis=-1).mean() for own in deviation])
    return error - np.sqrt(2) / 2 * np.linalg.norm(normal, axis=-1).mean()


def draw_scores(
    draws: np.ndarray,
    reference: np.ndarray,
    residual_sd: np.ndarray,
    truth: np.ndarray,
    *,
    persons: np.ndarray | None = None,
    times: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Score a model's draws beside normal predictions of a regression.

    Args:
        draws: (N, M, 3) independent draws of the model.
        reference: (N, 3) predictions of the regression.
        residual_sd: (3,) SD of its residuals on people it was not fitted on.
        truth: (N, 3).
        persons: (N,) person of each row, where rows may share one.
        times: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        One row per tissue: ``crps_ml`` of the model, ``reference_ml`` of the regression, their
        ``ratio`` with its 95 % bootstrap interval ``ratio_low`` and ``ratio_high``, and ``n``.
    """
    model, other = crps(draws, truth), crps_normal(reference, residual_sd, truth)
    rows = resamples(len(truth), times=times, seed=seed, persons=persons)
    ratio, low, high = ratio_of_means(model, other, rows)
    return pd.DataFrame(
        {
            "tissue": list(MEASURED),
            "crps_ml": model.mean(axis=0),
            "reference_ml": other.mean(axis=0),
            "ratio": ratio,
            "ratio_low": low,
            "ratio_high": high,
            "n": len(truth),
        }
    )


def energy_scores(
    draws: np.ndarray,
    reference: np.ndarray,
    residual_covariance: np.ndarray,
    truth: np.ndarray,
    *,
    persons: np.ndarray | None = None,
    times: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """As :func:`draw_scores`, for all tissues together.

    Args:
        draws: (N, M, 3) independent draws of the model.
        reference: (N, 3) predictions of the regression.
        residual_covariance: (3, 3) of its residuals on people it was not fitted on (mL^2).
        truth: (N, 3).
        persons: (N,) person of each row, where rows may share one.
        times: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        One row: ``energy_ml`` of the model, ``reference_ml`` of the regression, their ``ratio``
        with its 95 % bootstrap interval ``ratio_low`` and ``ratio_high``, and ``n``.
    """
    model = energy_score(draws, truth)[:, None]
    other = energy_score_normal(reference, residual_covariance, truth)[:, None]
    rows = resamples(len(truth), times=times, seed=seed, persons=persons)
    ratio, low, high = ratio_of_means(model, other, rows)
    return pd.DataFrame(
        {
            "energy_ml": [model.mean()],
            "reference_ml": other.mean(),
            "ratio": ratio,
            "ratio_low": low,
            "ratio_high": high,
            "n": len(truth),
        }
    )


def _draws(draws: np.ndarray) -> int:
    m = draws.shape[1]
    if m < 2:
        raise ConfigError(f"there are {m} draws per person", "Two are the least; 16 are usual.")
    return m
