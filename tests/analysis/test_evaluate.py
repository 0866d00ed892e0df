"""Evaluation: what is compared with what, and what is refused."""

import copy
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.analysis.evaluate import (
    BEST_POSSIBLE,
    evaluate_people,
    evaluate_volumes,
    wide_table,
)
from csegsynth_kit.analysis.generate import predict_volumes
from csegsynth_kit.analysis.regression import (
    AGE_SEX,
    BOOSTING,
    LASSO,
    NEAREST,
    RIDGE,
    TRAINING_MEAN,
    fit_baselines,
    residual_covariance,
)
from csegsynth_kit.analysis.truth import Truth
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import CohortError, ConfigError
from csegsynth_kit.metrics.draws import draw_scores
from csegsynth_kit.metrics.specificity import specificity
from csegsynth_kit.metrics.volumes import SCORED, spread
from csegsynth_kit.show import plots
from tests.models_for_tests import started_model
from tests.toy import toy_cohort
from tests.training.jobs import toy_preset
from tests.training.jobs import train as trained

BASELINES = [TRAINING_MEAN, AGE_SEX, RIDGE, LASSO, BOOSTING, NEAREST]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    cohort = toy_cohort(tmp_path_factory.mktemp("evaluate") / "cohort", 60)
    train, _, test = cohort.split((0.6, 0.1, 0.3), seed=0)
    return started_model(train), train, test


@pytest.fixture(scope="module")
def result(parts):
    model, train, test = parts
    return evaluate_volumes({"toy": model, "twin": model}, train, test, n=8, seed=2)


@pytest.fixture
def pretend(parts, monkeypatch):
    """Evaluate models whose draws are given."""

    def evaluated(draws: dict[str, np.ndarray], people=None, volumes=None, **options):
        model, train, test = parts
        train = options.pop("train", train)
        coming = iter(draws.values())
        monkeypatch.setattr(
            "csegsynth_kit.analysis.evaluate.predict_volumes", lambda *_, **__: next(coming)
        )
        models, n = dict.fromkeys(draws, model), next(iter(draws.values())).shape[1]
        if people is None:
            return evaluate_volumes(models, train, test, n=n, **options)
        return evaluate_people(models, train, people, volumes, n=n, **options)

    return evaluated


def test_predictions_are_baselines_one_draw_and_the_mean_of_draws(parts, result):
    model, train, test = parts
    of_draws = [f"{m}, {what}" for m in ("toy", "twin") for what in ("one draw", "mean of 8 draws")]
    assert list(result.predictions) == [*BASELINES, *of_draws]
    draws = predict_volumes(model, test.table[list(model.features.questions)], n=8, seed=2)
    np.testing.assert_allclose(result.predictions["toy, one draw"], draws[:, 0])
    np.testing.assert_allclose(result.predictions["toy, mean of 8 draws"], draws.mean(1))
    np.testing.assert_allclose(result.draws["twin"], draws)
    np.testing.assert_allclose(
        result.predictions[TRAINING_MEAN], [train.volumes.mean()] * len(test)
    )
    assert set(result.scores["n"]) == {len(test)}


def test_every_model_meets_every_other_predictor(result):
    pairs = result.ratios.groupby(["model", "reference"], sort=False).size()
    expected = [(m, r) for m in ("toy", "twin") for r in (*BASELINES, "toy", "twin") if m != r]
    assert list(pairs.index) == expected
    assert set(pairs) == {len(SCORED)}
    twins = result.ratios[result.ratios["reference"] == "twin"]
    np.testing.assert_allclose(twins[["ratio", "ratio_low", "ratio_high"]], 1)


def test_spread_and_distributions_count_antithetic_twins_once(parts, result):
    _, train, _ = parts
    model = result.draws["toy"]
    expected = spread(model[:, :4], result.truth, seed=2)
    toy = result.spread[result.spread["model"] == "toy"]
    pd.testing.assert_frame_equal(toy[list(expected)].reset_index(drop=True), expected)
    features = Features.fit(train.table, train.feature_columns)
    sd = np.sqrt(np.diag(residual_covariance(train, features, seed=2)))
    scores = draw_scores(model[:, :4], result.predictions[RIDGE], sd, result.truth, seed=2)
    found = result.crps[result.crps["model"] == "toy"]
    np.testing.assert_allclose(found[["crps_ml", "ratio"]], scores[["crps_ml", "ratio"]])
    assert set(result.crps["reference"]) == set(result.energy["reference"]) == {RIDGE}
    assert list(result.energy["model"]) == ["toy", "twin"]


