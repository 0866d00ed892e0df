import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.analysis.contrast import VolumeRegression
from csegsynth_kit.analysis.scenarios import (
    Edit,
    Lifestyle,
    compare_lifestyle,
    compare_lifestyles,
    lifestyles,
    which_apply,
)
from csegsynth_kit.analysis.trajectory import scenario
from csegsynth_kit.analysis.truth import Truth
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError, TableError
from csegsynth_kit.simulate.questionnaire import COLUMNS

AGES = (40.0, 50.0, 51.0, 60.0)


@pytest.fixture(scope="module")
def truth():
    return Truth("lifespan", 1.0)


@pytest.fixture(scope="module")
def asked(truth):
    people, _ = truth.fresh_people(300, seed=0)
    return people, Features.fit(people, COLUMNS)


@pytest.fixture(scope="module")
def smoker(asked):
    return asked[0].iloc[0].to_dict() | {"smoking": "current", "activity": 4.0, "alcohol": 10.0}


def test_set_shift_and_ramp_begin_at_their_age(asked, smoker):
    _, features = asked
    people = scenario(smoker, AGES)
    edits = (
        Edit("smoking", 50, "set", "former"),
        Edit("activity", 50, "shift", 3.0),
        Edit("alcohol", 50, "ramp", -4.0, over_years=4.0),
    )
    edited = Lifestyle("better", edits).applied(people, features)
    assert list(edited["smoking"]) == ["current", "former", "former", "former"]
    np.testing.assert_allclose(edited["activity"], [4, 7, 7, 7])
    np.testing.assert_allclose(edited["alcohol"], [10, 10, 9, 6])
    pd.testing.assert_frame_equal(
        edited.drop(columns=["smoking", "activity", "alcohol"]),
        people.drop(columns=["smoking", "activity", "alcohol"]),
    )


def test_sums_stay_within_what_was_answered(asked, smoker):
    people, features = asked
    edited = Lifestyle("idle", (Edit("activity", 50, "shift", -90.0),)).applied(
        scenario(smoker, AGES), features
    )
    np.testing.assert_allclose(edited["activity"], [4] + 3 * [people["activity"].min()])


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (Edit("shoe_size", 50, "shift", 1.0), "no feature 'shoe_size'"),
        (Edit("smoking", 50, "shift", 1.0), "is no number"),
        (Edit("smoking", 50, "set", "sometimes"), "'sometimes' is no answer"),
        (Edit("smoking", 50, "set", "never", only_if=("former",)), "is 'current', not 'former'"),
        (Edit("smoking", 50, "set", "current"), "is 'current' already"),
        (Edit("BMI", 50, "shift", 1.0), "'BMI' is unknown"),
    ],
)
def test_what_cannot_be_said_of_a_person_is_refused_with_the_reason(asked, smoker, edit, reason):
    person = {k: v for k, v in smoker.items() if k != "BMI"}
    with pytest.raises(TableError, match=reason):
        Lifestyle("x", (edit,)).applied(scenario(person, AGES), asked[1])


def test_retirement_uses_the_columns_there_are(asked, smoker):
    _, features = asked
    retirement = {one.name: one for one in lifestyles(from_age_years=50)}["retirement"]
    edited = retirement.applied(scenario(smoker, AGES), features)
    np.testing.assert_allclose(edited["activity"], [4, 4, 5, 6])
    assert set(edited) == set(smoker)


def test_a_never_smoker_cannot_stop(asked, smoker):
    table = which_apply(lifestyles(), smoker | {"smoking": "never"}, asked[1]).set_index("scenario")
    assert not table.loc["stop smoking", "possible"]
    assert "'never'" in table.loc["stop smoking", "reason"]
    assert table.loc["more activity", "possible"]


@pytest.mark.parametrize(
    ("name", "own", "end"),
    [
        ("less alcohol", {"alcohol": "least"}, "at least"),
        ("more activity", {"activity": "most"}, "at most"),
        ("stop smoking", {"smoking": "never"}, "'never'"),
        ("stop smoking", {"smoking": "former"}, "'former'"),
        ("retirement", {"activity": "most"}, "at most"),
    ],
)
def test_scenarios_that_leave_a_person_as_they_are_are_named_and_not_compared(
    asked, smoker, name, own, end
):
    people, features = asked
    ends = {"least": np.min, "most": np.max}
    person = smoker | {q: ends[a](people[q]) if a in ends else a for q, a in own.items()}
    table = which_apply(lifestyles(), person, features).set_index("scenario")
    assert not table.loc[name, "possible"]
    assert "changes nothing" in table.loc[name, "reason"]
    assert end in table.loc[name, "reason"]
    assert table["possible"].any()
    (one,) = (one for one in lifestyles() if one.name == name)
    with pytest.raises(TableError, match="changes nothing"):
        one.applied(scenario(person, AGES), features)


