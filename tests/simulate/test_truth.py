import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.errors import ConfigError, TableError
from csegsynth_kit.simulate.questionnaire import FEATURES, draw_participants
from csegsynth_kit.simulate.structural import ACTIVE, draw_volumes
from csegsynth_kit.simulate.truth import (
    NOISE,
    NOISE_GIVEN_ICV,
    ageing_curve,
    coded,
    conditional_means,
    contributions,
    gradients,
    marginal_means,
    permutation_importance,
)

NULLS = {"handedness", "NEO_N", "NEO_E", "NEO_O", "NEO_A", "NEO_C", "STAI_T"}
TISSUE_COLUMNS = ["wm_ml", "gm_ml", "csf_ml"]


def test_floors_follow_from_the_constants():
    np.testing.assert_allclose(NOISE.sd, (46.72, 44.36, 48.84), atol=0.005)
    np.testing.assert_allclose(NOISE.mae, (37.28, 35.40, 38.97), atol=0.005)
    np.testing.assert_allclose(NOISE_GIVEN_ICV.sd, (28.0, 20.0, 36.0), atol=0.005)
    np.testing.assert_allclose(NOISE_GIVEN_ICV.mae, (22.34, 15.96, 28.72), atol=0.005)
    for noise, (wm_gm, gm_csf, wm_csf) in (
        (NOISE, (0.74, 0.39, 0.17)),
        (NOISE_GIVEN_ICV, (0.10, -0.63, -0.83)),
    ):
        r = noise.correlation
        np.testing.assert_allclose((r[0, 1], r[1, 2], r[0, 2]), (wm_gm, gm_csf, wm_csf), atol=0.005)


@pytest.mark.parametrize("effects", [0.0, 1.0, 2.0])
def test_the_best_prediction_is_the_mean_of_many_draws(effects):
    people = draw_participants(4, seed=11)
    many = people.loc[people.index.repeat(20_000)].reset_index(drop=True)
    drawn = draw_volumes(many, effects=effects, seed=3)[TISSUE_COLUMNS]
    means = drawn.groupby(np.repeat(range(4), 20_000)).mean()
    # Four standard errors of a mean of 20000 draws are 1.4 mL.
    np.testing.assert_allclose(means, conditional_means(people, effects), atol=1.5)


def test_residuals_are_the_noise():
    table = draw_participants(200_000, seed=8)
    residual = draw_volumes(table, seed=8)[TISSUE_COLUMNS].to_numpy() - conditional_means(table)
    np.testing.assert_allclose(np.abs(residual).mean(0), NOISE.mae, atol=0.3)
    np.testing.assert_allclose(np.corrcoef(residual.T), NOISE.correlation, atol=0.01)


def test_contributions_add_up_and_nulls_add_exactly_nothing():
    table = draw_participants(300, seed=1)
    parts = contributions(table, 1.5)
    assert tuple(parts) == FEATURES
    rest = conditional_means(table, 1.5) - sum(parts.values())
    np.testing.assert_allclose(rest, np.broadcast_to(rest[0], rest.shape), atol=1e-9)
    assert set(FEATURES) - set(ACTIVE) == NULLS
    for name in NULLS:
        assert not parts[name].any()
        others = np.roll(table[name].to_numpy(), 1)
        edited = conditional_means(table.assign(**{name: others}), 1.5)
        assert (edited == conditional_means(table, 1.5)).all()


def test_effects_scale_all_but_age_and_sex():
    table = draw_participants(50)
    one, three = contributions(table, 1.0), contributions(table, 3.0)
    for name in FEATURES:
        factor = 1 if name in ("age", "sex") else 3
        np.testing.assert_allclose(three[name], factor * one[name], atol=1e-9)


def test_permutation_importance_agrees_with_shuffling():
    table = draw_participants(150_000, seed=4)
    y = draw_volumes(table, seed=4)[TISSUE_COLUMNS].to_numpy()
    truth = permutation_importance(table).set_index(["feature", "tissue"])
    before = y - conditional_means(table)
    shuffled = np.random.default_rng(0).permutation(len(table))
    for name in ("age", "sex", "IST_fluid", "smoking"):
        after = y - conditional_means(table.assign(**{name: table[name].to_numpy()[shuffled]}))
        measured = np.abs(after).mean(0) - np.abs(before).mean(0)
        expected = truth.loc[name].loc[list(MEASURED), "mae_increase_ml"]
        np.testing.assert_allclose(measured, expected, atol=0.3)
        squared = (after**2).mean(0) - (before**2).mean(0)
        expected = truth.loc[name].loc[list(MEASURED), "mse_increase_ml2"]
        np.testing.assert_allclose(squared, expected, rtol=0.05, atol=30)


