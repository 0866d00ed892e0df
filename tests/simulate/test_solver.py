import numpy as np
import pytest
import torch

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.simulate.solver import TOLERANCE_ML, solve_volumes


def logits(seed: int, voxels: int = 4000) -> torch.Tensor:
    return 3 * torch.randn(5, voxels, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(4))
def test_volumes_are_those_asked_for(seed):
    wanted = np.random.default_rng(seed).dirichlet(np.ones(5))[:4] * 4000 * 0.064
    shares, iterations = solve_volumes(logits(seed), wanted, 0.064)
    found = shares.sum(1, dtype=torch.float64).numpy() * 0.064
    assert np.abs(found - wanted).max() <= TOLERANCE_ML
    assert iterations <= 15
    assert shares.min() >= 0
    assert shares.sum(0).max() <= 1 + 1e-6


def test_the_solution_shifts_logits_and_changes_nothing_else():
    z = logits(1)
    shares, _ = solve_volumes(z, np.array([40.0, 60.0, 30.0, 5.0]), 0.064)
    background = 1 - shares.sum(0)
    offsets = torch.log(shares / background) - (z[1:] - z[0])
    certain = (background > 1e-3) & (shares.min(0).values > 1e-3)
    assert certain.sum() > 100
    spread = offsets[:, certain].std(1)
    torch.testing.assert_close(spread, torch.zeros(4), atol=1e-2, rtol=0)


def test_volumes_larger_than_the_box_are_refused():
    with pytest.raises(ConfigError, match="not reached"):
        solve_volumes(logits(0), np.array([200.0, 200.0, 30.0, 5.0]), 0.064)
