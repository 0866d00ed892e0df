"""What reaches the optimizer, what is averaged, and which weights are scored."""

import math
from collections import defaultdict

import pytest
import torch

from csegsynth_kit.data.cohort import load_cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.models import build, family_class
from csegsynth_kit.training import checkpoint
from csegsynth_kit.training import trainer as module
from csegsynth_kit.training.runs import Run
from csegsynth_kit.training.trainer import Trainer
from tests.toy import toy_cohort
from tests.training.jobs import toy_preset, train


@pytest.fixture(scope="module")
def cohort_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy") / "cohort"
    toy_cohort(path, 24)
    return path


def watched(cohort_path, runs, look, **training):
    """Fine-tune; let ``look`` see each group's optimizer just before each of its steps."""
    chosen = toy_preset(**training, selection="last")
    cohort, _, _ = load_cohort(cohort_path).split((0.5, 0.25, 0.25))
    run = Run.open(runs, family="csegsynth", stage="finetune", preset=chosen)
    model = build(chosen.model, Features.fit(cohort.table, cohort.feature_columns))
    trainer = Trainer(model, chosen.finetune, run, device="cpu", progress=False)
    for group, optimizer in trainer.stepper.optimizers.items():
        optimizer.register_step_pre_hook(lambda o, *_, group=group: look(group, o))
    return trainer.fit(cohort), model.groups()


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_every_module_steps_at_its_own_rate_on_schedule(schedule, cohort_path, tmp_path):
    own, found = {"transform": 1e-3, "critic": 3e-3}, defaultdict(list)

    def look(group, optimizer):
        found[group].append([part["lr"] for part in optimizer.param_groups])

    training = {"learning_rate": 1e-4, "learning_rates": tuple(own.items()), "schedule": schedule}
    _, groups = watched(cohort_path, tmp_path, look, epochs=4, **training)
    n = 4 * 2  # batches of 6 of 12 participants
    factors = [1.0] * n
    if schedule == "cosine":
        factors = [0.01 + 0.99 * math.cos(math.pi * k / n / 2) ** 2 for k in range(n)]
    assert set(found) == set(groups) == {"generator", "critic"}
    for group, modules in groups.items():
        rates = [own.get(name, 1e-4) for name in modules]
        expected = [[factor * rate for rate in rates] for factor in factors]
        torch.testing.assert_close(
            torch.tensor(found[group]), torch.tensor(expected), rtol=1e-5, atol=0
        )


@pytest.mark.parametrize("clip", ["norm", "value", "off"])
def test_gradients_reach_the_optimizer_clipped(clip, cohort_path, tmp_path):
    reached = {}

    def look(group, optimizer):
        gradients = [p.grad for g in optimizer.param_groups for p in g["params"]]
        reached[group] = torch.cat([g.flatten() for g in gradients if g is not None])

    limit = 1e-3
    training = {"clip": clip, "clip_at": limit, "batch_size": 12, "epochs": 1}
    history, groups = watched(cohort_path, tmp_path, look, **training)
    for group in groups:
        (before,) = history[f"{group}_gradient_norm"]
        norm, largest = float(reached[group].norm()), float(reached[group].abs().max())
        assert before > 2 * limit
        if clip == "norm":
            assert norm == pytest.approx(limit, rel=1e-2)
        elif clip == "value":
            assert largest == pytest.approx(limit)
            assert limit < norm < before
        else:
            assert norm == pytest.approx(before, rel=1e-4)


@pytest.mark.parametrize("hide", [0.0, 1.0])
def test_answers_are_hidden_from_the_model_as_configured(hide, cohort_path, tmp_path, monkeypatch):
    flags, family = [], family_class("csegsynth")
    original = family.losses

    def looking(self, batch, rng, step):
        flags.append(batch.features[:, -len(self.features.questions) :])
        return original(self, batch, rng, step)

    monkeypatch.setattr(family, "losses", looking)
    watched(cohort_path, tmp_path, lambda *_: None, epochs=1, hide_answers=hide)
    assert torch.cat(flags).any() == (hide > 0)


def test_scores_are_those_of_the_averaged_weights(cohort_path, tmp_path, monkeypatch):
    scored, original = [], module.validate

    def looking(model, *args, **options):
        scored.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return original(model, *args, **options)

    monkeypatch.setattr(module, "validate", looking)
    run = train(cohort_path, tmp_path, toy_preset(epochs=2))
    tensors, _ = checkpoint.read(run.last())
    raw, average = (checkpoint.with_prefix(tensors, part) for part in ("model", "average"))
    assert len(scored) == 3
    assert all(torch.equal(weights, average[name]) for name, weights in scored[-1].items())
    assert any(not torch.equal(weights, raw[name]) for name, weights in scored[-1].items())


def test_averages_begin_again_when_the_latents_are_measured(cohort_path, tmp_path):
    """From then on the autoencoder rests, and its averages are its weights."""
    run = train(cohort_path, tmp_path, toy_preset("cldm", epochs=4), stage="pretrain")
    tensors, meta = checkpoint.read(run.last())
    raw, average = (checkpoint.with_prefix(tensors, part) for part in ("model", "average"))
    assert meta["updates"] == 2  # of 8 steps, the 2 of the epoch after the fifth
    rests = {name: torch.equal(raw[name], weights) for name, weights in average.items()}
    assert all(same for name, same in rests.items() if name.startswith("autoencoder."))
    assert not all(rests.values())