def test_an_answer_beyond_all_others_is_never_moved_back(asked, smoker):
    people, features = asked
    most = people["activity"].max()
    idle = Lifestyle("idle", (Edit("activity", 50, "shift", -1.0),))
    edited = idle.applied(scenario(smoker | {"activity": most + 5}, AGES), features)
    np.testing.assert_allclose(edited["activity"], most + np.array([5, 4, 4, 4]))
    more = Edit("activity", 50, "shift", 1.0)
    assert "changes nothing" in more.reason_against({"activity": most + 5}, features)


def test_bad_edits_are_refused_when_written():
    with pytest.raises(ConfigError, match="no kind of edit"):
        Edit("age", 50, "add", 1)
    with pytest.raises(ConfigError, match="ramp"):
        Edit("age", 50, "ramp", 1)


def test_the_true_difference_is_that_of_the_structural_model(asked, smoker, truth):
    """To stop smoking gives back 4 of 6 mL of gray and 3.5 of 5 mL of white matter."""
    people = scenario(smoker, AGES)
    stop = lifestyles(from_age_years=50)[0]
    difference = truth.predict(stop.applied(people, asked[1])) - truth.predict(people)
    np.testing.assert_allclose(difference[0], 0, atol=1e-9)
    np.testing.assert_allclose(difference[1:], [[3.5, 4.0, -7.5]] * 3, atol=1e-9)


def test_comparison_keeps_individuals_and_is_nothing_before_the_edit(model, cohort):
    person = {"age": 40, "sex": "male", "education": "low"}
    learn = Lifestyle("learn", (Edit("education", 50, "set", "high"),))
    regression = VolumeRegression.fit(cohort, model.features)
    table = compare_lifestyle(
        model, scenario(person, AGES), learn, regression=regression, draws=4, seed=1
    )
    before = table[table["age_years"] < 50]
    np.testing.assert_allclose(before[["difference_ml", "regression_ml"]], 0, atol=1e-6)
    after = table[table["age_years"] == 60]
    assert (after["difference_ml"].abs() > 0).all()
    assert (after["regression_low"] < after["regression_ml"]).all()
    assert (after["regression_ml"] < after["regression_high"]).all()
    assert table["true_ml"].isna().all()


def test_lifestyles_that_apply_are_compared_under_each_other(model, cohort):
    people = scenario({"age": 40, "sex": "male", "education": "low"}, (60.0,))
    chosen = [
        Lifestyle("learn", (Edit("education", 50, "set", "high"),)),
        Lifestyle("stay", (Edit("education", 50, "set", "low"),)),
        Lifestyle("move", (Edit("site", 50, "set", "b"),)),
    ]
    shared = {"regression": VolumeRegression.fit(cohort, model.features), "draws": 4, "seed": 1}
    table = compare_lifestyles(model, people, chosen, **shared)
    assert list(table["scenario"].unique()) == ["learn", "move"]
    alone = compare_lifestyle(model, people, chosen[0], **shared)
    pd.testing.assert_frame_equal(table[:3], alone)


def test_without_a_question_on_lifestyle_an_empty_table_is_left(model, cohort):
    people = scenario({"age": 40, "sex": "male"}, (60.0,))
    regression = VolumeRegression.fit(cohort, model.features)
    table = compare_lifestyles(model, people, lifestyles(), regression=regression)
    assert table.empty
    assert {"scenario", "tissue", "difference_ml", "regression_low", "true_ml"} <= set(table)


def test_regression_contrasts_cover_the_truth_at_their_rate(truth, smoker):
    """Of 40 cohorts, 95 % intervals of one difference cover the truth in 33 to 40."""
    people = scenario(smoker, (60.0,))
    covered = []
    for seed in range(40):
        table, volumes = truth.fresh_people(150, seed=100 + seed)
        features = Features.fit(table, COLUMNS)
        edited = Lifestyle("active", (Edit("activity", 50, "shift", 3.0),)).applied(
            people, features
        )
        known = truth.predict(edited) - truth.predict(people)
        low, high = np.moveaxis(_fit(table, volumes, features).contrast(people, edited), 2, 0)[1:]
        covered.append((low <= known) & (known <= high))
    assert (np.sum(covered, axis=0) >= 33).all()


def _fit(table, volumes, features):
    class Train:
        pass

    train = Train()
    train.table, train.persons = table, pd.Series(range(len(table)))
    train.volumes = pd.DataFrame(volumes)
    return VolumeRegression.fit(train, features)
