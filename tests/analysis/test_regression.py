import numpy as np
import pytest
import statsmodels.api as sm

from csegsynth_kit.analysis.regression import fit_baselines, regression_effects
from csegsynth_kit.data.features import Features
from tests.toy import toy_cohort


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("complete") / "cohort", 60)


def test_baselines_equal_their_definitions(complete):
    train, _, test = complete.split((0.6, 0.1, 0.3))
    features = Features.fit(train.table, train.feature_columns)
    mean, age_sex, ridge = fit_baselines(train, features)
    volumes = train.volumes.to_numpy()
    np.testing.assert_allclose(mean.predict(test.table), np.tile(volumes.mean(0), (len(test), 1)))
    assert age_sex.name == "age + sex"

    def design(table):
        age, male = table["age"].to_numpy(), (table["sex"] == "male").to_numpy(float)
        return np.column_stack([np.ones(len(table)), age, age**2, male])

    beta, *_ = np.linalg.lstsq(design(train.table), volumes, rcond=None)
    np.testing.assert_allclose(age_sex.predict(test.table), design(test.table) @ beta, rtol=1e-6)
    errors = [np.abs(b.predict(test.table) - test.volumes).to_numpy().mean() for b in (mean, ridge)]
    assert errors[1] < errors[0]


def test_baselines_accept_unanswered_questions(cohort):
    features = Features.fit(cohort.table, cohort.feature_columns)
    for baseline in fit_baselines(cohort, features):
        assert np.isfinite(baseline.predict(cohort.table)).all()


def test_effects_are_the_coefficients_with_their_intervals(complete):
    features = Features.fit(complete.table, complete.feature_columns)
    table = regression_effects(complete, features).set_index(["feature", "tissue"])
    x = sm.add_constant(features.encode(complete.table).values)
    fit = sm.OLS(complete.volumes["gm_ml"].to_numpy(), x).fit()
    column = 1 + features.names.index("age")
    assert table.loc[("age", "GM"), "effect_ml"] == pytest.approx(fit.params[column])
    low, high = fit.conf_int()[column]
    assert tuple(table.loc[("age", "GM"), ["effect_low", "effect_high"]]) == pytest.approx(
        (low, high)
    )
    assert "site" not in table.index.get_level_values(0)
