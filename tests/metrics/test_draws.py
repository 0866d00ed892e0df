import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest, norm

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.draws import (
    crps,
    crps_normal,
    draw_scores,
    energy_score,
    energy_score_normal,
    energy_scores,
)
from csegsynth_kit.metrics.specificity import specificity


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_crps_is_that_of_all_pairs(rng):
    draws, truth = rng.normal(size=(4, 7, 3)), rng.normal(size=(4, 3))
    for i in range(4):
        for k in range(3):
            x = draws[i, :, k]
            pairs = sum(abs(a - b) for a in x for b in x) / (2 * 7 * 6)
            assert crps(draws, truth)[i, k] == pytest.approx(np.abs(x - truth[i, k]).mean() - pairs)


def test_normal_crps_is_the_integral():
    mean, sd, y = 3.0, 2.0, 4.5

    def squared(x):
        return (norm.cdf(x, mean, sd) - (x >= y)) ** 2

    integral = quad(squared, -20, y)[0] + quad(squared, y, 30)[0]
    value = crps_normal(np.array([[mean]]), np.array([sd]), np.array([[y]]))
    assert value[0, 0] == pytest.approx(integral, rel=1e-6)


@pytest.mark.parametrize("m", [2, 16])
def test_the_fair_form_does_not_depend_on_the_number_of_draws(rng, m):
    truth = rng.normal(size=(40_000, 1))
    expected = crps_normal(np.zeros((40_000, 1)), np.ones(1), truth).mean()
    assert crps(rng.normal(size=(40_000, m, 1)), truth).mean() == pytest.approx(expected, abs=0.01)


def test_energy_score_of_one_column_is_the_crps(rng):
    draws, truth = rng.normal(size=(6, 5, 1)), rng.normal(size=(6, 1))
    np.testing.assert_allclose(energy_score(draws, truth), crps(draws, truth)[:, 0])


def test_energy_score_sees_a_wrong_correlation(rng):
    mixing = np.array([[1.0, 0.0], [0.95, np.sqrt(1 - 0.95**2)]])
    truth = rng.normal(size=(4000, 2)) @ mixing.T
    right = rng.normal(size=(4000, 8, 2)) @ mixing.T
    wrong = rng.normal(size=(4000, 8, 2))
    assert energy_score(right, truth).mean() < energy_score(wrong, truth).mean() - 0.02
    assert crps(right, truth).mean() == pytest.approx(crps(wrong, truth).mean(), abs=0.02)


def test_a_model_that_draws_from_the_truth_ties_with_its_closed_form(rng):
    mean, sd = rng.normal(500, 50, (800, 3)), np.array([40.0, 30, 50])
    truth = mean + sd * rng.normal(size=mean.shape)
    draws = mean[:, None] + sd * rng.normal(size=(800, 16, 3))
    table = draw_scores(draws, mean, sd, truth, times=300)
    assert ((table.ratio_low < 1) & (table.ratio_high > 1)).all()
    narrow = mean[:, None] + 0.2 * (draws - mean[:, None])
    assert (draw_scores(narrow, mean, sd, truth, times=300).ratio_low > 1).all()


COVARIANCE = np.array([[1600.0, 600, -200], [600, 900, 0], [-200, 0, 2500]])


def test_normal_energy_score_is_that_of_many_draws(rng):
    mean, truth = rng.normal(500, 50, (2, 3, 3))
    draws = rng.multivariate_normal(np.zeros(3), COVARIANCE, (3, 1200)) + mean[:, None]
    many = energy_score(draws, truth)
    np.testing.assert_allclose(energy_score_normal(mean, COVARIANCE, truth), many, rtol=0.04)
    one = energy_score_normal(mean[:, :1], COVARIANCE[:1, :1], truth[:, :1])
    np.testing.assert_allclose(one, crps_normal(mean[:, :1], 40, truth[:, :1])[:, 0], rtol=2e-3)


def test_joint_draws_tie_with_the_normal_they_come_from(rng):
    mean = rng.normal(500, 50, (800, 3))
    truth = mean + rng.multivariate_normal(np.zeros(3), COVARIANCE, 800)
    noise = rng.multivariate_normal(np.zeros(3), COVARIANCE, (800, 16))
    right, narrow = (
        energy_scores(mean[:, None] + k * noise, mean, COVARIANCE, truth, times=300).iloc[0]
        for k in (1, 0.2)
    )
    assert right.ratio_low < 1 < right.ratio_high
    assert narrow.ratio_low > 1


def test_one_draw_has_no_spread(rng):
    with pytest.raises(ConfigError, match="1 draws"):
        crps(np.zeros((4, 1, 3)), np.zeros((4, 3)))


def test_a_model_that_ignores_people_is_not_specific(rng):
    scale = np.ones(3)
    p = [
        specificity(
            rng.normal(size=(30, 3)), rng.normal(size=(30, 3)), scale, permutations=199, times=20
        )
        for _ in range(150)
    ]
    assert kstest([s.p for s in p], "uniform").pvalue > 0.01
    assert np.mean([s.index for s in p]) == pytest.approx(0, abs=0.02)
    assert np.mean([s.rank for s in p]) == pytest.approx(0.5, abs=0.02)


def test_the_same_prediction_for_everybody_is_chance(rng):
    found = specificity(np.zeros((40, 3)), rng.normal(size=(40, 3)), np.ones(3))
    assert found.index == pytest.approx(0)
    assert found.rank == pytest.approx(0.5)
    assert found.p == 1


def test_perfect_predictions_are_wholly_specific(rng):
    truth = rng.normal(size=(40, 3))
    found = specificity(truth, truth, np.ones(3), permutations=99)
    assert (found.index, found.rank, found.p, found.n) == (1, 1, 0.01, 40)


def test_what_is_not_finite_is_refused(rng):
    truth = rng.normal(size=(20, 3))
    broken = truth.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ConfigError, match="not finite"):
        specificity(broken, truth, np.ones(3))


def test_columns_count_by_their_scale(rng):
    truth = rng.normal(size=(200, 2)) * [1, 1000]
    predicted = np.column_stack([truth[:, 0], 1000 * rng.normal(size=200)])
    assert specificity(predicted, truth, np.array([1, 1000])).p < 0.01
    assert specificity(predicted, truth, np.ones(2)).p > 0.05
