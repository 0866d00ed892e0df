import json

import numpy as np
import pandas as pd
import pytest
import torch

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import Grid, SegmentationMaps
from csegsynth_kit.metrics.board import ALARM, CENTRAL, metric_board
from csegsynth_kit.metrics.morphometry import Morphometry
from csegsynth_kit.metrics.perturb import perturb
from csegsynth_kit.metrics.random_conv import RandomConv3d
from tests.metrics.people import people

SPLITS = 100


@pytest.fixture(scope="module")
def train():
    return people(90, seed=1)


@pytest.fixture(scope="module")
def test():
    return people(40, seed=2)


def judge(train, test, synthetic, **options):
    options = {"extractor": Morphometry(), "splits": SPLITS} | options
    return metric_board(train, test, {"model": synthetic}, **options)


@pytest.fixture(scope="module")
def boards(train, test):
    honest = people(45, seed=3)
    return {
        "honest": judge(train, test, honest),
        "shrunk": judge(train, test, perturb(honest, "atrophy 10 %")),
        "copies": judge(train, test, train[:45]),
    }


def verdict(board, metric, reference):
    rows = board[(board["metric"].str.startswith(metric)) & (board["reference"] == reference)]
    (found,) = rows["verdict"]
    return found


def test_every_number_has_interval_floor_n_and_passport(boards):
    for board in boards.values():
        assert len(board) == 7 + 8 + 2
        assert (board["low"] <= board["value"] + 1e-9).all()
        assert (board["value"] <= board["high"] + 1e-9).all()
        assert (board["n"] == 40).all()
        assert board[["floor", "floor_alarm", "floor_detect"]].notna().all(axis=None)
        passports = [json.loads(p) for p in board["passport"]]
        assert all({"grid", "seed", "splits", "floor_from"} <= set(p) for p in passports)
        assert passports[0]["pca"] == 13
        assert passports[-1]["scales"] >= 1


def test_honest_people_are_within_the_floor(boards):
    board = boards["honest"]
    assert (board["verdict"] == "within floor").mean() >= 0.8
    assert not board["verdict"].str.startswith("ALARM").any()


def test_damage_is_worse_than_real(boards):
    for metric in ("Frechet", "mmd_rbf", "kid", "coverage"):
        assert verdict(boards["shrunk"], metric, "test") == "worse than real"


def test_copies_of_training_maps_raise_the_alarm_and_nothing_else(boards):
    board = boards["copies"]
    assert not board[board["reference"] == "test"]["verdict"].str.startswith("ALARM").any()
    against_test = board[board["reference"] == "test"]
    assert (against_test["verdict"] == "within floor").mean() >= 0.7
    assert verdict(board, "mmd_rbf", "train") == ALARM
    for metric in ("authenticity", "coverage"):
        assert verdict(board, metric, "train") == CENTRAL
    row = board[board["metric"] == "authenticity"].iloc[0]
    assert row["value"] == 0 < row["floor_alarm"]


def test_only_published_networks_print_fid(boards):
    names = set(boards["honest"]["metric"])
    assert "Frechet distance (morphometry, PCA 13)" in names
    assert not any("FID" in name for name in names)


def test_reduced_features_of_a_published_network_print_no_fid(train, test, monkeypatch):
    monkeypatch.setattr(Morphometry, "published", "3D-FID")
    names = set(judge(train, test, people(40, seed=3), splits=10)["metric"])
    assert "Frechet distance (morphometry, PCA 13)" in names
    assert not any("FID" in name for name in names)


def test_order_of_the_maps_does_not_matter(train, test):
    """With all maps used, the value is the same in any order; draws may change intervals."""
    synthetic = people(40, seed=3)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    shuffled = SegmentationMaps(
        synthetic.probabilities[order], synthetic.grid, tuple(str(int(i)) for i in order)
    )
    one, other = (judge(train, test, s, splits=10) for s in (synthetic, shuffled))
    keep = one["metric"] != "delta_ms_ssim"  # Its pairs are drawn.
    np.testing.assert_allclose(one["value"][keep], other["value"][keep], rtol=1e-4, atol=1e-6)


def test_test_maps_change_no_fitted_number(train):
    """Bandwidths, projection, z-scores and box are the same whatever is judged."""
    boards = [judge(train, people(40, seed=s), people(40, seed=s + 1), splits=10) for s in (10, 20)]
    for a, b in zip(*(board["passport"] for board in boards), strict=True):
        assert a == b


def test_spread_over_seeds_is_reported(train, test):
    board = judge(train, test, people(40, seed=3), extractor=RandomConv3d([0, 1]), splits=20)
    own = board[board["extractor"] == "random_conv3d"]
    assert (own.loc[own["metric"].str.startswith("Frechet"), "sd_spaces"] > 0).all()
    assert board.loc[board["extractor"] == "voxels", "sd_spaces"].isna().all()


def test_floor_comes_from_test_maps_where_they_suffice(train):
    board = judge(train, people(60, seed=2), people(25, seed=3), splits=20)
    rows = board[board["reference"] == "test"]
    assert {json.loads(p)["floor_from"] for p in rows["passport"]} == {"test"}
    assert set(rows["n"]) == set(rows["n_real"]) == {25}


def test_models_are_judged_together_as_alone(train, test):
    honest, copies = people(40, seed=3), train[:40]
    both = metric_board(
        train, test, {"a": honest, "b": copies}, extractor=Morphometry(), splits=20
    ).drop(columns="model")
    alone = judge(train, test, honest, splits=20).drop(columns="model")
    pd.testing.assert_frame_equal(both.iloc[: len(alone)], alone, rtol=1e-5, atol=1e-6)
    second = both.iloc[len(alone) :].set_index(["metric", "reference"])
    assert second.loc[("authenticity", "train"), "value"] == 0
    np.testing.assert_allclose(second["floor"], alone["floor"], rtol=1e-5, atol=1e-6)


def test_too_few_maps_and_other_grids_are_refused(train, test):
    with pytest.raises(ConfigError, match="too few to judge"):
        judge(train, test, people(11))
    other = Grid("other", test.grid.shape, (1.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match="one grid"):
        judge(train, test, SegmentationMaps(test.probabilities, other, test.labels))
