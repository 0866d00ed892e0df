import numpy as np
import pytest

from csegsynth_kit.metrics.contest import mae_ratios, winners
from csegsynth_kit.metrics.volumes import SCORED, resamples, with_brain


@pytest.fixture
def truth():
    return np.random.default_rng(0).normal(500, 50, (200, 3))


@pytest.fixture
def predictions(truth):
    rng = np.random.default_rng(1)
    return {
        name: truth + rng.normal(0, sd, truth.shape)
        for name, sd in {"near": 10, "as near": 10, "far": 30}.items()
    }


def test_verdicts_follow_the_interval(truth, predictions):
    table = mae_ratios(predictions, truth, of=list(predictions), times=500)
    pairs = table.set_index(["model", "reference"]).sort_index()
    assert set(pairs.loc[("near", "far"), "verdict"]) == {"better"}
    assert set(pairs.loc[("far", "near"), "verdict"]) == {"worse"}
    same = mae_ratios({"a": predictions["near"], "b": predictions["near"]}, truth, of=["a"])
    assert set(same["verdict"]) == {"tie"}
    np.testing.assert_allclose(same["ratio"], 1)


@pytest.mark.parametrize(("rows", "persons"), [(4, None), (40, np.repeat(np.arange(4), 10))])
def test_so_few_people_give_no_verdict(rows, persons, truth, predictions):
    few = {name: predicted[:rows] for name, predicted in predictions.items()}
    table = mae_ratios(few, truth[:rows], of=["near"], persons=persons, times=50)
    assert set(table["verdict"]) == {"too few"}
    assert table[["ratio_low", "ratio_high"]].isna().all(axis=None)
    assert table["ratio"].notna().all()
    best = winners(few, truth[:rows], persons=persons, times=50)
    assert [len(ties.split("; ")) for ties in best["ties"]] == [2] * len(SCORED)


def test_ratios_are_antisymmetric(truth, predictions):
    table = mae_ratios(predictions, truth, of=list(predictions), times=500)
    assert len(table) == 6 * len(SCORED)
    pairs = table.set_index(["model", "reference", "tissue"])
    for (model, reference, tissue), row in pairs.iterrows():
        back = pairs.loc[(reference, model, tissue)]
        assert row["ratio"] * back["ratio"] == pytest.approx(1)
        assert row["ratio_low"] * back["ratio_high"] == pytest.approx(1)
        opposite = {"better": "worse", "worse": "better", "tie": "tie"}
        assert back["verdict"] == opposite[row["verdict"]]


def test_resamples_are_paired_and_draw_whole_persons(truth, predictions):
    persons = np.repeat(np.arange(100), 2)
    table = mae_ratios(predictions, truth, of=["near"], persons=persons, times=300, seed=4)
    errors = {n: np.abs(with_brain(p) - with_brain(truth)) for n, p in predictions.items()}
    rows = resamples(200, times=300, seed=4, persons=persons)
    ratios = errors["near"][rows].mean(axis=1) / errors["far"][rows].mean(axis=1)
    found = table[table["reference"] == "far"].reset_index()
    np.testing.assert_allclose(found["ratio"], errors["near"].mean(0) / errors["far"].mean(0))
    for label, percent in {"ratio_low": 2.5, "ratio_high": 97.5}.items():
        expected = np.percentile(ratios, percent, axis=0, method="nearest")
        np.testing.assert_allclose(found[label], expected)


def test_the_winner_is_named_with_whom_it_cannot_be_told_from(truth, predictions):
    table = winners(predictions, truth, times=500).set_index("tissue")
    assert list(table.index) == list(SCORED)
    for _, row in table.iterrows():
        assert {row["winner"], row["ties"]} == {"near", "as near"}
    alone = winners({k: predictions[k] for k in ("far", "near")}, truth, times=500)
    assert set(alone["winner"]) == {"near"}
    assert set(alone["ties"]) == {""}
    error = np.abs(predictions["near"] - truth).mean(axis=0)
    np.testing.assert_allclose(alone["mae_ml"][:3], error)


def test_a_perfect_predictor_beats_all_and_all_lose_to_it(truth, predictions):
    table = mae_ratios({"perfect": truth, **predictions}, truth, of=["perfect", "far"], times=50)
    pairs = table.set_index(["model", "reference"]).sort_index()
    assert set(pairs.loc[("perfect", "near"), "verdict"]) == {"better"}
    assert set(pairs.loc[("far", "perfect"), "verdict"]) == {"worse"}
    assert set(winners({**predictions, "perfect": truth}, truth, times=50)["ties"]) == {""}
