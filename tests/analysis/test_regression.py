"""Baselines: what each predicts, and that none sees whom it is tested on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from csegsynth_kit.analysis.contrast import VolumeRegression
from csegsynth_kit.analysis.design import (
    AGE_SQUARED,
    CONSTANT,
    answers_and_square,
    regressors,
)
from csegsynth_kit.analysis.importance_regression import by_partial_r2
from csegsynth_kit.analysis.regression import (
    AGE_SEX,
    BOOSTING,
    LASSO,
    NEAREST,
    RIDGE,
    TRAINING_MEAN,
    fit_baselines,
    regression_effects,
    residual_covariance,
)
from csegsynth_kit.constants import VOLUME_COLUMNS
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import ConfigError
from tests.toy import TOY_COLUMNS, TOY_GRID, toy_cohort, toy_table


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("complete") / "cohort", 60)


def cohort_of(table: pd.DataFrame, volumes: np.ndarray, persons: dict | None = None) -> Cohort:
    """People of whom there are answers and volumes, but no maps."""
    volumes = pd.DataFrame(volumes, table.index, list(VOLUME_COLUMNS))
    provenance = {"persons": persons or {}}
    rows = np.arange(len(table))
    return Cohort(None, table, TOY_COLUMNS, volumes, TOY_GRID, provenance, rows)


def planted(n: int, seed: int, *, missing: float = 0.0) -> Cohort:
    """Age adds in men what it takes away in women: no sum of effects can follow."""
    table = toy_table(n, seed, missing=missing)
    effect = np.where(table["sex"] == "male", 2.0, -2.0) * (table["age"] - 53)
    noise = np.random.default_rng([seed, 7]).normal(0, 10, (n, 3))
    return cohort_of(table, 500 + effect.to_numpy()[:, None] + noise)


def fitted(train: Cohort, seed: int = 0):
    return fit_baselines(train, Features.fit(train.table, train.feature_columns), seed=seed)


def test_baselines_equal_their_definitions(complete):
    train, _, test = complete.split((0.6, 0.1, 0.3))
    baselines = fitted(train)
    assert list(baselines) == [TRAINING_MEAN, AGE_SEX, RIDGE, LASSO, BOOSTING, NEAREST]
    predicted = {name: predict(test.table) for name, predict in baselines.items()}
    volumes = train.volumes.to_numpy()
    np.testing.assert_allclose(predicted[TRAINING_MEAN], np.tile(volumes.mean(0), (len(test), 1)))

    def design(table):
        age, male = table["age"].to_numpy(), (table["sex"] == "male").to_numpy(float)
        return np.column_stack([np.ones(len(table)), age, age**2, male])

    beta, *_ = np.linalg.lstsq(design(train.table), volumes, rcond=None)
    np.testing.assert_allclose(predicted[AGE_SEX], design(test.table) @ beta, rtol=1e-6)
    error = {name: np.abs(p - test.volumes).to_numpy().mean() for name, p in predicted.items()}
    assert error[RIDGE] < error[TRAINING_MEAN]


def test_the_lasso_drops_answers_that_tell_nothing_and_keeps_the_unit():
    """Of 40 answers one counts; predictions scale with the volumes."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame(rng.normal(size=(160, 40)), columns=[f"q{i}" for i in range(40)])
    volumes = 500 + np.outer(table["q0"], [20.0, 10.0, 30.0]) + rng.normal(0, 20, (160, 3))
    columns = tuple(Column(name, "continuous") for name in table)
    train, large = (
        replace(cohort_of(table[:100], factor * volumes[:100]), columns=columns)
        for factor in (1, 10)
    )
    predicted = fitted(train)[LASSO](table[100:])
    ridge = fitted(train)[RIDGE](table[100:])
    truth = 500 + np.outer(table["q0"][100:], [20.0, 10.0, 30.0])
    assert np.abs(predicted - truth).mean() < 0.8 * np.abs(ridge - truth).mean()
    np.testing.assert_allclose(fitted(large)[LASSO](table[100:]), 10 * predicted, rtol=1e-6)


def test_baselines_accept_unanswered_questions(cohort):
    for predict in fitted(cohort).values():
        assert np.isfinite(predict(cohort.table)).all()
        assert np.isfinite(predict(pd.DataFrame({"age": [40.0, np.nan]}))).all()


