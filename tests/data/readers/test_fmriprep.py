"""fMRIPrep and BIDS derivatives: native probseg, else dseg; never a warped map."""

import numpy as np
import pytest

from csegsynth_kit.data.readers.detect import csf_definition, discover, read_subject
from csegsynth_kit.errors import CohortError, MapError
from tests.data.heads import head, label_head, save, write_dseg, write_probseg


def test_probseg_wins_over_dseg(tmp_path):
    write_probseg(tmp_path, "sub-01")
    write_dseg(tmp_path, "sub-01")
    (scan,) = discover(tmp_path).scans
    assert scan.kind == "probseg"
    assert [p.name.split("label-")[1][:3] for p in scan.files] == ["WM_", "GM_", "CSF"]


def test_dseg_means_1_gray_2_white_3_csf(tmp_path):
    write_dseg(tmp_path, "sub-01")
    write_dseg(tmp_path, "sub-02", values=(3, 2, 1))
    first, second = (read_subject(scan) for scan in discover(tmp_path).scans)
    np.testing.assert_allclose(first.volumes_ml, second.volumes_ml[[2, 0, 1]])
    assert set(np.unique(first.tissues)) == {0, 1}
    assert first.labels.shape == first.tissues.shape[1:]


@pytest.mark.parametrize("prefix", ["_space-T1w", "_space-individual_desc-x", "_ses-1_acq-b"])
def test_own_space_is_read(tmp_path, prefix):
    write_probseg(tmp_path, "sub-01", prefix=prefix)
    assert len(discover(tmp_path).scans) == 1


def test_the_plain_name_wins_over_the_same_space_by_name(tmp_path):
    write_probseg(tmp_path, "sub-01", prefix="_space-T1w")
    write_probseg(tmp_path, "sub-01")
    (scan,) = discover(tmp_path).scans
    assert "space" not in scan.files[0].name


def test_dseg_stands_in_for_an_incomplete_probseg(tmp_path):
    write_probseg(tmp_path, "sub-01")["GM"].unlink()
    write_dseg(tmp_path, "sub-01")
    assert [s.kind for s in discover(tmp_path).scans] == ["dseg"]


def test_a_compressed_twin_is_a_second_map(tmp_path):
    path = write_dseg(tmp_path, "sub-01")
    path.with_suffix("").write_bytes(b"the same, not compressed")
    with pytest.raises(CohortError, match="two maps claim to be sub-01"):
        discover(tmp_path)


@pytest.mark.parametrize("space", ["MNI152NLin2009cAsym", "MNI152NLin6Asym_res-2", "fsaverage"])
def test_a_template_space_is_refused_by_name(tmp_path, space):
    write_probseg(tmp_path, "sub-01", prefix=f"_space-{space}")
    with pytest.raises(CohortError, match=rf"sub-01_space-{space}_label.*this person's volume"):
        discover(tmp_path)


def test_warped_maps_beside_native_ones_are_a_note(tmp_path):
    write_probseg(tmp_path, "sub-01")
    write_probseg(tmp_path, "sub-01", prefix="_space-MNI152NLin2009cAsym")
    found = discover(tmp_path)
    assert [(f.severity, f.code) for f in found.findings] == [("note", "warped-unmodulated")]
    assert "(and 2 more)" in found.findings[0].message


@pytest.mark.parametrize("desc", ["aseg", "aparcaseg"])
def test_a_copy_of_freesurfer_s_labels_is_not_a_tissue_dseg(tmp_path, desc):
    write_dseg(tmp_path, "sub-01", prefix=f"_desc-{desc}")
    with pytest.raises(CohortError, match="Use --layout freesurfer"):
        discover(tmp_path)


