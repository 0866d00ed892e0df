"""Split-conformal prediction: the finite-sample promise, and what it does not promise."""

import numpy as np
import pytest

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.conformal import (
    conformal_quantile,
    expected_coverage,
    least_people,
    normalized_scores,
    observed_coverage,
    with_joint,
)


def test_the_quantile_is_the_order_statistic_of_n_plus_one():
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 51))[:, None]
    for level, rank in {0.8: 41, 0.9: 46, 0.95: 49}.items():
        assert conformal_quantile(scores, level) == rank
    assert conformal_quantile(scores[:9], 0.9) == scores[:9].max()


@pytest.mark.parametrize(("level", "n"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_too_few_people_for_a_level_are_refused(level, n):
    assert least_people(level) == n
    assert np.isfinite(conformal_quantile(np.ones((n, 2)), level)).all()
    with pytest.raises(ConfigError, match=f"{n - 1} people are too few.*Calibrate on {n} or more"):
        conformal_quantile(np.ones((n - 1, 2)), level)
    with pytest.raises(ConfigError, match="the level is 90"):
        least_people(90)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_coverage_over_repeated_calibrations_follows_the_beta_law(level):
    """With scores of any law: here a skewed one, whose true coverage is known."""
    rng, n = np.random.default_rng(1), 50
    scores = rng.exponential(size=(4000, n))
    widths = np.array([conformal_quantile(one[:, None], level)[0] for one in scores])
    covered = 1 - np.exp(-widths)
    mean, low, high = expected_coverage(n, level)
    assert level <= mean < level + 1 / n
    assert covered.mean() == pytest.approx(mean, abs=0.004)
    assert ((covered >= low) & (covered <= high)).mean() == pytest.approx(0.95, abs=0.012)
    counted = rng.binomial(100, covered) / 100
    _, few_low, few_high = expected_coverage(n, level, tested=100)
    assert few_low < low < high <= few_high
    # Shares among a hundred people come in steps, so that a little more lies inside.
    assert 0.94 < ((counted >= few_low) & (counted <= few_high)).mean() < 0.985


def test_joint_intervals_hold_for_all_tissues_at_once():
    rng, n = np.random.default_rng(2), 2000
    mixing = np.array([[1, 0, 0], [0.7, 0.7, 0], [0.2, 0.3, 0.9]])
    scores = with_joint(np.abs(rng.normal(size=(2 * n, 3)) @ mixing.T))
    widths = conformal_quantile(scores[:n], 0.9)
    assert (widths[-1] > widths[:-1]).all()
    fresh = scores[n:, :3]
    assert (fresh <= widths[-1]).all(1).mean() == pytest.approx(0.9, abs=0.02)
    assert (fresh <= widths[:-1]).all(1).mean() < 0.85


def test_scores_count_predicted_standard_deviations():
    volumes, mean = np.array([[500.0, 600, 300]]), np.array([[510.0, 590, 300]])
    sd = np.array([[10.0, 20, 5]])
    np.testing.assert_allclose(normalized_scores(volumes, mean, sd), [[1, 0.5, 0]])
    with pytest.raises(ConfigError, match="do not differ"):
        normalized_scores(volumes, mean, 0 * sd)


def test_observed_coverage_has_the_interval_of_wilson():
    inside = np.arange(50) < 45
    share, low, high = observed_coverage(inside)
    z, n = 1.959964, 50
    center = (0.9 + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(0.09 / n + z**2 / (4 * n**2))
    assert share == pytest.approx(0.9)
    np.testing.assert_allclose([low, high], [center - half, center + half], rtol=1e-6)
    with pytest.raises(ConfigError, match="nobody"):
        observed_coverage(inside[:0])
