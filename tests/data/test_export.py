"""What is exported is a BIDS derivative, and reads back as the same maps."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from csegsynth_kit.data.export import export_bids
from csegsynth_kit.data.place import place
from csegsynth_kit.data.prepare import prepare
from csegsynth_kit.data.readers.detect import discover, read_subject
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import CohortError, ConfigError, TableError
from csegsynth_kit.maps import (
    GRIDS,
    Grid,
    SegmentationMaps,
    dequantize,
    quantize,
    with_background,
)
from tests.data.heads import write_fast

OPTIONS = {"synthetic": True, "csf_definition": "brain-mask"}
GRID = Grid("odd", (9, 10, 12), (2.0, 3.0, 4.0), (1.0, 2.0, 3.0))


def some_maps(labels=("a", "sub-02"), grid=GRID, seed=0) -> SegmentationMaps:
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(labels), 4, *grid.shape, generator=rng) * 3
    return SegmentationMaps(logits.softmax(1), grid, tuple(labels))


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Two aligned heads on the 8 mm grid, as a prepared cohort keeps them."""
    folder = tmp_path_factory.mktemp("fast")
    write_fast(folder, "sub-01")
    maps = read_subject(discover(folder).scans[0])
    shares = place(maps, GRIDS["tiny"]).shares
    other = shares * 0.97
    steps = quantize(torch.stack([shares, other]))
    return SegmentationMaps(dequantize(steps), GRIDS["tiny"], ("sub-01", "sub-02"))


def test_the_folder_is_a_bids_derivative(tmp_path):
    maps = some_maps()
    export_bids(maps, tmp_path / "out", description={"Name": "Mine"}, extra={"Seed": 3}, **OPTIONS)

    out = tmp_path / "out"
    described = json.loads((out / "dataset_description.json").read_text())
    assert described["Name"] == "Mine"
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "csegsynth_kit"
    assert described["Synthetic"] is True
    assert (out / "participants.tsv").read_text() == "participant_id\nsub-a\nsub-02\n"
    names = sorted(p.name for p in (out / "sub-a" / "anat").iterdir())
    stems = ["dseg", "label-CSF_probseg", "label-GM_probseg", "label-WM_probseg"]
    assert names == sorted(f"sub-a_{s}.{e}" for s in stems for e in ("json", "nii.gz"))
    for path in out.rglob("sub-*.json"):
        sidecar = json.loads(path.read_text())
        assert sidecar["Synthetic"] is True
        assert sidecar["CsfDefinition"] == "brain-mask"
        assert sidecar["Seed"] == 3
        assert Grid(**sidecar["Grid"]).same_box(GRID)
        assert "MNI152" in sidecar["Space"]
    assert not any(p.name.startswith(".") for p in out.rglob("*"))


@pytest.mark.parametrize(("dtype", "error"), [("uint8", 2 / 255), ("float32", 1e-7)])
def test_shares_and_labels_are_stored_where_they_are(tmp_path, dtype, error):
    maps = some_maps()
    export_bids(maps, tmp_path / "out", dtype=dtype, **OPTIONS)
    anat = tmp_path / "out" / "sub-02" / "anat"
    for t, tissue in enumerate(("WM", "GM", "CSF")):
        image = nib.load(anat / f"sub-02_label-{tissue}_probseg.nii.gz")
        np.testing.assert_allclose(image.affine, GRID.affine)
        np.testing.assert_allclose(image.get_fdata(), maps.probabilities[1, t], atol=error)
        assert image.header.get_data_dtype() == dtype
    labels = np.asarray(nib.load(anat / "sub-02_dseg.nii.gz").dataobj)
    hard = maps.hard_labels()[1].numpy()
    for number, tissue in ((0, 3), (1, 1), (2, 0), (3, 2)):
        np.testing.assert_array_equal(labels == number, hard == tissue)


@pytest.mark.parametrize("align", [True, False])
def test_exported_and_prepared_again_is_the_same(tmp_path, heads, align):
    export_bids(heads, tmp_path / "bids", synthetic=True, csf_definition="intracranial")
    cohort = prepare(tmp_path / "bids", tmp_path / "out", grid="tiny", align=align, progress=False)
    assert cohort.ids == heads.labels
    assert cohort.grid.same_box(heads.grid)
    assert cohort.csf_definition == "intracranial"
    assert cohort.simulated
    torch.testing.assert_close(cohort.maps().probabilities, heads.probabilities)
    report = (tmp_path / "out" / "report.md").read_text()
    assert "Nothing looked doubtful" in report


