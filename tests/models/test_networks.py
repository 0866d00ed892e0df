import pytest
import torch
from torch import nn
from torch.nn import functional as F

from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import GRIDS, Grid
from csegsynth_kit.models import Rng, build, terms
from csegsynth_kit.models.blocks import (
    KERNEL,
    PADDING,
    ConvNeXtBlock,
    GroupedConv,
    Pointwise,
    doubled,
    shuffle_down,
    shuffle_up,
)
from csegsynth_kit.models.compact import (
    CompactCritic,
    CompactEncoder,
    CompactGenerator,
    CompactTransform,
)
from csegsynth_kit.models.latents import Denoiser
from csegsynth_kit.models.presets import preset
from csegsynth_kit.models.published import (
    PublishedCodeCritic,
    PublishedCritic,
    PublishedEncoder,
    PublishedGenerator,
    PublishedTransform,
)
from csegsynth_kit.models.start import start_from_components, start_from_regression
from tests.toy import TOY_COLUMNS, toy_table

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


def test_a_convolution_of_single_voxels_is_a_matrix_product():
    torch.manual_seed(0)
    ours = Pointwise(5, 7).double()
    theirs = nn.Conv3d(5, 7, 1).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 3, 4, 6, dtype=torch.float64)
    both = []
    for layer in (ours, theirs):
        given = x.to(memory_format=torch.channels_last_3d).requires_grad_(True)
        y = layer(given)
        both.append([y, *torch.autograd.grad(y.sin().sum(), [given, *layer.parameters()])])
    assert both[0][0].is_contiguous(memory_format=torch.channels_last_3d)
    for own, other in zip(*both, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


#: What C-VAE adds to a VAE are four networks of this size (and 64 parameters per feature).
SHIFT = 279_872


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("cvae", 38_910_740),  # of the published 43,113,237, the rest a head that is never used
        ("cgan", 26_325_781),
        ("csegsynth", 65_962_966),
    ],
)
def test_paper_presets_are_the_published_ancestors(family, expected):
    assert count(build(preset(family, "paper").model)) == expected


@pytest.mark.parametrize(
    ("family", "fixed", "per_feature"),
    [
        ("cvae", 44_232_725 - 4_202_497, 256),
        ("cgan", 26_605_653, 64),
        ("csegsynth", 66_242_838, 64),
    ],
)
def test_paper_presets_are_the_published_conditional_models(family, fixed, per_feature):
    features = Features.fit(toy_table(24), TOY_COLUMNS)
    model = build(preset(family, "paper").model, features)
    assert model.n_inputs == len(features.names)
    assert count(model) == fixed + per_feature * model.n_inputs
    if family == "cvae":
        assert fixed == 38_910_740 + 4 * SHIFT


def test_paper_diffusion_model_has_the_published_number_of_parameters():
    model = build(preset("cldm", "paper").model)
    assert model.latent_shape == (3, 20, 32, 32)
    assert count(model.autoencoder) == 2_304_395
    assert count(model.denoiser) == 2_974_051
    assert count(model.patch_critic) == 2_778_017


@pytest.mark.parametrize(("concat", "expected"), [(False, 3_457_443), (True, 3_474_723)])
def test_paper_denoiser_given_twenty_features(concat, expected):
    paper = preset("cldm", "paper").model
    denoiser = Denoiser(
        (3, 20, 32, 32),
        places=paper.places,
        channels=paper.denoiser_channels,
        attention=paper.denoiser_attention,
        head_channels=paper.head_channels,
        norm_groups=paper.denoiser_norm_groups,
        token=20,
        concat=concat,
    )
    assert count(denoiser) == expected


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


