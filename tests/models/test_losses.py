import math

import numpy as np
import pytest
import torch

from csegsynth_kit.models import losses


def test_cross_entropy_is_zero_for_a_match_and_the_divergence_otherwise():
    target = torch.rand(2, 4, 3, 5, 2, dtype=torch.float64).softmax(1)
    other = torch.rand(2, 4, 3, 5, 2, dtype=torch.float64).softmax(1)
    assert losses.cross_entropy(target.log(), target) == pytest.approx(0, abs=1e-6)
    divergence = (target * (target / other).log()).sum(1).mean()
    assert losses.cross_entropy(other.log(), target) == pytest.approx(float(divergence), rel=1e-5)


def test_cross_entropy_accepts_hard_targets():
    target = torch.zeros(1, 4, 2, 2, 2)
    target[:, 1] = 1
    loss = losses.cross_entropy(torch.zeros(1, 4, 2, 2, 2), target)
    assert loss == pytest.approx(math.log(4))


def test_energy_score_equals_the_double_sum():
    draws, truth = np.random.default_rng(0).normal(size=(4, 5, 3)), np.ones((5, 3))
    near = np.mean([np.linalg.norm(d[i] - truth[i]) for d in draws for i in range(5)])
    pairs = [(a, b) for a in range(4) for b in range(4) if a < b]
    apart = np.mean([np.linalg.norm(draws[a, i] - draws[b, i]) for a, b in pairs for i in range(5)])
    score = losses.energy_score(torch.tensor(draws), torch.tensor(truth))
    assert score == pytest.approx(near - apart / 2)


def test_energy_score_prefers_the_right_spread_and_l1_prefers_none():
    """The published L1 is least for draws without spread, the energy score for the true one."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.randn(4000, 3, generator=rng)
    noise = torch.randn(2, 4000, 3, generator=rng)
    spreads = [0.0, 0.5, 1.0, 1.5]
    energy = [float(losses.energy_score(s * noise, truth)) for s in spreads]
    l1 = [float(losses.absolute_error(s * noise, truth)) for s in spreads]
    assert int(np.argmin(energy)) == spreads.index(1.0)
    assert int(np.argmin(l1)) == spreads.index(0.0)


@pytest.mark.parametrize("shape", [(6,), (4, 3, 5, 2)])
def test_gradient_penalty_of_a_linear_critic_is_known(shape):
    weight = torch.randn(shape, dtype=torch.float64)
    real, fake = torch.randn(2, 7, *shape, dtype=torch.float64)
    mix = torch.rand(7, dtype=torch.float64)
    penalty = losses.gradient_penalty(lambda x: (x * weight).flatten(1).sum(1), real, fake, mix)
    assert penalty == pytest.approx(float((weight.norm() - 1) ** 2))


def test_reference_penalty_takes_the_norm_over_channels_only():
    weight = torch.ones(4, 3, 5, 2)
    real, fake = torch.randn(2, 7, 4, 3, 5, 2)
    penalty = losses.gradient_penalty(
        lambda x: (x * weight).flatten(1).sum(1), real, fake, torch.rand(7), "reference"
    )
    assert penalty == pytest.approx((2.0 - 1) ** 2)


def test_gradient_penalty_differentiates_at_zero_gradient():
    weight = torch.zeros(5, requires_grad=True)
    real, fake = torch.randn(2, 3, 5)
    penalty = losses.gradient_penalty(lambda x: x @ weight, real, fake, torch.rand(3))
    penalty.backward()
    assert torch.isfinite(weight.grad).all()


def test_triplet_vanishes_once_the_negative_is_far_enough():
    truth, near, far = torch.zeros(2, 3), torch.full((2, 3), 0.1), torch.full((2, 3), 5.0)
    assert losses.triplet(truth, near, far, torch.tensor(1.0)) == 0
    swapped = losses.triplet(truth, far, near, torch.tensor(1.0))
    assert swapped == pytest.approx(15.0 - 0.3 + 1.0)
