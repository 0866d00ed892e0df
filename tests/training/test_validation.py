"""Validation scores, against what they are defined as."""

import numpy as np
import pytest
import torch

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.models.losses import energy_score
from csegsynth_kit.models.presets import TrainConfig
from csegsynth_kit.training.validation import draw_volumes, energy_distance, validate
from tests.models_for_tests import started_model
from tests.toy import toy_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("validation") / "cohort", 20)


def test_scores_equal_their_definitions(cohort):
    model = started_model(cohort)
    scores = validate(model, cohort, draws=6, seed=4)
    inputs = torch.from_numpy(model.features.inputs(model.features.encode(cohort.table)))
    draws = draw_volumes(model, inputs, draws=6, seed=4, n=len(cohort))
    truth = torch.tensor(cohort.volumes.to_numpy(), dtype=torch.float32)
    truth = (truth - truth.mean(0)) / truth.std(0)
    assert scores["mae"] == pytest.approx(float((draws.mean(0) - truth).abs().mean()), rel=1e-4)
    assert scores["energy_score"] == pytest.approx(float(energy_score(draws[:3], truth)), rel=1e-4)
    gm = np.corrcoef(draws.mean(0)[:, 1], truth[:, 1])[0, 1]
    assert scores["r_gm"] == pytest.approx(gm, rel=1e-4)
    maps = cohort.maps().probabilities
    error = (model.reconstruct(maps) - maps).abs().mean().item()
    assert scores["reconstruction"] == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("draws", [3, 4, 5, 8])
def test_energy_score_counts_no_antithetic_twins(cohort, monkeypatch, draws):
    scored = []
    monkeypatch.setattr(
        "csegsynth_kit.training.validation.energy_score",
        lambda volumes, truth: scored.append(volumes) or energy_score(volumes, truth),
    )
    model = started_model(cohort)
    latents = []
    model.generate = lambda z, features: (
        latents.append(z) or type(model).generate(model, z, features)
    )
    validate(model, cohort, draws=draws, seed=4)
    used = latents[0].unflatten(0, (-1, draws))[:, : len(scored[0])]
    assert used.shape[1] == (draws + 1) // 2 >= 2
    gaps = torch.cdist(used, -used)
    assert float(gaps.min()) > 0.1


def test_too_few_draws_for_two_independent_ones_are_refused():
    with pytest.raises(ConfigError, match="2 draws per validation participant"):
        TrainConfig(epochs=1, validation_draws=2)


def test_scores_do_not_change_from_one_validation_to_the_next(cohort):
    model = started_model(cohort)
    assert validate(model, cohort, draws=4, seed=1) == validate(model, cohort, draws=4, seed=1)
    assert validate(model, cohort, draws=4, seed=1) != validate(model, cohort, draws=4, seed=2)


def test_without_features_distributions_are_compared(cohort):
    scores = validate(started_model(cohort, conditional=False), cohort, draws=4, seed=0)
    assert "energy_distance" in scores
    assert "mae" not in scores


def test_energy_distance_is_0_for_equal_and_grows_with_a_shift():
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(400, 3, generator=rng), torch.randn(400, 3, generator=rng)
    assert abs(energy_distance(a, b)) < 0.03
    assert energy_distance(a, b + 0.5) > 0.1
    brute = 2 * np.mean([[np.linalg.norm(x - y) for y in b[:9]] for x in a[:7]])
    brute -= sum(np.linalg.norm(x - y) for x in a[:7] for y in a[:7]) / (7 * 6)
    brute -= sum(np.linalg.norm(x - y) for x in b[:9] for y in b[:9]) / (9 * 8)
    assert energy_distance(a[:7], b[:9]) == pytest.approx(float(brute), rel=1e-4)