def test_float_maps_come_back_within_the_steps_of_a_cohort(tmp_path, heads):
    noisy = with_background(heads.probabilities[:, :3] * 0.99)
    maps = SegmentationMaps(noisy, heads.grid, heads.labels)
    export_bids(maps, tmp_path / "bids", dtype="float32", **OPTIONS)
    cohort = prepare(tmp_path / "bids", tmp_path / "out", grid="tiny", progress=False)
    assert (cohort.maps().probabilities - noisy).abs().max() < 2.01 / 255


def test_finer_exports_are_pooled_exactly(tmp_path, heads):
    grid = heads.grid.refined(2, "small")
    fine = heads.probabilities.repeat_interleave(2, 2).repeat_interleave(2, 3)
    maps = SegmentationMaps(fine.repeat_interleave(2, 4), grid, heads.labels)
    export_bids(maps, tmp_path / "bids", **OPTIONS)
    cohort = prepare(tmp_path / "bids", tmp_path / "out", grid="tiny", progress=False)
    torch.testing.assert_close(cohort.maps().probabilities, heads.probabilities)


def test_coarse_exports_can_be_prepared_on_a_finer_grid(tmp_path, heads):
    export_bids(heads, tmp_path / "bids", **OPTIONS)
    cohort = prepare(tmp_path / "bids", tmp_path / "out", grid="small", progress=False)
    assert len(cohort) == 2
    np.testing.assert_allclose(
        cohort.maps().volumes_ml()["volume_ml"],
        heads.volumes_ml()["volume_ml"],
        rtol=0.005,
    )


def test_answers_travel_along(tmp_path):
    table = pd.DataFrame(
        {"age": [30.5, np.nan], "job": ["x", "y"]}, index=pd.Index(["sub-a", "02"], name="id")
    )
    columns = (Column("age", "continuous", units="years"), Column("job", "categorical", ("x", "y")))
    out = tmp_path / "out"
    export_bids(some_maps(), out, participants=table, columns=columns, **OPTIONS)
    expected = "participant_id\tage\tjob\nsub-a\t30.5\tx\nsub-02\tn/a\ty\n"
    assert (out / "participants.tsv").read_text() == expected
    assert json.loads((out / "participants.json").read_text())["age"]["Units"] == "years"
    with pytest.raises(TableError, match="no row for sub-c"):
        export_bids(some_maps(["c"]), out, participants=table, **OPTIONS)


def test_more_participants_of_the_same_kind_can_join(tmp_path):
    out = tmp_path / "out"
    export_bids(some_maps(["a"]), out, **OPTIONS)
    export_bids(some_maps(["b"]), out, **OPTIONS)
    assert (out / "participants.tsv").read_text() == "participant_id\nsub-a\nsub-b\n"
    with pytest.raises(CohortError, match="holds sub-b already"):
        export_bids(some_maps(["c", "b"]), out, **OPTIONS)
    with pytest.raises(CohortError, match="describes other data"):
        export_bids(some_maps(["d"]), out, **{**OPTIONS, "synthetic": False})
    assert sorted(p.name for p in out.glob("sub-*")) == ["sub-a", "sub-b"]


def test_every_map_may_say_more_of_itself(tmp_path):
    out = tmp_path / "out"
    export_bids(some_maps(), out, each=[{"Draw": 1}, {"Draw": 2}], **OPTIONS)
    for name, draw in (("sub-a", 1), ("sub-02", 2)):
        for path in (out / name).rglob("*.json"):
            assert json.loads(path.read_text())["Draw"] == draw


def test_volumes_are_described_and_grow(tmp_path):
    out = tmp_path / "out"
    for i, label in enumerate(("a", "b")):
        volumes = pd.DataFrame({"draw": [i + 1], "wm_ml": [500.125]}, index=[f"sub-{label}"])
        export_bids(some_maps([label]), out, volumes=volumes, **OPTIONS)
    expected = "participant_id\tdraw\twm_ml\nsub-a\t1\t500.125\nsub-b\t2\t500.125\n"
    assert (out / "volumes.tsv").read_text() == expected
    described = json.loads((out / "volumes.json").read_text())
    assert set(described) == {"draw", "wm_ml"}
    assert described["wm_ml"]["Units"] == "mL"


