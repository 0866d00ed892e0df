"""Images come in with right-anterior-superior axes and keep every voxel's position."""

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from csegsynth_kit.data.nifti import read_image, spacing_mm, voxel_ml, write_nifti
from csegsynth_kit.errors import MapError

SHAPE = (9, 10, 12)


def oblique_affine() -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [12, -7, 20], degrees=True).as_matrix()
    affine[:3, :3] *= [0.9, 1.1, 1.3]
    affine[:3, 3] = [-40, 22, 7]
    return affine


def value_at(image, world_mm: np.ndarray) -> float:
    index = np.linalg.inv(image.affine) @ [*world_mm, 1]
    return image.data[tuple(np.rint(index[:3]).astype(int))]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgz"])
@pytest.mark.parametrize("axes", ["RAS", "LAS", "LIA", "PSR"])
def test_axes_turn_and_positions_stay(tmp_path, axes, suffix):
    data = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    affine = oblique_affine()
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes)
    )
    stored = nib.Nifti1Image(data, affine).as_reoriented(turn)
    kind = nib.MGHImage if suffix == ".mgz" else nib.Nifti1Image
    nib.save(kind(np.asarray(stored.dataobj), stored.affine), tmp_path / f"a{suffix}")

    image = read_image(tmp_path / f"a{suffix}")

    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    np.testing.assert_allclose(image.affine, affine, atol=1e-4)
    np.testing.assert_allclose(image.data, data, atol=1e-6)
    np.testing.assert_allclose(image.spacing_mm, [0.9, 1.1, 1.3], atol=1e-5)
    assert image.voxel_ml == pytest.approx(0.9 * 1.1 * 1.3 / 1000, rel=1e-5)
    assert value_at(image, (affine @ [2, 7, 5, 1])[:3]) == pytest.approx(data[2, 7, 5])


def test_labels_are_whole_numbers_whatever_they_are_stored_as(tmp_path):
    labels = np.random.default_rng(1).integers(0, 2035, SHAPE)
    for dtype in (np.int16, np.int32, np.float32):
        nib.save(nib.Nifti1Image(labels.astype(dtype), np.eye(4)), tmp_path / "a.nii.gz")
        image = read_image(tmp_path / "a.nii.gz", labels=True)
        assert image.data.dtype == np.int32
        np.testing.assert_array_equal(image.data, labels)


@pytest.mark.parametrize("value", [-3, 200_000])
def test_impossible_labels_are_refused(tmp_path, value):
    nib.save(nib.Nifti1Image(np.full(SHAPE, value, np.int32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(MapError, match=r"a\.nii: holds labels"):
        read_image(tmp_path / "a.nii", labels=True)


def test_one_volume_in_four_dimensions_is_one_volume(tmp_path):
    data = np.random.default_rng(2).random((*SHAPE, 1)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii.gz").data, data[..., 0])


def test_slices_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((64, 64, 1), np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(MapError, match="three-dimensional"):
        read_image(tmp_path / "a.nii")


def header_codes(path, *, sform=None, qform=None, units="mm"):
    data = np.ones(SHAPE, np.float32)
    image = nib.Nifti1Image(data, np.diag([1, 1, 1, 1.0]))
    image.set_sform(sform, code=1 if sform is not None else 0)
    image.set_qform(qform, code=1 if qform is not None else 0)
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    return [code for code, _ in read_image(path).remarks]


def test_odd_headers_are_remarked(tmp_path):
    right, left = np.diag([1, 1, 1, 1.0]), np.diag([-1, 1, 1, 1.0])
    path = tmp_path / "a.nii"
    assert header_codes(path, sform=right, qform=right) == []
    assert header_codes(path, sform=right, qform=left) == ["mirrored-header"]
    assert header_codes(path) == ["no-orientation"]
    assert header_codes(path, sform=right, units="meter") == ["units"]


@pytest.mark.parametrize(("dtype", "slope"), [(np.uint8, 1 / 255), (np.float32, None)])
def test_written_images_say_where_they_are_and_read_back(tmp_path, dtype, slope):
    rng = np.random.default_rng(3)
    data = rng.integers(0, 256, SHAPE).astype(dtype)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = [-90, -126, 72.5]
    path = tmp_path / "new" / "a.nii.gz"

    write_nifti(path, data, affine, slope=slope, description="a test")

    header = nib.load(path).header
    np.testing.assert_allclose(header.get_sform(), affine)
    np.testing.assert_allclose(header.get_qform(), affine)
    assert header["sform_code"] > 0
    assert header["qform_code"] > 0
    assert header.get_xyzt_units()[0] == "mm"
    assert header.get_data_dtype() == dtype
    np.testing.assert_allclose(read_image(path).data, data * (slope or 1), rtol=1e-6)
    assert [p.name for p in path.parent.iterdir()] == ["a.nii.gz"]


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(image, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nib, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_nifti(tmp_path / "a.nii.gz", np.zeros(SHAPE, np.uint8), np.eye(4))
    assert list(tmp_path.iterdir()) == []


def test_spacing_and_volume_of_an_oblique_voxel():
    np.testing.assert_allclose(spacing_mm(oblique_affine()), [0.9, 1.1, 1.3])
    assert voxel_ml(oblique_affine()) == pytest.approx(0.9 * 1.1 * 1.3 / 1000)
