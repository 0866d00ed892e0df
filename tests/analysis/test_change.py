import json

import nibabel as nib
import numpy as np
import pytest
import torch

from csegsynth_kit.analysis.change import CHANGE_UNITS, change_maps
from csegsynth_kit.analysis.generate import generate_shared
from csegsynth_kit.analysis.trajectory import scenario
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import volumes_ml

PERSON = {"age": 40, "sex": "male", "education": "medium"}


def test_change_is_the_difference_of_one_individual_per_decade(model):
    change = change_maps(model, PERSON, (30, 70), seed=3)
    young, old = generate_shared(model, scenario(PERSON, (30, 70)), seed=3).probabilities
    torch.testing.assert_close(change.per_decade, (old - young)[:3] / 4)
    torch.testing.assert_close(change.start.probabilities[0], young)


def test_change_sums_to_the_change_of_the_volumes(model):
    change = change_maps(model, PERSON, (30, 70), draws=3, seed=3)
    total = 0
    for seed in (3, 4, 5):
        maps = generate_shared(model, scenario(PERSON, (30, 70)), seed=seed).probabilities
        total = total + volumes_ml(maps[:, :3], model.config.grid.voxel_ml)
    expected = (total[1] - total[0]) / 3 / 4
    found = change.volumes_ml_per_decade()
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-3, atol=1e-3)


def test_the_way_back_is_the_same_change(model):
    there, back = (change_maps(model, PERSON, ages).per_decade for ages in ((30, 70), (70, 30)))
    torch.testing.assert_close(there, back)


def test_files_hold_the_change_and_say_what_it_is(model, tmp_path):
    change = change_maps(model, PERSON, (30, 70))
    paths = change.to_nifti(tmp_path, "p01")
    assert [p.name for p in paths] == [
        f"sub-p01_label-{tissue}_desc-age30to70_statmap.nii.gz" for tissue in ("WM", "GM", "CSF")
    ]
    image = nib.load(paths[1])
    np.testing.assert_allclose(image.get_fdata(), change.per_decade[1], atol=1e-7)
    np.testing.assert_allclose(image.affine, model.config.grid.affine)
    about = json.loads((tmp_path / "sub-p01_label-GM_desc-age30to70_statmap.json").read_text())
    assert about["Synthetic"] is True
    assert about["Units"] == CHANGE_UNITS
    assert "nobody was followed" in about["Caution"]


def test_one_age_has_no_change(model):
    with pytest.raises(ConfigError, match="ages are 30 and 30"):
        change_maps(model, PERSON, (30, 30))
