"""The fit to the template finds rotations it is given, and does not touch volumes."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from csegsynth_kit.constants import TEMPLATE_CENTER_MM
from csegsynth_kit.data.align import center_of_mass_mm, fit_rigid, pool_to, resample
from csegsynth_kit.data.cleanup import clean_labels
from csegsynth_kit.data.nifti import voxel_ml
from csegsynth_kit.data.place import place
from csegsynth_kit.data.readers.detect import discover, read_subject
from csegsynth_kit.maps import GRIDS, Grid
from tests.data.heads import SIZE, write_fast


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fast")
    write_fast(folder, "sub-01")
    return read_subject(discover(folder).scans[0])


def turned(maps, angles_deg, shift_mm=(0, 0, 0)):
    """The same head in a scanner whose axes are turned."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    motion[:3, 3] = shift_mm
    return replace(maps, affine=motion @ maps.affine), motion


def angle_deg(a, b) -> float:
    return float(np.rad2deg(Rotation.from_matrix(a.T @ b).magnitude()))


def test_the_template_lies_on_itself(maps):
    rigid = fit_rigid(maps)
    assert angle_deg(rigid.rotation, np.eye(3)) < 0.3
    assert rigid.scale == pytest.approx(SIZE, rel=0.005)
    assert rigid.overlap > 0.95
    # The head was moved by (3, -5, 7) mm when it was made, after scaling about the origin.
    expected = np.array(TEMPLATE_CENTER_MM) * SIZE + [3, -5, 7]
    np.testing.assert_allclose(rigid.center_mm, expected, atol=0.5)


@pytest.mark.parametrize("angles", [(25, -8, 12), (-35, 5, 0)])
def test_a_turned_head_is_turned_back(maps, angles):
    moved, motion = turned(maps, angles, (30, -60, 45))
    rigid = fit_rigid(moved)
    assert angle_deg(rigid.rotation, motion[:3, :3]) < 0.5
    np.testing.assert_allclose(rigid.angles_deg, angles, atol=0.5)


def test_a_header_upside_down_is_found_out(maps):
    moved, motion = turned(maps, (180, 0, 0))
    rigid = fit_rigid(moved)
    assert angle_deg(rigid.rotation, motion[:3, :3]) < 2
    assert rigid.overlap > 0.9


def test_the_center_of_mass_moves_with_the_head(maps):
    moved, motion = turned(maps, (10, 20, 30), (5, 6, 7))
    expected = motion[:3, :3] @ center_of_mass_mm(maps) + motion[:3, 3]
    np.testing.assert_allclose(center_of_mass_mm(moved), expected)


def test_pooling_to_coarser_voxels_keeps_volumes_and_positions():
    rng = np.random.default_rng(0)
    tissues = rng.random((3, 7, 10, 12)).astype(np.float32)
    affine = np.diag([1.0, 2.0, 0.9, 1.0])
    affine[:3, 3] = [-7, 3, 11]
    pooled, pooled_affine = pool_to(tissues, affine, 4.0)
    assert pooled.shape == (3, 2, 5, 3)
    np.testing.assert_allclose(
        pooled.sum(axis=(1, 2, 3)) * voxel_ml(pooled_affine),
        tissues.sum(axis=(1, 2, 3)) * voxel_ml(affine),
        rtol=1e-5,
    )
    centers = []
    for values, where in ((tissues, affine), (pooled, pooled_affine)):
        index = np.argwhere(np.ones(values.shape[1:]))
        world = index @ where[:3, :3].T + where[:3, 3]
        centers.append(np.average(world, axis=0, weights=values[0].ravel()))
    np.testing.assert_allclose(*centers, atol=0.8)


def test_resampling_reads_the_value_at_the_same_place():
    grid = Grid("g", (4, 5, 3), (2.0, 2.0, 2.0), (1.0, -3.0, 4.0))
    fine = grid.refined(2)
    rng = np.random.default_rng(1)
    values = torch.from_numpy(rng.random((2, *fine.shape)).astype(np.float32))
    pooled, sums = resample(values, np.linalg.inv(fine.affine), fine, grid)
    expected = torch.nn.functional.avg_pool3d(values[None], 2)[0]
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(sums, values.sum(dim=(1, 2, 3)).numpy(), rtol=1e-5)


@pytest.mark.parametrize("twice", [False, True])
def test_resampling_follows_a_linear_ramp(twice):
    grid = Grid("g", (4, 4, 4), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    affine = np.diag([1.7, 1.7, 1.7, 1.0])
    affine[:3, 3] = -17
    index = np.indices((21, 21, 21)).astype(np.float32)
    ramp = torch.from_numpy(index[1:2] * 1.7 - 17)
    pooled, _ = resample(ramp, np.linalg.inv(affine), grid.refined(3), grid, twice=twice)
    world_y = grid.affine[1, 1] * np.arange(4) + grid.affine[1, 3]
    expected = torch.from_numpy(world_y).float()[None, :, None].expand(4, 4, 4)
    torch.testing.assert_close(pooled[0], expected, atol=1e-4, rtol=0)


def soft_dice(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    space = (1, 2, 3)
    return (2 * torch.minimum(a, b).sum(space) / (a + b).sum(space)).numpy()


@pytest.mark.real
def test_real_heads_come_to_lie_on_each_other(real_data):
    scans = {s.participant: s for s in discover(real_data / "synthseg").scans}
    before, after = [], []
    for name in ("sub-01", "sub-07"):  # Pitch of 34 and 0 degrees.
        maps = clean_labels(read_subject(scans[name])).maps
        before.append(place(maps, GRIDS["small"], align=False).shares)
        placed = place(maps, GRIDS["small"])
        after.append(placed.shares)
        assert max(abs(c) for c in placed.volume_change_ml) < 0.1
        assert placed.alignment["overlap"] > 0.8
    gain = [
        np.mean([soft_dice(a, b) for a, b in combinations(heads, 2)], axis=0)
        for heads in (before, after)
    ]
    assert (gain[1] > gain[0] + 0.08).all()
    assert (gain[1] > [0.66, 0.66, 0.47]).all()
