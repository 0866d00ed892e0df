"""Files that look like segmentations and are not this person's volumes."""

from pathlib import Path

import pytest

from csegsynth_kit.data.readers import refused
from csegsynth_kit.data.readers.detect import discover
from csegsynth_kit.errors import CohortError

ROOT = Path("/data")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("sub-01_space-GM226_label-GM_probseg.nii.gz", "warped-unmodulated"),
        ("sub-01_space-MNI152NLin2009cAsym_res-2_label-WM_probseg.nii", "warped-unmodulated"),
        ("sub-01_space-MNI152NLin2009cAsym_dseg.nii.gz", "warped-unmodulated"),
        ("sub-01_space-MNI152NLin6Asym_label-CSF_desc-x_probseg.nii.gz", "warped-unmodulated"),
        ("sub-01_space-MNI152NLin6Asym_synthseg.nii.gz", "warped-unmodulated"),
        ("sub-01_space-MNI152NLin6Asym_pve_1.nii.gz", "warped-unmodulated"),
        ("sub-01_space-MNI152NLin6Asym_desc-aseg_dseg.nii.gz", "warped-unmodulated"),
        ("sub-01_space-MNI152NLin6Asym_aseg.nii.gz", "warped-unmodulated"),
        ("sub-01_space-GM226_label-GM_mod.nii.gz", "modulated"),
        ("sub-01_space-MNI152_desc-modulated_label-GM_probseg.nii.gz", "modulated"),
        ("c1sub-01_T1w.nii", "spm-native"),
        ("p3sub-01.nii.gz", "spm-native"),
        ("rc2sub-01.nii", "spm-native"),
        ("wc1sub-01.nii", "spm-warped"),
        ("wp2sub-01.nii", "spm-warped"),
        ("mwc1sub-01.nii", "spm-modulated"),
        ("mwrc1OAS1_0001_MR1_mpr_anon_fslswapdim_bet.nii.gz", "spm-modulated"),
        ("smwp1sub-01.nii", "spm-modulated"),
        ("mwp1rsub-01.nii", "spm-modulated"),
        ("m0wp1sub-01.nii", "spm-modulated"),
        ("p0sub-01.nii", "cat12-labels"),
        ("sub-01_desc-VBM_GMvolume.nii.gz", "vbm"),
    ],
)
def test_recognized_by_name(name, code):
    (item,) = refused.find([ROOT / name], ROOT)
    assert item.code == code
    assert item.remedy.endswith(".")


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_T1w.nii.gz",
        "sub-01_label-GM_probseg.nii.gz",
        "sub-01_space-T1w_label-GM_probseg.nii.gz",
        "sub-01_space-MNI152NLin2009cAsym_desc-preproc_T1w.nii.gz",
        "control01_T1w.nii",
        "patient3.nii.gz",
        "brain.mgz",
    ],
)
def test_other_images_are_left_alone(name):
    assert refused.find([ROOT / name], ROOT) == []


def test_missing_tissues_are_told():
    paths = [ROOT / f"sub-01_space-X_label-{t}_probseg.nii.gz" for t in ("GM", "WM")]
    (reason,) = refused.explain(refused.find(paths, ROOT))
    assert "there is no map of CSF" in reason.reason
    assert "(and 1 more)" in reason.reason
    complete = [*paths, ROOT / "sub-01_space-X_label-CSF_probseg.nii.gz"]
    (reason,) = refused.explain(refused.find(complete, ROOT))
    assert "there is no map" not in reason.reason


@pytest.mark.real
def test_real_vbm_maps_are_refused_by_name(real_data):
    with pytest.raises(CohortError) as caught:
        discover(real_data / "aomic_piop2" / "derivatives" / "vbm")
    text = str(caught.value)
    assert "label-GM_mod.nii.gz is a modulated map" in text
    assert "label-GM_probseg.nii.gz is warped to a template and not modulated" in text
    assert "there is no map of WM and CSF" in text
