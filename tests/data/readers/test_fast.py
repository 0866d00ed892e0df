"""FAST's partial volumes: which file is which tissue, and whose."""

import numpy as np
import pytest

from csegsynth_kit.data.readers.detect import discover, read_subject
from csegsynth_kit.errors import MapError
from tests.data.heads import head, save, write_fast


def test_numbers_are_csf_gray_white(tmp_path):
    tissues, affine = head()
    write_fast(tmp_path, "sub-0007")

    found = discover(tmp_path)
    maps = read_subject(found.scans[0])

    assert found.layout == "fast"
    assert maps.csf_definition == "brain-mask"
    expected = tissues.sum(axis=(1, 2, 3)) * abs(np.linalg.det(affine)) / 1000
    np.testing.assert_allclose(maps.volumes_ml, expected, rtol=1e-5)


def test_cropping_keeps_every_voxel_where_it_was(tmp_path):
    tissues, affine = head()
    write_fast(tmp_path, "sub-0007")

    maps = read_subject(discover(tmp_path).scans[0])

    start = np.rint((np.linalg.inv(affine) @ maps.affine)[:3, 3]).astype(int)
    box = tuple(slice(s, s + n) for s, n in zip(start, maps.tissues.shape[1:], strict=True))
    np.testing.assert_allclose(maps.tissues, tissues[:, *box])
    assert maps.field_shape == tissues.shape[1:]
    np.testing.assert_allclose(maps.field_affine, affine, atol=1e-4)


def test_the_published_layout(tmp_path):
    tissues, affine = head()
    for run in (2, 10, 1):
        anat = tmp_path / "sub-0001" / "anat" / f"run-{run}"
        for number, t in enumerate((2, 1, 0)):
            save(anat / f"fast_sub-0001_run-{run}_pve_{number}.nii.gz", tissues[t], affine)

    found = discover(tmp_path)

    assert [s.participant for s in found.scans] == ["sub-0001"]
    assert found.scans[0].variant == ("run-1",)
    assert [p.name[-8] for p in found.scans[0].files] == ["2", "1", "0"]
    message = found.findings[0].message
    assert message == "several scans: run-1 is used; run-2, run-10 not."


@pytest.mark.parametrize(
    ("name", "participant"),
    [
        ("sub-01_T1w_brain", "sub-01"),
        ("CC110033", "sub-CC110033"),
        ("OAS1_0001_MR1_T1", "sub-OAS10001MR1"),
        ("subject7.anat/T1_fast", "sub-subject7"),
        ("sub-02/anat/T1w_fast", "sub-02"),
    ],
)
def test_participants_are_named_by_file_or_folder(tmp_path, name, participant):
    write_fast(tmp_path, name)
    assert [s.participant for s in discover(tmp_path).scans] == [participant]


def test_tissues_must_agree(tmp_path):
    csf, _, _ = write_fast(tmp_path, "sub-01")
    tissues, affine = head()
    moved = affine.copy()
    moved[2, 3] += 5
    save(csf, tissues[2], moved)
    with pytest.raises(MapError, match=r"pve_0.*5\.00 mm away from sub-01_pve_2"):
        read_subject(discover(tmp_path).scans[0])


def test_a_complete_set_serves_someone_with_an_incomplete_one(tmp_path):
    write_fast(tmp_path / "ses-1", "sub-01_ses-1")
    csf, _, _ = write_fast(tmp_path / "ses-2", "sub-01_ses-2")
    csf.unlink()
    found = discover(tmp_path)
    assert len(found.scans) == 1
    assert [(f.severity, f.code) for f in found.findings] == [("note", "missing-tissue")]
