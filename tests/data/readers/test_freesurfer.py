"""FreeSurfer's codes: which are which tissue, and what counts as CSF."""

import numpy as np
import pytest

from csegsynth_kit.constants import ASEG_LABELS
from csegsynth_kit.data.readers.detect import csf_definition, discover, read_subject
from csegsynth_kit.errors import CohortError, MapError
from tests.data.heads import label_head, save, write_aseg, write_dseg, write_fast, write_synthseg


def read(folder, **options):
    return read_subject(discover(folder, **options).scans[0])


def volume(labels, affine, codes):
    return np.isin(labels, codes).sum() * abs(np.linalg.det(affine)) / 1000


def test_every_code_goes_to_its_tissue(tmp_path):
    labels, affine = label_head()
    rng = np.random.default_rng(0)
    for tissue, codes in ASEG_LABELS.items():
        keep = {"WM": (2, 41), "GM": (3, 42), "CSF": (24,)}[tissue]
        here = np.flatnonzero(np.isin(labels, keep))
        chosen = rng.choice(here, len(codes), replace=False)
        labels.flat[chosen] = codes
    write_synthseg(tmp_path, "sub-01", labels, affine)

    maps = read(tmp_path)

    expected = [volume(labels, affine, ASEG_LABELS[t]) for t in ("WM", "GM", "CSF")]
    np.testing.assert_allclose(maps.volumes_ml, expected, rtol=1e-6)


def test_outer_csf_decides_the_definition(tmp_path):
    write_synthseg(tmp_path / "a", "sub-01", outer=True)
    write_synthseg(tmp_path / "b", "sub-01", outer=False)
    assert read(tmp_path / "a").csf_definition == "intracranial"
    assert read(tmp_path / "b").csf_definition == "ventricular"


def test_some_outer_csf_is_neither(tmp_path):
    labels, affine = label_head()
    outer = np.flatnonzero(labels == 24)
    labels.flat[outer[::5]] = 0
    labels.flat[outer[1::5]] = 0
    labels.flat[outer[2::5]] = 0
    labels.flat[outer[3::5]] = 0
    path = write_synthseg(tmp_path, "sub-01", labels, affine)
    scan = discover(tmp_path).scans[0]
    with pytest.raises(MapError, match="too much for ventricles only"):
        csf_definition(scan)
    path.with_name("sub-01_synthseg.json").write_text('{"CsfDefinition": "intracranial"}')
    assert csf_definition(scan) == "intracranial"


def test_skin_and_skull_are_background(tmp_path):
    labels, affine = label_head()
    labels[:4] = 511
    labels[-3:] = 165
    write_synthseg(tmp_path, "sub-01", labels, affine)
    maps = read(tmp_path)
    assert maps.findings == ()
    assert maps.volumes_ml[2] == pytest.approx(volume(labels, affine, (4, 24)))


def test_parcellated_cortex_is_gray_matter(tmp_path):
    labels, affine = label_head(outer=False)
    whole = volume(labels, affine, (3, 42))
    labels[labels == 3] = 1024
    labels[labels == 42] = 2035
    write_aseg(tmp_path, "sub-01", labels, affine, name="aparc+aseg.mgz")
    assert read(tmp_path).volumes_ml[1] == pytest.approx(whole)


@pytest.mark.parametrize(("voxels", "severity"), [(3, "note"), (200, "doubt")])
def test_unknown_labels_are_reported_with_their_volume(tmp_path, voxels, severity):
    labels, affine = label_head()
    labels.flat[np.flatnonzero(labels == 3)[:voxels]] = 400
    write_synthseg(tmp_path, "sub-01", labels, affine)
    (finding,) = read(tmp_path).findings
    assert (finding.severity, finding.code) == (severity, "unknown-labels")
    assert "400 (" in finding.message


def test_a_mirrored_image_is_doubted(tmp_path):
    labels, affine = label_head()
    write_synthseg(tmp_path, "sub-01", labels[::-1].copy(), affine)
    (finding,) = read(tmp_path).findings
    assert (finding.severity, finding.code) == ("doubt", "mirrored")


def test_one_map_per_subject_folder(tmp_path):
    for name in ("aseg.mgz", "aparc+aseg.mgz", "synthseg.mgz"):
        write_aseg(tmp_path, "sub-01", name=name)
    write_aseg(tmp_path, "bert")
    write_aseg(tmp_path, "fsaverage")
    write_aseg(tmp_path, "sub-01_ses-1.long.sub-01")
    scans = discover(tmp_path).scans
    assert [(s.participant, s.files[0].name) for s in scans] == [
        ("sub-01", "aseg.mgz"),
        ("sub-bert", "aseg.mgz"),
    ]


