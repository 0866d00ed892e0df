"""Voxel bands."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from csegsynth_kit.analysis.bands import stream_quantiles, voxel_bands
from csegsynth_kit.analysis.generate import generate
from csegsynth_kit.errors import ConfigError

PERSON = {"age": 71, "sex": "female"}


@pytest.mark.parametrize(("n", "tail"), [(2, 0.05), (7, 0.25), (41, 0.05), (41, 0.4)])
def test_streamed_quantiles_are_those_of_all_draws(n, tail):
    draws = torch.rand(n, 3, 2, 4, 3, generator=torch.Generator().manual_seed(n))
    mean, sd, low, high = stream_quantiles(draws.split(5), n, tail)
    torch.testing.assert_close(mean, draws.mean(0))
    torch.testing.assert_close(sd, draws.std(0), rtol=1e-4, atol=1e-5)
    expected = np.quantile(draws.numpy(), [tail, 1 - tail], axis=0)
    np.testing.assert_allclose(low, expected[0], atol=1e-6)
    np.testing.assert_allclose(high, expected[1], atol=1e-6)


def test_bands_are_those_of_the_generated_maps(model):
    bands = voxel_bands(model, PERSON, level=0.8, draws=21, seed=3)
    maps = generate(model, PERSON, n=21, seed=3).probabilities[:, :3].numpy()
    np.testing.assert_allclose(bands.low, np.quantile(maps, 0.1, axis=0), atol=1e-5)
    np.testing.assert_allclose(bands.high, np.quantile(maps, 0.9, axis=0), atol=1e-5)
    np.testing.assert_allclose(bands.sd, maps.std(axis=0, ddof=1), atol=1e-5)


def test_bands_are_written_with_what_they_are_and_are_not(model, tmp_path):
    bands = voxel_bands(model, PERSON, draws=8)
    paths = bands.to_nifti(tmp_path / "bands", "p01")
    assert len(paths) == 12
    image = nib.load(tmp_path / "bands" / "sub-p01_label-GM_desc-high_probseg.nii.gz")
    np.testing.assert_allclose(image.get_fdata(), bands.high[1])
    np.testing.assert_allclose(image.affine, model.config.grid.affine)
    sidecar = json.loads(paths[-1].with_name(paths[-1].name.replace("nii.gz", "json")).read_text())
    assert sidecar["Synthetic"] is True
    assert sidecar["Draws"] == 8
    assert sidecar["Level"] == 0.9
    assert "95th percentile" in sidecar["Description"]
    assert "not conformal" in sidecar["Warning"]


def test_impossible_bands_are_refused(model):
    with pytest.raises(ConfigError, match="there are 2 people"):
        voxel_bands(model, [PERSON, PERSON])
    with pytest.raises(ConfigError, match="the level is 90"):
        voxel_bands(model, PERSON, level=90)
