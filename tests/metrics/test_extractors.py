import json

import numpy as np
import pytest
import torch

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import GRIDS, Grid, SegmentationMaps
from csegsynth_kit.metrics.extractors import fit_standardizer, label
from csegsynth_kit.metrics.frechet import fit_projection, gaussian_distance
from csegsynth_kit.metrics.morphometry import VENTRICLE_BOX_MM, Morphometry
from csegsynth_kit.metrics.perturb import mirror, perturb
from csegsynth_kit.metrics.random_conv import RandomConv3d
from tests.metrics.people import GRID, people

EXTRACTORS = [Morphometry, lambda: RandomConv3d(range(3))]


@pytest.fixture(scope="module")
def train():
    return people(60, seed=1)


@pytest.fixture(scope="module")
def test():
    return people(40, seed=2)


@pytest.mark.parametrize("make", EXTRACTORS)
def test_features_of_training_maps_are_z_scores(make, train, test):
    extractor = make().fit(train)
    features = extractor.features(train)
    assert features.shape[1:] == (60, extractor.dim)
    np.testing.assert_allclose(features.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(features.std(1, ddof=1), 1, atol=1e-5)
    assert np.isfinite(extractor.features(test)).all()


@pytest.mark.parametrize("make", EXTRACTORS)
def test_nothing_is_fitted_on_the_maps_that_are_judged(make, train, test):
    """Features of a map depend on no other judged map, and judging changes nothing."""
    extractor = make().fit(train)
    before = extractor.passport
    together = extractor.features(test)
    np.testing.assert_allclose(extractor.features(test[7:8]), together[:, 7:8], atol=1e-4)
    assert extractor.passport == before
    assert before["fitted_on"] == 60


@pytest.mark.parametrize("make", EXTRACTORS)
def test_passports_tell_fits_apart(make, train, test):
    one, again, other = make().fit(train), make().fit(train), make().fit(test)
    assert one.passport == again.passport
    assert one.passport["hash"] != other.passport["hash"]
    assert json.loads(json.dumps(one.passport)) == one.passport


@pytest.mark.parametrize("make", EXTRACTORS)
def test_unfitted_or_foreign_grids_are_refused(make, train):
    with pytest.raises(ConfigError, match="not fitted"):
        make().features(train)
    elsewhere = Grid("other", GRID.shape, (1.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match="one grid"):
        make().fit(train).features(SegmentationMaps(train.probabilities, elsewhere, train.labels))


@pytest.mark.parametrize("make", EXTRACTORS)
def test_more_damage_is_farther_away(make, train, test):
    extractor = make().fit(train)
    fitted, clean = extractor.features(train), extractor.features(test)
    far = []
    for name in (None, "atrophy 2 %", "atrophy 5 %", "atrophy 10 %", "tissue swap"):
        damaged = clean if name is None else extractor.features(perturb(test, name))
        values = []
        for a, b, c in zip(fitted, clean, damaged, strict=True):
            project = fit_projection(a, n=40)
            values.append(gaussian_distance(project(b), project(c)))
        far.append(np.mean(values))
    assert far[0] == pytest.approx(0, abs=1e-6)
    assert far == sorted(far)
    assert far[-1] > 2 * far[-2]


@pytest.mark.parametrize("make", EXTRACTORS)
def test_only_published_networks_may_be_called_fid(make, train):
    extractor = make().fit(train)
    assert label(extractor) == f"Frechet distance ({extractor.name})"
    assert label(extractor, 20) == f"Frechet distance ({extractor.name}, PCA 20)"
    extractor.published = "2D-FID"
    assert label(extractor) == f"2D-FID ({extractor.name})"
    assert label(extractor, 20) == f"Frechet distance ({extractor.name}, PCA 20)"


def test_morphometry_holds_readable_measures(train):
    extractor = Morphometry().fit(train)
    raw = dict(zip(extractor.all_names, extractor.raw(train).T, strict=True))
    volumes = train.volumes_ml().pivot(index="map", columns="tissue", values="volume_ml")
    for tissue in MEASURED:
        expected = volumes.loc[list(train.labels), tissue]
        np.testing.assert_allclose(raw[f"volume:{tissue}"], expected, rtol=1e-5)
        octants = sum(raw[f"octant:{tissue}-{k}"] for k in range(8))
        np.testing.assert_allclose(octants, expected, rtol=1e-5)
    np.testing.assert_allclose(sum(raw[f"fraction:{t}"] for t in MEASURED), 1, rtol=1e-5)
    whole = [f"volume:{t}" in extractor.names for t in MEASURED]
    assert all(whole)


def test_morphometry_sees_a_mirror_only_where_sides_differ():
    even, uneven = people(60, seed=3), people(60, seed=3, lopsided=0.2)
    for maps, visible in ((even, False), (uneven, True)):
        extractor = Morphometry().fit(maps)
        turned = SegmentationMaps(mirror(maps.probabilities), maps.grid, maps.labels)
        shift = np.abs(extractor.features(turned)[0].mean(0)).max()
        assert (shift > 3) == visible


@pytest.mark.parametrize("space", ["template", "native"])
def test_ventricle_box_lies_where_the_ventricles_are(space):
    """All CSF of the box is found, and none outside, wherever the grid's origin is."""
    base = GRIDS["small"]
    center = base.center_mm if space == "template" else (0.0, 0.0, 0.0)
    grid = Grid("box", base.shape, base.spacing_mm, center, space)
    shift = np.array(base.center_mm) - center
    maps = torch.zeros(3, 4, *grid.shape)
    maps[:, 0, 2:-2, 2:-2, 2:-2] = 1
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    world = index @ grid.affine[:3, :3].T + grid.affine[:3, 3] + shift
    limits = np.array(VENTRICLE_BOX_MM)
    inside = ((world > limits[:, 0] + 4) & (world < limits[:, 1] - 4)).all(-1)
    outside = ((world < limits[:, 0] - 4) | (world > limits[:, 1] + 4)).any(-1)
    for i, where in enumerate((inside, outside)):
        where = torch.from_numpy(where) & (maps[i, 0] > 0)
        maps[i, 2][where], maps[i, 0][where] = 1, 0
    people_like = SegmentationMaps(maps, grid, ("in", "out", "none"))
    extractor = Morphometry().fit(people_like)
    found = dict(zip(extractor.all_names, extractor.raw(people_like).T, strict=True))
    np.testing.assert_allclose(
        found["ventricles:CSF"], [inside.sum() * grid.voxel_ml, 0, 0], rtol=1e-5, atol=1e-6
    )


def test_nearly_constant_features_are_dropped():
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(50, 4))
    raw[:, 1] *= 1e-3  # A rim cell of a family whose members usually vary 1000 times as much.
    raw[:, 2] = raw[0, 2]
    raw[:48, 3] = 0  # The same in 96 % of people.
    scale = fit_standardizer(raw, ["cell"] * 4)
    assert scale.keep.tolist() == [True, False, False, False]
    assert fit_standardizer(raw, ["cell", "rim", "cell", "cell"]).keep[1]
    with pytest.raises(ConfigError, match="no feature varies"):
        fit_standardizer(np.ones((9, 2)), ["a", "b"])


def test_random_networks_are_fixed_and_differ_by_seed(train):
    first, again = (RandomConv3d([4, 5]).fit(train).features(train) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[0], first[1])
