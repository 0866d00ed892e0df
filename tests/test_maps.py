import numpy as np
import pytest
import torch

from csegsynth_kit.constants import MEASURED, TISSUES
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import (
    GRIDS,
    Grid,
    SegmentationMaps,
    average_pool,
    dequantize,
    grid_named,
    quantize,
    volumes_ml,
    with_background,
)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("factor", [2, 4])
def test_pooling_keeps_every_volume_exactly(rng, factor):
    maps = torch.rand(2, 3, 8, 12, 16, generator=rng, dtype=torch.float64)
    fine = volumes_ml(maps, 0.7)
    coarse = volumes_ml(average_pool(maps, factor), 0.7 * factor**3)
    torch.testing.assert_close(coarse, fine, rtol=1e-13, atol=0)


def test_volumes_sum_to_the_field_of_view(rng):
    grid = Grid("g", (12, 14, 10), (1.0, 2.0, 3.0))
    maps = torch.rand(2, len(TISSUES), *grid.shape, generator=rng).softmax(1)
    total = volumes_ml(maps, grid.voxel_ml).sum(1)
    torch.testing.assert_close(total, torch.full((2,), 12 * 14 * 10 * 6 / 1000))
    assert np.prod(grid.extent_mm) / 1000 == pytest.approx(12 * 14 * 10 * 6 / 1000)


def test_background_makes_shares_sum_to_one_and_mends_excess(rng):
    tissues = torch.rand(5, 3, 2, 3, 4, generator=rng)
    maps = with_background(tissues)
    torch.testing.assert_close(maps.sum(1), torch.ones(5, 2, 3, 4))
    assert (maps >= 0).all()
    below = tissues.sum(1) <= 1
    assert below.any()
    for t in range(3):
        torch.testing.assert_close(maps[:, t][below], tissues[:, t][below])


def test_quantized_shares_stay_close_and_on_the_simplex(rng):
    tissues = torch.rand(3, 4, 15, 16, 17, generator=rng).mul(5).softmax(1)[:, :3]
    steps = quantize(tissues)
    assert steps.dtype == torch.uint8
    assert int(steps.int().sum(1).max()) <= 255
    error = dequantize(steps)[:, :3] - tissues
    assert float(error.abs().max()) <= 1 / 255
    assert float(error.mean((0, 2, 3, 4)).abs().max()) < 1e-4  # no tissue gains or loses
    torch.testing.assert_close(quantize(dequantize(steps)[:, :3]), steps)


def test_pure_voxels_are_stored_exactly():
    hard = torch.eye(4)[:3].reshape(3, 4, 1, 1)
    torch.testing.assert_close(dequantize(quantize(hard))[:3], hard)


def test_grids_share_one_box_and_center():
    full, small, tiny = (GRIDS[name] for name in ("full", "small", "tiny"))
    assert full.pooled(2).same_box(small)
    assert small.pooled(2).same_box(tiny)
    assert tiny.refined(4).same_box(full)
    for grid in (full, small, tiny):
        middle = grid.affine @ [*((n - 1) / 2 for n in grid.shape), 1]
        np.testing.assert_allclose(middle[:3], grid.center_mm)
        assert grid.extent_mm == (192.0, 224.0, 192.0)


def test_grid_survives_json_and_refuses_nonsense():
    grid = Grid("g", [8, 12, 16], [1.0, 2.0, 3.0], [0.5, 0.0, -1.0], "native")
    assert Grid(**grid.to_dict()) == grid
    with pytest.raises(ConfigError, match="three positive sizes"):
        Grid("bad", (8, 0, 4), (1.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match="Choose one of full, small, tiny, paper"):
        grid_named("huge")


def test_maps_know_their_volumes_and_refuse_other_shapes(rng):
    grid = Grid("g", (4, 6, 2), (10.0, 5.0, 2.0))
    maps = SegmentationMaps(torch.rand(2, 4, 4, 6, 2, generator=rng).softmax(1), grid, ("a", "b"))
    table = maps.volumes_ml().set_index(["map", "tissue"])["volume_ml"]
    for i, label in enumerate(maps.labels):
        for t, tissue in enumerate(MEASURED):
            expected = float(maps.probabilities[i, t].sum()) * 0.1
            assert table[label, tissue] == pytest.approx(expected, rel=1e-5)
    assert maps[1:].labels == ("b",)
    with pytest.raises(ConfigError, match="not"):
        SegmentationMaps(maps.probabilities, grid, ("a",))