def test_importance_agrees_with_the_prototype_and_nulls_are_exactly_zero():
    truth = permutation_importance(draw_participants(3000, seed=0))
    wide = truth.pivot(index="feature", columns="tissue", values="mae_increase_ml")[list(MEASURED)]
    for name, expected in {
        "sex": (10.7, 14.8, 4.7),
        "age": (5.6, 20.7, 32.8),
        "IST_crystallised": (0.65, 0.73, 0.49),
        "IST_fluid": (0.46, 0.63, 1.88),
        "BMI": (0.02, 0.36, 0.58),
        "education_level": (0.13, 0.16, 0.11),
        "activity": (0.09, 0.16, 0.45),
        "alcohol": (0.03, 0.08, 0.22),
        "smoking": (0.06, 0.10, 0.27),
        "background_SES": (0.04, 0.04, 0.03),
        "IST_memory": (0.0, 0.08, 0.07),
    }.items():
        np.testing.assert_allclose(wide.loc[name], expected, rtol=0.04, atol=0.07)
    columns = ["sd_ml", "mse_increase_ml2", "mae_increase_ml"]
    assert (truth[truth.feature.isin(NULLS)][columns] == 0).all().all()


def test_gradients_predict_small_changes_per_sd():
    table = draw_participants(200, seed=2)
    slopes, sd = gradients(table), coded(table).std()
    assert slopes.shape == (200, 18, 3)
    for name in ("age", "BMI", "alcohol"):
        step = 0.01 * sd[name]
        change = conditional_means(table.assign(**{name: table[name] + step}))
        change -= conditional_means(table)
        f = FEATURES.index(name)
        near_the_cap = (table[name] + step > 40) & (name == "alcohol")
        np.testing.assert_allclose(
            slopes[~near_the_cap, f] * 0.01, change[~near_the_cap], atol=0.005
        )
    sex = FEATURES.index("sex")
    step = conditional_means(table.assign(sex="male")) - conditional_means(
        table.assign(sex="female")
    )
    np.testing.assert_allclose(slopes[:, sex], step * sd["sex"], atol=1e-9)
    for name in NULLS:
        assert not slopes[:, FEATURES.index(name)].any()


def test_ageing_keeps_the_head_and_peaks_where_white_matter_does():
    curve = ageing_curve(np.array([30.0, 80.0]))
    np.testing.assert_allclose(curve.loc[0, list(MEASURED)].astype(float), 0, atol=1e-12)
    np.testing.assert_allclose(
        curve.loc[1, list(MEASURED)].astype(float), (-40, -95, 135), atol=0.5
    )
    fine = ageing_curve(np.arange(18, 88, 0.1))
    np.testing.assert_allclose(fine[list(MEASURED)].sum(axis=1), 0, atol=1e-9)
    peak = fine.loc[fine.WM.idxmax()]
    assert peak.age_years == pytest.approx(43.9, abs=0.1)
    assert peak["WM"] == pytest.approx(6.9, abs=0.05)


def test_scenarios_follow_the_ageing_curve():
    ages = np.array([20.0, 50.0, 80.0])
    person = draw_participants(1, seed=9)
    scenario = pd.concat([person.assign(age=age) for age in ages], ignore_index=True)
    at_30 = conditional_means(person.assign(age=30.0), 2.0)
    changes = conditional_means(scenario, 2.0) - at_30
    np.testing.assert_allclose(changes, ageing_curve(ages)[list(MEASURED)], atol=1e-9)


def test_marginal_means_are_the_means_of_people_of_an_age():
    means = marginal_means(np.array([30.0, 70.0]))
    np.testing.assert_allclose(
        means.loc[0, list(MEASURED)].astype(float), (522.5, 662.8, 322.5), atol=0.3
    )
    slope = (means.loc[1, "GM"] - means.loc[0, "GM"]) / 4
    assert slope == pytest.approx(-19.18 - 0.76 * 4 + 0.04 * 16, abs=0.2)
    drawn = draw_participants(300_000, seed=6)
    near = drawn[drawn.age.between(69, 71) & (drawn.sex == "male")]
    expected = marginal_means(np.array([70.0]), sex="male").loc[0, list(MEASURED)].astype(float)
    np.testing.assert_allclose(conditional_means(near).mean(0), expected, atol=0.6)


def test_unknown_sex_and_missing_answers_are_refused():
    with pytest.raises(ConfigError, match="'other'"):
        marginal_means(np.array([30.0]), sex="other")
    with pytest.raises(TableError, match="missing=0"):
        conditional_means(draw_participants(30, missing=0.5))
