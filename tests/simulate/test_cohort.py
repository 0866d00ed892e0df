import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from csegsynth_kit.constants import VOLUME_COLUMNS
from csegsynth_kit.data.cohort import Cohort, load_cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.writer import CohortWriter
from csegsynth_kit.errors import CohortError, ConfigError
from csegsynth_kit.maps import GRIDS, average_pool, volumes_ml
from csegsynth_kit.simulate import cohort as module
from csegsynth_kit.simulate.anatomy import Anatomy
from csegsynth_kit.simulate.cohort import individual, simulate_cohort
from csegsynth_kit.simulate.questionnaire import COLUMNS, draw_participants
from csegsynth_kit.simulate.structural import draw_volumes
from csegsynth_kit.simulate.truth import conditional_means


def files(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file()
    }


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Cohort:
    out = tmp_path_factory.mktemp("cohorts") / "ten"
    return simulate_cohort(out, n=10, grid="tiny", seed=4, missing=0.1, jobs=1, progress=False)


@pytest.mark.parametrize("option", ["out", "bids"])
def test_a_place_that_can_hold_no_folder_is_refused_first(tmp_path, monkeypatch, option):
    monkeypatch.setattr(module, "_people", None)
    file = tmp_path / "file"
    file.write_text("mine")
    for place in (file, file / "deeper" / "still"):
        with pytest.raises(ConfigError, match="is a file, not a folder") as error:
            simulate_cohort(**{"out": tmp_path / "new", option: place}, progress=False)
        assert str(error.value).startswith(f"{file}: ")
    monkeypatch.setattr(os, "access", lambda p, mode: mode == os.F_OK and p.exists())
    with pytest.raises(ConfigError, match="may not write to"):
        simulate_cohort(**{"out": tmp_path / "new", option: tmp_path / "other"}, progress=False)


def test_a_cohort_holds_what_was_drawn(simulated):
    assert simulated.ids[0] == "sub-0001"
    assert simulated.columns == COLUMNS
    assert simulated.grid == GRIDS["tiny"]
    expected = draw_participants(10, seed=4, missing=0.1)
    pd.testing.assert_frame_equal(simulated.table, expected, check_dtype=False)
    volumes = draw_volumes(draw_participants(10, seed=4), seed=4)
    for name in VOLUME_COLUMNS:
        np.testing.assert_allclose(simulated.volumes[name], volumes[name], atol=1e-3)
    maps = simulated.maps()
    stored = volumes_ml(maps.probabilities[:, :3], simulated.grid.voxel_ml)
    np.testing.assert_allclose(stored, simulated.volumes, atol=1.5)  # Steps of 1/255.


def test_provenance_says_that_nobody_is_real(simulated):
    told = simulated.provenance
    assert simulated.simulated
    assert told["csf_definition"] == simulated.csf_definition == "intracranial"
    assert (told["seed"], told["effects"], told["age"], told["n"]) == (4, 1.0, "lifespan", 10)
    assert "do not exist" in told["statement"]
    assert told["structural_truth"]
    report = (simulated.path / "report.md").read_text(encoding="utf-8")
    assert told["statement"] in report
    assert "Participants: 10" in report


def test_the_truth_can_be_had_for_a_cohort_with_missing_answers(simulated):
    complete = draw_participants(len(simulated), seed=simulated.provenance["seed"])
    means = conditional_means(complete, simulated.provenance["effects"])
    assert np.abs(means - simulated.volumes.to_numpy()).max() < 250


def test_features_can_be_fitted(simulated):
    features = Features.fit(simulated.table, simulated.feature_columns)
    assert np.isfinite(features.inputs(features.encode(simulated.table))).all()


def test_processes_make_no_difference(simulated, tmp_path):
    options = {"n": 10, "grid": "tiny", "seed": 4, "missing": 0.1, "progress": False}
    simulate_cohort(tmp_path / "two", jobs=2, **options)
    assert files(tmp_path / "two") == files(simulated.path)


def test_fewer_participants_are_the_first_of_more(simulated, tmp_path):
    few = simulate_cohort(
        tmp_path / "few", n=3, grid="tiny", seed=4, missing=0.1, jobs=1, progress=False
    )
    assert few.table.equals(simulated.table.iloc[:3])
    assert (few.quantized() == simulated.quantized()[:3]).all()