def test_without_sex_the_small_regression_is_named_after_age(complete):
    columns = [c for c in complete.feature_columns if c.name != "sex"]
    baselines = fit_baselines(complete, Features.fit(complete.table, columns))
    assert "age" in baselines
    assert AGE_SEX not in baselines


def test_boosting_finds_an_interaction_that_ridge_cannot():
    train, test = planted(300, 0, missing=0.2), planted(500, 1, missing=0.2)
    error = {
        name: np.abs(predict(test.table) - test.volumes).to_numpy().mean(axis=0)
        for name, predict in fitted(train).items()
    }
    assert (error[BOOSTING] < 0.6 * error[RIDGE]).all()


def test_boosting_keeps_few_trees_where_nothing_is_to_be_learned():
    """Grown to the end, the trees would follow the noise."""
    rng = np.random.default_rng(0)
    train = cohort_of(toy_table(300, 0), rng.normal(500, 50, (300, 3)))
    predicted = fitted(train)[BOOSTING](toy_table(500, 1))
    assert (predicted.std(axis=0) < 12).all()


def test_baselines_depend_on_nothing_but_training_and_seed():
    train, people = planted(120, 0, missing=0.1), toy_table(40, 3, missing=0.1)
    again = fitted(train, seed=1)
    for name, predict in fitted(train, seed=1).items():
        predicted = predict(people)
        np.testing.assert_array_equal(predicted, again[name](people), err_msg=name)
        some = predict(people.iloc[[7, 2, 30]])  # fewer, and in another order
        np.testing.assert_allclose(predicted[[7, 2, 30]], some, rtol=1e-12, err_msg=name)


def test_a_training_participant_is_nearest_to_itself(cohort):
    assert cohort.table.isna().any(axis=None)
    predicted = fitted(cohort)[NEAREST](cohort.table)
    np.testing.assert_array_equal(predicted, cohort.volumes)


def test_nearest_person_is_that_of_the_documented_distance(cohort):
    features = Features.fit(cohort.table, cohort.feature_columns)
    people = toy_table(200, 5, missing=0.3)
    x, y = features.encode(people).values, features.encode(cohort.table).values
    nearest = []
    for own in x:
        distances = np.zeros(len(y))
        for i in range(len(y)):
            for question in range(len(features.columns)):
                columns = np.flatnonzero(features.question == question)
                if not np.isnan(own[columns]).any():
                    apart = (own[columns] - y[i, columns]) ** 2
                    apart = np.where(np.isnan(apart), own[columns] ** 2 + 1, apart)
                    distances[i] += apart.mean()
        nearest.append(distances.argmin())
    predicted = fitted(cohort)[NEAREST](people)
    np.testing.assert_array_equal(predicted, cohort.volumes.to_numpy()[nearest])


def test_leaving_questions_out_brings_nobody_nearer():
    table = toy_table(40, 0)
    table.iloc[1:, table.columns.get_loc("age")] = np.linspace(20, 80, 39)
    table.loc["sub-001"] = [np.nan, np.nan, np.nan, "b"]
    train = cohort_of(table, np.arange(120.0).reshape(40, 3))
    person = table.iloc[[20]].assign(site="b", age=table["age"].iloc[20] + 0.1)
    predicted = fitted(train)[NEAREST](person)
    assert (predicted != train.volumes.iloc[0].to_numpy()).all()


def test_residuals_are_those_of_people_not_fitted():
    """In the sample, the nearest person is everybody's own self and errs by nothing."""
    train = planted(150, 0)
    features = Features.fit(train.table, train.feature_columns)
    sd = np.sqrt(np.diag(residual_covariance(train, features, name=NEAREST)))
    assert (sd > 10).all()


def test_residual_covariance_is_that_of_fresh_people():
    rng = np.random.default_rng(2)
    noise = np.array([[900.0, 300, 0], [300, 400, -100], [0, -100, 1600]])

    def people(n, seed):
        table = toy_table(n, seed)
        mean = 500 + table["age"].to_numpy()[:, None] * [1, -2, 3]
        return cohort_of(table, mean + rng.multivariate_normal(np.zeros(3), noise, n))

    train = people(1500, 0)
    features = Features.fit(train.table, train.feature_columns)
    np.testing.assert_allclose(residual_covariance(train, features), noise, atol=90)


