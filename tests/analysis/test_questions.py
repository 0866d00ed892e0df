"""What questions buy."""

import numpy as np
import pytest

from csegsynth_kit.analysis.generate import predict_volumes
from csegsynth_kit.analysis.questions import (
    LOSSES,
    MODEL,
    REFITTED,
    question_curve,
    question_order,
    question_values,
)
from csegsynth_kit.analysis.regression import fit_ridge
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError, TableError
from tests.models_for_tests import started_model
from tests.toy import toy_cohort


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    cohort = toy_cohort(tmp_path_factory.mktemp("questions") / "cohort", 90)
    train, _, test = cohort.split((0.7, 0.0, 0.3), seed=0)
    return started_model(train), train, test


@pytest.fixture(scope="module")
def values(parts):
    model, _, test = parts
    groups = {"background": ["education", "site"]}
    return question_values(
        model, test.table, test.volumes.to_numpy(), groups=groups, draws=16, times=200
    )


def test_gains_are_differences_of_errors_with_and_without(parts, values):
    model, _, test = parts
    truth = test.volumes.to_numpy()

    def mae(*asked):
        drawn = predict_volumes(model, test.table.reindex(columns=list(asked)), n=16)
        return np.abs(drawn.mean(1) - truth).mean(0)

    asked = list(model.features.questions)
    table = values[values["tissue"] != "all three"].set_index("question")
    full = mae(*asked)
    without_age = mae(*(q for q in asked if q != "age"))
    np.testing.assert_allclose(table.loc["age", "in_full_ml"], without_age - full, atol=1e-3)
    base = mae("age", "sex")
    np.testing.assert_allclose(table.loc["age", "beside_base_ml"], mae("sex") - base, atol=1e-3)
    gain = base - mae("age", "sex", "education", "site")
    np.testing.assert_allclose(table.loc["background", "beside_base_ml"], gain, atol=1e-3)
    np.testing.assert_allclose(table.loc["sex", "alone_ml"], mae() - mae("sex"), atol=1e-3)


def test_only_questions_that_matter_buy_something(parts, values):
    """In the toy cohort, brains follow age and sex and nothing else."""
    model, _, test = parts
    assert len(values) == (len(model.features.questions) + 1) * len(LOSSES)
    assert set(values["n"]) == {len(test)}
    whole = values[values["tissue"] == "all three"].set_index("question")
    assert (whole.loc[["age", "sex"], "alone_ml_low"] > 0).all()
    for what in ("in_full_ml", "beside_base_ml", "alone_ml"):
        assert whole[what].idxmax() == "age"
        assert (values[f"{what}_low"] <= values[what] + 1e-9).all()
        assert (values[what] <= values[f"{what}_high"] + 1e-9).all()


def test_what_matters_most_is_asked_first_and_by_training_people_alone(parts):
    model, train, _ = parts
    order = question_order(train, model.features)
    assert list(order["added"][:3]) == ["", "age", "sex"]
    assert set(order["added"][1:]) == set(model.features.questions)
    assert order["unexplained"][0] == 1
    assert order["unexplained"][2] < order["unexplained"][1] < 1


def test_left_out_error_of_ridge_is_that_of_refitting_without_each(parts):
    """With the penalty that everybody's fit has chosen, up to the encoding's own statistics."""
    _, train, _ = parts
    features = Features.fit(train.table, train.feature_columns)
    _, nothing = fit_ridge(train, features, ())
    volumes = train.volumes.to_numpy()
    others = [np.delete(volumes, i, axis=0).mean(0) for i in range(len(volumes))]
    np.testing.assert_allclose(nothing, ((volumes - others) ** 2).mean(0))
    predict, left_out = fit_ridge(train, features, ["age"])
    inside = ((predict(train.table) - volumes) ** 2).mean(0)
    assert (inside < left_out).all()
    assert (left_out < nothing).all()
    shuffled = train.table.assign(sex="female", site="a")
    np.testing.assert_allclose(predict(shuffled), predict(train.table))


def test_curve_ends_with_all_questions_and_starts_with_none(parts):
    model, train, test = parts
    truth = test.volumes.to_numpy()
    order = question_order(train, model.features)
    table = question_curve(model, train, test.table, truth, order, draws=4, times=100)
    assert len(table) == len(order) * 2 * 3
    mae = table.pivot(index="questions", columns=["predictor", "tissue"], values="mae_ml")
    drawn = predict_volumes(model, test.table[list(model.features.questions)], n=4)
    np.testing.assert_allclose(mae.loc[4, MODEL], np.abs(drawn.mean(1) - truth).mean(0), rtol=1e-5)
    mean = train.volumes.to_numpy().mean(0)
    np.testing.assert_allclose(mae.loc[0, REFITTED], np.abs(mean - truth).mean(0))
    assert (mae.loc[2, MODEL] < mae.loc[0, MODEL]).all()
    refitted = table[table["predictor"] == REFITTED]
    np.testing.assert_allclose(refitted[["ratio", "ratio_low", "ratio_high"]], 1)


def test_unknown_questions_and_too_few_draws_are_refused(parts):
    model, _, test = parts
    truth = test.volumes.to_numpy()
    with pytest.raises(TableError, match="'shoes' is not a feature"):
        question_values(model, test.table, truth, groups={"odd": ["shoes"]})
    with pytest.raises(ConfigError, match="there are 2 draws"):
        question_values(model, test.table, truth, draws=2)