def test_doubling_is_trilinear_interpolation():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, 3, dtype=torch.float64, requires_grad=True)
    expected = F.interpolate(x, scale_factor=2, mode="trilinear")
    assert torch.allclose(doubled(x), expected, atol=1e-12)
    weight = torch.randn_like(expected)
    (ours,) = torch.autograd.grad((doubled(x) * weight).sum(), x)
    (theirs,) = torch.autograd.grad((expected * weight).sum(), x)
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_doubling_is_as_exact_under_autocast():
    x = torch.randn(1, 2, 3, 4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = doubled(x)
    assert torch.equal(low, doubled(x))


@pytest.mark.parametrize("doublings", [0, 1])
def test_the_average_map_is_not_rounded_under_autocast(doublings):
    generator = CompactGenerator(Grid("odd", (8, 12, 16), (4.0,) * 3), doublings, 5, 8)
    nn.init.zeros_(generator.templates.weight)
    nn.init.normal_(generator.fine_mean, std=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = generator(torch.randn(2, 5))
    # The rest starts at 0.
    torch.testing.assert_close(logits, generator.fine_mean.expand(2, -1, -1, -1, -1))


def test_shuffles_pass_on_gradients_of_first_and_second_order():
    torch.manual_seed(0)
    x = torch.randn(2, 16, 2, 1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: shuffle_up(x) ** 3, x)
    assert torch.autograd.gradgradcheck(lambda x: shuffle_up(x) ** 3, x)


@pytest.mark.parametrize("norm", ["per_sample", "reference"])
def test_a_critic_of_patches_takes_the_same_steps(norm):
    torch.manual_seed(0)
    grid = Grid("odd", (16, 8, 24), (3.0, 2.0, 4.0))
    critic = CompactCritic(grid, (8, 8)).double()
    real, *fakes = torch.rand(3, 2, 4, *grid.shape, dtype=torch.float64).softmax(2)
    found = []
    for loss in (terms.wasserstein, terms.image_wasserstein):
        rng = Rng(0, 0, total=2, device="cpu")
        both = loss(critic, real, fakes, rng, penalty=10.0, norm=norm)
        gradients = torch.autograd.grad(sum(both.values()), list(critic.parameters()))
        found.append([*both.values(), *gradients])
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(*found, strict=True))


def test_shuffles_are_inverse_and_keep_neighbors_together():
    x = torch.arange(2 * 3 * 4 * 6 * 8, dtype=torch.float32).reshape(2, 3, 4, 6, 8)
    down = shuffle_down(x)
    assert down.shape == (2, 24, 2, 3, 4)
    torch.testing.assert_close(shuffle_up(down), x)
    torch.testing.assert_close(down[0, :8, 0, 0, 0], x[0, 0, :2, :2, :2].reshape(-1))


def test_shuffles_by_four_are_inverse():
    x = torch.rand(2, 4, 8, 12, 4)
    down = shuffle_down(x, 4)
    assert down.shape == (2, 256, 2, 3, 1)
    torch.testing.assert_close(shuffle_up(down, 4), x)


def test_grid_that_does_not_divide_is_refused_with_a_size_that_does():
    grid = Grid("odd", (24, 30, 24), (8.0, 8.0, 8.0))
    with pytest.raises(ConfigError, match="not divisible by 8") as error:
        CompactGenerator(grid, doublings=2, latent=8, width=4)
    assert "(24, 32, 24)" in str(error.value)


def test_compact_transform_changes_nothing_before_training():
    z, c = torch.randn(5, 16), torch.randn(5, 7)
    torch.testing.assert_close(CompactTransform(7, 16, 32, curved=(2,))(z, c), z)


GRID = Grid("toy", (8, 12, 4), (8.0, 7.0, 6.0))


def networks(latent: int):
    generator = CompactGenerator(GRID, doublings=0, latent=latent, width=4)
    return generator, CompactEncoder(GRID, doublings=0, latent=latent, widths=(8,))


def low_dimensional_maps(n: int, dimensions: int, seed: int = 0) -> torch.Tensor:
    """Maps whose log shares span few dimensions, all shares well above the floor."""
    rng = torch.Generator().manual_seed(seed)
    axes = torch.randn(dimensions, 4, *GRID.shape, generator=rng)
    amounts = 0.1 * torch.randn(n, dimensions, generator=rng)
    mean = 0.3 * torch.randn(4, *GRID.shape, generator=rng)
    return (mean + torch.einsum("nd,dtxyz->ntxyz", amounts, axes)).softmax(1)


def test_starting_from_components_renders_maps_they_span():
    maps = low_dimensional_maps(20, dimensions=3)
    generator, encoder = networks(latent=3)
    start_from_components(generator, encoder, maps.split(7), first=0, last=3)
    with torch.no_grad():
        codes = encoder(maps)
        rendered = generator(codes).softmax(1)
    torch.testing.assert_close(rendered, maps, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(codes.mean(0), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(codes.T.cov(), torch.eye(3), rtol=0, atol=1e-3)


def test_spare_entries_take_up_what_earlier_ones_cannot_render():
    """A new cohort with directions of its own, and another mean, is rendered exactly."""
    young = low_dimensional_maps(20, dimensions=3)
    old = low_dimensional_maps(20, 3, seed=0).log() + low_dimensional_maps(20, 2, seed=5).log()
    old = old.softmax(1)
    generator, encoder = networks(latent=6)
    start_from_components(generator, encoder, [young], first=0, last=3)
    kept = generator.templates.weight[:, :3].clone(), encoder.axes[:3].clone()
    with torch.no_grad():
        before = (generator(encoder(old)).softmax(1) - old).abs().mean()
        start_from_components(generator, encoder, [old], first=3, last=6)
        after = (generator(encoder(old)).softmax(1) - old).abs().max()
        again = (generator(encoder(young)).softmax(1) - young).abs().max()
    assert before > 0.02
    assert after < 1e-3
    assert again < 1e-3
    assert torch.equal(kept[0], generator.templates.weight[:, :3])
    assert torch.equal(kept[1], encoder.axes[:3])


def test_entries_without_dimensions_stay_unused():
    generator, encoder = networks(latent=8)
    maps = low_dimensional_maps(3, 2).repeat(5, 1, 1, 1, 1)
    start_from_components(generator, encoder, [maps], first=0, last=8)
    assert generator.templates.weight[:, :2].abs().max() > 0
    assert generator.templates.weight[:, 2:].abs().max() == 0
    assert torch.isfinite(encoder(maps)).all()


def test_starting_from_regression_gives_the_codes_mean_and_covariance():
    rng = torch.Generator().manual_seed(0)
    c = torch.randn(4000, 3, generator=rng)
    noise = torch.randn(4000, 2, generator=rng) @ torch.tensor([[0.5, 0.2], [0.0, 0.3]])
    codes = torch.stack([2 * c[:, 0] - c[:, 1], c[:, 2] ** 2], dim=1) + noise
    transform = CompactTransform(3, 2, 8, curved=(2,))
    start_from_regression(transform, c, codes)
    asked = torch.tensor([[1.0, -1.0, 2.0]])
    with torch.no_grad():
        draws = transform(torch.randn(20000, 2, generator=rng), asked.expand(20000, 3))
    torch.testing.assert_close(draws.mean(0), torch.tensor([3.0, 4.0]), rtol=0, atol=0.05)
    torch.testing.assert_close(draws.T.cov(), noise.T.cov(), rtol=0.1, atol=0.01)