def test_label_maps_of_other_kinds_are_passed_over(tmp_path):
    write_probseg(tmp_path, "sub-01")
    for prefix in ("_atlas-Schaefer", "_seg-wm", "_task-rest"):
        write_dseg(tmp_path, "sub-01", prefix=prefix)
    write_dseg(tmp_path, "sub-01").rename(tmp_path / "sub-01" / "anat" / "sub-01_x_dseg.nii.gz")
    functional = tmp_path / "sub-01" / "func"
    functional.mkdir()
    (tmp_path / "sub-01" / "anat" / "sub-01_x_dseg.nii.gz").rename(
        functional / "sub-01_dseg.nii.gz"
    )
    (scan,) = discover(tmp_path).scans
    assert scan.kind == "probseg"


def test_entities_may_follow_the_tissue(tmp_path):
    for path in write_probseg(tmp_path, "sub-01").values():
        path.rename(path.with_name(path.name.replace("_probseg", "_desc-x_probseg")))
    (scan,) = discover(tmp_path).scans
    assert [f.name.split("_")[1] for f in scan.files] == ["label-WM", "label-GM", "label-CSF"]


def test_the_first_session_is_read(tmp_path):
    for session in ("10", "2"):
        write_probseg(tmp_path / "sub-01" / f"ses-{session}", "sub-01", prefix=f"_ses-{session}")
    found = discover(tmp_path)
    assert [s.variant for s in found.scans] == [("ses-2",)]
    assert found.findings[0].code == "several-scans"


def test_a_json_beside_the_map_states_its_csf(tmp_path):
    paths = write_probseg(tmp_path, "sub-01")
    (scan,) = discover(tmp_path).scans
    assert csf_definition(scan) == "brain-mask"
    sidecar = paths["CSF"].with_name(paths["CSF"].name.replace(".nii.gz", ".json"))
    sidecar.write_text('{"CsfDefinition": "ventricular", "Synthetic": true}', encoding="utf-8")
    assert csf_definition(scan) == "ventricular"
    assert read_subject(scan).csf_definition == "ventricular"
    assert read_subject(scan).sidecar["Synthetic"] is True


def test_the_data_set_states_that_it_is_synthetic(tmp_path):
    write_probseg(tmp_path, "sub-01")
    assert read_subject(discover(tmp_path).scans[0]).sidecar["Synthetic"] is False
    (tmp_path / "dataset_description.json").write_text('{"Synthetic": true}', encoding="utf-8")
    assert read_subject(discover(tmp_path).scans[0]).sidecar["Synthetic"] is True


def test_a_linked_folder_belongs_to_the_data_set_that_links_it(tmp_path):
    write_probseg(tmp_path / "store", "sub-01")
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids" / "sub-01").symlink_to(tmp_path / "store" / "sub-01")
    (tmp_path / "bids" / "dataset_description.json").write_text('{"Synthetic": true}')
    assert read_subject(discover(tmp_path / "bids").scans[0]).sidecar["Synthetic"]


def test_a_dseg_without_a_tissue_is_refused(tmp_path):
    tissues, affine = head()
    save(tmp_path / "sub-01_dseg.nii.gz", (tissues[1] > 0.5).astype(np.uint8), affine)
    with pytest.raises(MapError, match="no voxel of WM and CSF"):
        read_subject(discover(tmp_path).scans[0])


def test_freesurfer_labels_named_dseg_are_read_under_the_name_that_is_advised(tmp_path):
    path = save(tmp_path / "sub-01_dseg.nii.gz", *label_head())
    with pytest.raises(MapError, match="end the name in _aseg"):
        read_subject(discover(tmp_path).scans[0])
    path.rename(tmp_path / "sub-01_aseg.nii.gz")
    assert read_subject(discover(tmp_path).scans[0]).csf_definition == "intracranial"


@pytest.mark.real
def test_the_real_dseg_has_these_volumes(real_data):
    source = real_data / "aomic_piop2" / "derivatives" / "fmriprep"
    maps = read_subject(discover(source).scans[0])
    np.testing.assert_allclose(maps.volumes_ml, [501.2, 690.0, 253.2], atol=0.1)
    assert maps.csf_definition == "brain-mask"
    # The scan is oblique by 2.65 degrees, and stays so.
    cosine = maps.affine[2, 2] / np.linalg.norm(maps.affine[:3, 2])
    assert 1 < np.rad2deg(np.arccos(cosine)) < 3
