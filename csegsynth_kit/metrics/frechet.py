"""Frechet distance between Gaussians fitted to two sets of feature vectors.

The distance is biased upward in N, and more so in more dimensions (Chong and Forsyth, 2020,
arXiv 1911.07023): compare values of equal N and dimension only, and next to a real-vs-real
floor of the same N. With fewer than three maps per dimension it is refused.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from csegsynth_kit.errors import ConfigError

#: Maps needed per feature dimension, in the smaller set.
MAPS_PER_DIMENSION = 3


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """|m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)) in float64.

    Heusel et al., 2017, NeurIPS (arXiv 1706.08500). The trace of the matrix root is the sum of
    the roots of the eigenvalues of S_x S_y. With S = R'R they are the singular values of
    R_x R_y', which are never negative or complex and need no matrix root.

    Args:
        x: (N, D) features.
        y: (M, D) features.

    Raises:
        ConfigError: if N or M is below three times D.
    """
    require_enough(min(len(x), len(y)), x.shape[1])
    return gaussian_distance(x, y)


def gaussian_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return :func:`frechet_distance` of any N, without its refusal; for half-samples."""
    mean_x, root_x = _moments(x)
    mean_y, root_y = _moments(y)
    overlap = np.linalg.svd(root_x @ root_y.T, compute_uv=False).sum()
    distance = ((mean_x - mean_y) ** 2).sum() + (root_x**2).sum() + (root_y**2).sum()
    return max(0.0, float(distance - 2 * overlap))


def require_enough(n: int, dim: int) -> None:
    """Raise ConfigError if ``n`` maps are too few for a covariance of ``dim`` features."""
    if n < MAPS_PER_DIMENSION * dim:
        raise ConfigError(
            f"{n} maps are too few for a Frechet distance in {dim} dimensions "
            f"(at least {MAPS_PER_DIMENSION * dim} are needed)",
            "Use the RBF MMD or KID, which stay unbiased, or a Projection fitted on real "
            f"training maps to at most {max(1, n // MAPS_PER_DIMENSION)} dimensions.",
        )


@dataclass(frozen=True)
class Projection:
    """A principal component projection, fitted on real training maps only.

    Args:
        mean: (D,) mean of the training features.
        axes: (P, D) orthonormal directions of largest training variance.
        explained: Share of the training variance kept.
        fitted_on: Training maps.
    """

    mean: np.ndarray
    axes: np.ndarray
    explained: float
    fitted_on: int

    @property
    def dim(self) -> int:
        """Dimensions kept."""
        return len(self.axes)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return (N, P) coordinates of (N, D) features."""
        return (features - self.mean) @ self.axes.T


def fit_projection(train: np.ndarray, *, n: int) -> Projection | None:
    """Fit as many components as ``n`` maps can carry, or None if all features can be kept.

    Args:
        train: (K, D) features of real training maps.
        n: Maps in the smaller of the sets that will be compared.
    """
    dim = max(1, n // MAPS_PER_DIMENSION)
    if train.shape[1] <= dim:
        return None
    pca = PCA(min(dim, len(train) - 1), svd_solver="full").fit(np.asarray(train, np.float64))
    explained = float(pca.explained_variance_ratio_.sum())
    return Projection(pca.mean_, pca.components_, explained, len(train))


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the factor R of the covariance R'R of (N, D) features."""
    x = np.asarray(x, np.float64)
    mean = x.mean(0)
    return mean, np.linalg.qr(x - mean, mode="r") / np.sqrt(len(x) - 1)
