"""Where synthetic maps lie relative to real ones, by nearest neighbors in a feature space.

Everything is a function of distances, or of squared distances throughout. Maps that are compared
with themselves leave themselves out.
"""

import numpy as np

from csegsynth_kit.errors import ConfigError

#: Neighbors that span a ball around a map, as Naeem et al. recommend.
NEIGHBORS = 5


def ball_radii(within: np.ndarray, *, neighbors: int = NEIGHBORS) -> np.ndarray:
    """Return (N,) distances of every map to its ``neighbors``-th nearest other map.

    Args:
        within: (N, N) distances, or squared distances, among one set.
        neighbors: At least 1.
    """
    if not 1 <= neighbors < len(within):
        raise ConfigError(
            f"{len(within)} maps have no {neighbors} nearest neighbors each",
            f"Give at least {neighbors + 1} maps, or ask for fewer neighbors.",
        )
    others = within + np.diag(np.full(len(within), np.inf))
    return np.partition(others, neighbors - 1, axis=1)[:, neighbors - 1]


def precision(radii: np.ndarray, between: np.ndarray) -> float:
    """Share of synthetic maps inside the ball of any real map.

    Kynkaanniemi et al., 2019, NeurIPS (arXiv 1904.06991).

    Args:
        radii: (N,) of the real maps' balls, from :func:`ball_radii`.
        between: (N, M) distances from real to synthetic maps.
    """
    return float((between < radii[:, None]).any(0).mean())


def recall(radii: np.ndarray, between: np.ndarray) -> float:
    """Share of real maps inside the ball of any synthetic map; see :func:`precision`.

    Args:
        radii: (M,) of the synthetic maps' balls.
        between: (N, M) distances from real to synthetic maps.
    """
    return precision(radii, between.T)


def density(radii: np.ndarray, between: np.ndarray, *, neighbors: int = NEIGHBORS) -> float:
    """Real balls that hold a synthetic map, over ``neighbors``: about 1 for equal sets.

    Naeem et al., 2020, ICML (arXiv 2002.09797). Arguments as in :func:`precision`;
    ``neighbors`` are those that span the balls.
    """
    return float((between < radii[:, None]).sum(0).mean() / neighbors)


def coverage(radii: np.ndarray, between: np.ndarray) -> float:
    """Share of real balls that hold any synthetic map.

    Naeem et al., 2020, ICML (arXiv 2002.09797). Arguments as in :func:`precision`.
    """
    return float((between < radii[:, None]).any(1).mean())


def authenticity(radii: np.ndarray, between: np.ndarray) -> float:
    """Share of synthetic maps farther from their nearest training map than that is from another.

    Alaa et al., 2022, ICML (arXiv 2102.08921). Copies of training maps give 0.

    Args:
        radii: (N,) distances of training maps to the nearest other one.
        between: (N, M) distances from training to synthetic maps.
    """
    return float((between.min(0) > radii[between.argmin(0)]).mean())
