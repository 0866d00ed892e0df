"""How sure a mean over draws is."""

import numpy as np
from scipy.stats import t


def with_monte_carlo_error(change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over draws, and the half-width of its 95 % interval.

    Draws come in antithetic pairs, first halves then second, which are averaged first.

    Args:
        change: (N, draws, 3), an even number of draws.

    Returns:
        Two arrays (N, 3).
    """
    pairs = change.reshape(len(change), 2, -1, change.shape[-1]).mean(1)
    n = pairs.shape[1]
    return pairs.mean(1), t.ppf(0.975, n - 1) * pairs.std(1, ddof=1) / np.sqrt(n)
