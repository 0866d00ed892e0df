import numpy as np
import pytest

from csegsynth_kit.metrics.release import audit_features
from csegsynth_kit.show.steward import steward_report
from csegsynth_kit.training.scan import Trace


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
