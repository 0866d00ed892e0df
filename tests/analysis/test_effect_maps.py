import json

import nibabel as nib
import numpy as np
import pytest

from csegsynth_kit.analysis.effect_maps import effect_maps
from csegsynth_kit.analysis.generate import predict_volumes
from csegsynth_kit.errors import ConfigError, TableError


@pytest.fixture(scope="module")
def people(model, cohort):
    return cohort.table[list(model.features.questions)].head(4)


def test_maps_add_up_to_the_change_of_the_volumes(model, people):
    effects = effect_maps(model, people, "sex", draws=2, seed=3)
    assert effects.unit == "probability, male minus female"
    female, male = (
        predict_volumes(model, people.assign(sex=sex), n=2, seed=3).mean(axis=(0, 1))
        for sex in ("female", "male")
    )
    np.testing.assert_allclose(effects.volumes_ml()["change_ml"], male - female, atol=0.01)
    np.testing.assert_allclose(effects.change.sum(0), 0, atol=1e-6)
    assert effects.change.abs().max() > 0.01


def test_numbers_move_by_one_standard_deviation(model, people):
    effects = effect_maps(model, people, "age", draws=2, seed=3)
    assert effects.unit == "probability per SD"
    half = model.features.sd[model.features.names.index("age")] / 2
    young, old = (
        predict_volumes(model, people.assign(age=people["age"] + step), n=2, seed=3).mean((0, 1))
        for step in (-half, half)
    )
    np.testing.assert_allclose(effects.volumes_ml()["change_ml"], old - young, atol=0.02)


def test_an_answer_put_in_counts_as_answered(model, people):
    """Unanswered and answered people get the same answer, without the flag."""
    unanswered = people.assign(site=np.nan)
    effects = effect_maps(model, unanswered, "site", between=("a", "c"), draws=2)
    first, last = (
        predict_volumes(model, people.assign(site=site), n=2).mean((0, 1)) for site in "ac"
    )
    assert effects.unit == "probability, c minus a"
    np.testing.assert_allclose(effects.volumes_ml()["change_ml"], last - first, atol=0.01)


def test_unordered_answers_must_be_named(model, people):
    with pytest.raises(ConfigError, match=r"3 answers without an order.*between"):
        effect_maps(model, people, "site")
    with pytest.raises(TableError, match="not a possible answer"):
        effect_maps(model, people, "site", between=("a", "z"))
    with pytest.raises(TableError, match="is not a feature"):
        effect_maps(model, people, "height")


def test_images_say_what_they_are(model, people, tmp_path):
    effects = effect_maps(model, people, "age", draws=2)
    paths = effects.to_nifti(tmp_path / "new")
    assert [p.name for p in paths] == [
        f"contrast-age_label-{t}_stat-effect_statmap.nii.gz" for t in ("WM", "GM", "CSF")
    ]
    image = nib.load(paths[1])
    np.testing.assert_allclose(image.get_fdata(), effects.change[1], atol=1e-6)
    np.testing.assert_allclose(image.affine, model.config.grid.affine)
    sidecar = json.loads((tmp_path / "new" / paths[1].name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["Synthetic"] is True
    assert sidecar["Units"] == "probability per SD"
    assert sidecar["People"] == 4
