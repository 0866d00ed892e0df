import numpy as np
import pytest

from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.simulate.questionnaire import (
    COLUMNS,
    FEATURES,
    draw_participants,
    latent_correlation,
)

PUBLISHED_NAMES = {
    "age", "sex", "handedness", "BMI", "education_level", "background_SES", "IST_fluid",
    "IST_memory", "IST_crystallised", "NEO_N", "NEO_E", "NEO_O", "NEO_A", "NEO_C", "STAI_T",
}  # fmt: skip


def test_correlations_are_a_covariance():
    matrix = latent_correlation()
    assert np.linalg.eigvalsh(matrix).min() > 0.01
    assert (matrix == matrix.T).all()


def test_answers_have_the_published_correlations_at_one_age():
    table = draw_participants(60_000, age="young", seed=2)
    for a, b, r in (
        ("NEO_N", "STAI_T", 0.75),
        ("IST_crystallised", "IST_fluid", 0.50),
        ("IST_fluid", "IST_memory", 0.50),
        ("NEO_N", "NEO_E", -0.35),
        ("NEO_E", "NEO_O", 0.0),
    ):
        by_sex = table.groupby("sex")[[a, b]].corr().iloc[0::2][b]
        np.testing.assert_allclose(by_sex, r, atol=0.02)


def test_a_simulated_table_has_eighteen_typed_features():
    table = draw_participants(500)
    assert tuple(table.columns) == FEATURES == tuple(column.name for column in COLUMNS)
    assert len(FEATURES) == 18
    assert set(FEATURES) >= PUBLISHED_NAMES
    for column in COLUMNS:
        if column.levels:
            assert set(table[column.name]) == set(column.levels)
        else:
            assert table[column.name].dtype == float
    assert Features.fit(table, COLUMNS).questions == FEATURES


def test_a_participant_does_not_depend_on_how_many_there_are():
    few, many = (
        draw_participants(7, seed=5, missing=0.3),
        draw_participants(90, seed=5, missing=0.3),
    )
    assert few.equals(many.iloc[:7])
    assert not few.equals(draw_participants(7, seed=6, missing=0.3))


@pytest.mark.parametrize(("age", "low", "high"), [("lifespan", 18, 88), ("young", 19, 26)])
def test_ages_fill_their_range_evenly(age, low, high):
    years = draw_participants(20_000, age=age).age
    assert years.between(low, high).all()
    np.testing.assert_allclose(
        years.quantile([0.0, 0.25, 0.5, 0.75, 1.0]),
        np.linspace(low, high, 5),
        atol=(high - low) / 60,
    )


def test_missing_answers_are_a_share_of_all_but_age_and_sex():
    complete, some = draw_participants(4000), draw_participants(4000, missing=0.2)
    assert some[["age", "sex"]].notna().all().all()
    shares = some.drop(columns=["age", "sex"]).isna().mean()
    np.testing.assert_allclose(shares, 0.2, atol=0.03)
    assert some.where(some.notna(), complete).equals(complete)


@pytest.mark.parametrize(
    "options", [{"age": "old"}, {"n": 0}, {"seed": -1}, {"missing": 1.0}, {"missing": -0.1}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError):
        draw_participants(**({"n": 3} | options))
