import numpy as np
import pytest
import torch

from csegsynth_kit.errors import CohortError
from csegsynth_kit.metrics.release import audit_features
from csegsynth_kit.show.steward import audit_page, steward_report
from csegsynth_kit.training import checkpoint
from csegsynth_kit.training.scan import Trace
from tests.models_for_tests import started_model
from tests.toy import toy_cohort


@pytest.fixture(scope="module")
def audit():
    rng = np.random.default_rng(0)
    parts = (rng.normal(size=(1, n, 8)) for n in (70, 55, 140, 110))
    return audit_features(*parts, times=200, passport={"extractor": "toy"})


def test_verdict_comes_first_and_figures_have_n_and_intervals(audit):
    page = steward_report(audit)
    heads = [line for line in page.splitlines() if line.startswith("## ")]
    assert heads[0] == f"## Verdict on the maps: {audit.verdict}"
    attack = audit.attacks["anybody"]
    row = next(line for line in page.splitlines() if line.startswith("| Attacker who sees all"))
    assert f"{attack.value:.2f} | {attack.low:.2f} to {attack.high:.2f}" in row
    assert "70 and 55" in row
    for phrase in ("differential privacy", "k-anonymity", "copy machine", '"extractor": "toy"'):
        assert phrase in page
    assert all(reason in page for reason in audit.reasons)
    assert "given away" not in "".join(heads)


def test_traces_and_weights_are_told_if_the_model_is_released(audit):
    trace = Trace("leak", "map", "best.safetensors: weight", "rows are the map of somebody.")
    page = steward_report(audit, traces=[trace], weights=audit.attacks["anybody"])
    assert "- **leak**: best.safetensors: weight: rows are the map of somebody." in page
    assert "who has the weights" in page
    assert "No participant's map" in steward_report(audit, traces=[])


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    cohort = toy_cohort(tmp_path_factory.mktemp("steward") / "cohort", 64)
    train, _, held_out = cohort.split((0.5, 0.1, 0.4), seed=0)
    return started_model(train), train, held_out


def stored(path, model, **hidden):
    """Write a checkpoint of noise, beside which something may be hidden."""
    noise = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    meta = {"features": model.features.to_dict()}
    checkpoint.write(path / "best.safetensors", {"weight": noise, **hidden}, meta)
    return path / "best.safetensors"


def test_page_tells_of_maps_weights_and_files_of_one_model(parts, tmp_path):
    model, train, held_out = parts
    page = audit_page(model, stored(tmp_path, model), train, held_out, draws=2, seed=1)
    assert f"{len(train)} training persons, {len(held_out)} persons" in page
    assert "and 2 synthetic maps for the answers of each" in page
    assert "An attacker who has the weights lets them render a person's map" in page
    assert "**leak**" not in page
    assert "- **note**: best.safetensors (header): the smallest or largest answer" in page
    assert '"extractor": "morphometry"' in page


def test_page_says_that_so_few_people_tell_nothing(parts, tmp_path):
    model, train, held_out = parts
    page = audit_page(model, stored(tmp_path, model), train, held_out.subset(held_out.ids[:3]))
    assert "## Verdict on the maps: cannot tell" in page
    assert "32 training persons and 3 persons on whom" in page


def test_page_finds_somebodys_map_in_the_checkpoint(parts, tmp_path):
    model, train, held_out = parts
    path = stored(tmp_path, model, kept=train.maps().probabilities[:2].flatten(1))
    page = audit_page(model, path, train, held_out)
    assert "- **leak**: best.safetensors" in page


def test_others_than_the_training_people_are_not_audited_in_their_place(parts, tmp_path):
    model, train, held_out = parts
    path = stored(tmp_path, model)
    with pytest.raises(CohortError, match="not the training participants"):
        audit_page(model, path, held_out, train)
    with pytest.raises(CohortError, match="both training and test"):
        audit_page(model, path, train, train)
