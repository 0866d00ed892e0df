import numpy as np
import pytest
import torch
from scipy import ndimage

from csegsynth_kit.maps import Grid, average_pool
from csegsynth_kit.metrics import shapes

SPACING = (3.0, 2.0, 4.0)
GRID = Grid("shapes", (20, 30, 15), SPACING)


def ellipsoid(radii_mm, center_mm=(0.0, 0.0, 0.0), *, fine: int = 4) -> torch.Tensor:
    """Shares of the voxel inside an ellipsoid, by counting finer voxels."""
    axes = [
        (np.arange(n * fine) + 0.5) * s / fine - n * s / 2
        for n, s in zip(GRID.shape, SPACING, strict=True)
    ]
    where = np.meshgrid(*axes, indexing="ij")
    inside = sum(((w - c) / r) ** 2 for w, c, r in zip(where, center_mm, radii_mm, strict=True)) < 1
    return average_pool(torch.from_numpy(inside).double()[None, None], fine)[0, 0]


def box(low, high) -> torch.Tensor:
    shares = torch.zeros(GRID.shape, dtype=torch.float64)
    shares[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return shares


def test_area_of_a_ball_on_anisotropic_voxels():
    found = shapes.surface_area_mm2(ellipsoid((20, 20, 20)), spacing_mm=SPACING)
    assert found.item() == pytest.approx(4 * np.pi * 20**2, rel=0.02)


def test_area_of_a_box_counts_its_faces():
    found = shapes.surface_area_mm2(box((4, 5, 3), (14, 25, 11)), spacing_mm=SPACING)
    a, b, c = 10 * 3, 20 * 2, 8 * 4
    assert found.item() == pytest.approx(2 * (a * b + a * c + b * c), rel=0.06)


def test_area_at_the_border_of_the_grid_is_not_lost():
    free = shapes.surface_area_mm2(box((1, 1, 1), (6, 6, 6)), spacing_mm=SPACING)
    for low in ((0, 0, 0), (15, 25, 10)):
        high = tuple(x + 5 for x in low)
        found = shapes.surface_area_mm2(box(low, high), spacing_mm=SPACING)
        assert found.item() == pytest.approx(free.item())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_interface_is_the_shared_face(axis):
    low, high = [4, 6, 3], [12, 22, 11]
    middle = (low[axis] + high[axis]) // 2
    first, second = list(high), list(low)
    first[axis] = second[axis] = middle
    a, b = box(low, first), box(second, high)
    edges = [(h - lo) * s for lo, h, s in zip(low, high, SPACING, strict=True)]
    expected = np.prod([e for i, e in enumerate(edges) if i != axis])
    found = shapes.interface_area_mm2(a, b, spacing_mm=SPACING)
    assert found.item() == pytest.approx(expected, rel=0.15)


def test_interface_of_a_core_with_its_shell_is_the_surface_of_the_core():
    core = ellipsoid((12, 12, 12))
    shell = ellipsoid((21, 21, 21)) - core
    found = shapes.interface_area_mm2(core, shell, spacing_mm=SPACING)
    assert found.item() == pytest.approx(4 * np.pi * 12**2, rel=0.06)


def test_things_apart_share_no_interface():
    a, b = box((2, 2, 2), (6, 6, 6)), box((10, 10, 9), (14, 15, 12))
    assert shapes.interface_area_mm2(a, b, spacing_mm=SPACING).item() == pytest.approx(0, abs=1e-9)


def test_centroid_and_moments_of_an_ellipsoid():
    shares, radii, center = ellipsoid((18, 14, 22), (4, -6, 3)), (18, 14, 22), (4, -6, 3)
    np.testing.assert_allclose(shapes.centroids_mm(shares, GRID), center, atol=0.1)
    moments = shapes.second_moments_mm2(shares, GRID)
    np.testing.assert_allclose(moments[:3], np.square(radii) / 5, rtol=0.05)
    np.testing.assert_allclose(moments[3:], 0, atol=0.5)


def test_moments_equal_weighted_covariances():
    shares = torch.rand(2, *GRID.shape, generator=torch.Generator().manual_seed(0)).double()
    axes = [np.arange(n) * s for n, s in zip(GRID.shape, SPACING, strict=True)]
    where = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    for k in range(2):
        expected = np.cov(where, aweights=shares[k].flatten(), ddof=0)
        expected = expected[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
        np.testing.assert_allclose(shapes.second_moments_mm2(shares, GRID)[k], expected, rtol=1e-6)


def test_cells_partition_the_volume_and_cut_voxels():
    shares = torch.rand(3, *GRID.shape, generator=torch.Generator().manual_seed(1)).double()
    edges = [torch.tensor([0.0, n / 3, 0.7 * n, n]) for n in GRID.shape]
    cells = shapes.cell_volumes_ml(shares, edges, voxel_ml=GRID.voxel_ml)
    assert cells.shape == (3, 3, 3, 3)
    np.testing.assert_allclose(cells.sum((1, 2, 3)), shares.sum((1, 2, 3)) * GRID.voxel_ml)
    whole = [torch.tensor([0.0, float(n)]) for n in GRID.shape]
    slab = [torch.tensor([2.25, 4.5]), *whole[1:]]
    weights = torch.zeros(GRID.shape[0], dtype=torch.float64)
    weights[2:5] = torch.tensor([0.75, 1, 0.5])
    expected = torch.einsum("nxyz,x->n", shares, weights) * GRID.voxel_ml
    found = shapes.cell_volumes_ml(shares, slab, voxel_ml=GRID.voxel_ml)
    np.testing.assert_allclose(found[:, 0, 0, 0], expected)


def test_euler_numbers_of_known_solids():
    ball = ellipsoid((15, 15, 15)) > 0.5
    shell = ball & ~(ellipsoid((9, 9, 9)) > 0.5)
    ring = box((4, 6, 5), (14, 20, 9)).bool() & ~box((7, 10, 5), (11, 16, 9)).bool()
    two = box((1, 1, 1), (4, 4, 4)).bool() | box((8, 8, 8), (12, 12, 12)).bool()
    touching = box((1, 1, 1), (4, 4, 4)).bool() | box((4, 4, 4), (8, 8, 8)).bool()
    nothing = torch.zeros(GRID.shape, dtype=torch.bool)
    solids = torch.stack([ball, shell, ring, two, touching, nothing])
    assert shapes.euler_number(solids).tolist() == [1, 2, 0, 2, 1, 0]
    assert shapes.euler_number(ball).shape == ()


def test_euler_number_of_specks_counts_components():
    rng = np.random.default_rng(0)
    specks = np.zeros(GRID.shape, bool)
    specks[2::4, 2::4, 2::4] = rng.random(specks[2::4, 2::4, 2::4].shape) < 0.5
    count = ndimage.label(specks, np.ones((3, 3, 3)))[1]
    assert shapes.euler_number(torch.from_numpy(specks)).item() == count > 10
