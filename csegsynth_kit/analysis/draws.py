"""How sure a mean over draws is."""

import numpy as np
from scipy.stats import t

from csegsynth_kit.errors import ConfigError


def with_monte_carlo_error(change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over draws, and the half-width of its 95 % interval.

    Draws come in antithetic pairs, first halves then second, which are averaged first.

    Args:
        change: (N, draws, 3), an even number of draws, 4 at least.

    Returns:
        Two arrays (N, 3).

    Raises:
        ConfigError: for draws that make no pairs, or a single pair.
    """
    draws = change.shape[1]
    if draws % 2 or draws < 4:
        raise ConfigError(
            f"{draws} draws are no two pairs or more, whose spread tells how sure their mean is",
            "Give an even number of draws, 4 at least; 32 are usual.",
        )
    pairs = change.reshape(len(change), 2, -1, change.shape[-1]).mean(1)
    n = pairs.shape[1]
    return pairs.mean(1), t.ppf(0.975, n - 1) * pairs.std(1, ddof=1) / np.sqrt(n)
