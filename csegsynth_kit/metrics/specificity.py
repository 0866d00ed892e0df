"""Are generated volumes those of this person, or of anybody?"""

from dataclasses import dataclass

import numpy as np

from csegsynth_kit.errors import ConfigError

#: Of fewer people, a permutation test tells nothing.
LEAST_PEOPLE = 10


@dataclass(frozen=True)
class Specificity:
    """How much closer people are to their own predictions than to those of others.

    Args:
        index: 1 minus the mean distance to one's own prediction over the mean distance to
            everybody's: 0 if predictions ignore the person, 1 if they hit everybody exactly.
        index_low: Lower end of its 95 % bootstrap interval over people.
        index_high: Upper end.
        rank: Mean share of other people's predictions that are farther from a person than that
            person's own: 0.5 by chance, 1 if everybody would be found among all.
        p: Of a permutation test that the index is 0: (1 + permutations at least as high) over
            (1 + permutations).
        n: People.
    """

    index: float
    index_low: float
    index_high: float
    rank: float
    p: float
    n: int


def specificity(
    predicted: np.ndarray,
    truth: np.ndarray,
    scale: np.ndarray,
    *,
    permutations: int = 999,
    times: int = 2000,
    seed: int = 0,
) -> Specificity:
    """Compare matched with permuted pairs of prediction and person.

    Args:
        predicted: (N, K) prediction for each person, such as the mean volumes of the draws.
        truth: (N, K) of these people, one row per person.
        scale: (K,) what a distance of 1 means along each column: SDs of training participants.
        permutations: Of the test.
        times: Bootstrap resamples.
        seed: Of both.

    Raises:
        ConfigError: for fewer than 10 people, of whom a permutation test tells nothing.
    """
    n = len(truth)
    if n < LEAST_PEOPLE:
        raise ConfigError(f"there are {n} people", f"Give at least {LEAST_PEOPLE}.")
    if not (np.isfinite(predicted).all() and np.isfinite(truth).all() and (scale > 0).all()):
        raise ConfigError(
            "predictions, truth or scale are not finite numbers", "Leave out incomplete people."
        )
    distance = np.linalg.norm((predicted[None] - truth[:, None]) / scale, axis=-1)
    own, others = np.diag(distance), distance.mean(axis=1)
    rng = np.random.default_rng(seed)
    every = np.arange(n)
    shuffled = np.array([distance[every, rng.permutation(n)].mean() for _ in range(permutations)])
    p = (1 + (shuffled <= own.mean()).sum()) / (1 + permutations)
    rows = rng.integers(0, n, (times, n))
    low, high = np.percentile(1 - own[rows].mean(1) / others[rows].mean(1), [2.5, 97.5])
    farther = (distance > own[:, None]).sum(axis=1) + 0.5 * (
        (distance == own[:, None]).sum(axis=1) - 1
    )
    return Specificity(
        float(1 - own.mean() / others.mean()),
        float(low),
        float(high),
        float((farther / (n - 1)).mean()),
        float(p),
        n,
    )
