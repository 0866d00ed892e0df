"""Distances of several models: which are shown, which are starred, what is refused."""

import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.analysis.quality import (
    WORSE,
    count_worse,
    extractors_from,
    judge_maps,
    paper_table,
    too_close,
)
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.board import ALARM, CENTRAL
from csegsynth_kit.metrics.morphometry import Morphometry
from csegsynth_kit.metrics.perturb import perturb
from csegsynth_kit.metrics.random_conv import RandomConv3d
from tests.metrics.people import people


@pytest.fixture(scope="module")
def board():
    train, test = people(90, seed=1), people(40, seed=2)
    models = {
        "shrunk": perturb(people(40, seed=3), "atrophy 10 %"),
        "copies": train[:40],
    }
    extractors = [Morphometry(), RandomConv3d([0, 1])]
    return judge_maps(models, train, test, extractors=extractors, splits=60)


def test_every_model_has_every_number_once(board):
    assert list(dict.fromkeys(board["model"])) == ["shrunk", "copies"]
    key = ["model", "metric", "extractor", "reference"]
    assert not board.duplicated(key).any()
    assert board.groupby("model").size().nunique() == 1
    assert set(board["extractor"]) == {"voxels", "morphometry", "random_conv3d"}


def test_the_papers_metrics_are_laid_out_with_their_floor(board):
    table = paper_table(board)
    assert list(table.index) == ["shrunk", "copies", "participants"]
    assert not any("FID" in name for name in table.columns)
    assert {"MMD, linear", "|ΔMS-SSIM|", "MMD, RBF (morphometry)"} <= set(table.columns)
    row = board[(board["model"] == "shrunk") & (board["metric"] == "mmd_linear")].iloc[0]
    assert table.loc["shrunk", "MMD, linear"].startswith(f"{row['value']:.3g} [{row['low']:.3g}")
    assert np.isclose(float(table.loc["participants", "MMD, linear"]), row["floor"], rtol=1e-2)


def test_only_what_is_worse_than_real_people_is_starred(board):
    table = paper_table(board)
    rows = board[(board["metric"] == "mmd_rbf") & (board["reference"] == "test")]
    starred = {
        (row.model, row.extractor): table.loc[row.model, f"MMD, RBF ({row.extractor})"].endswith(
            WORSE
        )
        for row in rows.itertuples()
    }
    worse = rows.set_index(["model", "extractor"])["verdict"] == "worse than real"
    assert starred == worse.to_dict()
    assert starred["shrunk", "morphometry"]
    assert not all(starred.values())


def test_copies_are_named_as_too_close(board):
    (sentence,) = too_close(board)
    assert sentence.startswith("copies: in the middle of training maps: copies, or")
    assert "authenticity" in sentence


def test_distances_raise_the_alarm_neighbors_only_a_doubt(board):
    row = board.iloc[[0]]
    loud = pd.concat([row.assign(verdict=ALARM, metric="kid"), row.assign(verdict=CENTRAL)])
    assert "closer to training maps than real people are, by kid of" in too_close(loud)[0]
    assert too_close(row.assign(verdict=CENTRAL, metric="density")) == []


def test_numbers_worse_than_real_are_counted(board):
    counts = count_worse(board)
    worse = (board["verdict"] == "worse than real") & (board["extractor"] == "voxels")
    own = worse & (board["model"] == "copies") & (board["reference"] == "test")
    assert counts.loc["copies", ("test", "voxels")] == f"{own.sum()} of 2"


def test_too_few_people_are_said_rather_than_judged():
    train, few = people(30, seed=1), people(11, seed=2)
    board = judge_maps({"model": people(30, seed=3)}, train, few, extractors=[Morphometry()])
    assert board.empty
    assert "fewer than 12 people" in paper_table(board).iloc[0, 0]
    assert too_close(board) == []


def test_a_folder_without_weights_is_refused(tmp_path):
    assert [e.name for e in extractors_from()] == ["morphometry", "random_conv3d"]
    with pytest.raises(ConfigError, match="no weights in"):
        extractors_from(tmp_path)
