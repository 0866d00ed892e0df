"""A cohort appears complete or not at all, and a restart continues where it stopped."""

import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.data.cohort import load_cohort
from csegsynth_kit.data.schema import Column
from csegsynth_kit.data.writer import CohortWriter
from csegsynth_kit.errors import CohortError
from csegsynth_kit.maps import Grid

GRID = Grid("odd", (3, 4, 5), (2.0, 2.0, 2.0))
COLUMNS = (Column("age", "continuous"),)
PLAN = {"source": "here", "n": 5}
IDS = [f"sub-{i}" for i in range(5)]
TABLE = pd.DataFrame(
    {"age": [20.0, 30.5, np.nan, 50.0, 61.0]}, index=pd.Index(IDS, name="participant_id")
)


def quantized(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 80, (3, *GRID.shape)).astype(np.uint8)


def record(i: int) -> dict:
    return {"volumes_ml": [i + 0.5, 2.0 * i, 3.0]}


def writer(path, **changes) -> CohortWriter:
    return CohortWriter(path, GRID, 5, {**PLAN, **changes})


def finish(writer):
    return load_cohort(writer.finish(TABLE, COLUMNS, {"csf_definition": "brain-mask"}))


def test_what_was_added_is_what_is_read(tmp_path):
    w = writer(tmp_path / "out")
    for i in (3, 0, 4):
        w.add(IDS[i], quantized(i), record(i))
    w.skip(IDS[1], {"findings": []})
    cohort = finish(w)
    assert cohort.ids == ("sub-3", "sub-0", "sub-4")
    np.testing.assert_array_equal(cohort.quantized(), np.stack([quantized(i) for i in (3, 0, 4)]))
    assert cohort.table["age"].tolist() == [50.0, 20.0, 61.0]
    assert cohort.volumes["gm_ml"].tolist() == [6.0, 0.0, 8.0]
    assert not w.partial.exists()
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert not names & {"plan.json", "journal.jsonl"}


@pytest.mark.parametrize("cut", ["between two people", "in the middle of a line", "after the map"])
def test_a_restart_continues(tmp_path, cut):
    whole = writer(tmp_path / "whole")
    for i in range(5):
        whole.add(IDS[i], quantized(i), record(i))
    finish(whole)

    first = writer(tmp_path / "out")
    for i in range(3):
        first.add(IDS[i], quantized(i), record(i))
    journal = first.partial / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    done = 3
    if cut == "in the middle of a line":
        journal.write_text("".join(lines[:2]) + lines[2][:20])
        done = 2
    elif cut == "after the map":  # The map is there, its line is not.
        journal.write_text("".join(lines[:2]))
        done = 2
    del first
    assert not (tmp_path / "out").exists()

    second = writer(tmp_path / "out")
    assert list(second.records) == IDS[:done]
    for i in range(done, 5):
        second.add(IDS[i], quantized(i), record(i))
    finish(second)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_another_plan_does_not_continue(tmp_path):
    writer(tmp_path / "out").add(IDS[0], quantized(0), record(0))
    with pytest.raises(CohortError, match="with other options"):
        writer(tmp_path / "out", source="elsewhere")


def test_an_existing_cohort_is_not_touched(tmp_path):
    w = writer(tmp_path / "out")
    w.add(IDS[0], quantized(0), record(0))
    finish(w)
    with pytest.raises(CohortError, match="already exists"):
        writer(tmp_path / "out")


def test_nobody_is_no_cohort(tmp_path):
    w = writer(tmp_path / "out")
    w.skip(IDS[0], {"findings": []})
    with pytest.raises(CohortError, match="none of the 1 participants"):
        finish(w)
    assert list(tmp_path.iterdir()) == []


def test_a_beginning_without_a_plan_starts_afresh(tmp_path):
    partial = tmp_path / ".out.partial"
    partial.mkdir()
    (partial / "maps.npy").write_bytes(b"half")
    w = writer(tmp_path / "out")
    w.add(IDS[0], quantized(0), record(0))
    assert len(finish(w)) == 1
