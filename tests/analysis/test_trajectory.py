import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.analysis.draws import with_monte_carlo_error
from csegsynth_kit.analysis.generate import predict_shared_volumes
from csegsynth_kit.analysis.trajectory import (
    AgeRegression,
    peak_age,
    regression_lines,
    scenario,
    simulate_trajectory,
    slopes,
    smooth_curves,
)
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import ConfigError, TableError

AGES = (30.0, 45.0, 60.0, 80.0)


@pytest.fixture(scope="module")
def aging():
    """Answers of which one falls by 2 points a year, exactly."""
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 80, 200)
    table = pd.DataFrame(
        {"age": age, "score": 300 - 2 * age, "sex": rng.choice(["female", "male"], 200)}
    )
    columns = (
        Column("age", "continuous"),
        Column("score", "continuous"),
        Column("sex", "categorical", ("female", "male")),
    )
    return table, Features.fit(table, columns)


def test_ideal_scenario_moves_age_only():
    people = scenario({"age": 40, "sex": "male", "score": 7}, AGES)
    assert list(people["age"]) == list(AGES)
    assert set(people["sex"]) == {"male"}
    assert set(people["score"]) == {7}


def test_regressed_scenario_moves_ordered_answers_along_their_lines(aging):
    table, features = aging
    regression = AgeRegression.fit(table, features)
    person = {"age": 40, "sex": "male", "score": 230}
    people = scenario(person, AGES, regression=regression)
    assert list(people["age"]) == list(AGES)
    assert set(people["sex"]) == {"male"}
    expected = np.clip(230 - 2 * (np.array(AGES) - 40), table["score"].min(), table["score"].max())
    np.testing.assert_allclose(people["score"], expected, rtol=1e-6)


@pytest.mark.parametrize("score", [230.0, 320.0])
def test_at_their_own_age_a_person_keeps_their_answers(aging, score):
    """Also answers beyond those of all training participants."""
    table, features = aging
    person = {"age": 40, "sex": "male", "score": score}
    people = scenario(person, (30, 40, 60), regression=AgeRegression.fit(table, features))
    assert dict(people.iloc[1]) == pytest.approx(person)
    assert people["score"].is_monotonic_decreasing
    assert people["score"].max() <= max(score, table["score"].max())
    assert people["score"].iloc[2] == pytest.approx(score - 40)


def test_unanswered_questions_stay_unanswered(aging):
    table, features = aging
    people = scenario({"age": 40}, AGES, regression=AgeRegression.fit(table, features))
    assert people[["score", "sex"]].isna().all().all()


def test_answers_of_an_unknown_age_cannot_move_along(aging):
    table, features = aging
    with pytest.raises(TableError, match="age is unknown"):
        scenario({"score": 3.0}, AGES, regression=AgeRegression.fit(table, features))


def test_trajectory_is_tidy_keeps_latents_and_marks_the_support(model):
    people = scenario({"age": 40, "sex": "male"}, (30.0, 60.0, 110.0))
    table = simulate_trajectory(model, people, draws=4, seed=1)
    volumes = predict_shared_volumes(model, people, n=4, seed=1)
    assert len(table) == 3 * 4 * 3
    cell = table.query("age_years == 60 and draw == 2 and tissue == 'CSF'")["volume_ml"].item()
    assert cell == pytest.approx(volumes[1, 2, 2])
    assert set(table.loc[~table["supported"], "age_years"]) == {110.0}


def test_regression_line_is_least_squares_and_its_band_clustered(model):
    people = scenario({"age": 40, "sex": "male"}, AGES)
    table = simulate_trajectory(model, people, draws=8, seed=1)
    lines = regression_lines(table)
    for tissue, line in lines.groupby("tissue"):
        rows = table[table["tissue"] == tissue]
        slope, intercept = np.polyfit(rows["age_years"], rows["volume_ml"], 1)
        np.testing.assert_allclose(line["line_ml"], intercept + slope * line["age_years"])
        assert line["slope_ml_per_decade"].iloc[0] == pytest.approx(10 * slope)
    assert (lines["low_ml"] < lines["high_ml"]).all()


