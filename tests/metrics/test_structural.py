import numpy as np
import pytest
import torch
from monai.metrics.regression import MultiScaleSSIMMetric

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import GRIDS
from csegsynth_kit.metrics.structural import (
    SimilarityPlan,
    brain_box,
    delta_similarity,
    pair_similarity,
    plan_similarity,
    random_pairs,
)
from tests.metrics.people import people


def filled(shape) -> torch.Tensor:
    maps = torch.zeros(1, 4, *shape)
    maps[:, 0] = 1
    return maps


@pytest.mark.parametrize(
    ("shape", "scales", "window"),
    [
        ((5, 9, 7), 1, 5),
        ((20, 24, 20), 3, 5),
        ((40, 48, 40), 3, 9),
        ((80, 96, 80), 5, 5),
        (GRIDS["full"].shape, 5, 5),
        ((176, 180, 190), 5, 11),
    ],
)
def test_scales_and_window_fit_the_grid(shape, scales, window):
    plan = plan_similarity(filled(shape))
    assert (plan.scales, plan.window) == (scales, window)
    assert sum(plan.weights) == pytest.approx(1)
    if max(shape) < 60:
        values = pair_similarity(filled(shape).repeat(2, 1, 1, 1, 1), np.array([[0, 1]]), plan=plan)
        assert values == pytest.approx(1)


def test_too_small_maps_are_refused():
    with pytest.raises(ConfigError, match="too small for a window"):
        plan_similarity(filled((4, 9, 9)))
    with pytest.raises(ConfigError, match="no tissue"):
        plan_similarity(torch.zeros(1, 4, 9, 9, 9))


def test_similarity_equals_monais_metric_object():
    maps = people(4).probabilities
    plan = plan_similarity(maps)
    metric = MultiScaleSSIMMetric(
        3, kernel_size=plan.window, weights=plan.weights, reduction="none"
    )
    cropped = plan.crop(maps)
    expected = metric(cropped[:2], cropped[2:]).ravel()
    found = pair_similarity(maps, np.array([[0, 2], [1, 3]]), plan=plan)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_similarity_of_one_scale_equals_loops():
    """Window by window, from weighted means and covariances, in two tissues that vary."""
    maps = torch.rand(2, 4, 7, 6, 8, generator=torch.Generator().manual_seed(0))
    plan = SimilarityPlan(((0, 7), (0, 6), (0, 8)), 1, 5, (1.0,))
    ramp = np.exp(-0.5 * ((np.arange(5) - 2) / 1.5) ** 2)
    weight = np.einsum("i,j,k->ijk", *[ramp / ramp.sum()] * 3)
    values = []
    for t in range(3):
        a, b = maps[:, t].double().numpy()
        for x, y, z in np.ndindex(3, 2, 4):
            p, q = a[x : x + 5, y : y + 5, z : z + 5], b[x : x + 5, y : y + 5, z : z + 5]
            mp, mq = (weight * p).sum(), (weight * q).sum()
            vp, vq = (weight * (p - mp) ** 2).sum(), (weight * (q - mq) ** 2).sum()
            cov = (weight * (p - mp) * (q - mq)).sum()
            light = (2 * mp * mq + 1e-4) / (mp**2 + mq**2 + 1e-4)
            values.append(light * (2 * cov + 9e-4) / (vp + vq + 9e-4))
    found = pair_similarity(maps, np.array([[0, 1]]), plan=plan)
    assert found[0] == pytest.approx(max(0, np.mean(values)), abs=1e-5)


def test_empty_margin_changes_nothing():
    maps = people(6).probabilities
    padded = torch.nn.functional.pad(maps, (3, 2, 4, 1, 2, 5))
    padded[:, 3] = 1 - padded[:, :3].sum(1)
    pairs = random_pairs(6, seed=0)
    values = [pair_similarity(m, pairs, plan=plan_similarity(m)) for m in (maps, padded)]
    np.testing.assert_allclose(*values, atol=1e-6)


def test_box_holds_every_brain():
    maps = torch.zeros(2, 4, 9, 11, 10)
    maps[0, 0, 2:4, 5, 6] = 1
    maps[1, 1, 7, 3, 1] = 1
    assert brain_box(maps, at_least=1) == ((2, 8), (3, 6), (1, 7))
    grown = brain_box(maps, at_least=9)
    assert all(high - low == 9 and low >= 0 for low, high in grown)


def test_delta_and_its_interval():
    rng = np.random.default_rng(0)
    real, alike, varied = (rng.normal(m, 0.1, 200) for m in (0.5, 0.8, 0.5))
    value, low, high = delta_similarity(real, alike)
    assert low < 0.3 < high
    assert low <= value <= high
    assert delta_similarity(real, varied)[1] == 0
    assert delta_similarity(alike, real)[0] == pytest.approx(value)


def test_no_map_is_in_two_pairs():
    assert len(set(random_pairs(9, seed=1).ravel())) == 8
