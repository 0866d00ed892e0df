import numpy as np
import pytest
import torch

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.show.packaged import Packaged
from csegsynth_kit.simulate.questionnaire import draw_participants


@pytest.fixture(scope="module")
def packaged() -> Packaged:
    return Packaged.open()


def test_people_are_new_and_answer_what_the_model_asks(packaged):
    people, volumes = packaged.people(20)
    about = packaged.card["training"]["cohort"]
    trained_on = draw_participants(about["n"], age=about["age"], seed=about["seed"])
    asked = list(packaged.model.features.questions)
    assert list(people) == asked
    assert volumes.shape == (20, 3)
    both = people.astype(str).merge(trained_on[asked].astype(str), on=asked)
    assert both.empty


def times(folder):
    """When every file and folder was written (ns)."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_maps_are_those_of_the_same_people_and_kept(packaged, tmp_path):
    cohort = packaged.cohort(2, prepared=str(tmp_path))
    people, volumes = packaged.people(2)
    assert cohort.grid.same_box(packaged.model.config.grid)
    assert np.allclose(cohort.volumes.to_numpy(), volumes, rtol=5e-3)
    assert cohort.table["age"].to_numpy() == pytest.approx(people["age"].to_numpy())
    maps, written = cohort.maps().probabilities, times(tmp_path)
    again = packaged.cohort(2, prepared=str(tmp_path))
    assert times(tmp_path) == written
    assert torch.equal(again.maps().probabilities, maps)


def test_scores_are_those_of_the_card(packaged):
    scores = packaged.scores()
    assert list(scores.index) == list(MEASURED)
    for row in packaged.card["scores"]["volumes"]:
        assert scores.loc[row["tissue"], "mean of draws / ridge"] == row["ratio_to_ridge"]