def test_whole_numbers_stay_whole_beside_rows_without_them(tmp_path):
    out = tmp_path / "out"
    for label, volumes in (("a", {"wm_ml": [1.5]}), ("b", {"draw": [2], "wm_ml": [0.25]})):
        table = pd.DataFrame(volumes, index=[label])
        export_bids(some_maps([label]), out, volumes=table, **OPTIONS)
    expected = "participant_id\twm_ml\tdraw\nsub-a\t1.5\tn/a\nsub-b\t0.25\t2\n"
    assert (out / "volumes.tsv").read_text() == expected


def test_descriptions_of_columns_that_others_brought_stay(tmp_path):
    out = tmp_path / "out"
    for label, column in (("a", "age"), ("b", "BMI")):
        table = pd.DataFrame({column: [30]}, index=[label])
        columns = (Column(column, "continuous"),)
        export_bids(some_maps([label]), out, participants=table, columns=columns, **OPTIONS)
    assert set(json.loads((out / "participants.json").read_text())) == {"age", "BMI"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("volumes.tsv", "participant_id\twm_ml\nsub-a\t1\n", "has a row of sub-a already"),
        ("volumes.tsv", "name\twm_ml\nsub-a\t1\n", "has no column participant_id"),
        ("volumes.json", "{", "is not valid JSON"),
        ("participants.tsv", "", "is empty. Remove it"),
        ("volumes.tsv", "\n", "is empty. Remove it"),
        ("participants.tsv", "participant_id\nx\ty\tz\nx\ty\tz\tw\n", "is not a table"),
        ("participants.json", "[]", r"holds \[\], which is no JSON object. Mend it"),
        ("dataset_description.json", "null", "holds null, which is no JSON object"),
    ],
)
def test_tables_that_cannot_grow_are_refused_before_anything_is_written(
    tmp_path, name, content, message
):
    out = tmp_path / "out"
    export_bids(some_maps(["b"]), out, **OPTIONS)
    (out / name).write_text(content)
    with pytest.raises(CohortError, match=message) as error:
        export_bids(some_maps(["a"]), out, **OPTIONS)
    assert str(error.value).startswith(f"{out / name}: ")
    assert not (out / "sub-a").exists()
    assert (out / name).read_text() == content


def test_what_cannot_be_exported_is_refused_before_anything_is_written(tmp_path):
    maps = some_maps()
    with pytest.raises(ConfigError, match="no definition of CSF 'all'"):
        export_bids(maps, tmp_path / "out", synthetic=True, csf_definition="all")
    with pytest.raises(ConfigError, match="float16"):
        export_bids(maps, tmp_path / "out", dtype="float16", **OPTIONS)
    for each in ([{"Draw": 1}], [{"Draw": 1}] * 3):
        with pytest.raises(ConfigError, match=f"{len(each)} sets of further entries for 2 maps"):
            export_bids(maps, tmp_path / "out", each=each, **OPTIONS)
    with pytest.raises(ConfigError, match="Grid"):
        export_bids(maps, tmp_path / "out", extra={"Grid": 1}, **OPTIONS)
    with pytest.raises(CohortError, match="several maps would become sub-1"):
        export_bids(some_maps(["1", "sub-1"]), tmp_path / "out", **OPTIONS)
    with pytest.raises(TableError, match="cannot be a participant id"):
        export_bids(some_maps(["a/b"]), tmp_path / "out", **OPTIONS)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(CohortError, match="holds other files"):
        export_bids(maps, tmp_path / "mine", **OPTIONS)


def test_a_participant_is_there_completely_or_not_at_all(tmp_path, monkeypatch):
    save, calls = nib.save, []

    def fail_later(image, path):
        calls.append(path)
        if len(calls) > 6:
            raise OSError("disk full")
        save(image, path)

    monkeypatch.setattr(nib, "save", fail_later)
    out = tmp_path / "out"
    with pytest.raises(OSError, match="disk full"):
        export_bids(some_maps(), out, **OPTIONS)
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ["sub-a"]
    assert (out / "participants.tsv").read_text() == "participant_id\nsub-a\n"
