"""Texture: its law, what it leaves alone, and whether a fit finds what was planted."""

import math

import pytest
import torch
import torch.nn.functional as F

from csegsynth_kit.maps import Grid, average_pool
from csegsynth_kit.models import Rng
from csegsynth_kit.models.texture import Texture

GRID = Grid("odd", (12, 16, 20), (4.0, 3.0, 5.0), (1.0, 2.0, 3.0))
WAVES = 24


def drawn(n, texture, seed=0):
    return Rng(seed, total=n).normal(texture.length)


def textured(texture, logits, amplitudes):
    return texture.added(logits, texture.fields(amplitudes))


def planted(*, size=1.0, longest=8, shortest=4):
    """A texture whose waves are between so many voxels long, larger on one side of the grid."""
    texture = Texture(GRID, 2, WAVES)
    rng = torch.Generator().manual_seed(3)
    direction = F.normalize(torch.randn(WAVES, 3, generator=rng), dim=1)
    length = shortest + (longest - shortest) * torch.rand(WAVES, 1, generator=rng)
    texture.frequencies.copy_(direction / length)
    texture.size.copy_(size * torch.linspace(0.3, 1, texture.size.shape[2])[:, None, None])
    return texture


def smooth_logits(n):
    coarse = torch.randn(n, 4, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, size=GRID.shape, mode="trilinear")


def test_fields_have_variance_1_and_the_covariance_of_their_waves():
    texture = planted()
    # Fields are linear in their amplitudes: unit amplitudes give the covariance exactly.
    fields = texture.fields(torch.eye(texture.length))
    flat = fields.flatten(2).double()
    covariance = torch.einsum("ati,asi->ts", flat, flat) / flat.shape[-1]
    torch.testing.assert_close(covariance, torch.eye(4, dtype=torch.float64), atol=1e-5, rtol=0)
    one = fields[:, 0].double()
    shift = torch.tensor([2, 3, 1])
    here, there = one[:, 4, 5, 6], one[:, 4 + 2, 5 + 3, 6 + 1]
    expected = (2 * math.pi * texture.frequencies.double() @ shift.double()).cos().mean()
    assert float(here @ there) == pytest.approx(float(expected), abs=1e-5)


def test_maps_without_gradients_are_those_with():
    grid = Grid("odd", (13, 6, 10), (4.0, 3.0, 5.0), (1.0, 2.0, 3.0))  # the last slab is thinner
    texture = Texture(grid, 1, WAVES)
    texture.frequencies.copy_(torch.rand(WAVES, 3))
    texture.size.copy_(2 * torch.rand_like(texture.size))
    logits, amplitudes = torch.randn(2, 4, *grid.shape), drawn(2, texture)
    whole = textured(texture, logits.requires_grad_(), amplitudes)
    assert whole.requires_grad
    with torch.no_grad():
        slabs = textured(texture, logits, amplitudes)
    torch.testing.assert_close(slabs, whole, rtol=1e-6, atol=1e-6)


def test_before_it_is_fitted_it_changes_nothing():
    texture, logits = Texture(GRID, 2, WAVES), smooth_logits(3)
    assert torch.equal(textured(texture, logits, drawn(3, texture)), logits)


@pytest.mark.parametrize("sizes", [(2.0, 2.0, 2.0, 2.0), (1.0, 2.0, 0.5, 3.0)])
def test_textures_nearly_leave_the_mean_share_what_it_was(sizes):
    texture = planted(size=torch.tensor(sizes)[:, None, None, None])
    logits = smooth_logits(1) - torch.tensor([0.0, 0.0, 0.0, 5.0])[:, None, None, None]
    fields = texture.fields(drawn(400, texture))
    mean = torch.stack([texture.added(logits, f[None]).softmax(1)[0] for f in fields]).mean(0)
    size = F.interpolate(texture.size, size=GRID.shape, mode="trilinear")
    blurred = torch.stack([(logits + f[None] * size).softmax(1)[0] for f in fields]).mean(0)
    share = logits.softmax(1)[0]
    assert (mean - share).abs().mean() < 0.6 * (blurred - share).abs().mean()
    assert (mean - share).abs().mean() < 0.02


def thin_shells(n):
    """Logits of a round head whose tissues change over and over again from its center out."""
    axes = [torch.linspace(-1, 1, size) for size in GRID.shape]
    radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).norm(dim=0)
    waves = torch.stack([(9 * radius + 2 * k).cos() for k in range(3)] + [4 * radius - 3])
    return 2.0 * waves.expand(n, -1, -1, -1, -1)


@pytest.mark.parametrize("heads", [smooth_logits, thin_shells])
def test_a_fit_finds_the_planted_variance_and_wavelengths(heads):
    truth, logits = planted(longest=10, shortest=6), heads(96)
    maps = textured(truth, logits, drawn(96, truth, seed=5)).softmax(1)
    found = Texture(GRID, 2, 64)
    # Many small chunks: a fit in which all of them had the same textures would follow these.
    pairs = list(zip(maps.split(4), logits.split(4), strict=True))
    found.fit(pairs, drawn(96, found, seed=6))
    again = textured(found, logits, drawn(96, found, seed=7)).softmax(1)
    variance = [
        average_pool((x - logits.softmax(1)).square(), 2).mean((0, 1)) for x in (maps, again)
    ]
    assert float(variance[1].mean() / variance[0].mean()) == pytest.approx(1, abs=0.15)
    by_side = [v.mean((1, 2)) for v in variance]  # it grows along the first axis
    torch.testing.assert_close(by_side[1], by_side[0], rtol=0.3, atol=1e-3)
    length = 1 / found.frequencies.norm(dim=1)
    assert 6 < float(length.median()) < 10
    assert float(((length > 4) & (length < 14)).float().mean()) > 0.7
    volumes = [x[:, 0].mean((1, 2, 3)).std() for x in (maps, again)]
    assert float(volumes[1] / volumes[0]) == pytest.approx(1, abs=0.35)


def test_an_empty_difference_asks_for_no_texture():
    logits, texture = smooth_logits(8), Texture(GRID, 2, WAVES)
    texture.fit([(logits.softmax(1), logits)], drawn(8, texture))
    change = textured(texture, logits, drawn(8, texture)).softmax(1) - logits.softmax(1)
    assert float(change.abs().mean()) < 0.005


def test_what_all_maps_have_beyond_their_reconstructions_is_no_texture():
    logits, texture = smooth_logits(8), Texture(GRID, 2, WAVES)
    same = 0.2 * smooth_logits(1).flip(2)
    texture.fit(
        [
            (
                (logits[:1] + same).softmax(1).expand(8, -1, -1, -1, -1),
                logits[:1].expand(8, -1, -1, -1, -1),
            )
        ],
        drawn(8, texture),
    )
    assert float(texture.size.max()) < 0.05


def test_low_precision_does_not_reach_the_texture():
    texture, logits = planted(), smooth_logits(2)
    expected = textured(texture, logits, drawn(2, texture))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = textured(texture, logits, drawn(2, texture))
    assert torch.equal(found, expected)
