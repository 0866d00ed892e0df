"""Conformal intervals of a model's volumes."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.analysis.certainty import COVERED, Intervals
from csegsynth_kit.analysis.generate import predict_shared_volumes
from csegsynth_kit.analysis.regression import RIDGE, fit_baseline, left_out_errors
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import CohortError, ConfigError, RunError, TableError
from csegsynth_kit.metrics.conformal import conformal_quantile, expected_coverage
from tests.models_for_tests import started_model
from tests.toy import toy_cohort

DRAWS = 8


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    cohort = toy_cohort(tmp_path_factory.mktemp("certainty") / "cohort", 110, missing=0.1)
    return cohort.split((0.4, 0.3, 0.3), seed=0)


@pytest.fixture(scope="module")
def model(parts):
    return started_model(parts[0])


@pytest.fixture(scope="module")
def intervals(model, parts):
    return Intervals.calibrate(model, parts[1], draws=DRAWS, scaled=True)


def moments(model, table):
    drawn = predict_shared_volumes(model, table[list(model.features.questions)], n=DRAWS)
    return drawn.mean(1), drawn.std(1, ddof=1)


def test_intervals_are_as_wide_as_errors_of_validation_people(intervals, model, parts):
    _, valid, test = parts
    mean, sd = moments(model, valid.table)
    scores = np.abs(valid.volumes.to_numpy() - mean) / sd
    for together in (False, True):
        taken = np.repeat(scores.max(1, keepdims=True), 3, axis=1) if together else scores
        width = conformal_quantile(taken, 0.8)
        people = test.table[list(model.features.questions)]
        found = intervals.of(people, 0.8, together=together)
        mean, sd = moments(model, people)
        np.testing.assert_allclose(found["mean_ml"], mean.reshape(-1), rtol=1e-6)
        expected = np.maximum(mean - width * sd, 0)
        np.testing.assert_allclose(found["low_ml"], expected.reshape(-1), rtol=1e-5)
        np.testing.assert_allclose(found["high_ml"], (mean + width * sd).reshape(-1), rtol=1e-5)
        assert list(found["person"][::3]) == list(people.index)
        assert list(found["tissue"][:3]) == list(MEASURED)
        assert set(found["n"]) == {len(valid)}
    open_questions = people.isna().sum(axis=1)
    assert list(found["unanswered"][::3]) == list(open_questions)


def test_answers_nobody_gave_are_named_beside_their_intervals(intervals, model):
    oldest = model.features.support[0][1]
    people = pd.DataFrame({"age": [50.0, oldest + 9, None], "sex": "male"}, index=["a", "b", "a"])
    found = intervals.of(people)
    assert list(found["extrapolated"]) == [""] * 3 + ["age"] * 3 + [""] * 3
    assert list(found["unanswered"]) == [2] * 6 + [3] * 3
    short = replace(intervals, asked=("sex",))  # age is ignored, and so is how old they are
    assert not short.of(people)["extrapolated"].any()


def test_calibration_people_are_covered_as_often_as_their_rank_says(intervals, parts):
    _, valid, _ = parts
    n = len(valid)
    table = intervals.coverage(valid.table, valid.volumes.to_numpy())
    own = table[table["group"] == "everybody"]
    assert list(own["tissue"]) == 3 * list(COVERED)
    for level, rows in own.groupby("level"):
        np.testing.assert_allclose(rows["covered"], np.ceil(round((n + 1) * level, 9)) / n)
        _, low, high = expected_coverage(n, level, tested=n)
        assert set(rows["expected_low"]) == {low}
        assert set(rows["expected_high"]) == {high}


def test_coverage_counts_within_thirds_of_age_and_by_sex(intervals, parts):
    _, _, test = parts
    table = intervals.coverage(test.table, test.volumes.to_numpy(), levels=[0.9])
    sizes = table[table["tissue"] == "WM"].set_index("group")["n"]
    assert list(sizes.index[-2:]) == ["sex: female", "sex: male"]
    assert len(sizes) == 6
    assert sizes["everybody"] == len(test) == sizes.iloc[1:4].sum() == sizes.iloc[4:].sum()
    inside = intervals.of(test.table[list(intervals.asked)], 0.9)
    truth = test.volumes.to_numpy().reshape(-1)
    held = ((inside["low_ml"] <= truth) & (truth <= inside["high_ml"])).to_numpy().reshape(-1, 3)
    rows = table.set_index(["group", "tissue"])["covered"]
    np.testing.assert_allclose(rows["everybody"][list(MEASURED)], held.mean(0))
    women = (test.table["sex"] == "female").to_numpy()
    np.testing.assert_allclose(rows["sex: female"]["CSF"], held[women, 2].mean())


def test_too_few_people_for_a_level_are_refused_or_left_out(model, parts):
    few = Intervals.calibrate(model, parts[1].subset(parts[1].ids[:12]), draws=DRAWS)
    with pytest.raises(ConfigError, match="12 people are too few for intervals of 95 %"):
        few.of({"age": 50}, 0.95)
    table = few.coverage(parts[2].table, parts[2].volumes.to_numpy(), by=())
    assert set(table["level"]) == {0.8, 0.9}


def test_training_people_count_with_errors_left_out_at_the_models_scale(model, parts, monkeypatch):
    """Were the model worse than the regression by a factor, intervals would be wider by it.

    The regression is ridge here, which is faster than the lasso.
    """
    monkeypatch.setattr("csegsynth_kit.analysis.certainty.LASSO", RIDGE)
    train, valid, _ = parts
    both = Intervals.calibrate(model, valid, train=train, draws=DRAWS, scaled=True)
    assert len(both.scores) == len(train) + len(valid)
    assert both.people == {"valid": len(valid), "train": len(train)}
    mean, sd = moments(model, valid.table)
    truth = valid.volumes.to_numpy()
    features = Features.fit(train.table, train.feature_columns)
    ridge = np.abs(truth - fit_baseline(RIDGE, train, features)(valid.table))
    ratios = (np.abs(truth - mean) / sd).mean(0) / (ridge / sd).mean(0)
    np.testing.assert_allclose(both.ratios, ratios, rtol=1e-5)
    left_out = np.abs(left_out_errors(train, features, name=RIDGE))
    everybody = np.concatenate([ridge / sd, left_out / moments(model, train.table)[1]]) * ratios
    np.testing.assert_allclose(both.scores[:, :3], np.sort(everybody, axis=0), rtol=1e-5)
    np.testing.assert_allclose(both.scores[:, 3], np.sort(everybody.max(1)), rtol=1e-5)
    # The range of coverage that is expected counts people, and says what it leaves out.
    assert "ratio" not in Intervals.calibrate(model, valid, draws=DRAWS).statement
    assert f"calibrated on {len(valid)} valid, {len(train)} train" in both.statement
    assert "take the ratio of errors for known" in both.statement
    # What the model was fitted to would promise too much.
    seen = np.abs(train.volumes.to_numpy() - fit_baseline(RIDGE, train, features)(train.table))
    assert (left_out.mean(0) > seen.mean(0)).all()
    other = parts[0].subset(train.ids[1:])
    with pytest.raises(CohortError, match="not the training participants"):
        Intervals.calibrate(model, valid, train=other, draws=DRAWS)


def test_a_person_counts_once(model, parts, monkeypatch):
    _, valid, _ = parts
    first, second = valid.ids[:2]
    again = {**valid.provenance, "persons": {second: first}}
    monkeypatch.setitem(valid.provenance, "persons", again["persons"])
    retested = valid.subset(valid.ids)
    assert len(Intervals.calibrate(model, retested, draws=DRAWS).scores) == len(valid) - 1


def test_with_fewer_questions_intervals_are_calibrated_for_them(model, parts):
    _, valid, test = parts
    short = Intervals.calibrate(model, valid, asked=["sex"], draws=DRAWS)
    person = test.table[list(model.features.questions)].iloc[:1]
    changed = person.assign(age=30.0)
    pd.testing.assert_frame_equal(short.of(person), short.of(changed))  # age is not asked
    full = Intervals.calibrate(model, valid, draws=DRAWS)
    wide, narrow = (
        (table["high_ml"] - table["low_ml"]).mean()
        for table in (i.of(test.table[list(model.features.questions)]) for i in (short, full))
    )
    assert wide > narrow
    with pytest.raises(TableError, match="'shoes' is not a feature"):
        Intervals.calibrate(model, valid, asked=["shoes"], draws=DRAWS)


def test_intervals_are_kept_as_json_without_anybodys_scores(intervals, model, parts, tmp_path):
    path = intervals.save(tmp_path / "intervals.json")
    loaded = Intervals.load(path, model)
    person = {"age": 60, "sex": "female"}
    pd.testing.assert_frame_equal(loaded.of(person), intervals.of(person), rtol=1e-4)
    stored = json.loads(path.read_text())
    assert all(values == sorted(values) for values in stored["scores"].values())
    assert not any(i in path.read_text() for i in parts[1].ids)
    other = started_model(parts[1])
    with pytest.raises(RunError, match="other training participants"):
        Intervals.load(path, other)


def test_unscaled_intervals_are_equally_wide_for_everybody(model, parts):
    _, valid, test = parts
    people = test.table[list(model.features.questions)]
    same = Intervals.calibrate(model, valid, draws=DRAWS)
    error = np.abs(valid.volumes.to_numpy() - moments(model, valid.table)[0])
    found = same.of(people, 0.8)
    half = (found["high_ml"] - found["mean_ml"]).to_numpy().reshape(-1, 3)
    np.testing.assert_allclose(half, np.tile(conformal_quantile(error, 0.8), (len(people), 1)))
    scaled = Intervals.calibrate(model, valid, draws=DRAWS, scaled=True).of(people, 0.8)
    assert (scaled["high_ml"] - scaled["mean_ml"]).to_numpy().reshape(-1, 3).std(0).min() > 0


def test_cohorts_that_count_csf_otherwise_are_refused(model, parts, monkeypatch):
    _, valid, _ = parts
    monkeypatch.setitem(model.card, "csf_definition", "ventricular")
    with pytest.raises(CohortError, match="counts CSF as 'intracranial'"):
        Intervals.calibrate(model, valid, draws=DRAWS)
