"""Maps on a grid: as they are, cropped, resampled or aligned; never cut, never other volumes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from csegsynth_kit.data.place import lies_on, place
from csegsynth_kit.data.readers.base import crop
from csegsynth_kit.data.readers.detect import discover, read_subject
from csegsynth_kit.errors import MapError
from csegsynth_kit.maps import GRIDS, Grid
from tests.data.heads import head, save, write_fast


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fast")
    write_fast(folder, "sub-01")
    return read_subject(discover(folder).scans[0])


def volumes(placed, grid) -> np.ndarray:
    return placed.shares.sum(dim=(1, 2, 3), dtype=torch.float64).numpy() * grid.voxel_ml


def on_box(maps, grid, tissues, affine):
    """``maps`` with other content that fills the box of a grid."""
    cropped, where, _ = crop(tissues, affine)
    return replace(
        maps, tissues=cropped, affine=where, field_shape=tissues.shape[1:], field_affine=affine
    )


@pytest.mark.parametrize("factor", [1, 2])
def test_maps_on_the_grid_come_through_exactly(maps, factor):
    grid = Grid("g", (5, 6, 7), (4.0, 4.0, 4.0), (1.0, 2.0, 3.0))
    fine = grid.refined(factor)
    rng = np.random.default_rng(0)
    tissues = np.zeros((3, *fine.shape), np.float32)
    shares = rng.dirichlet(np.ones(4), fine.shape)[..., :3]
    tissues[:, 1:-1, 2:-1, 1:-2] = np.moveaxis(shares, -1, 0)[:, 1:-1, 2:-1, 1:-2]
    placed = place(on_box(maps, grid, tissues, fine.affine), grid, align=False)
    expected = torch.nn.functional.avg_pool3d(torch.from_numpy(tissues)[None], factor)[0]
    assert placed.how == "exact"
    torch.testing.assert_close(placed.shares, expected)


def test_alignment_is_skipped_only_for_maps_that_say_they_are_aligned(maps):
    grid = GRIDS["tiny"]
    tissues = place(maps, grid).shares.numpy()
    there = on_box(maps, grid, tissues, grid.affine)
    assert place(there, grid, align=False).how == "exact"
    assert place(there, grid, align=True).how == "aligned"
    stated = replace(there, sidecar={"Grid": grid.to_dict()})
    assert place(stated, grid, align=True).how == "exact"


def test_a_stated_grid_must_be_the_same_box_and_space():
    grid = GRIDS["small"]
    assert lies_on({"Grid": GRIDS["full"].to_dict()}, grid)
    assert not lies_on({"Grid": GRIDS["paper"].to_dict()}, grid)
    assert not lies_on({"Grid": replace(grid, space="native").to_dict()}, grid)
    assert not lies_on({"Grid": replace(grid, center_mm=(0, 0, 0)).to_dict()}, grid)
    for nonsense in ({}, {"Grid": None}, {"Grid": {"shape": 3}}):
        assert not lies_on(nonsense, grid)


def test_whole_voxels_move_without_interpolation(maps):
    grid = replace(GRIDS["tiny"], space="native")
    placed = place(maps, grid)
    assert placed.how == "cropped"
    np.testing.assert_allclose(volumes(placed, grid), maps.volumes_ml, rtol=1e-5)
    brain = placed.shares[:2].sum(0)
    for axis, (n, s) in enumerate(zip(grid.shape, grid.spacing_mm, strict=True)):
        profile = brain.sum(dim=[a for a in range(3) if a != axis])
        middle = (profile * torch.arange(n)).sum() / profile.sum()
        # Whole source voxels (2.67 mm) are moved, so the center may be off by half of one.
        assert abs(float(middle) - (n - 1) / 2) * s <= 1.4


def test_voxels_of_another_size_are_resampled_about_the_center(maps):
    grid = replace(GRIDS["small"], space="native")
    stretched = replace(maps, affine=maps.affine @ np.diag([0.97, 1.02, 1.01, 1.0]))
    placed = place(stretched, grid)
    assert placed.how == "resampled"
    assert max(abs(c) for c in placed.volume_change_ml) < 0.1
    np.testing.assert_allclose(volumes(placed, grid), stretched.volumes_ml, atol=0.1)


def test_an_oblique_slab_keeps_its_axes_where_nothing_is_aligned(maps):
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", [8, 3, -4], degrees=True).as_matrix()
    grid = replace(GRIDS["small"], space="native")
    stretch = np.diag([0.97, 1.02, 1.01, 1.0])
    straight = place(replace(maps, affine=maps.affine @ stretch), grid)
    oblique = place(replace(maps, affine=motion @ maps.affine @ stretch), grid)
    torch.testing.assert_close(oblique.shares, straight.shares, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["small", "tiny"])
def test_alignment_keeps_volumes(maps, name):
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", [20, 3, -4], degrees=True).as_matrix()
    moved = replace(maps, affine=motion @ maps.affine)
    placed = place(moved, GRIDS[name])
    assert placed.how == "aligned"
    assert max(abs(c) for c in placed.volume_change_ml) < 0.1
    np.testing.assert_allclose(volumes(placed, GRIDS[name]), maps.volumes_ml, atol=0.1)
    assert placed.alignment["rotation_deg"][0] == pytest.approx(20, abs=0.5)


def test_an_aligned_head_does_not_depend_on_where_it_was(maps):
    straight = place(maps, GRIDS["tiny"]).shares
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", [15, -6, 9], degrees=True).as_matrix()
    motion[:3, 3] = [11, -30, 44]
    turned = place(replace(maps, affine=motion @ maps.affine), GRIDS["tiny"]).shares
    assert (straight - turned).abs().mean() < 0.002


@pytest.mark.parametrize("align", [True, False])
def test_tissue_outside_the_box_is_refused(tmp_path, align):
    tissues, affine = head()
    tissues = np.pad(tissues, [(0, 0), (0, 0), (0, 0), (0, 30)])
    tissues[2, 20:24, 30:34, -4:] = 1
    for number, t in enumerate((2, 1, 0)):
        save(tmp_path / f"sub-01_pve_{number}.nii.gz", tissues[t], affine)
    maps = read_subject(discover(tmp_path).scans[0])
    with pytest.raises(MapError, match=r"mL of tissue lie outside the 192 x 224 x 192 mm box"):
        place(maps, GRIDS["small"], align=align)


@pytest.mark.real
def test_a_real_oblique_scan_fits_the_published_grid(real_data):
    source = real_data / "aomic_piop2" / "derivatives" / "fmriprep"
    maps = read_subject(discover(source).scans[0])
    placed = place(maps, GRIDS["paper"])
    assert placed.how == "cropped"
    assert tuple(placed.shares.shape) == (3, 80, 128, 128)
    np.testing.assert_allclose(volumes(placed, GRIDS["paper"]), maps.volumes_ml, atol=0.01)
