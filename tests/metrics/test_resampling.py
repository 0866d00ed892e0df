import numpy as np
import pytest

from csegsynth_kit.metrics.frechet import gaussian_distance
from csegsynth_kit.metrics.kernels import kernel_inception_distance
from csegsynth_kit.metrics.resampling import disjoint_sets, half_samples, recentered_interval


def test_half_samples_hold_no_copies():
    rows = half_samples(11, times=50, seed=0)
    assert rows.shape == (50, 5)
    assert all(len(set(row)) == 5 for row in rows)
    assert set(rows.ravel()) == set(range(11))


def test_disjoint_sets_share_nobody():
    for a, b in disjoint_sets(20, 8, 12, times=30, seed=1):
        assert (len(a), len(b), len(set(a) | set(b))) == (8, 12, 20)


def test_half_samples_estimate_the_error_of_a_mean():
    x = np.random.default_rng(0).normal(size=400)
    halves = x[half_samples(400, times=4000, seed=0)].mean(1)
    assert halves.std() == pytest.approx(x.std() / 20, rel=0.05)


@pytest.mark.parametrize("distance", [gaussian_distance, kernel_inception_distance])
def test_intervals_hold_the_expected_value_at_their_n(distance):
    """95 % intervals of shifted normals hold what such sets give on average."""
    rng = np.random.default_rng(1)

    def draw():
        return rng.normal(size=(60, 3)), rng.normal(0.8, 1, size=(60, 3))

    expected = np.mean([distance(*draw()) for _ in range(1500)])
    held = 0
    for i in range(150):
        x, y = draw()
        pairs = zip(
            half_samples(60, times=100, seed=2 * i),
            half_samples(60, times=100, seed=2 * i + 1),
            strict=True,
        )
        replicates = np.array([distance(x[a], y[b]) for a, b in pairs])
        low, high = recentered_interval(distance(x, y), replicates)
        held += low <= expected <= high
    assert 0.88 <= held / 150 <= 1


def test_interval_keeps_to_the_bounds():
    low, high = recentered_interval(0.9, np.linspace(0, 1, 50), bounds=(0, 1))
    assert 0 < low < 0.9 < high == 1
