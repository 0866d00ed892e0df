import pytest
import torch
from scipy import ndimage

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import volumes_ml
from csegsynth_kit.metrics import perturb as p
from tests.metrics.people import people


@pytest.fixture(scope="module")
def maps():
    return people(4)


@pytest.mark.parametrize("name", p.MAP_PERTURBATIONS)
def test_damaged_maps_are_still_maps(maps, name):
    damaged = p.perturb(maps, name).probabilities
    torch.testing.assert_close(damaged.sum(1), torch.ones_like(damaged[:, 0]))
    assert damaged.min() >= -1e-6
    assert not torch.equal(damaged, maps.probabilities)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_atrophy_takes_exactly_its_share_of_gray_matter(maps, share):
    before = volumes_ml(maps.probabilities, 1.0)
    after = volumes_ml(p.atrophy(maps.probabilities, share=share), 1.0)
    torch.testing.assert_close(after[:, 1], (1 - share) * before[:, 1], rtol=1e-4, atol=0)
    torch.testing.assert_close(after[:, 2], before[:, 2] + share * before[:, 1], rtol=1e-4, atol=0)
    torch.testing.assert_close(after[:, [0, 3]], before[:, [0, 3]])


def test_blur_equals_scipys(maps):
    image = maps.probabilities[:1]
    found = p.blur(image, sd_voxels=1.0)[0, 1]
    expected = ndimage.gaussian_filter(image[0, 1].numpy(), 1.0, mode="nearest", truncate=3.0)
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_noise_is_not_the_same_in_every_batch():
    many = people(1).probabilities.repeat(40, 1, 1, 1, 1)
    twin = type(people(1))(many, people(1).grid, tuple(str(i) for i in range(40)))
    noisy = p.perturb(twin, "noise").probabilities
    assert not torch.equal(noisy[0], noisy[32])


def test_mirror_and_swap_undo_themselves(maps):
    x = maps.probabilities
    torch.testing.assert_close(p.mirror(p.mirror(x)), x)
    torch.testing.assert_close(p.swap_tissues(p.swap_tissues(x)), x)
    torch.testing.assert_close(p.mirror(x)[:, :, 0], x[:, :, -1])


def test_unknown_damage_is_refused(maps):
    with pytest.raises(ConfigError, match="Choose among blur"):
        p.perturb(maps, "melt")
