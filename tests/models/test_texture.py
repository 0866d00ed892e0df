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


def test_before_it_is_fitted_it_changes_nothing():
    texture, logits = Texture(GRID, 2, WAVES), smooth_logits(3)
    assert torch.equal(texture(logits, drawn(3, texture)), logits)


def test_textures_leave_the_mean_share_what_it_was():
    texture, logits = planted(size=2.0), smooth_logits(1)
    fields = texture.fields(drawn(400, texture))
    mean = torch.stack([texture.added(logits, f[None]).softmax(1)[0] for f in fields]).mean(0)
    only_noise = texture.size.clone()
    size = F.interpolate(only_noise, size=GRID.shape, mode="trilinear")
    blurred = torch.stack([(logits + f[None] * size).softmax(1)[0] for f in fields]).mean(0)
    share = logits.softmax(1)[0]
    assert (mean - share).abs().mean() < 0.5 * (blurred - share).abs().mean()
    assert (mean - share).abs().mean() < 0.02


def test_a_fit_finds_the_planted_variance_and_wavelengths():
    truth, logits = planted(), smooth_logits(64)
    maps = truth(logits, drawn(64, truth, seed=5)).softmax(1)
    found = Texture(GRID, 2, 64)
    # What is rendered is told by where in the chunks it is: a look-up instead of an encoder.
    rendered = dict(zip((float(m.sum()) for m in maps.double()[:, 0]), logits, strict=True))
    found.fit(
        maps.split(16),
        lambda some: torch.stack([rendered[float(m.sum())] for m in some.double()[:, 0]]),
        lambda n: drawn(n, found, seed=6),
    )
    again = found(logits, drawn(64, found, seed=7)).softmax(1)
    variance = [
        average_pool((x - logits.softmax(1)).square(), 2).mean((0, 1)) for x in (maps, again)
    ]
    assert float(variance[1].mean() / variance[0].mean()) == pytest.approx(1, abs=0.1)
    by_side = [v.mean((1, 2)) for v in variance]  # it grows along the first axis
    torch.testing.assert_close(by_side[1], by_side[0], rtol=0.25, atol=1e-3)
    length = 1 / found.frequencies.norm(dim=1)
    assert 3.5 < float(length.median()) < 7.5
    assert float(((length > 3) & (length < 11)).float().mean()) > 0.8


def test_an_empty_difference_asks_for_no_texture():
    logits, texture = smooth_logits(8), Texture(GRID, 2, WAVES)
    texture.fit([logits.softmax(1)], lambda maps: logits, lambda n: drawn(n, texture))
    change = texture(logits, drawn(8, texture)).softmax(1) - logits.softmax(1)
    assert float(change.abs().mean()) < 0.005
