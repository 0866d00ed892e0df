"""Nothing assumes that tensors are on the CPU."""

import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch

from csegsynth_kit.analysis.counterfactual import abduct, answers_of
from csegsynth_kit.analysis.generate import generate, predict_volumes
from csegsynth_kit.analysis.importance import gradient_importance
from csegsynth_kit.analysis.importance_refit import Refitter, can_refit
from csegsynth_kit.data.features import Features
from csegsynth_kit.models import FAMILIES, Rng, TrainingSet, build
from csegsynth_kit.training.runs import Run
from csegsynth_kit.training.trainer import Trainer
from tests.elsewhere import NAME, Elsewhere
from tests.models.test_contract import CASES, IDS, first_of, training_set
from tests.models_for_tests import started_model
from tests.toy import toy_cohort
from tests.training.jobs import toy_preset

pytestmark = pytest.mark.filterwarnings("ignore:for .*copying from a non-meta:UserWarning")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("toy") / "cohort", 24, missing=0.2)


@pytest.fixture(autouse=True)
def accelerated(monkeypatch):
    """Let PyTorch do for this device what it does for accelerators."""
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda device, **how: autocast("cpu", **how))
    optimizer = sys.modules["torch.optim.optimizer"]
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["cpu", NAME])


def everything_refitted(family: str):
    """What the finer presets fit again after each epoch is on, too."""
    chosen = toy_preset(family, epochs=2)
    known = {"prior_restart": True, "regression_restart": True}
    there = {name: on for name, on in known.items() if hasattr(chosen.model, name)}
    return replace(chosen, model=replace(chosen.model, **there))


def test_the_device_refuses_what_an_accelerator_refuses():
    with Elsewhere():
        x = torch.ones(3).to(NAME)
        assert (x + 1).device.type == NAME
        assert x.cpu().tolist() == [1, 1, 1]
        assert x[torch.tensor([0, 2])].tolist() == [1, 1]
        with pytest.raises(RuntimeError, match="two devices"):
            x + torch.ones(3)
        with pytest.raises(RuntimeError, match="numpy"):
            x.numpy()


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_training_elsewhere_goes_as_on_the_cpu(family, stage, cohort, tmp_path):
    train, valid, _ = cohort.split((0.5, 0.25, 0.25))
    features = Features.fit(train.table, cohort.feature_columns) if stage == "finetune" else None
    chosen = everything_refitted(family)

    def trained(device: str) -> pd.DataFrame:
        run = Run.open(tmp_path / device, family=family, stage=stage, preset=chosen)
        model = build(chosen.model, features)
        how = getattr(chosen, stage)
        trainer = Trainer(model, how, run, device=device, progress=False)
        return trainer.fit(train, valid).drop(columns="seconds")

    expected = trained("cpu")
    with Elsewhere():
        found = trained(NAME)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("config", "conditional"), CASES, ids=IDS)
def test_losses_elsewhere_are_those_of_the_cpu(config, conditional):
    def losses(device: str) -> list[float]:
        features, training = training_set(config, conditional)
        numbers = [
            None if x is None else x.to(device) for x in (training.volumes, training.features)
        ]
        there = TrainingSet(lambda: (part.to(device) for part in training.maps()), *numbers)
        model = build(config, features).to(device)
        model.fit_statistics(there)
        found = []
        for _, terms in model.losses(first_of(there), Rng(0, total=4, device=device), step=8):
            sum(terms.values()).backward()
            found += [float(term.detach()) for term in terms.values()]
        return found

    expected = losses("cpu")
    with Elsewhere():
        found = losses(NAME)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_models_elsewhere_answer_alike(family, cohort):
    model = started_model(cohort, family=family)
    people = answers_of(cohort.table, model).head(4)
    maps = cohort.maps().probabilities[:4]

    def asked(device: str) -> list[torch.Tensor]:
        there = model.to(device)
        found = [generate(there, people, n=2).probabilities, predict_volumes(there, people, n=2)]
        effects = gradient_importance(there, people, draws=2)
        found.append(effects.select_dtypes("number").to_numpy())
        if family in ("csegsynth", "cvae"):
            found.append(abduct(there, maps.to(device), people).detach().cpu())
        if can_refit(there):
            found += [
                p.detach().cpu() for p in Refitter.of(there, cohort).fit(range(20)).parameters()
            ]
        return [torch.as_tensor(x) for x in found]

    expected = asked("cpu")
    with Elsewhere():
        found = asked(NAME)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
