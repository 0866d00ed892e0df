import numpy as np
import pytest
from scipy.linalg import sqrtm

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.frechet import (
    fit_projection,
    frechet_distance,
    gaussian_distance,
)


def by_matrix_root(x, y) -> float:
    a, b = np.cov(x.T), np.cov(y.T)
    mean = ((x.mean(0) - y.mean(0)) ** 2).sum()
    return mean + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(5, 5))
    return rng.normal(size=(60, 5)) @ mix, rng.normal(0.3, 1.4, size=(40, 5))


def test_distance_equals_the_matrix_root_formula(sets):
    assert frechet_distance(*sets) == pytest.approx(by_matrix_root(*sets), rel=1e-8)


def test_distance_in_one_dimension_is_known():
    x, y = np.array([[0.0], [1], [2], [3]]), np.array([[5.0], [7], [9], [11]])
    sd = [np.std(s, ddof=1) for s in (x, y)]
    expected = (x.mean() - y.mean()) ** 2 + (sd[0] - sd[1]) ** 2
    assert frechet_distance(x, y) == pytest.approx(expected)


def test_laws(sets):
    x, y = sets
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y[::-1], x))
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * frechet_distance(x, y))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(frechet_distance(x, y))


def test_singular_covariances_give_a_real_number():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(10, 40)), rng.normal(size=(12, 40))
    mean = ((x.mean(0) - y.mean(0)) ** 2).sum()
    assert np.isfinite(gaussian_distance(x, y))
    assert gaussian_distance(x, y) > mean


def test_too_few_maps_are_refused_with_the_remedy(sets):
    x, y = sets
    with pytest.raises(ConfigError, match=r"14 maps are too few.*\(at least 15.*KID.*4 dim"):
        frechet_distance(x[:14], y)
    frechet_distance(x[:15], y)


def test_distance_is_biased_upward_in_small_sets():
    rng = np.random.default_rng(3)
    means = [
        np.mean([gaussian_distance(*rng.normal(size=(2, n, 4))) for _ in range(60)])
        for n in (20, 80, 320)
    ]
    assert means[0] > 2 * means[1] > 4 * means[2] > 0


def test_projection_comes_from_training_maps_alone():
    rng = np.random.default_rng(4)
    train = rng.normal(size=(50, 12)) * np.arange(12, 0, -1)
    projection = fit_projection(train, n=18)
    assert (projection.dim, projection.fitted_on) == (6, 50)
    values = np.linalg.eigvalsh(np.cov(train.T))[::-1]
    assert projection.explained == pytest.approx(values[:6].sum() / values.sum())
    np.testing.assert_allclose(np.cov(projection(train).T), np.diag(values[:6]), atol=1e-9)
    assert fit_projection(train, n=36) is None