def test_residuals_never_come_from_another_row_of_the_same_person():
    once = planted(100, 0)
    again = once.table.set_axis([f"{i}-again" for i in once.ids])
    persons = {f"{i}-again": i for i in once.ids}
    both = cohort_of(
        pd.concat([once.table, again]), np.tile(once.volumes.to_numpy(), (2, 1)), persons
    )
    features = Features.fit(both.table, both.feature_columns)
    apart = residual_covariance(both, features, name=NEAREST)
    assert (np.diag(apart) > 100).all()
    strangers = replace(both, provenance={})  # each row somebody else: twins give it away
    assert (np.diag(residual_covariance(strangers, features, name=NEAREST)) < np.diag(apart)).all()


def test_an_unknown_baseline_is_refused_by_name(complete):
    features = Features.fit(complete.table, complete.feature_columns)
    with pytest.raises(ConfigError, match=r"no baseline 'lasso'.*gradient boosting"):
        residual_covariance(complete, features, name="lasso")


def test_effects_are_the_coefficients_with_their_intervals(complete):
    features = Features.fit(complete.table, complete.feature_columns)
    table = regression_effects(complete, features).set_index(["feature", "tissue"])
    z = features.encode(complete.table).values
    age = features.names.index("age")
    x = np.column_stack([np.ones(len(z)), z, z[:, age] ** 2])
    fit = sm.OLS(complete.volumes["gm_ml"].to_numpy(), x).fit()
    sex = 1 + features.names.index("sex")
    columns = ["effect_ml", "effect_low", "effect_high"]
    expected = fit.params[sex], *fit.conf_int()[sex]
    assert tuple(table.loc[("sex", "GM"), columns]) == pytest.approx(expected)
    assert "site" not in table.index.get_level_values(0)


def test_the_effect_of_age_is_its_slope_at_each_person_averaged(complete):
    """By differences of the regression's predictions, at other people than it was fitted to."""
    features = Features.fit(complete.table, complete.feature_columns)
    old = complete.table[complete.table["age"] > 60]
    table = regression_effects(complete, features, people=old).set_index(["feature", "tissue"])
    linear = VolumeRegression.fit(complete, features)
    step = 0.5 * features.sd[features.names.index("age")]
    before, after = (old.assign(age=old["age"] + s) for s in (-step, step))
    slopes = linear.contrast(before, after)[..., 0].mean(axis=0)
    found = table.loc["age"].loc[["WM", "GM", "CSF"], "effect_ml"]
    np.testing.assert_allclose(found, slopes, rtol=1e-6)
    young = regression_effects(complete, features).set_index(["feature", "tissue"])
    assert (young.loc["age", "effect_ml"] != table.loc["age", "effect_ml"]).all()
    pd.testing.assert_frame_equal(young.loc[["sex"]], table.loc[["sex"]])


@pytest.mark.parametrize("fit", [by_partial_r2, VolumeRegression.fit])
def test_no_more_people_than_regressors_are_refused(complete, fit):
    features = Features.fit(complete.table, complete.feature_columns)
    n = regressors(features, complete.table)[0].shape[1]
    with pytest.raises(ConfigError, match=f"{n} participants are too few.*{n} regressors"):
        fit(complete.subset(complete.ids[:n]), features)
    fit(complete.subset(complete.ids[: n + 1]), features)


def test_least_squares_has_every_answer_once_and_age_squared(complete):
    features = Features.fit(complete.table, complete.feature_columns)
    x, encoded = regressors(features, complete.table)
    names = [features.names[i] for i in encoded if i >= 0]
    first = [n for n in features.names if n not in names]
    assert len(first) == 1  # of three sites one follows from the others
    assert first[0].startswith("site=")
    assert list(encoded[[0, -1]]) == [CONSTANT, AGE_SQUARED]
    whole = answers_and_square(features, complete.table)
    np.testing.assert_allclose(x[:, -1], whole[:, features.names.index("age")] ** 2)
    assert np.linalg.matrix_rank(x) == x.shape[1]
    everything = np.column_stack([np.ones(len(x)), whole])
    assert np.linalg.matrix_rank(everything) == x.shape[1] == everything.shape[1] - 1
