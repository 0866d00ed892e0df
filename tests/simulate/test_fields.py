import numpy as np
import pytest
import torch

from csegsynth_kit.maps import Grid
from csegsynth_kit.simulate.fields import exponentiate, growth_flow, positions, sample, smooth_noise

GRID = Grid("box", (14, 18, 16), (4.0, 4.0, 4.0), (3.0, -8.0, 5.0))


def jacobian(displacement: torch.Tensor, spacing_mm: float) -> torch.Tensor:
    """Determinant of the derivative of x + displacement, inside the box."""
    gradient = torch.stack(torch.gradient(displacement, spacing=spacing_mm, dim=(1, 2, 3)), 1)
    matrix = gradient + torch.eye(3).view(3, 3, 1, 1, 1)
    inner = matrix.permute(2, 3, 4, 0, 1)[1:-1, 1:-1, 1:-1]
    return torch.linalg.det(inner)


def test_sampling_a_linear_function_gives_it_back():
    where = positions(GRID)
    linear = torch.einsum("ci,ixyz->cxyz", torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]]), where)
    inner = where[:, 2:-2, 2:-2, 2:-2] + torch.tensor([1.3, -0.7, 2.1]).view(3, 1, 1, 1)
    expected = torch.einsum(
        "ci,ixyz->cxyz", torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]]), inner
    )
    torch.testing.assert_close(sample(linear, inner, GRID), expected, atol=1e-3, rtol=1e-4)


def test_beyond_the_box_the_border_goes_on():
    volume = torch.rand(1, *GRID.shape, generator=torch.Generator().manual_seed(0))
    far = torch.tensor([[1e4], [-1e4], [1e4]])
    assert sample(volume, far, GRID).item() == pytest.approx(volume[0, -1, 0, -1].item())


def test_positions_are_those_of_the_affine():
    index = np.array([3, 7, 11, 1])
    expected = (GRID.affine @ index)[:3]
    np.testing.assert_allclose(positions(GRID)[:, 3, 7, 11], expected, rtol=1e-6)


def test_following_a_flow_and_its_inverse_leads_back():
    rng = np.random.default_rng(0)
    velocity = 3 * torch.from_numpy(smooth_noise(rng, (3, *GRID.shape), 6.0))
    there, back = exponentiate(velocity, GRID), exponentiate(-velocity, GRID)
    start = positions(GRID)
    end = sample(there, start, GRID) + start
    returned = end + sample(back, end, GRID)
    inner = (slice(None), *[slice(3, -3)] * 3)
    assert (returned - start)[inner].abs().max() < 0.5
    assert there[inner].abs().max() > 3
    assert jacobian(there, 4.0).min() > 0


def test_smooth_noise_has_sd_one_and_the_width_asked_for():
    noise = smooth_noise(np.random.default_rng(1), (2, 40, 44, 36), 5.0)
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(1.0, abs=0.1)
    neighbor = (noise * np.roll(noise, 2, axis=1)).mean() / noise.var()
    sigma = 5.0 / np.sqrt(8 * np.log(2))
    assert neighbor == pytest.approx(np.exp(-(2**2) / (4 * sigma**2)), abs=0.06)


def test_growth_flow_has_its_source_where_it_should():
    source, sink = torch.zeros(GRID.shape), torch.zeros(GRID.shape)
    source[6:9, 8:11, 7:10] = 1.0
    sink[2:12, 2:16, 2:4] = 0.5
    flow = growth_flow(source, sink, 4.0)
    divergence = sum(torch.gradient(flow[i], spacing=4.0, dim=i)[0] for i in range(3))
    assert divergence[7, 9, 8] == pytest.approx(1.0, abs=0.35)
    assert divergence[4:10, 4:14, 2:4].mean() < 0
    assert divergence[3, 3, 12].abs() < 0.05
    assert flow[0, 9, 9, 8] > 0 > flow[0, 5, 9, 8]
