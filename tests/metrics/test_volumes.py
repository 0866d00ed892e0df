import numpy as np
import pytest
from scipy import stats

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.metrics import volumes


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_statistics_equal_their_definitions(rng):
    truth, predicted = rng.normal(500, 50, (40, 3)), rng.normal(500, 50, (40, 3))
    for t in range(3):
        p, v = predicted[:, t], truth[:, t]
        expected = {
            "mae_ml": np.mean([abs(a - b) for a, b in zip(p, v, strict=True)]),
            "rmse_ml": np.sqrt(np.mean([(a - b) ** 2 for a, b in zip(p, v, strict=True)])),
            "bias_ml": p.mean() - v.mean(),
            "r2": 1 - ((p - v) ** 2).sum() / ((v - v.mean()) ** 2).sum(),
            "r": stats.pearsonr(p, v)[0],
            "slope": np.polyfit(p, v, 1)[0],
        }
        for name, value in expected.items():
            assert volumes.STATISTICS[name](predicted, truth, None)[t] == pytest.approx(value)


@pytest.mark.parametrize("statistic", [volumes.pearson, volumes.slope])
def test_what_a_constant_prediction_lacks_is_absent_not_zero(rng, statistic):
    truth = rng.normal(500, 50, (9, 3))
    constant = np.full((9, 3), truth.mean())
    assert np.isnan(statistic(constant, truth)).all()
    table = volumes.score_table({"mean": constant}, truth, times=20)
    assert table[["r", "slope", "slope_low", "slope_high"]].isna().all(axis=None)


def test_slope_is_below_one_where_predictions_exaggerate(rng):
    expected = rng.normal(500, 40, (500, 3))
    truth = expected + rng.normal(0, 20, (500, 3))
    predicted = {"right": expected, "exaggerated": 500 + 2 * (expected - 500)}
    table = volumes.score_table(predicted, truth, times=200).set_index("predictor")
    for name, slope in {"right": 1, "exaggerated": 0.5}.items():
        assert (table.loc[name, "slope_low"] < slope).all()
        assert (table.loc[name, "slope_high"] > slope).all()
        np.testing.assert_allclose(table.loc[name, "slope"], slope, rtol=0.1)


def test_statistics_of_resamples_are_those_of_their_people(rng):
    truth, predicted = rng.normal(500, 50, (2, 12, 3))
    predicted[:, 2] = 500
    rows = volumes.resamples(12, times=5, seed=1)
    for statistic in volumes.STATISTICS.values():
        stacked = statistic(predicted[rows], truth[rows], None)
        single = [statistic(predicted[r], truth[r], None) for r in rows]
        shared = statistic(predicted, truth, volumes.shares_of(rows))
        np.testing.assert_allclose(stacked, single)
        np.testing.assert_allclose(shared, single)


def test_intervals_cover_the_true_error_at_about_their_rate(rng):
    """200 samples of 80 people: the 95 % interval should hold the population's error."""
    covered = 0
    population = np.sqrt(2 / np.pi) * 30
    for i in range(200):
        truth = rng.normal(500, 30, (80, 3))
        table = volumes.score_table({"mean": np.full((80, 3), 500.0)}, truth, times=400, seed=i)
        row = table.iloc[0]
        covered += row["mae_ml_low"] <= population <= row["mae_ml_high"]
    assert 0.88 <= covered / 200 <= 0.99


def test_whole_persons_are_resampled():
    persons = np.array(["a", "a", "b", "c", "c", "c"])
    rows = volumes.resamples(6, times=300, seed=0, persons=persons)
    assert rows.shape == (300, 6)
    for drawn in rows[:50]:
        uncut = drawn[:-3]  # the last ones may be cut to length
        for first, second in ((0, 1), (3, 4)):
            positions = np.flatnonzero(uncut == first)
            assert all(drawn[i + 1] == second for i in positions)


def test_spread_tells_within_from_between(rng):
    people = rng.normal(500, 40, (4000, 1, 3))
    draws = people + rng.normal(0, 30, (4000, 8, 3))
    truth = (people + rng.normal(0, 30, people.shape))[:, 0]
    table = volumes.spread(draws, truth)
    assert list(table["tissue"]) == list(MEASURED)
    np.testing.assert_allclose(table["within_sd_ml"], 30, rtol=0.02)
    np.testing.assert_allclose(table["cohort_sd_ml"], 50, rtol=0.03)
    np.testing.assert_allclose(table["sd_ratio"], 1, rtol=0.05)


def test_intervals_of_the_spread_cover_the_true_ratio_at_about_their_rate(rng):
    """Draws go with the person, so that intervals are those of a ratio of dependent SDs."""
    covered, widths = np.zeros(3), []
    for i in range(150):
        people = rng.normal(500, 40, (60, 1, 3))
        draws = people + rng.normal(0, 30, (60, 4, 3))
        truth = (people + rng.normal(0, 30, people.shape))[:, 0] * 1.25
        table = volumes.spread(draws, truth, times=300, seed=i)
        covered += (table["sd_ratio_low"] <= 0.8) & (table["sd_ratio_high"] >= 0.8)
        widths.append(table["sd_ratio_high"] - table["sd_ratio_low"])
    assert ((covered / 150 > 0.88) & (covered / 150 <= 0.99)).all()
    assert 0.1 < np.mean(widths) < 0.35


def test_equal_cohorts_have_no_uncertain_ratio_and_a_constant_one_has_none(rng):
    truth = rng.normal(500, 50, (20, 3))
    table = volumes.spread(np.stack([truth, truth], axis=1), truth, times=50)
    np.testing.assert_allclose(table[["sd_ratio", "sd_ratio_low", "sd_ratio_high"]], 1)
    truth[:, 2] = 100.0
    with np.errstate(divide="ignore"):
        table = volumes.spread(rng.normal(500, 50, (20, 2, 3)), truth, times=50)
    assert table["sd_ratio_low"].isna().tolist() == [False, False, True]


def test_scans_of_one_person_count_as_one_in_the_spread(rng):
    draws, truth = rng.normal(500, 50, (15, 3, 3)), rng.normal(500, 50, (15, 3))
    often = [np.repeat(part, 6, axis=0) for part in (draws, truth)]
    widths = [
        (table["sd_ratio_high"] - table["sd_ratio_low"]).mean()
        for table in (
            volumes.spread(*often),
            volumes.spread(*often, persons=np.repeat(np.arange(15), 6)),
        )
    ]
    assert widths[1] > 1.8 * widths[0]


def test_brain_is_scored_as_the_sum_of_white_and_gray_matter(rng):
    truth, predicted = rng.normal(500, 50, (30, 3)), rng.normal(500, 50, (30, 3))
    table = volumes.score_table({"model": predicted}, truth, times=20).set_index("tissue")
    error = np.abs(predicted[:, :2].sum(1) - truth[:, :2].sum(1)).mean()
    assert table.loc["WM+GM", "mae_ml"] == pytest.approx(error)
    assert list(table.index) == list(volumes.SCORED)
