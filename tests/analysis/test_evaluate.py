"""Evaluation: what is compared with what, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from csegsynth_kit.analysis.evaluate import evaluate_people, evaluate_volumes, wide_table
from csegsynth_kit.analysis.generate import predict_volumes
from csegsynth_kit.errors import CohortError
from csegsynth_kit.metrics.volumes import SCORED, spread
from tests.models_for_tests import started_model
from tests.toy import toy_cohort


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    cohort = toy_cohort(tmp_path_factory.mktemp("evaluate") / "cohort", 60)
    train, _, test = cohort.split((0.6, 0.1, 0.3), seed=0)
    return started_model(train), train, test


def test_predictions_are_one_draw_and_the_mean_of_draws(parts):
    model, train, test = parts
    result = evaluate_volumes(model, train, test, n=6, seed=2, name="toy")
    draws = predict_volumes(model, test.table[list(model.features.questions)], n=6, seed=2)
    np.testing.assert_allclose(result.predictions["toy, one draw"], draws[:, 0])
    np.testing.assert_allclose(result.predictions["toy, mean of 6 draws"], draws.mean(1))
    np.testing.assert_allclose(
        result.predictions["training mean"], [train.volumes.mean()] * len(test)
    )
    assert set(result.scores["n"]) == {len(test)}


def test_spread_counts_antithetic_twins_once(parts):
    model, train, test = parts
    result = evaluate_volumes(model, train, test, n=8, seed=0)
    expected = spread(result.draws[:, :4], result.truth)
    np.testing.assert_allclose(result.spread["within_sd_ml"], expected["within_sd_ml"])


def test_a_model_that_knows_the_truth_beats_ridge_and_says_so(parts, monkeypatch):
    model, train, test = parts
    truth = test.volumes.to_numpy()
    known = np.repeat(truth[:, None], 4, axis=1)
    monkeypatch.setattr("csegsynth_kit.analysis.evaluate.predict_volumes", lambda *_, **__: known)
    result = evaluate_volumes(model, train, test, n=4)
    assert all("beats ridge" in verdict for verdict in result.verdicts)
    assert len(result.verdicts) == len(SCORED)


def test_wide_table_has_a_column_per_tissue_and_shows_intervals(parts):
    model, train, test = parts
    table = wide_table(evaluate_volumes(model, train, test, n=4).scores)
    assert list(table.columns) == list(SCORED)
    assert table.loc["training mean", "GM"].count(",") == 1


def test_other_training_participants_than_the_models_are_refused(parts):
    model, train, test = parts
    with pytest.raises(CohortError, match="not the training participants of the model"):
        evaluate_volumes(model, train.subset(train.ids[1:]), test)
    with pytest.raises(CohortError, match="both training and test"):
        evaluate_volumes(model, train, train)


def test_another_definition_of_csf_is_refused(parts):
    model, train, test = parts
    other = replace(test, provenance=test.provenance | {"csf_definition": "ventricular"})
    with pytest.raises(CohortError, match="counted in different ways"):
        evaluate_volumes(model, train, other)


def test_people_are_enough_without_maps(parts):
    model, train, test = parts
    both = (
        evaluate_volumes(model, train, test, n=4),
        evaluate_people(model, train, test.table, test.volumes.to_numpy(), n=4),
    )
    np.testing.assert_allclose(*(result.scores["mae_ml"] for result in both))
