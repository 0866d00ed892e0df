import numpy as np
import pytest
import torch
from monai.metrics.mmd import compute_mmd
from sklearn.metrics import pairwise

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics import kernels


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    return rng.normal(size=(9, 4)), rng.normal(0.5, 1.3, size=(7, 4))


def mmd_by_loops(x, y, kernel) -> float:
    n, m = len(x), len(y)
    total = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    total += sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return total - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def test_rbf_mmd_equals_loops(sets):
    x, y = sets
    bandwidths = (0.7, 2.0)

    def kernel(a, b):
        return np.mean([np.exp(-np.sum((a - b) ** 2) / (2 * h**2)) for h in bandwidths])

    found = kernels.mmd_rbf(x, y, bandwidths=bandwidths)
    assert found == pytest.approx(mmd_by_loops(x, y, kernel))


def test_kid_equals_loops(sets):
    x, y = sets
    expected = mmd_by_loops(x, y, lambda a, b: (a @ b / 4 + 1) ** 3)
    assert kernels.kernel_inception_distance(x, y) == pytest.approx(expected)


def test_kernels_equal_those_of_scikit_learn(sets):
    x, y = sets
    np.testing.assert_allclose(
        kernels.polynomial_kernel(x, y), pairwise.polynomial_kernel(x, y, degree=3)
    )
    np.testing.assert_allclose(
        kernels.rbf_kernel(kernels.squared_distances(x, y), [1.5]),
        pairwise.rbf_kernel(x, y, gamma=1 / (2 * 1.5**2)),
    )


def test_unbiased_mmd_equals_monai_with_its_linear_kernel(sets):
    x, y = sets[0][:7], sets[1]
    expected = compute_mmd(torch.from_numpy(x), torch.from_numpy(y), None).item()
    assert kernels.unbiased_mmd(x @ x.T, y @ y.T, x @ y.T) == pytest.approx(expected)


def test_mmd_of_rows_is_that_of_the_blocks():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(30, 4))
    first, second = rng.permutation(30)[:11], np.array([4, 4, 9, 20, 21])  # one of them twice
    blocks = [(first, first), (second, second), (first, second)]
    expected = kernels.unbiased_mmd(*((x @ x.T)[np.ix_(a, b)] for a, b in blocks))
    assert kernels.unbiased_mmd_of_rows(x @ x.T, first, second) == pytest.approx(expected)


def test_linear_mmd_equals_its_published_form(sets):
    x, y = sets
    expected = (x @ x.T).mean() + (y @ y.T).mean() - 2 * (x @ y.T).mean()
    assert kernels.mmd_linear(x, y) == pytest.approx(expected)


def test_linear_mmd_is_blind_to_spread_and_rbf_is_not():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 3))
    wide = 3 * (x - x.mean(0)) + x.mean(0)
    bandwidths = kernels.median_bandwidths(x)
    assert kernels.mmd_linear(x, wide) == pytest.approx(0, abs=1e-12)
    assert kernels.mmd_rbf(x, wide, bandwidths=bandwidths) > 0.1


def test_rbf_mmd_is_unbiased_and_near_its_closed_form():
    """E k(x, y) of shifted standard normals is known; the mean estimate must meet it."""
    rng = np.random.default_rng(2)
    h, d, shift = 1.5, 2, 0.6
    factor = (1 + 2 / h**2) ** (-d / 2)
    truth = 2 * factor * (1 - np.exp(-(d * shift**2) / (2 * (h**2 + 2))))
    found = [
        kernels.mmd_rbf(
            rng.normal(size=(20, d)), rng.normal(shift, 1, size=(15, d)), bandwidths=[h]
        )
        for _ in range(800)
    ]
    assert np.mean(found) == pytest.approx(truth, abs=4 * np.std(found) / 800**0.5)


def test_equal_sets_fall_below_zero():
    """Copies: an unbiased estimate of identical sets is below that of equal distributions."""
    x = np.random.default_rng(3).normal(size=(30, 3))
    assert kernels.mmd_rbf(x, x, bandwidths=[1.0]) < 0
    assert kernels.kernel_inception_distance(x, x) < 0
    assert kernels.mmd_linear(x, x) == 0


def test_order_does_not_matter(sets):
    x, y = sets
    shuffled = y[::-1]
    for distance in (kernels.mmd_linear, kernels.kernel_inception_distance):
        assert distance(x, y) == pytest.approx(distance(x[::-1], shuffled))


def test_bandwidths_scale_with_the_features(sets):
    x, _ = sets
    apart = [np.linalg.norm(a - b) for i, a in enumerate(x) for b in x[:i]]
    bandwidths = kernels.median_bandwidths(x)
    assert bandwidths[2] == pytest.approx(np.median(apart))
    np.testing.assert_allclose(kernels.median_bandwidths(10 * x), 10 * np.array(bandwidths))


def test_a_reference_of_copies_is_refused():
    with pytest.raises(ConfigError, match="one map per person"):
        kernels.median_bandwidths(np.ones((8, 2)))