def test_verdicts_say_who_beats_ties_with_and_loses_to_ridge(parts, result, pretend):
    truth, ridge = result.truth, result.predictions[RIDGE]
    draws = {
        "Perfect": np.repeat(truth[:, None], 4, axis=1),
        "Same": np.repeat(ridge[:, None], 4, axis=1),
        "Absurd": np.repeat(truth[:, None] + 5000, 4, axis=1),
    }
    found = pretend(draws, seed=2)
    words = {"Perfect": "beats", "Same": "ties with", "Absurd": "loses to"}
    verdicts = found.verdicts()
    assert len(verdicts) == len(words) * len(SCORED)
    for model, word in words.items():
        own = [verdict for verdict in verdicts if f": {model} " in verdict]
        assert len(own) == len(SCORED)
        assert all(f"{model} {word} ridge (MAE ratio" in verdict for verdict in own)
    assert verdicts[len(SCORED)] == (
        f"WM: Same ties with ridge (MAE ratio 1.000, 95 % interval 1.000 to 1.000, "
        f"n = {len(truth)})."
    )
    assert "WM: Perfect beats Absurd" in found.verdicts("Absurd")[0]
    assert set(found.winners["winner"]) == {"Perfect"}
    assert set(found.winners["ties"]) == {""}
    with pytest.raises(ConfigError, match=r"nothing is compared with 'lasso'.*nearest"):
        found.verdicts("lasso")


def test_draws_from_the_normal_regression_tie_with_it_and_surer_ones_lose(parts, pretend):
    model, train, test = parts
    rng = np.random.default_rng(0)
    people = test.table.sample(600, replace=True, random_state=0)
    ridge = fit_baselines(train, model.features)[RIDGE](people)
    noise = rng.multivariate_normal(
        np.zeros(3), residual_covariance(train, model.features), (600, 17)
    )
    twins = np.repeat(ridge[:, None], 16, axis=1)  # To be left alone: too sure, were they draws.
    draws = {
        name: np.concatenate([ridge[:, None] + share * noise[:, :16], twins], axis=1)
        for name, share in {"right": 1, "sure": 0.2}.items()
    }
    found = pretend(draws, people, ridge + noise[:, 16])
    for table in (found.crps, found.energy):
        right, sure = (table[table["model"] == name] for name in ("right", "sure"))
        assert right["ratio"].between(0.97, 1.03).all()
        assert (sure["ratio_low"] > 1.05).all()


def test_specificity_is_nothing_for_a_model_that_ignores_the_answers(parts, result, pretend):
    _, train, test = parts
    anybody = np.random.default_rng(3).permutation(train.volumes.to_numpy())
    draws = {"deaf": np.repeat(anybody[: len(test), None], 4, axis=1)}
    table = pretend(draws, seed=2).specificity.set_index("predictor")
    assert list(table.index) == [RIDGE, "deaf"]
    assert abs(table.loc["deaf", "index"]) < 0.2
    assert table.loc["deaf", "p"] > 0.05
    assert table.loc[RIDGE, "p"] < 0.01
    scale = train.volumes.std().to_numpy()
    ridge = specificity(result.predictions[RIDGE], result.truth, scale, seed=2)
    assert table.loc[RIDGE, "index"] == pytest.approx(ridge.index)


def test_one_row_of_each_person_counts_for_specificity(parts, result, pretend):
    _, _, test = parts
    again = [*range(len(test)), *range(5)]
    ids = np.asarray(test.ids, dtype=object)[again]
    draws = {"toy": result.draws["toy"][again], "twin": result.draws["twin"][again]}
    found = pretend(draws, test.table.iloc[again], result.truth[again], persons=ids, seed=2)
    columns = ["predictor", "index", "rank", "n"]
    pd.testing.assert_frame_equal(found.specificity[columns], result.specificity[columns])
    assert set(found.scores["n"]) == {len(test) + 5}


def test_specificity_of_too_few_people_is_absent(parts, result, pretend):
    _, _, test = parts
    table = pretend(
        {"toy": result.draws["toy"][:9]}, test.table.iloc[:9], result.truth[:9]
    ).specificity
    assert list(table.columns) == list(result.specificity.columns)
    assert set(table["n"]) == {9}
    assert table[["index", "rank", "p"]].isna().all(axis=None)


def test_test_participants_do_not_influence_one_another(parts, result):
    model, train, test = parts
    kept = test.ids[::-2]
    part = evaluate_volumes({"toy": model}, train, test.subset(kept), n=8, seed=2)
    rows = [test.ids.index(i) for i in kept]
    for name in BASELINES:
        np.testing.assert_allclose(
            part.predictions[name], result.predictions[name][rows], rtol=1e-12, err_msg=name
        )
    everybody = result.crps.query("model == 'toy'")["reference_ml"].to_numpy()
    assert (part.crps["reference_ml"].to_numpy() != everybody).all()


def test_another_reference_is_used_throughout(parts):
    model, train, test = parts
    found = evaluate_volumes({"toy": model}, train, test, n=4, reference=AGE_SEX)
    assert set(found.crps["reference"]) == {AGE_SEX}
    assert list(found.specificity["predictor"]) == [AGE_SEX, "toy"]
    assert all(f" {AGE_SEX} (MAE ratio" in verdict for verdict in found.verdicts())
    with pytest.raises(ConfigError, match="no baseline 'lasso'"):
        evaluate_volumes({"toy": model}, train, test, reference="lasso")


