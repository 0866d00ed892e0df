import numpy as np
import pytest
import torch

from csegsynth_kit.analysis.importance_methods import by_gradient
from csegsynth_kit.analysis.importance_refit import Refitter, can_refit, refit_effects
from csegsynth_kit.analysis.importance_sanity import randomization_check, randomized
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.models import FAMILIES, build
from csegsynth_kit.models.calibration import volume_target
from csegsynth_kit.models.compact import with_powers
from tests.training.jobs import toy_preset


@pytest.fixture(scope="module")
def refitter(model, cohort):
    return Refitter.of(model, cohort)


def test_fitting_to_everybody_gives_the_start_again(model, cohort, refitter):
    """Twice, so that nothing of one fit is left in the next."""
    refitter.fit(np.arange(10))
    again = refitter.fit(np.arange(len(cohort))).state_dict()
    for name, weights in model.state_dict().items():
        torch.testing.assert_close(again[name], weights, rtol=1e-4, atol=1e-4)
    assert again["transform.linear.weight"].abs().max() > 0


def test_intervals_are_centered_at_the_trained_model(model, cohort):
    people = cohort.table[list(model.features.questions)].head(5)
    found = refit_effects(model, cohort, people, refits=3, seed=2)
    np.testing.assert_allclose(found.values, by_gradient(model, people, draws=2, seed=2).values)
    np.testing.assert_allclose((found.low + found.high) / 2, found.values)
    sd = found.resampled.std(axis=0, ddof=1)
    np.testing.assert_allclose(found.high - found.values, 4.302653 * sd, atol=1e-4)
    assert (sd[found.groups.index("age")] > 0).all()
    assert found.over == "training samples"
    with pytest.raises(ConfigError, match="2 at least"):
        refit_effects(model, cohort, people, refits=1)


def test_effects_move_as_those_of_a_whole_refit(model, cohort, refitter):
    """The same resamples, once with and once without the codes."""
    people = cohort.table[list(model.features.questions)]
    quick = refit_effects(model, cohort, people, refits=2, seed=1)
    whole = refit_effects(model, cohort, people, refits=2, seed=1, refitter=refitter)
    moved, expected = quick.resampled[0] - quick.resampled[1], whole.resampled[0]
    expected = expected - whole.resampled[1]
    assert np.corrcoef(moved.ravel(), expected.ravel())[0, 1] > 0.8


def test_intervals_move_as_the_volumes_of_people_with_open_questions(model, cohort, monkeypatch):
    """Changes of the slopes are those of the expected volumes when an answer given moves."""
    targets = []

    def recorded(*args, **kwargs):
        targets.append(volume_target(*args, **kwargs))
        return targets[-1]

    monkeypatch.setattr("csegsynth_kit.analysis.importance_refit.volume_target", recorded)
    people = cohort.table[list(model.features.questions)].head(6)
    people = people.assign(education=np.nan, site=[np.nan, "a", "b"] * 2)
    found = refit_effects(model, cohort, people, refits=2, seed=1)
    education = found.groups.index("education")
    np.testing.assert_allclose(found.resampled[:, education], 0, atol=1e-9)
    np.testing.assert_allclose(found.high[education], found.low[education], atol=1e-9)

    def expected(target, moved):
        encoded = model.features.encode(moved)
        inputs = torch.from_numpy(model.features.inputs(encoded))[:, : model.n_inputs]
        expanded = with_powers(inputs, model.transform.curved, 2).double()
        return (expanded @ target.slopes.double() * model.volume_sd_ml).mean(0).numpy()

    step = 0.5 * model.features.sd[0]
    young, old = (people.assign(age=people["age"] + s) for s in (-step, step))
    whole, *refits = (expected(t, old) - expected(t, young) for t in targets)
    age = found.groups.index("age")
    changes = found.resampled[:, age] - found.values[age]
    np.testing.assert_allclose(changes, np.stack(refits) - whole, rtol=1e-3, atol=1e-3)


def test_models_without_a_regression_to_repeat_are_refused(cohort):
    features = Features.fit(cohort.table, cohort.feature_columns)
    model = build(toy_preset("cldm").model, features)
    assert not can_refit(model)
    with pytest.raises(ConfigError, match=r"'cldm'.*regression_start"):
        Refitter.of(model, cohort)


def test_only_what_is_asked_for_is_randomized_and_sizes_stay(model):
    reader = randomized(model, True, False, seed=1)
    before, after = model.transform.linear.weight, reader.transform.linear.weight
    assert not torch.equal(before, after)
    assert torch.isin(after, before).all()
    torch.testing.assert_close(model.generator.state_dict(), reader.generator.state_dict())
    drawer = randomized(model, False, True, seed=1)
    torch.testing.assert_close(model.transform.state_dict(), drawer.transform.state_dict())
    weights = "templates.weight"
    assert not torch.equal(
        model.generator.state_dict()[weights], drawer.generator.state_dict()[weights]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_keeps_what_reads_the_answers(family, cohort):
    """C-LDM reads them by a regression that it never trains."""
    features = Features.fit(cohort.table, cohort.feature_columns)
    model = build(toy_preset(family).model, features, seed=0)
    with torch.no_grad():
        for tensor in model.transform.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape))
    after = randomized(model, True, False, seed=1)
    for name, tensor in model.transform.state_dict().items():
        assert tensor.numel() == 1 or not torch.equal(tensor, after.transform.state_dict()[name])
    for kept in ("volume_mean_ml", "volume_sd_ml"):
        everything = randomized(model, True, True, seed=1)
        assert torch.equal(getattr(model, kept), getattr(everything, kept))


def test_randomization_is_compared_with_the_trained_ranking(model, cohort):
    people = cohort.table[list(model.features.questions)].head(3)
    table = randomization_check(model, people, seeds=2)
    assert len(table) == 9
    assert (table["least"] <= table["spearman"]).all()
    assert (table["spearman"] <= table["most"]).all()
    assert (table["spearman"] < 1).any()
    assert table["questions"].unique() == [4]
