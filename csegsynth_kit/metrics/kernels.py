"""Maximum mean discrepancy (MMD) between two sets of feature vectors.

All values are squared discrepancies. The linear one sees means only and is here for parity with
published numbers; the others see every difference between distributions (RBF), or the first
three moments (polynomial). Unbiased estimates can be negative: 0 is their expectation for equal
distributions.
"""

from collections.abc import Sequence

import numpy as np

from csegsynth_kit.errors import ConfigError

#: Bandwidths of the RBF kernel, as multiples of the median distance of real maps.
BANDWIDTH_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return (N, M) squared Euclidean distances of (N, D) and (M, D) rows, in float64."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    return np.maximum(squared, 0, out=squared)


def median_bandwidths(
    reference: np.ndarray, *, factors: Sequence[float] = BANDWIDTH_FACTORS
) -> tuple[float, ...]:
    """Multiples of the median distance between reference rows (median heuristic).

    Gretton et al., 2012, JMLR 13:723. Fit it on real training maps, so that the kernel does not
    depend on what is judged.

    Args:
        reference: (N, D) features.
        factors: Multiples of the median.
    """
    apart = squared_distances(reference, reference)[np.triu_indices(len(reference), k=1)]
    median = float(np.median(np.sqrt(apart)))
    if not median > 0:
        raise ConfigError(
            "more than half of the reference maps are equal, so no kernel bandwidth can be chosen",
            "Give one map per person.",
        )
    return tuple(factor * median for factor in factors)


def rbf_kernel(squared: np.ndarray, bandwidths: Sequence[float]) -> np.ndarray:
    """Mean of Gaussian kernels exp(-d^2 / 2 h^2) over bandwidths h, of squared distances."""
    return np.mean([np.exp(-squared / (2 * h**2)) for h in bandwidths], axis=0)


def polynomial_kernel(x: np.ndarray, y: np.ndarray, *, degree: int = 3) -> np.ndarray:
    """Return (x . y / D + 1)^degree of (N, D) and (M, D) rows."""
    return (np.asarray(x, np.float64) @ np.asarray(y, np.float64).T / x.shape[1] + 1) ** degree


def unbiased_mmd(within_x: np.ndarray, within_y: np.ndarray, between: np.ndarray) -> float:
    """Unbiased squared MMD of kernel matrices; N and M may differ.

    Gretton et al., 2012, JMLR 13:723, lemma 6.

    Args:
        within_x: (N, N) kernel among the first set.
        within_y: (M, M) kernel among the second set.
        between: (N, M) kernel between the sets.
    """
    return _mean_off_diagonal(within_x) + _mean_off_diagonal(within_y) - 2 * float(between.mean())


def unbiased_mmd_of_rows(kernel: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """As :func:`unbiased_mmd`, of two sets of rows of one (N, N) kernel matrix.

    Sums over blocks are products with indicators, which is faster than to cut the blocks out.
    """
    members = [np.bincount(rows, minlength=len(kernel)) for rows in (first, second)]
    members = np.stack(members, axis=1).astype(float)
    sums = members.T @ (kernel @ members)
    sizes, own = members.sum(0), kernel.diagonal() @ members
    within = (sums.diagonal() - own) / (sizes * (sizes - 1))
    return float(within.sum() - 2 * sums[0, 1] / sizes.prod())


def mmd_rbf(x: np.ndarray, y: np.ndarray, *, bandwidths: Sequence[float]) -> float:
    """Unbiased squared MMD with a mean of Gaussian kernels.

    Args:
        x: (N, D) features.
        y: (M, D) features.
        bandwidths: From :func:`median_bandwidths` of real training maps.
    """
    pairs = ((x, x), (y, y), (x, y))
    return unbiased_mmd(*(rbf_kernel(squared_distances(a, b), bandwidths) for a, b in pairs))


def kernel_inception_distance(x: np.ndarray, y: np.ndarray, *, degree: int = 3) -> float:
    """Unbiased squared MMD with the polynomial kernel of KID, on any features.

    Binkowski et al., 2018, ICLR (arXiv 1801.01401).

    Args:
        x: (N, D) features.
        y: (M, D) features.
        degree: Of the polynomial.
    """
    pairs = ((x, x), (y, y), (x, y))
    return unbiased_mmd(*(polynomial_kernel(a, b, degree=degree) for a, b in pairs))


def mmd_linear(x: np.ndarray, y: np.ndarray) -> float:
    """Biased squared MMD with the linear kernel: the squared distance between means.

    What 3dbraingen (Kwon et al., 2019, MICCAI) computes on flattened voxels as
    mean(x_i . x_j) + mean(y_i . y_j) - 2 mean(x_i . y_j). Blind to anything but the mean.

    Args:
        x: (N, D) flattened maps or features.
        y: (M, D) alike.
    """
    difference = np.mean(x, axis=0, dtype=np.float64) - np.mean(y, axis=0, dtype=np.float64)
    return float(difference @ difference)


def _mean_off_diagonal(kernel: np.ndarray) -> float:
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))
