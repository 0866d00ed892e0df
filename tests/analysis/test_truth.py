"""The known truth of a simulated cohort, as analyses see it."""

import numpy as np
import pytest

from csegsynth_kit.analysis.truth import Truth, known_truth
from csegsynth_kit.data.features import Features
from csegsynth_kit.simulate.cohort import simulate_cohort
from csegsynth_kit.simulate.questionnaire import COLUMNS, draw_participants
from csegsynth_kit.simulate.truth import NOISE, conditional_means
from tests.toy import toy_cohort

TRUTH = Truth("lifespan", 1.0)


def test_only_simulated_cohorts_have_a_known_truth(tmp_path):
    assert known_truth(toy_cohort(tmp_path / "toy", 6)) is None
    cohort = simulate_cohort(
        tmp_path / "simulated", n=4, age="young", effects=2.0, grid="tiny", jobs=1, progress=False
    )
    assert known_truth(cohort) == Truth("young", 2.0)


def test_nobody_predicts_better_than_the_conditional_mean():
    people, volumes = TRUTH.fresh_people(4000, seed=3)
    error = np.abs(volumes - TRUTH.predict(people)).mean(0)
    np.testing.assert_allclose(error, NOISE.mae, rtol=0.04)
    closer = TRUTH.predict(people) + np.array([3.0, -3.0, 3.0])
    assert (np.abs(volumes - closer).mean(0) > error).all()


def test_people_who_leave_out_what_matters_have_no_known_truth():
    people = draw_participants(5, seed=1)
    people.loc[people.index[1], "BMI"] = np.nan
    people.loc[people.index[2], "NEO_N"] = np.nan  # has no effect
    expected = TRUTH.predict(people)
    assert np.isnan(expected[1]).all()
    complete = people.drop(index=people.index[1])
    np.testing.assert_allclose(np.delete(expected, 1, 0), conditional_means(complete))


def test_effects_are_in_training_standard_deviations():
    people = draw_participants(300, seed=0)
    effects = TRUTH.effects_of(people, Features.fit(people, COLUMNS)).set_index(
        ["feature", "tissue"]
    )["effect_ml"]
    sd = people["IST_fluid"].std()
    assert effects["IST_fluid", "GM"] == pytest.approx(5.0 / 25 * sd)
    assert effects["NEO_N", "WM"] == 0
    assert effects["age", "GM"] < 0 < effects["age", "CSF"]
