import numpy as np
import pandas as pd
import pytest
import torch

from csegsynth_kit.analysis.counterfactual import (
    abduct,
    aged,
    answers_of,
    counterfactual,
    distances,
    moved_again,
    reason_against,
    soft_dice,
)
from csegsynth_kit.analysis.soundness import (
    counterfactual_errors,
    effectiveness,
    other_ages,
    soundness,
)
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import CohortError, ConfigError
from csegsynth_kit.models import build
from tests.models_for_tests import started_model
from tests.training.jobs import toy_preset


@pytest.fixture(scope="module", params=["csegsynth", "cvae"])
def restless(request, model, cohort):
    """A model whose answers shift and scale codes through every part of T."""
    features = Features.fit(cohort.table, cohort.feature_columns)
    chosen = build(toy_preset(request.param).model, features).eval()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in chosen.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    chosen.card = dict(model.card)
    return chosen


def test_abduction_inverts_the_transform_exactly(restless, cohort):
    maps, people = cohort.maps(), answers_of(cohort.table, restless)
    with torch.no_grad():
        latents = abduct(restless, maps.probabilities, people)
        inputs = torch.from_numpy(restless.features.inputs(restless.features.encode(people)))
        again = restless.generate(latents, inputs)
        rendered = restless.reconstruct(maps.probabilities, inputs)
    assert not torch.allclose(again[0], again[1], atol=1e-4)
    torch.testing.assert_close(again, rendered, atol=1e-5, rtol=0)


def test_other_answers_keep_the_individual(model, cohort):
    people = answers_of(cohort.table, model)
    moved = counterfactual(model, cohort.maps(), people, aged(people, people["age"] + 20))
    latents = abduct(model, cohort.maps().probabilities, people)
    inputs = torch.from_numpy(
        model.features.inputs(model.features.encode(aged(people, people["age"] + 20)))
    )
    torch.testing.assert_close(moved.probabilities, model.generate(latents, inputs).detach())
    assert moved.labels == cohort.ids
    assert list(moved.answers["age"]) == pytest.approx(list(people["age"] + 20))


def test_there_and_back_is_the_way_back(model, cohort):
    people = answers_of(cohort.table, model)
    reached = moved_again(
        model,
        cohort.maps(),
        {"here": people, "old": aged(people, np.full(len(people), 80)), "back": people},
    )
    assert list(reached) == ["here", "old", "back"]
    middle = counterfactual(model, reached["old"], aged(people, np.full(len(people), 80)), people)
    torch.testing.assert_close(reached["back"].probabilities, middle.probabilities)


@pytest.mark.parametrize("family", ["cgan", "cldm"])
def test_families_without_encoder_say_so(family, cohort):
    features = Features.fit(cohort.table, cohort.feature_columns)
    other = build(toy_preset(family).model, features)
    assert reason_against(other)
    with pytest.raises(ConfigError, match="cannot move a given map"):
        abduct(other, cohort.maps().probabilities, cohort.table)


def test_soft_dice_of_equal_disjoint_and_half_maps():
    a = torch.zeros(1, 2, 3, 4, 5)
    a[:, 0, :2] = 0.5
    b = torch.zeros_like(a)
    b[:, 0, 1:] = 0.5
    assert soft_dice(a, a)[0, 0] == 1
    assert soft_dice(a, b)[0, 0] == 0.5
    assert soft_dice(a, 1 - a)[0, 0] == pytest.approx(2 * 20 / (20 + 40))
    assert soft_dice(a, b)[0, 1].isnan()


def test_distances_are_signed_volumes_of_voxels():
    a, b = torch.zeros(2, 4, 3, 4, 5), torch.zeros(2, 4, 3, 4, 5)
    b[1, 2] = 0.5
    table = distances(a, b, voxel_ml=2.0).set_index(["person", "tissue"])
    assert table.loc[(1, "CSF"), "change_ml"] == pytest.approx(60)
    assert table.loc[(0, "CSF"), "change_ml"] == 0


@pytest.fixture(scope="module")
def halves(cohort):
    """Training and test participants."""
    train, _, test = cohort.split((0.5, 0.0, 0.5), seed=0)
    return train, test


@pytest.fixture(scope="module")
def trained(halves):
    return started_model(halves[0])


def test_soundness_tells_scores_and_reasons(trained, halves):
    train, test = halves
    model, other = trained, build(toy_preset("cgan").model, trained.features)
    other.card = dict(trained.card)
    table = soundness({"ours": model, "C-GAN": other}, train, test)
    scores = table[table["model"] == "ours"]
    assert set(scores["score"]) == {
        "composition 1",
        "composition 2",
        "composition 3",
        "there and back",
    }
    assert (scores["n"] == len(test)).all()
    assert (scores["error_ml_low"] <= scores["error_ml"]).all()
    assert (scores["error_ml"] <= scores["error_ml_high"]).all()
    assert table.loc[table["model"] == "C-GAN", "note"].item() == "nothing encodes maps"
    strangers = table[table["score"] == "other people"].set_index("tissue")["soft_dice"]
    once = scores[scores["score"] == "composition 1"].set_index("tissue")["soft_dice"]
    assert (once > strangers).all()


def test_age_is_read_off_moved_maps_but_not_off_unmoved_ones(trained, halves):
    table = effectiveness({"ours": trained}, *halves).set_index("model")
    assert table.loc["participants", "r"] > 0.5
    assert abs(table.loc["unmoved maps", "r"]) < 0.4
    assert table.loc["ours", "r"] > table.loc["unmoved maps", "r"] + 0.3
    assert (table["r_low"] <= table["r_high"]).all()


def test_moved_maps_are_nearer_to_the_true_counterfactual_than_no_change(trained, halves, cohort):
    class Known:
        """Volumes follow age alone, by the regression of the cohort itself."""

        slopes = np.array(
            [np.polyfit(cohort.table["age"], v, 1)[0] for v in cohort.volumes.to_numpy().T]
        )

        def predict(self, people):
            return people["age"].to_numpy()[:, None] * self.slopes

    table = counterfactual_errors({"ours": trained}, *halves, Known())
    errors = table.pivot(index="predictor", columns="tissue", values="mae_ml")
    assert (errors.loc["ours"] < errors.loc["no change"]).all()
    assert errors.loc["ours", "CSF"] < 0.6 * errors.loc["no change", "CSF"]
    assert (errors.loc["regression"] < 0.5 * errors.loc["no change"]).all()


@pytest.mark.parametrize("score", [soundness, effectiveness, counterfactual_errors])
def test_cohorts_that_do_not_fit_the_model_are_refused(score, trained, halves, cohort, monkeypatch):
    train, test = halves
    more = [None] if score is counterfactual_errors else []
    with pytest.raises(CohortError, match="not the training participants of the model 'ours'"):
        score({"ours": trained}, train.subset(train.ids[1:]), test, *more)
    with pytest.raises(CohortError, match="in both training and test"):
        score({"ours": trained}, train, cohort, *more)
    with pytest.raises(ConfigError, match="only pre-trained"):
        score({"base": started_model(train, conditional=False)}, train, test, *more)
    monkeypatch.setitem(trained.card, "csf_definition", "ventricular")
    with pytest.raises(CohortError, match="different ways"):
        score({"ours": trained}, train, test, *more)


def test_other_ages_are_those_of_others():
    people = pd.DataFrame({"age": np.arange(30.0, 50)})
    ages = other_ages(people, seed=0)
    assert sorted(ages) == sorted(people["age"])
    assert (ages != people["age"]).all()
