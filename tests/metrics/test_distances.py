import numpy as np
import pytest
import torch
from monai.metrics.regression import compute_ssim_and_cs

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.distances import diversity, pairwise_ssim
from csegsynth_kit.metrics.structural import brain_box


def blobs(n: int, spread: float, seed: int = 0) -> torch.Tensor:
    """Maps of one WM ellipsoid each, moved by ``spread`` voxels."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(np.arange(12), np.arange(14), np.arange(10), indexing="ij")
    maps = np.zeros((n, 4, 12, 14, 10), np.float32)
    for i in range(n):
        cx, cy, cz = np.array([6, 7, 5]) + spread * rng.normal(size=3)
        inside = ((x - cx) / 3.5) ** 2 + ((y - cy) / 4.5) ** 2 + ((z - cz) / 3) ** 2 < 1
        maps[i, 0], maps[i, 3] = inside, ~inside
    return torch.from_numpy(maps)


def test_equal_maps_have_similarity_one():
    maps = blobs(1, 0.0).repeat(6, 1, 1, 1, 1)
    np.testing.assert_allclose(pairwise_ssim(maps), 1.0, atol=1e-5)


def test_similarity_is_that_of_monai_within_the_brains():
    maps = blobs(9, 0.8)
    cropped = maps[(slice(None), slice(0, 3), *(slice(*e) for e in brain_box(maps, at_least=7)))]
    order = np.random.default_rng(2).permutation(9)
    expected = compute_ssim_and_cs(
        cropped[order[:4]],
        cropped[order[4:8]],
        spatial_dims=3,
        kernel_size=(7, 7, 7),
        kernel_sigma=(1.5, 1.5, 1.5),
        data_range=1.0,
    )[0].mean(dim=(1, 2, 3, 4))
    np.testing.assert_allclose(pairwise_ssim(maps, seed=2), expected, atol=1e-6)


def test_no_map_is_in_two_pairs():
    assert len(pairwise_ssim(blobs(9, 0.5))) == 4


def test_one_map_has_no_diversity():
    with pytest.raises(ConfigError, match=r"'one' holds no pair of maps \(n = 1\)"):
        diversity({"two": blobs(2, 0.5), "one": blobs(1, 0.5)})


def test_more_varied_sets_are_less_similar():
    table = diversity({"alike": blobs(24, 0.2), "varied": blobs(24, 1.2)}).set_index("set")
    assert table.loc["varied", "ssim_high"] < table.loc["alike", "ssim_low"]
    assert (table["ssim_low"] <= table["ssim"]).all()
    assert (table["n"] == 24).all()


def test_background_does_not_hide_differences():
    """Padding with empty voxels must not change the similarity."""
    maps = blobs(8, 0.8)
    padded = torch.nn.functional.pad(maps, (4, 4, 4, 4, 4, 4))
    padded[:, 3] = 1 - padded[:, :3].sum(1)
    np.testing.assert_allclose(pairwise_ssim(padded), pairwise_ssim(maps), atol=1e-5)


def test_sets_are_compared_in_one_box():
    """A stray blob in one set must not give it a larger box, full of background."""
    rng = torch.Generator().manual_seed(3)
    maps = torch.zeros(8, 4, 12, 14, 16)
    maps[:, :, 2:10, 2:11, 2:12] = torch.rand(8, 4, 8, 9, 10, generator=rng).mul(4).softmax(1)
    maps[:, 3] = 1 - maps[:, :3].sum(1)
    stray = maps.clone()
    stray[0, :, 11, 13, 15] = torch.tensor([1.0, 0, 0, 0])
    both = diversity({"clean": maps, "stray": stray}, seed=0).set_index("set")["ssim"]
    assert both["stray"] == pytest.approx(both["clean"], abs=2e-3)
