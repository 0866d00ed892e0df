import numpy as np
import pytest
import torch

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import GRIDS, Grid, volumes_ml
from csegsynth_kit.simulate.anatomy import Anatomy
from csegsynth_kit.simulate.average import template_base
from csegsynth_kit.simulate.questionnaire import draw_participants
from csegsynth_kit.simulate.structural import draw_volumes
from csegsynth_kit.simulate.truth import ageing_curve
from tests.simulate.conftest import QUICK_GRID

MIDDLE = (507.0, 612.0, 363.0, 24.0)


def targets(n: int, seed: int = 0) -> list[tuple[float, ...]]:
    v = draw_volumes(draw_participants(n, seed=seed), seed=seed)
    return list(zip(v.wm_ml, v.gm_ml, v.csf_ml - v.lv_ml, v.lv_ml, strict=True))


def overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean soft Dice of two (3, X, Y, Z) maps over tissues."""
    both = torch.minimum(a, b).sum((1, 2, 3))
    return (2 * both / (a.sum((1, 2, 3)) + b.sum((1, 2, 3)))).mean().item()


def test_volumes_are_exact_and_shares_are_shares(anatomy):
    for i, wanted in enumerate(targets(24)):
        head = anatomy.draw(wanted, (7, i))
        found = volumes_ml(head.maps.double(), QUICK_GRID.voxel_ml).numpy()
        expected = (wanted[0], wanted[1], wanted[2] + wanted[3])
        np.testing.assert_allclose(found, expected, atol=1e-3)
        np.testing.assert_allclose(head.volumes_ml, expected, atol=1e-3)
        assert head.iterations <= 10
        assert head.maps.shape == (3, *QUICK_GRID.shape)
        assert head.maps.min() >= 0
        assert head.maps.sum(0).max() <= 1 + 1e-6
        for axis in (1, 2, 3):
            border = head.maps.select(axis, 0), head.maps.select(axis, -1)
            assert not any(side.any() for side in border)


@pytest.mark.parametrize(
    "wanted",
    [
        (330.0, 420.0, 245.0, 5.0),
        (780.0, 950.0, 475.0, 95.0),
        (600.0, 720.0, 172.0, 8.0),
        (420.0, 480.0, 565.0, 75.0),
    ],
)
def test_extreme_heads_are_drawn_too(anatomy, wanted):
    head = anatomy.draw(wanted, 1)
    expected = (wanted[0], wanted[1], wanted[2] + wanted[3])
    np.testing.assert_allclose(head.volumes_ml, expected, atol=1e-3)
    assert head.iterations <= 12


def test_two_millimeters_are_exact_too():
    grid = GRIDS["full"]
    head = Anatomy(grid).draw(MIDDLE, 3)
    np.testing.assert_allclose(
        volumes_ml(head.maps.double(), grid.voxel_ml), (507.0, 612.0, 387.0), atol=1e-3
    )


def test_the_same_seed_is_the_same_head(anatomy):
    again = Anatomy(QUICK_GRID)
    assert torch.equal(anatomy.draw(MIDDLE, (1, 2)).maps, again.draw(MIDDLE, (1, 2)).maps)
    assert not torch.equal(anatomy.draw(MIDDLE, (1, 2)).maps, anatomy.draw(MIDDLE, (1, 3)).maps)


def test_ageing_keeps_the_individual(anatomy):
    """The same seed at another age is nearer to itself than to others of its own age."""
    curve = ageing_curve(np.array([30.0, 75.0]))
    young = np.array([515.0, 665.0, 310.0, 16.0])
    wm, gm, csf = curve.loc[1, ["WM", "GM", "CSF"]].to_numpy(float)
    old = young + np.array([wm, gm, csf - 14.0, 14.0])
    people = range(4)
    at_30 = [anatomy.draw(young, i).maps for i in people]
    at_75 = [anatomy.draw(old, i).maps for i in people]
    own = [overlap(at_30[i], at_75[i]) for i in people]
    others = [overlap(at_30[i], at_30[j]) for i in people for j in people if i != j]
    assert min(own) > max(others) + 0.1


def test_ventricles_grow_in_the_middle_and_push(anatomy):
    small = anatomy.draw((507.0, 612.0, 375.0, 12.0), 5).maps
    large = anatomy.draw((507.0, 612.0, 327.0, 60.0), 5).maps
    gained = (large[2] - small[2]).clamp(min=0)
    x = torch.arange(QUICK_GRID.shape[0], dtype=torch.float32)
    distance = (x - (QUICK_GRID.shape[0] - 1) / 2).abs() * QUICK_GRID.spacing_mm[0]
    nearby = (gained.sum((1, 2)) * (distance < 36)).sum()
    assert nearby / gained.sum() > 0.8


def test_warps_do_not_fold():
    """Every part of the base stays itself: white matter deep inside is never turned over."""
    anatomy = Anatomy(QUICK_GRID)
    for seed, wanted in enumerate(targets(6, seed=9)):
        where = anatomy.warp(np.asarray(wanted), np.random.default_rng(seed))
        spacing = QUICK_GRID.spacing_mm[0]
        gradient = torch.stack(torch.gradient(where, spacing=spacing, dim=(1, 2, 3)), 1)
        inner = gradient.permute(2, 3, 4, 0, 1)[1:-1, 1:-1, 1:-1]
        assert torch.linalg.det(inner).min() > 0


def test_the_template_is_split_into_five_classes():
    base = template_base(4.0)
    assert base.icv_ml == pytest.approx(1990, abs=40)
    assert base.volumes_ml[3] == pytest.approx(18, abs=1)
    assert base.volumes_ml[1] > base.volumes_ml[0] > base.volumes_ml[2]


def test_other_voxels_and_volumes_are_refused(anatomy):
    with pytest.raises(ConfigError, match="2 or 4 mm"):
        Anatomy(GRIDS["tiny"])
    with pytest.raises(ConfigError, match="2 or 4 mm"):
        Anatomy(Grid("flat", (96, 112, 48), (2.0, 2.0, 4.0)))
    with pytest.raises(ConfigError, match="four positive volumes"):
        anatomy.draw((500.0, 600.0, 300.0, 0.0), 0)
    with pytest.raises(ConfigError, match="four positive volumes"):
        anatomy.draw((500.0, 600.0, 300.0), 0)
