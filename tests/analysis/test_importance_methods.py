import copy

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from scipy.stats import ncf

from csegsynth_kit.analysis.generate import predict_volumes
from csegsynth_kit.analysis.importance import gradient_importance
from csegsynth_kit.analysis.importance_methods import (
    by_gradient,
    by_integrated_gradients,
    by_permutation,
    integrated_gradients,
)
from csegsynth_kit.analysis.importance_regression import by_partial_r2
from csegsynth_kit.data.features import Features
from csegsynth_kit.metrics.volumes import resamples

GROUPS = {"age": ("age",), "background": ("education", "site")}


@pytest.fixture(scope="module")
def people(model, cohort):
    table = cohort.table[list(model.features.questions)]
    gaps = table.isna().any(axis=1)
    return pd.concat([table[gaps].head(3), table[~gaps].head(3)])


def test_integrated_gradients_add_up_to_the_difference_from_the_mean_person(model, people):
    """Also for people who leave questions unanswered."""
    assert people.isna().any(axis=None)
    own = integrated_gradients(model, people, draws=2, steps=8, seed=5)
    assert own.shape == (6, 4, 3)
    predicted = predict_volumes(model, people, n=2, seed=5).mean(axis=1)
    before = copy.deepcopy(model.features)
    try:
        model.features = _MeanPerson(before)
        mean = predict_volumes(model, people, n=2, seed=5).mean(axis=1)
    finally:
        model.features = before
    np.testing.assert_allclose(own.sum(axis=1), predicted - mean, atol=0.05)
    assert np.abs(predicted - mean).max() > 10


class _MeanPerson:
    """Features that encode everybody as the mean of the training answers."""

    def __init__(self, features):
        self._features = features

    def __getattr__(self, name):
        return getattr(self._features, name)

    def inputs(self, encoded):
        return 0 * self._features.inputs(encoded)


def test_gradients_of_single_questions_are_the_papers(model, people):
    table = gradient_importance(model, people, draws=2, seed=1)
    found = by_gradient(model, people, draws=2, seed=1)
    np.testing.assert_allclose(found.values.reshape(-1), table["effect_ml"], rtol=1e-6)
    assert found.signed
    assert (found.low <= found.values + 1e-9).all()
    grouped = by_gradient(model, people, groups=GROUPS, draws=2, seed=1)
    assert grouped.groups == ("age", "background")
    np.testing.assert_allclose(grouped.values[0], found.values[0])


def test_integrated_gradients_of_a_group_are_sums_within_a_person(model, people):
    own = integrated_gradients(model, people, draws=2, seed=1)
    found = by_integrated_gradients(model, people, groups=GROUPS, draws=2, seed=1)
    np.testing.assert_allclose(found.values[1], np.abs(own[:, 2:].sum(axis=1)).mean(axis=0))


def test_shuffling_an_answer_nobody_reads_costs_nothing(model, cohort):
    answers = cohort.table[list(model.features.questions)].dropna()  # gaps depend on others
    volumes = cohort.volumes.loc[answers.index].to_numpy()
    deaf = copy.deepcopy(model)
    columns = [deaf.features.names.index("education"), len(deaf.features.names) + 2]
    with torch.no_grad():
        deaf.transform.linear.weight[:, columns] = 0
    by_mae, by_mse = by_permutation(deaf, answers, volumes, draws=2, permutations=2, times=50)
    education = by_mae.groups.index("education")
    for found in (by_mae, by_mse):
        assert (found.values[education] == 0).all()
        assert (found.high[education] == 0).all()
    age = by_mae.groups.index("age")
    assert by_mae.low[age, 1] > 0
    assert by_mae.sizes.argmax(axis=0)[1] == age


def test_permutation_importance_is_the_rise_of_the_error(model, cohort):
    table, truth = cohort.table[list(model.features.questions)], cohort.volumes.to_numpy()
    how = {"draws": 2, "permutations": 1, "seed": 3, "times": 20}
    both = {"both": ("age", "sex")}
    found, squared = by_permutation(model, table, truth, groups=both, **how)
    order = np.random.default_rng([3, 1]).permutation(len(table))
    shuffled = table.copy()
    for name in ("age", "sex"):
        shuffled[name] = table[name].to_numpy()[order]
    errors = [predict_volumes(model, t, n=2, seed=3).mean(1) - truth for t in (table, shuffled)]
    expected = np.abs(errors[1]).mean(0) - np.abs(errors[0]).mean(0)
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-6)
    expected = (errors[1] ** 2).mean(0) - (errors[0] ** 2).mean(0)
    np.testing.assert_allclose(squared.values[0], expected, rtol=1e-6)


def test_partial_r2_follows_from_the_t_value_and_its_interval_from_its_definition(cohort):
    features = Features.fit(cohort.table, cohort.feature_columns)
    found = by_partial_r2(cohort, features, times=30)
    x = features.impute(features.encode(cohort.table).values)
    x = np.column_stack([np.ones(len(x)), x[:, [0, 1, 2, 4, 5]], x[:, 0] ** 2])
    fit = sm.OLS(cohort.volumes["gm_ml"].to_numpy(), x).fit()
    sex = found.groups.index("sex")
    t2 = fit.tvalues[2] ** 2
    assert found.values[sex, 1] == pytest.approx(t2 / (t2 + fit.df_resid))
    assert found.p[sex, 1] == pytest.approx(fit.pvalues[2])
    for end, quantile in ((found.low, 0.975), (found.high, 0.025)):
        noncentrality = len(x) * end[sex, 1] / (1 - end[sex, 1])
        if noncentrality > 0:
            assert ncf.cdf(t2, 1, fit.df_resid, noncentrality) == pytest.approx(quantile, abs=1e-6)
    assert ((found.low == 0) == (found.p >= 0.025)).all()


def test_resamples_of_partial_r2_are_refits(cohort):
    features = Features.fit(cohort.table, cohort.feature_columns)
    found = by_partial_r2(cohort, features, groups=GROUPS, times=3, seed=4)
    x = features.impute(features.encode(cohort.table).values)
    x = np.column_stack([np.ones(len(x)), x[:, [0, 1, 2, 4, 5]], x[:, 0] ** 2])
    for rows, values in zip(resamples(len(x), times=3, seed=4), found.resampled, strict=True):
        y = cohort.volumes.to_numpy()[rows, 1]
        whole = sm.OLS(y, x[rows]).fit().ssr
        for g, own in enumerate(([1, 6], [3, 4, 5])):
            without = sm.OLS(y, np.delete(x[rows], own, axis=1)).fit().ssr
            assert values[g, 1] == pytest.approx(1 - whole / without, abs=1e-8)
