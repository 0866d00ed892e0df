import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.errors import ConfigError, TableError
from csegsynth_kit.simulate.questionnaire import draw_participants
from csegsynth_kit.simulate.structural import CSF_SHARES, decades, draw_volumes
from csegsynth_kit.simulate.truth import conditional_means

TISSUE_COLUMNS = ["wm_ml", "gm_ml", "csf_ml"]


@pytest.fixture(scope="module", params=[("lifespan", 1.0), ("young", 1.0), ("lifespan", 2.0)])
def drawn(request):
    age, effects = request.param
    table = draw_participants(200_000, age=age, seed=1)
    return age, effects, table, draw_volumes(table, effects=effects, seed=1)


#: (age, effects): SD, error of the mean, of age + age^2 + sex, of the best prediction, and of
#: the best prediction with the intracranial volume; WM, GM, CSF (mL).
PROTOTYPE = {
    ("lifespan", 1.0): (
        (58.9, 71.5, 82.2),
        (47.2, 57.7, 66.7),
        (38.5, 37.5, 40.5),
        (37.3, 35.4, 38.9),
        (22.3, 16.0, 28.7),
    ),
    ("young", 1.0): (
        (54.9, 55.9, 53.9),
        (44.0, 45.1, 43.0),
        (38.5, 37.5, 40.5),
        (37.3, 35.4, 38.9),
        (22.3, 16.0, 28.7),
    ),
    ("lifespan", 2.0): (
        (63.0, 80.0, 92.0),
        (50.5, 64.5, 75.0),
        (41.7, 42.9, 44.4),
        (37.3, 35.4, 38.9),
        (22.3, 16.0, 28.7),
    ),
}


def test_monte_carlo_agrees_with_the_prototype(drawn):
    age, effects, table, volumes = drawn
    y = volumes[TISSUE_COLUMNS].to_numpy()
    design = np.column_stack(
        [np.ones(len(y)), decades(table), decades(table) ** 2, table.sex == "male"]
    )
    predictions = (
        y.mean(0),
        design @ np.linalg.lstsq(design, y, rcond=None)[0],
        conditional_means(table, effects),
        conditional_means(table, effects, icv_ml=volumes.icv_ml.to_numpy()),
    )
    measured = [y.std(0), *(np.abs(y - p).mean(0) for p in predictions)]
    np.testing.assert_allclose(measured, PROTOTYPE[age, effects], atol=0.4)


def test_tissues_fill_the_head_and_ventricles_are_a_part_of_csf(drawn):
    volumes = drawn[-1]
    np.testing.assert_allclose(volumes[TISSUE_COLUMNS].sum(axis=1), volumes.icv_ml, atol=1e-9)
    assert (volumes.csf_ml / volumes.icv_ml).between(*CSF_SHARES).all()
    assert (volumes.lv_ml > 0).all()
    assert (volumes.lv_ml <= 0.3 * volumes.csf_ml + 1e-9).all()


def test_correlations_that_mislead_on_purpose():
    table = draw_participants(100_000, seed=7)
    volumes = draw_volumes(table, seed=7)
    for feature, column, r in (
        ("IST_memory", "gm_ml", 0.35),
        ("NEO_N", "csf_ml", -0.19),
        ("NEO_O", "gm_ml", 0.14),
    ):
        assert table[feature].corr(volumes[column]) == pytest.approx(r, abs=0.015)


def test_a_draw_depends_on_seed_and_place_alone():
    table = draw_participants(50, seed=3)
    volumes = draw_volumes(table, seed=3)
    assert volumes.iloc[:9].equals(draw_volumes(table.iloc[:9], seed=3))
    assert not volumes.equals(draw_volumes(table, seed=4))


def test_edited_answers_leave_the_noise_alone():
    table = draw_participants(60, seed=3)
    older = table.assign(age=table.age + 10)
    change = draw_volumes(older, seed=3) - draw_volumes(table, seed=3)
    expected = conditional_means(older) - conditional_means(table)
    np.testing.assert_allclose(change[TISSUE_COLUMNS], expected, atol=1e-9)
    np.testing.assert_allclose(change.icv_ml, 0, atol=1e-9)


def test_median_ventricles_follow_their_law():
    person = draw_participants(1).iloc[[0]].assign(age=70.0)
    volumes = draw_volumes(pd.concat([person] * 20_000, ignore_index=True), effects=0.0)
    icv = volumes.icv_ml.median()
    law = 14.9 * np.exp(0.0995 * 4 + 0.0127 * 16 + 0.00083 * (icv - 1500))
    assert volumes.lv_ml.median() == pytest.approx(law, rel=0.02)


def test_people_with_less_gray_matter_have_larger_ventricles():
    table = draw_participants(50_000, seed=2)
    volumes = draw_volumes(table, seed=2)
    means = conditional_means(table, icv_ml=volumes.icv_ml.to_numpy())
    age, icv = decades(table), volumes.icv_ml - 1500
    law = np.log(14.9) + 0.0995 * age + 0.0127 * age**2 + 0.00083 * icv
    free = volumes.lv_ml < 0.29 * volumes.csf_ml  # not cut at its largest share of the CSF
    ventricles, gray = np.log(volumes.lv_ml) - law, volumes.gm_ml - means[:, 1]
    assert ventricles[free].std() == pytest.approx(0.35, abs=0.01)
    assert ventricles[free].corr(gray[free]) == pytest.approx(-0.2, abs=0.02)


def test_effects_that_leave_no_possible_head_are_refused():
    table = draw_participants(300, seed=0)
    with pytest.raises(ConfigError, match="no possible share of CSF"):
        draw_volumes(table, effects=12.0)
    with pytest.raises(ConfigError, match="effects"):
        draw_volumes(table, effects=-1.0)


def test_missing_and_impossible_answers_are_named():
    table = draw_participants(40, missing=0.5)
    with pytest.raises(TableError, match="draw the same participants again with missing=0"):
        draw_volumes(table)
    complete = draw_participants(4)
    with pytest.raises(TableError, match="smoking = 'often'"):
        draw_volumes(complete.assign(smoking="often"))
    with pytest.raises(TableError, match="'BMI'"):
        draw_volumes(complete.drop(columns="BMI"))