def test_a_cut_off_simulation_goes_on_where_it_stopped(simulated, tmp_path, monkeypatch):
    options = {"n": 10, "grid": "tiny", "seed": 4, "missing": 0.1, "jobs": 1, "progress": False}
    add, added = CohortWriter.add, []

    def add_some(self, participant, steps, record):
        if len(added) == 4:
            raise KeyboardInterrupt
        added.append(participant)
        add(self, participant, steps, record)

    monkeypatch.setattr(CohortWriter, "add", add_some)
    with pytest.raises(KeyboardInterrupt):
        simulate_cohort(tmp_path / "again", **options)
    assert not (tmp_path / "again").exists()
    monkeypatch.undo()
    with pytest.raises(CohortError, match="half-finished"):
        simulate_cohort(tmp_path / "again", **{**options, "seed": 5})
    drawn_later = []

    def add_and_note(self, participant, steps, record):
        drawn_later.append(participant)
        add(self, participant, steps, record)

    monkeypatch.setattr(CohortWriter, "add", add_and_note)
    simulate_cohort(tmp_path / "again", **options)
    assert len(drawn_later) == 6
    assert not set(drawn_later) & set(added)
    assert files(tmp_path / "again") == files(simulated.path)


def test_a_participant_can_be_drawn_again_at_another_age(simulated):
    grid = GRIDS["tiny"].refined(2)
    anatomy, row = Anatomy(grid), 2
    complete = draw_participants(10, seed=4)
    drawn = {}
    for age in (complete.age.iloc[row], 80.0):
        v = draw_volumes(complete.assign(age=age), seed=4).iloc[row]
        head = anatomy.draw((v.wm_ml, v.gm_ml, v.csf_ml - v.lv_ml, v.lv_ml), individual(4, row))
        drawn[age] = average_pool(head.maps[None], 2)[0]
    own = simulated.maps([simulated.ids[row]]).probabilities[0, :3]
    now, later = drawn.values()
    assert (now - own).abs().max() < 0.01
    other = simulated.maps([simulated.ids[row + 1]]).probabilities[0, :3]
    assert (now - later).abs().mean() < 0.5 * (now - other).abs().mean()


def test_small_maps_are_pooled_from_two_millimeters(tmp_path):
    """Drawn at 2 mm and pooled, maps are softer than drawn at 4 mm."""
    small = simulate_cohort(tmp_path / "small", n=2, grid="small", jobs=1, progress=False)
    p = small.maps().probabilities
    inside = p[:, :3].sum(1) > 0.5
    assert (p.amax(1)[inside] > 0.9).float().mean() < 0.45
    assert small.grid == GRIDS["small"]


def test_the_published_grid_is_served_too(tmp_path):
    paper = simulate_cohort(tmp_path / "paper", n=1, grid="paper", jobs=1, progress=False)
    assert paper.grid == GRIDS["paper"]
    p = paper.maps().probabilities[0, :2].sum(0)
    center = [
        (p.sum([a for a in range(3) if a != axis]) * torch.arange(n)).sum() / p.sum()
        for axis, n in enumerate(p.shape)
    ]
    np.testing.assert_allclose(center, [(n - 1) / 2 for n in p.shape], atol=4)


def test_maps_can_be_written_as_a_bids_derivative_too(tmp_path):
    options = {"n": 9, "grid": "tiny", "jobs": 1, "progress": False}
    cohort = simulate_cohort(tmp_path / "cohort", bids=tmp_path / "bids", **options)
    for participant in cohort.ids:
        written = {path.name for path in (tmp_path / "bids" / participant / "anat").iterdir()}
        assert f"{participant}_label-GM_probseg.nii.gz" in written
    table = pd.read_csv(tmp_path / "bids" / "participants.tsv", sep="\t")
    assert list(table.participant_id) == list(cohort.ids)
    with pytest.raises(CohortError, match="already exists"):
        simulate_cohort(tmp_path / "other", bids=tmp_path / "bids", **options)
    for inside in (tmp_path / "other", tmp_path / "other" / "bids", tmp_path / "new"):
        out = tmp_path / "new" / "cohort" if inside.name == "new" else tmp_path / "other"
        with pytest.raises(CohortError, match="lie in one another"):
            simulate_cohort(out, bids=inside, **options)


def test_an_existing_cohort_is_never_touched(simulated):
    before = files(simulated.path)
    with pytest.raises(CohortError, match="already exists"):
        simulate_cohort(simulated.path, n=2, grid="tiny", progress=False)
    assert files(simulated.path) == before
    assert len(load_cohort(simulated.path)) == 10


@pytest.mark.parametrize(
    "options", [{"grid": "huge"}, {"jobs": 0}, {"n": 0}, {"age": "old"}, {"effects": -1.0}]
)
def test_impossible_options_leave_nothing_behind(tmp_path, options):
    with pytest.raises(ConfigError):
        simulate_cohort(tmp_path / "none", progress=False, **({"grid": "tiny", "n": 2} | options))
    assert not list(tmp_path.iterdir())