def test_wide_table_and_figure_show_every_predictor(result):
    table = wide_table(result.scores)
    assert list(table.columns) == list(SCORED)
    assert list(table.index) == list(result.predictions)
    assert table.loc[TRAINING_MEAN, "GM"].count(",") == 1
    slopes = wide_table(result.scores, "slope", digits=2)
    assert slopes.loc[TRAINING_MEAN, "GM"] == "-"
    assert slopes.loc[RIDGE, "GM"] != "-"
    ax = plots.scores(result.scores, tissue="GM")
    assert [label.get_text() for label in ax.get_yticklabels()] == list(result.predictions)
    plt.close(ax.figure)


def test_other_training_participants_than_the_models_are_refused(parts):
    model, train, test = parts
    with pytest.raises(CohortError, match="not the training participants of the model 'toy'"):
        evaluate_volumes({"toy": model}, train.subset(train.ids[1:]), test)
    with pytest.raises(CohortError, match="both training and test"):
        evaluate_volumes({"toy": model}, train, train)
    with pytest.raises(CohortError, match="not the training participants"):
        evaluate_people({"toy": model}, test, train.table, train.volumes.to_numpy())


def test_people_by_whom_the_checkpoint_was_chosen_are_refused(tmp_path):
    cohort = toy_cohort(tmp_path / "cohort", 24)
    fitted, valid, test = cohort.split((0.5, 0.25, 0.25))
    model = trained(cohort.path, tmp_path / "runs", toy_preset(epochs=1)).load_model()
    with pytest.raises(CohortError, match="validation participants by whom the weights of 'toy'"):
        evaluate_volumes({"toy": model}, fitted, valid, n=4)
    assert len(evaluate_volumes({"toy": model}, fitted, test, n=4).truth) == len(test)


def test_another_definition_of_csf_is_refused(parts):
    model, train, test = parts
    other = replace(test, provenance=test.provenance | {"csf_definition": "ventricular"})
    with pytest.raises(CohortError, match="counted in different ways"):
        evaluate_volumes({"toy": model}, train, other)


def test_models_that_do_not_compare_are_refused(parts):
    model, train, test = parts
    fewer = copy.deepcopy(model)
    columns = [c for c in train.feature_columns if c.name != "site"]
    fewer.features = Features.fit(train.table, columns)
    with pytest.raises(ConfigError, match=r"asked different questions \(site\)"):
        evaluate_volumes({"all": model, "fewer": fewer}, train, test)
    with pytest.raises(ConfigError, match="only pre-trained"):
        evaluate_volumes({"toy": started_model(train, conditional=False)}, train, test)
    with pytest.raises(ConfigError, match="no model"):
        evaluate_volumes({}, train, test)
    with pytest.raises(ConfigError, match="called 'gradient boosting'"):
        evaluate_volumes({BOOSTING: model}, train, test, n=4)
    with pytest.raises(ConfigError, match="3 draws or more"):
        evaluate_volumes({"toy": model}, train, test, n=2)


def test_people_are_enough_without_maps(parts, result):
    model, train, test = parts
    people = evaluate_people({"toy": model}, train, test.table, result.truth, n=8, seed=2)
    both = (wide_table(r.scores).loc[[*BASELINES, "toy, one draw"]] for r in (people, result))
    pd.testing.assert_frame_equal(*both)


def test_baselines_understand_the_words_that_models_do(parts, result):
    model, train, test = parts
    worded = test.table.assign(sex=test.table["sex"].map({"male": "M", "female": "F"}))
    found = evaluate_people({"toy": model}, train, worded, result.truth, n=8, seed=2)
    for name in (*BASELINES, "toy, one draw"):
        np.testing.assert_allclose(found.predictions[name], result.predictions[name])


def test_the_best_possible_prediction_is_a_reference_where_it_is_known(parts, pretend):
    """The toy's people, as if they had been drawn from the embedded cohort's formula."""
    _, train, _ = parts
    truth = Truth("lifespan", 1.0)
    people, volumes = truth.fresh_people(60, seed=5)
    known = replace(train, provenance=train.provenance | {"age": "lifespan", "effects": 1.0})
    table = people.assign(education=np.nan, site=np.nan)
    draws = {"toy": np.repeat(truth.predict(people)[:, None], 4, axis=1)}
    found = pretend(draws, table, volumes, train=known)
    best = found.ratios[found.ratios["reference"] == BEST_POSSIBLE]
    np.testing.assert_allclose(best["ratio"], 1)
    assert BEST_POSSIBLE not in set(found.winners["winner"])
    floor = truth.floor()["sd_ml"]
    np.testing.assert_allclose(found.spread["true_within_sd_ml"], floor)
    assert "ties with best possible" in found.verdicts(BEST_POSSIBLE)[0]