@pytest.mark.parametrize(("ages", "draws"), [((30.0,), 8), (AGES, 1), (AGES, 2)])
def test_lines_of_too_few_ages_or_draws_are_refused(model, ages, draws):
    table = simulate_trajectory(model, scenario({"age": 40}, ages), draws=draws)
    with pytest.raises(ConfigError, match=f"{len(ages)} ages and {draws} draws"):
        regression_lines(table)


def test_odd_draws_have_a_line_and_it_can_be_asked_at_one_age(model):
    table = simulate_trajectory(model, scenario({"age": 40}, AGES), draws=3)
    lines = regression_lines(table).set_index(["age_years", "tissue"])
    alone = regression_lines(table, [60.0]).set_index(["age_years", "tissue"])
    pd.testing.assert_frame_equal(alone, lines.loc[[60.0]])


@pytest.mark.parametrize("draws", [0, 1, 2, 5])
def test_draws_that_make_no_two_pairs_have_no_error(draws):
    with pytest.raises(ConfigError, match=f"{draws} draws.*even number"):
        with_monte_carlo_error(np.zeros((2, draws, 3)))


def test_slopes_are_differences_over_the_decade(model, cohort):
    regression = AgeRegression.fit(cohort.table, model.features)
    person = {"age": 40, "sex": "male", "education": "medium"}
    table = slopes(model, person, regression, around=(30, 50, 120), draws=8, seed=1)
    assert set(table["age_years"]) == {30, 50}
    people = scenario(person, (45, 55))
    volumes = predict_shared_volumes(model, people, n=8, seed=1).mean(1)
    row = table.query("scenario == 'ideal' and age_years == 50 and tissue == 'GM'").iloc[0]
    assert row["slope_ml_per_decade"] == pytest.approx(volumes[1, 1] - volumes[0, 1], rel=1e-4)
    assert row["monte_carlo_error"] > 0
    none = slopes(model, person, regression, around=(120,))
    assert none.empty
    assert list(none) == list(table)


def test_a_model_without_age_has_no_trajectories(aging):
    table, _ = aging
    features = Features.fit(table, (Column("score", "continuous"),))
    with pytest.raises(TableError, match="no feature 'age'"):
        AgeRegression.fit(table, features)


def test_smooth_curves_pass_through_straight_lines_and_soften_jumps():
    ages = np.linspace(20, 80, 13)
    rows = [
        {"age_years": age, "draw": d, "tissue": tissue, "volume_ml": slope * age + d}
        for age in ages
        for d in (0, 1)
        for tissue, slope in (("WM", 1.0), ("GM", -2.0), ("CSF", 3.0))
    ]
    table = pd.DataFrame(rows)
    smooth = smooth_curves(table)
    for tissue, slope in (("WM", 1.0), ("GM", -2.0), ("CSF", 3.0)):
        own = smooth[smooth["tissue"] == tissue]
        np.testing.assert_allclose(own["volume_ml"], slope * own["age_years"] + 0.5, atol=1e-6)
    bent = table.assign(volume_ml=np.where(table["age_years"] == 50, 99.0, 0.0))
    at_jump = smooth_curves(bent, [50.0])
    assert (at_jump["volume_ml"].between(1, 98)).all()


def test_peak_is_the_age_of_the_largest_mean(model):
    person = {"age": 40, "sex": "male"}
    peak = peak_age(model, person, draws=4, seed=1)
    youngest, oldest = model.features.support[0]
    ages = np.arange(np.ceil(youngest), np.floor(oldest) + 1)
    volumes = predict_shared_volumes(model, scenario(person, ages), n=4, seed=1).mean(1)
    assert peak == ages[volumes[:, 0].argmax()]
