"""Split-conformal prediction: how wide must intervals be to hold as often as they say?

Scores say how far a person's volumes lie from their prediction, in units of the spread that the
model expects. Of n people nobody has fitted anything to, the k-th smallest score, k being
(n + 1) times the level, rounded up, is exceeded by a new person's with probability 1 - level at
most, whatever the model and the distribution, if people are exchangeable (Vovk et al. 2005,
Algorithmic Learning in a Random World; Lei et al. 2018, doi:10.1080/01621459.2017.1307116).

That probability is an average over draws of the n people. Given them, the coverage of all
future people is a draw from Beta(k, n + 1 - k) (Vovk 2012, arXiv 1209.2673): with 50 people and
90 %, from 81 to 97 %. Shapes: N people, K tissues; volumes in mL.
"""

import math

import numpy as np
from scipy.stats import beta, betabinom
from statsmodels.stats.proportion import proportion_confint

from csegsynth_kit.errors import ConfigError

#: Products of levels and people are compared to so many digits: 10 * 0.9 is 9.
_DIGITS = 9
#: Of ranges of expected coverage and intervals of observed coverage.
_TAIL = 0.025


def normalized_scores(volumes: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Return how far people are from their predictions, in predicted SDs.

    Args:
        volumes: (N, K).
        mean: (N, K) of each person's draws.
        sd: (N, K) of each person's draws, above 0.
    """
    if not (sd > 0).all():
        raise ConfigError("draws of a person do not differ", "Give several different draws.")
    return np.abs(volumes - mean) / sd


def with_joint(scores: np.ndarray) -> np.ndarray:
    """Append each person's largest score to (N, K) scores: (N, K + 1).

    Intervals as wide as a quantile of the largest score hold for all tissues at once.
    """
    return np.concatenate([scores, scores.max(axis=1, keepdims=True)], axis=1)


def least_people(level: float) -> int:
    """Return how many people intervals of this level take: 4 for 80, 9 for 90, 19 for 95 %."""
    _require_level(level)
    return math.ceil(round(level / (1 - level), _DIGITS))


def conformal_quantile(scores: np.ndarray, level: float) -> np.ndarray:
    """Return the (K,) widths, in predicted SDs, that hold with at least this probability.

    Args:
        scores: (n, K) of people to whom nothing was fitted.
        level: Probability, such as 0.9.

    Raises:
        ConfigError: if there are too few people for the level.
    """
    return np.sort(scores, axis=0)[_rank(len(scores), level) - 1]


def expected_coverage(
    n: int, level: float, *, tested: int | None = None
) -> tuple[float, float, float]:
    """Return the mean of the coverage to be expected, and its 95 % range.

    Args:
        n: People the intervals were calibrated on.
        level: What the intervals say.
        tested: New people among whom coverage is counted; without, all there could be.
    """
    k = _rank(n, level)
    if tested is None:
        law, unit = beta(k, n + 1 - k), 1
    else:
        law, unit = betabinom(tested, k, n + 1 - k), tested
    low, high = law.ppf([_TAIL, 1 - _TAIL]) / unit
    return k / (n + 1), float(low), float(high)


def observed_coverage(inside: np.ndarray) -> tuple[float, float, float]:
    """Return the share of (N,) people inside their interval, and its 95 % interval (Wilson)."""
    if not len(inside):
        raise ConfigError("there is nobody to count", "Give at least one person.")
    held = int(inside.sum())
    low, high = proportion_confint(held, len(inside), alpha=2 * _TAIL, method="wilson")
    return held / len(inside), float(low), float(high)


def _rank(n: int, level: float) -> int:
    least = least_people(level)
    if n < least:
        raise ConfigError(
            f"{n} people are too few for intervals of {100 * level:g} %",
            f"Calibrate on {least} or more, or ask for a lower level.",
        )
    return math.ceil(round((n + 1) * level, _DIGITS))


def _require_level(level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"the level is {level:g}", "Give a share between 0 and 1, such as 0.9.")
