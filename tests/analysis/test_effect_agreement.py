import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import statsmodels.api as sm
import torch

from csegsynth_kit.analysis.effect_agreement import VoxelGLM, effect_agreement, slopes_of
from csegsynth_kit.analysis.effect_maps import Contrast, effect_maps
from csegsynth_kit.analysis.importance_refit import Refitter
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.errors import CohortError, ConfigError


@pytest.fixture(scope="module")
def glm(cohort, model):
    return VoxelGLM.of(model, cohort)


@pytest.mark.parametrize(("question", "scale"), [("age", "sd"), ("sex", "levels")])
def test_every_voxel_is_ordinary_least_squares(glm, cohort, model, question, scale):
    contrast = Contrast.of(model.features, question)
    estimate, t, freedom = glm.fit(slopes_of(contrast, glm.encoded))
    x = model.features.impute(model.features.encode(cohort.table).values)
    x = np.column_stack([np.ones(len(x)), x, x[:, 0] ** 2])
    x = np.delete(x, 4, axis=1)  # the first of three sites follows from the others
    column = {"age": 1, "sex": 2}[question]
    factor = 1.0 if scale == "sd" else 1 / model.features.sd[1]
    maps = cohort.maps().probabilities[:, :3, torch.from_numpy(glm.mask)].double().numpy()
    voxel = np.abs(t[1]).argmax()
    fit = sm.OLS(maps[:, 1, voxel], x).fit()
    assert estimate[1, voxel] == pytest.approx(factor * fit.params[column], rel=1e-6)
    assert t[1, voxel] == pytest.approx(fit.tvalues[column], rel=1e-6)
    assert freedom == fit.df_resid


def test_a_map_agrees_perfectly_with_itself(glm, model):
    effects = glm.effect_maps(Contrast.of(model.features, "age"))
    table = effect_agreement(effects, glm, splits=4).set_index(["comparison", "tissue"])
    own = table.loc["model, regression"]
    for statistic in ("r", "slope", "dice", "same_sign"):
        np.testing.assert_allclose(own[statistic], 1, atol=1e-5)
    halves = table.loc["regression on a half, on the other"]
    assert (halves["r"] < 1).all()
    assert (halves["n"] == 20).all()
    reverse = replace(effects, change=-effects.change)
    table = effect_agreement(reverse, glm, splits=4).set_index(["comparison", "tissue"])
    np.testing.assert_allclose(table.loc["model, regression", "r"], -1, atol=1e-5)
    np.testing.assert_allclose(table.loc["model, regression", "same_sign"], 0)


def test_a_started_model_ages_where_people_do(glm, model, cohort):
    people = cohort.table[list(model.features.questions)]
    effects = effect_maps(model, people.head(10), "age", draws=2)
    refitter = Refitter.of(model, cohort)
    table = effect_agreement(effects, glm, splits=2, refitter=refitter, people=people.head(10))
    by = table.set_index(["comparison", "tissue"])["r"]
    assert by["model, regression", "GM"] > 0.5
    assert by["model of a half, regression on the other", "GM"] > 0.3


def test_halves_share_nobody(glm):
    for first, second in glm.halves(5, seed=1):
        assert not set(first) & set(second)
        assert len(first) + len(second) == len(glm.counts)


def test_other_voxels_are_refused(glm, model):
    effects = glm.effect_maps(Contrast.of(model.features, "age"))
    smaller = replace(effects, change=effects.change[:, 1:])
    with pytest.raises(ConfigError, match="one grid"):
        effect_agreement(smaller, glm)


def test_other_peoples_regressions_are_refused(glm, model, cohort, monkeypatch):
    others = cohort.subset(cohort.ids[1:])
    with pytest.raises(CohortError, match="not the training participants"):
        VoxelGLM.of(model, others)
    effects = glm.effect_maps(Contrast.of(model.features, "age"))
    for key, value in (("train", "another"), ("csf_definition", "ventricular")):
        strange = replace(effects, card=effects.card | {key: value})
        with pytest.raises(CohortError, match=f"{key} is '{value}'"):
            effect_agreement(strange, glm)
    few, refitter = replace(glm, group=glm.group.iloc[1:]), Refitter.of(model, cohort)
    with pytest.raises(CohortError, match="1 persons of the refitter"):
        effect_agreement(effects, few, refitter=refitter)
    monkeypatch.setitem(model.card, "csf_definition", "ventricular")
    with pytest.raises(CohortError, match="different ways"):
        VoxelGLM.of(model, cohort)


@pytest.mark.parametrize("simulated", [False, True])
def test_images_of_the_regression_say_what_they_are(glm, model, tmp_path, simulated):
    own = replace(glm, card=glm.card | {"simulated": simulated})
    effects = own.effect_maps(Contrast.of(model.features, "age"))
    paths = own.masked(effects).to_nifti(tmp_path)
    names = [f"contrast-age_label-{t}_stat-effect_desc-regression_statmap" for t in MEASURED]
    assert [p.name for p in paths] == [f"{name}.nii.gz" for name in names]
    sidecar = json.loads((tmp_path / f"{names[1]}.json").read_text())
    assert sidecar["Synthetic"] is simulated
    assert sidecar["FittedToSimulatedData"] is simulated
    assert "own maps" in sidecar["Description"]
    assert "generated maps" not in sidecar["Description"]
    assert sidecar["Tissue"] == "GM"
    assert sidecar["People"] == 40
    assert "DrawsPerPerson" not in sidecar
    assert (b"synthetic" in nib.load(paths[0]).header["descrip"].item()) is simulated
    replace(effects, source="model").to_nifti(tmp_path)  # beside it, in the same folder
    assert len(list(tmp_path.glob("*.nii.gz"))) == 6
