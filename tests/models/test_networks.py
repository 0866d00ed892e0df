import pytest
import torch
from torch import nn
from torch.nn import functional as F

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import GRIDS, Grid
from csegsynth_kit.models import build
from csegsynth_kit.models.blocks import (
    KERNEL,
    PADDING,
    ConvNeXtBlock,
    GroupedConv,
    shuffle_down,
    shuffle_up,
)
from csegsynth_kit.models.compact import CompactGenerator, CompactTransform
from csegsynth_kit.models.presets import preset
from csegsynth_kit.models.published import (
    PublishedCodeCritic,
    PublishedCritic,
    PublishedEncoder,
    PublishedGenerator,
    PublishedTransform,
)

PAPER = GRIDS["paper"]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (lambda: PublishedGenerator(PAPER, 32), 11_863_636),
        (lambda: PublishedCritic(32), 14_462_145),
        (lambda: PublishedEncoder(32), 18_653_376),
        (lambda: PublishedCodeCritic(32), 20_983_809),
        (lambda: PublishedTransform(20, 32), 279_872 + 64 * 20),
        (lambda: PublishedTransform(37, 32), 279_872 + 64 * 37),
    ],
)
def test_published_networks_have_the_published_number_of_parameters(module, expected):
    assert count(module()) == expected


def test_paper_preset_is_the_published_alpha_gan():
    assert count(build(preset("csegsynth", "paper").model)) == 65_962_966


@pytest.mark.parametrize("channels", [4, 16, 64])
def test_residual_block_has_eight_d_squared_plus_84_d_parameters(channels):
    assert count(ConvNeXtBlock(channels)) == 8 * channels**2 + 84 * channels


@pytest.mark.parametrize(("c_in", "c_out", "stride"), [(4, 16, 2), (16, 16, 2), (32, 8, 1)])
def test_depthwise_form_equals_the_grouped_convolution(c_in, c_out, stride):
    torch.manual_seed(0)
    ours = GroupedConv(c_in, c_out, stride).double()
    x = torch.randn(2, c_in, 6, 9, 7, dtype=torch.float64, requires_grad=True)
    expected = F.conv3d(x, ours.weight, ours.bias, stride, PADDING, 1, groups=min(c_in, c_out))
    torch.testing.assert_close(ours(x), expected, rtol=1e-12, atol=1e-12)
    gradient = torch.autograd.grad(ours(x).square().sum(), ours.weight)[0]
    reference = torch.autograd.grad(expected.square().sum(), ours.weight)[0]
    torch.testing.assert_close(gradient, reference, rtol=1e-10, atol=1e-10)
    assert ours.weight.shape[-3:] == KERNEL


def test_shuffles_are_inverse_and_keep_neighbors_together():
    x = torch.arange(2 * 3 * 4 * 6 * 8, dtype=torch.float32).reshape(2, 3, 4, 6, 8)
    down = shuffle_down(x)
    assert down.shape == (2, 24, 2, 3, 4)
    torch.testing.assert_close(shuffle_up(down), x)
    torch.testing.assert_close(down[0, :8, 0, 0, 0], x[0, 0, :2, :2, :2].reshape(-1))


def test_grid_that_does_not_divide_is_refused_with_a_size_that_does():
    grid = Grid("odd", (24, 30, 24), (8.0, 8.0, 8.0))
    with pytest.raises(ConfigError, match="not divisible by 8") as error:
        CompactGenerator(grid, 8, (8, 8, 8), 1)
    assert "(24, 32, 24)" in str(error.value)


def test_compact_generator_starts_near_the_mean_map():
    grid = Grid("small", (8, 12, 4), (8.0, 8.0, 8.0))
    generator = CompactGenerator(grid, 8, (8, 8), 1)
    mean = torch.rand(4, *grid.shape).softmax(0)
    generator.set_mean_map(mean)
    nothing = CompactGenerator(grid, 8, (8, 8), 1)
    difference = generator(torch.zeros(1, 8)) - generator.mean_logits
    torch.testing.assert_close(generator.mean_logits[0].softmax(0), mean)
    assert difference.abs().max() < 1.0
    assert nothing.mean_logits.abs().max() == 0


def test_compact_transform_changes_nothing_before_training():
    z, c = torch.randn(5, 16), torch.randn(5, 7)
    torch.testing.assert_close(CompactTransform(7, 16, 32)(z, c), z)
