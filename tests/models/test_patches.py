import torch

from csegsynth_kit.maps import Grid
from csegsynth_kit.models.compact import log_shares
from csegsynth_kit.models.patches import PatchComponents

GRID = Grid("toy", (8, 10, 4), (8.0, 7.0, 6.0))


def heads(n: int, dimensions: int, seed: int = 0) -> torch.Tensor:
    """Maps whose log shares span few dimensions, all shares well above the floor."""
    rng = torch.Generator().manual_seed(seed)
    axes = torch.randn(dimensions, 4, *GRID.shape, generator=rng)
    amounts = 0.1 * torch.randn(n, dimensions, generator=rng)
    mean = 0.3 * torch.randn(4, *GRID.shape, generator=rng)
    return (mean + torch.einsum("nd,dtxyz->ntxyz", amounts, axes)).softmax(1)


def mean_of(maps: torch.Tensor) -> torch.Tensor:
    return log_shares(maps).mean(0, keepdim=True)


def test_maps_that_components_span_are_rendered_exactly():
    maps, components = heads(20, 3), PatchComponents(GRID, edge=4, channels=3)
    mean = mean_of(maps)
    components.fit(maps.split(7), mean, first=0, last=3)
    change = log_shares(maps) - mean
    amounts = components.amounts(change)
    assert amounts.shape == (20, 3, 2, 3, 1)
    torch.testing.assert_close(components.render(amounts), change, rtol=1e-3, atol=1e-4)
    assert abs(float(amounts.std()) - 1) < 1e-3


def test_spare_components_take_up_what_earlier_ones_cannot_render():
    young, components = heads(20, 3), PatchComponents(GRID, edge=4, channels=6)
    old = (heads(20, 3).log() + heads(20, 2, seed=5).log()).softmax(1)
    mean = mean_of(young)
    components.fit([young], mean, first=0, last=3)
    kept = components.axes[:, :3].clone()
    before = _error(components, old, mean)
    components.fit([old], mean, first=3, last=6)
    assert before > 0.02
    assert _error(components, old, mean) < 1e-3
    assert _error(components, young, mean) < 1e-3
    assert torch.equal(kept, components.axes[:, :3])


def test_first_channel_grows_in_all_patches_with_what_heads_share():
    rng = torch.Generator().manual_seed(3)
    axis = torch.randn(1, 4, *GRID.shape, generator=rng)
    shared = torch.randn(30, 1, 1, 1, 1, generator=rng)
    own = 0.05 * torch.randn(30, 4, *GRID.shape, generator=rng)
    maps = (0.3 * shared * axis + own).softmax(1)
    components = PatchComponents(GRID, edge=4, channels=2)
    mean = mean_of(maps)
    components.fit([maps], mean, first=0, last=2)
    amounts = components.amounts(log_shares(maps) - mean)[:, 0].flatten(1)
    correlations = torch.corrcoef(amounts.T)
    assert float(correlations.min()) > 0.9


def test_few_heads_leave_components_unused():
    maps, components = heads(3, 2), PatchComponents(GRID, edge=4, channels=8)
    components.fit([maps], mean_of(maps), first=0, last=8)
    assert torch.isfinite(components.axes).all()
    assert _error(components, maps, mean_of(maps)) < 1e-3


def _error(components, maps, mean) -> float:
    change = log_shares(maps) - mean
    return float((components.render(components.amounts(change)) - change).abs().mean())