def test_a_longitudinal_base_is_nobody_s_scan(tmp_path):
    write_aseg(tmp_path, "sub-01_base")
    (tmp_path / "sub-01_base" / "base-tps").write_text("sub-01_ses-1\n")
    write_aseg(tmp_path, "sub-01_ses-1")
    (scan,) = discover(tmp_path).scans
    assert scan.files[0].parts[-3] == "sub-01_ses-1"


@pytest.mark.parametrize("write", [write_synthseg, write_fast])
def test_maps_in_template_space_are_refused(tmp_path, write):
    write(tmp_path, "sub-01_space-MNI152NLin2009cAsym")
    with pytest.raises(CohortError, match="not this person's volume"):
        discover(tmp_path)


def test_sessions_in_folder_names(tmp_path):
    write_aseg(tmp_path, "sub-01_ses-2")
    write_aseg(tmp_path, "sub-01_ses-1")
    found = discover(tmp_path)
    assert [s.variant for s in found.scans] == [("ses-1",)]


def test_aseg_and_synthseg_of_one_person_clash(tmp_path):
    write_aseg(tmp_path / "freesurfer", "sub-01")
    write_synthseg(tmp_path / "synthseg", "sub-01")
    with pytest.raises(CohortError, match="two maps claim to be sub-01"):
        discover(tmp_path)


def test_fmriprep_s_copy_of_the_aseg_is_read_when_forced(tmp_path):
    labels, affine = label_head(outer=False)
    path = write_dseg(tmp_path, "sub-01", prefix="_desc-aseg")
    write_synthseg(tmp_path, "x", labels, affine).replace(path)
    maps = read(tmp_path, layout="freesurfer")
    assert maps.csf_definition == "ventricular"
    assert maps.scan.kind == "desc-aseg dseg"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sub-01_aseg.nii.gz", "aseg"),
        ("sub-01_aparc+aseg.mgz", "aparc+aseg"),
        ("sub-01/mri/aparc.DKTatlas+aseg.deep.mgz", "aparc+aseg"),
        ("sub-01/anat/sub-01_desc-synthseg_dseg.nii.gz", "desc-synthseg dseg"),
    ],
)
def test_label_maps_are_known_by_the_names_of_their_tools(tmp_path, name, kind):
    labels, affine = label_head()
    save(tmp_path / name, labels, affine)
    (scan,) = discover(tmp_path).scans
    assert (scan.participant, scan.layout, scan.kind) == ("sub-01", "freesurfer", kind)
    gray = volume(labels, affine, ASEG_LABELS["GM"])
    assert read_subject(scan).volumes_ml[1] == pytest.approx(gray)


def test_of_two_flat_maps_of_one_person_the_aseg_is_read(tmp_path):
    for name in ("aparc+aseg", "aseg"):
        save(tmp_path / f"sub-01_{name}.nii.gz", *label_head())
    assert [s.kind for s in discover(tmp_path).scans] == ["aseg"]


@pytest.mark.parametrize("desc", ["aseg", "aparcaseg", "synthseg"])
def test_tissue_maps_win_over_labels_beside_them(tmp_path, desc):
    write_dseg(tmp_path, "sub-01")
    save(tmp_path / "sub-01" / "anat" / f"sub-01_desc-{desc}_dseg.nii.gz", *label_head())
    found = discover(tmp_path)
    assert ([s.kind for s in found.scans], found.findings) == (["dseg"], ())
    assert read(tmp_path, layout="freesurfer").scan.kind == f"desc-{desc} dseg"


def test_labels_in_a_folder_of_their_own_are_another_layout(tmp_path):
    write_dseg(tmp_path / "fmriprep", "sub-01")
    save(tmp_path / "synthseg" / "sub-01_desc-synthseg_dseg.nii.gz", *label_head())
    with pytest.raises(CohortError, match="--layout fmriprep or --layout freesurfer"):
        discover(tmp_path)


@pytest.mark.real
def test_the_real_aseg_counts_ventricles_only(real_data):
    maps = read(real_data / "aomic_piop2" / "derivatives" / "freesurfer")
    assert maps.csf_definition == "ventricular"
    assert maps.findings == ()
    np.testing.assert_allclose(maps.volumes_ml, [548.3, 710.0, 12.9], atol=0.1)


@pytest.mark.real
def test_real_whole_head_maps_count_all_csf(real_data):
    found = discover(real_data / "synthseg")
    assert len(found.scans) == 14
    maps = read_subject(found.scans[0])
    assert maps.csf_definition == "intracranial"
    assert maps.findings == ()
    assert maps.whole_head
    np.testing.assert_allclose(maps.volumes_ml, [488.3, 558.4, 465.2], atol=0.1)
