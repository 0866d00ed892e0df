import numpy as np
import pytest

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.compare import Floor, linear_mmd_of_sets
from csegsynth_kit.metrics.kernels import mmd_linear
from csegsynth_kit.metrics.ladder import (
    SET_PERTURBATIONS,
    detection_table,
    duplicated,
    perturbation_ladder,
)
from csegsynth_kit.metrics.ladder_voxels import voxel_ladder
from csegsynth_kit.metrics.morphometry import Morphometry
from csegsynth_kit.metrics.perturb import MAP_PERTURBATIONS
from csegsynth_kit.metrics.random_conv import RandomConv3d
from csegsynth_kit.metrics.structural import plan_similarity
from tests.metrics.people import people

N = 40


@pytest.fixture(scope="module")
def sets():
    return people(N, seed=1), people(3 * N, seed=2)


@pytest.fixture(scope="module", params=[Morphometry, lambda: RandomConv3d([0, 1])])
def ladder(request, sets):
    return perturbation_ladder(*sets, extractor=request.param(), sizes=[N], repeats=40)


def row(ladder, metric, perturbation):
    rows = ladder[ladder["metric"].str.startswith(metric)]
    return rows[rows["perturbation"] == perturbation].iloc[0]


def test_ladder_has_every_rung(ladder):
    assert set(ladder["perturbation"]) == {*MAP_PERTURBATIONS, *SET_PERTURBATIONS}
    assert set(ladder["n"]) == {N}


@pytest.mark.parametrize("metric", ["Frechet", "mmd_rbf", "kid"])
def test_ladder_is_monotone_in_the_damage(ladder, metric):
    values = [row(ladder, metric, f"atrophy {share} %")[["value", "power"]] for share in (2, 5, 10)]
    for column in ("value", "power"):
        found = [v[column] for v in values]
        assert found == sorted(found)
    assert row(ladder, metric, "atrophy 10 %")["detected"]
    assert row(ladder, metric, "tissue swap")["detected"]


@pytest.mark.parametrize("metric", ["Frechet", "mmd_rbf", "coverage"])
def test_collapse_is_detected(ladder, metric):
    assert row(ladder, metric, "duplicates")["detected"]


def test_shrunken_variance_is_detected(ladder):
    assert row(ladder, "mmd_rbf", "variance x0.5")["detected"]


@pytest.mark.parametrize("metric", ["Frechet", "mmd_rbf", "authenticity"])
def test_memorized_maps_alarm_against_training_maps_only(ladder, metric):
    """Against other people they look real: only the training maps give them away."""
    copied = row(ladder, metric, "memorized, against training")
    assert copied["alarm"]
    assert not copied["detected"]
    assert not row(ladder, metric, "memorized")["alarm"]


def test_a_copy_machine_is_no_set_beside_itself(ladder):
    """Equal sets have the distance 0, whatever a metric can see; copies are not equal sets."""
    assert row(ladder, "Frechet", "memorized, against training")["value"] > 1
    copied = row(ladder, "coverage", "memorized, against training")
    assert not copied["alarm"]  # it cannot see copies, and here it must not seem to


def test_undamaged_people_are_detected_as_rarely_as_stated(sets):
    """Mirrored people are people: these brains are as often larger right as left."""
    found = perturbation_ladder(*sets, extractor=Morphometry(), sizes=[N], repeats=60)
    mirrored = found[found["perturbation"] == "mirror"]
    assert (mirrored["power"] <= 0.3).all()
    assert not mirrored["alarm"].any()


def test_more_maps_detect_more(sets):
    found = perturbation_ladder(
        *sets, extractor=Morphometry(), sizes=[15, N], metrics=["mmd_rbf"], repeats=40
    )
    power = found[found["perturbation"] == "atrophy 5 %"].set_index("n")["power"]
    assert power[N] > power[15]


def test_table_shows_detection_and_alarm(ladder):
    table = detection_table(ladder)
    assert list(table.index) == [*MAP_PERTURBATIONS, *SET_PERTURBATIONS]
    assert table.loc["tissue swap"].str.endswith(" +").all()
    assert table.loc["memorized, against training"].str.endswith(" !").sum() == 3


def test_voxel_ladder_knows_what_each_metric_cannot_see(sets):
    found = voxel_ladder(*sets, sizes=[N], repeats=40)
    assert row(found, "mmd_linear", "tissue swap")["detected"]
    assert row(found, "mmd_linear", "atrophy 10 %")["detected"]
    assert not row(found, "mmd_linear", "variance x0.5")["detected"]
    assert row(found, "delta_ms_ssim", "variance x0.5")["detected"]
    assert not row(found, "delta_ms_ssim", "tissue swap")["detected"]
    alarms = [
        row(found, metric, "memorized, against training")["alarm"]
        for metric in ("mmd_linear", "delta_ms_ssim")
    ]
    assert alarms == [True, False]  # copies are as diverse as people are


def test_linear_mmd_of_sets_equals_that_of_flattened_maps(sets):
    maps = sets[1].probabilities
    plan = plan_similarity(maps)
    rows = [(np.array([0, 3, 5]), np.array([1, 2, 2, 7])), (np.array([4]), np.array([6]))]
    flat = plan.crop(maps).flatten(1).numpy()
    expected = [mmd_linear(flat[a], flat[b]) for a, b in rows]
    np.testing.assert_allclose(linear_mmd_of_sets(maps, maps, rows, plan=plan), expected, rtol=1e-5)
    assert linear_mmd_of_sets(maps, maps, [(rows[0][0],) * 2], plan=plan) == 0


def test_floor_knows_both_sides():
    values = np.linspace(0, 1, 101)
    distance, score = Floor(values), Floor(values, higher_is_closer=True)
    assert (distance.alarm, distance.median, distance.detect) == pytest.approx((0.01, 0.5, 0.95))
    assert (score.alarm, score.median, score.detect) == pytest.approx((0.99, 0.5, 0.05))
    assert distance.worse(0.96)
    assert distance.too_good(0.0)
    assert score.worse(0.04)
    assert score.too_good(1.0)


def test_duplicates_are_a_tenth_of_the_people():
    rows = duplicated(np.arange(40))
    assert len(rows) == 40
    assert set(rows) == {0, 1, 2, 3}


def test_too_few_maps_are_refused(sets):
    with pytest.raises(ConfigError, match=r"sets of 70.*Give 140 real"):
        perturbation_ladder(*sets, extractor=Morphometry(), sizes=[10, 70])
