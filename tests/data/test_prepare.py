"""Preparation: what ends up in a cohort, in its report, and what survives being cut off."""

import json
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.transform import Rotation

from csegsynth_kit.data import prepare as preparation
from csegsynth_kit.data import subject as module
from csegsynth_kit.data.cohort import load_cohort
from csegsynth_kit.data.prepare import prepare
from csegsynth_kit.data.writer import CohortWriter
from csegsynth_kit.errors import CohortError, ConfigError, TableError
from csegsynth_kit.maps import volumes_ml
from tests.data.heads import (
    head,
    label_head,
    write_aseg,
    write_dseg,
    write_fast,
    write_probseg,
    write_synthseg,
    write_table,
)

FAST = {"grid": "tiny", "align": False, "progress": False}


@pytest.fixture
def source(tmp_path):
    """Maps of three people, and a table that names two of them and a third without a map."""
    folder = tmp_path / "study" / "derivatives" / "fmriprep"
    for participant in ("sub-1", "sub-2", "sub-3"):
        write_probseg(folder, participant)
    described = {"sex": {"Levels": {"F": "female", "M": "male"}}, "age": {"Units": "years"}}
    write_table(
        tmp_path / "study" / "participants.tsv",
        ["sub-1", "sub-3", "sub-4"],
        described,
        age=[31, "n/a", 50],
        sex=["M", "F", "F"],
        religion=["a", "b", "b"],
        GM_volume=[700, 650, 660],
    )
    return folder


def report_of(path) -> str:
    return (path / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_place_that_can_hold_no_folder_is_refused_first(tmp_path, monkeypatch, below):
    monkeypatch.setattr(preparation, "discover", None)
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="is a file, not a folder") as error:
        prepare(tmp_path, file / below, **FAST)
    assert str(error.value).startswith(f"{file}: ")
    monkeypatch.setattr(os, "access", lambda p, mode: mode == os.F_OK and p.exists())
    with pytest.raises(ConfigError, match="may not write to"):
        prepare(tmp_path, tmp_path / "new" / below, **FAST)


def test_a_cohort_holds_who_has_maps_and_answers(source, tmp_path):
    cohort = prepare(source, tmp_path / "out", **FAST)

    assert cohort.ids == ("sub-1", "sub-3")
    assert [c.name for c in cohort.feature_columns] == ["age", "sex"]
    assert cohort.table.loc["sub-1", "sex"] == "male"
    assert np.isnan(cohort.table.loc["sub-3", "age"])
    assert cohort.csf_definition == "brain-mask"
    assert not cohort.simulated
    assert cohort.provenance["layout"] == "fmriprep"
    assert cohort.provenance["source"] == str(source)
    assert cohort.provenance["steps"] == {
        "clean": True,
        "align": False,
        "quantized_to": "1/255",
    }
    assert [(e["subject"], e["code"]) for e in cohort.provenance["excluded"]] == [
        ("sub-2", "no-answers")
    ]
    assert set(cohort.provenance["versions"]) >= {"torch", "nibabel"}
    text = report_of(tmp_path / "out")
    assert "- sub-2: has a map but no row in participants.tsv." in text
    assert "1 of 3 rows of participants.tsv have no map (sub-4)" in text
    assert "`GM_volume`" in text
    findings = json.loads((tmp_path / "out" / "findings.json").read_text())["findings"]
    assert {f["code"] for f in findings} >= {"no-answers", "no-map", "left-out"}


def test_volumes_are_measured_at_the_source(source, tmp_path):
    cohort = prepare(source, tmp_path / "out", **FAST)
    tissues, affine = head()
    expected = tissues.sum(axis=(1, 2, 3)) * abs(np.linalg.det(affine)) / 1000
    np.testing.assert_allclose(cohort.volumes.loc["sub-1"], expected, rtol=1e-4)
    stored = volumes_ml(cohort.maps().probabilities, cohort.grid.voxel_ml)[0, :3]
    np.testing.assert_allclose(stored, expected, atol=0.5)
    steps = pd.read_csv(tmp_path / "out" / "preparation.tsv", sep="\t", index_col=0)
    assert list(steps["placed"]) == ["cropped", "cropped"]
    assert steps.filter(like="placing_changed").abs().to_numpy().max() < 0.01


def test_sensitive_columns_are_not_copied_unless_asked_for(source, tmp_path):
    cohort = prepare(source, tmp_path / "a", **FAST)
    assert "religion" not in cohort.table
    assert "religion" not in (tmp_path / "a" / "participants.tsv").read_text()
    assert "sensitive: `religion`" in report_of(tmp_path / "a")
    asked = prepare(source, tmp_path / "b", features=["age", "religion"], **FAST)
    assert [c.name for c in asked.feature_columns] == ["age", "religion"]


def test_without_a_table_there_are_maps_and_no_features(tmp_path):
    write_fast(tmp_path / "deep" / "down" / "source", "sub-01")
    cohort = prepare(tmp_path / "deep" / "down" / "source", tmp_path / "out", **FAST)
    assert cohort.ids == ("sub-01",)
    assert cohort.columns == ()
    assert cohort.table.shape == (1, 0)
    assert "there is no table of participants" in report_of(tmp_path / "out")


def test_an_empty_list_of_tables_means_none(source, tmp_path):
    cohort = prepare(source, tmp_path / "out", participants=[], **FAST)
    assert cohort.ids == ("sub-1", "sub-2", "sub-3")
    assert cohort.columns == ()


@pytest.mark.parametrize("up", [0, 1, 2])
def test_the_table_is_looked_for_above_the_source(tmp_path, up):
    folder = tmp_path / "a" / "b" / "source"
    write_fast(folder, "sub-01")
    write_table([folder, *folder.parents][up] / "participants.tsv", ["sub-01", "sub-02"])
    cohort = prepare(folder, tmp_path / "out", **FAST)
    assert [c.name for c in cohort.feature_columns] == ["age", "sex"]


def test_a_table_beside_derivatives_is_found_from_deep_inside(tmp_path):
    folder = tmp_path / "derivatives" / "tool" / "version" / "run"
    write_fast(folder, "sub-01")
    write_table(tmp_path / "participants.tsv", ["sub-01", "sub-02"])
    assert len(prepare(folder, tmp_path / "out", **FAST).columns) == 2


def test_several_tables_join_and_ids_match_by_label(tmp_path):
    write_synthseg(tmp_path / "maps", "sub-CC110033")
    write_synthseg(tmp_path / "maps", "sub-CC110037")
    standard = tmp_path / "standard_data.csv"
    standard.write_text("CCID,Age,Sex,Hand\nCC110033,24,MALE,100\nCC110037,18,FEMALE,-20\n")
    approved = tmp_path / "approved_data.tsv"
    approved.write_text("CCID\tadditional_memory\nCC110033\t20\nCC110037\t24\n")
    cohort = prepare(tmp_path / "maps", tmp_path / "out", participants=[standard, approved], **FAST)
    assert cohort.ids == ("sub-CC110033", "sub-CC110037")
    assert list(cohort.table["additional_memory"]) == [20, 24]


def test_retests_are_one_person(tmp_path):
    for name in ("OAS1_0061_MR1", "OAS1_0061_MR2", "OAS1_0002_MR1"):
        write_fast(tmp_path / "maps", name)
    table = tmp_path / "oasis.csv"
    table.write_text(
        "ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay\n"
        "OAS1_0061_MR1,F,R,20,N/A,N/A,N/A,N/A,1401,0.84,1.2,N/A\n"
        "OAS1_0061_MR2,F,R,20,N/A,N/A,N/A,N/A,1401,0.84,1.2,9\n"
        "OAS1_0002_MR1,M,R,55,4,1,29,0,1147,0.81,1.5,N/A\n"
    )
    cohort = prepare(tmp_path / "maps", tmp_path / "out", participants=table, **FAST)
    assert cohort.provenance["persons"] == {
        "sub-OAS10002MR1": "sub-OAS10002",
        "sub-OAS10061MR1": "sub-OAS10061",
        "sub-OAS10061MR2": "sub-OAS10061",
    }
    assert cohort.persons.nunique() == 2


def test_a_broken_map_stops_nobody_else(tmp_path):
    for i in range(3):
        write_aseg(tmp_path / "maps", f"sub-{i}")
    path = tmp_path / "maps" / "sub-1" / "mri" / "aseg.mgz"
    path.write_bytes(path.read_bytes()[:3000])
    cohort = prepare(tmp_path / "maps", tmp_path / "out", **FAST)
    assert cohort.ids == ("sub-0", "sub-2")
    assert cohort.csf_definition == "ventricular"
    assert "sub-1/mri/aseg.mgz: " in report_of(tmp_path / "out")


def test_an_unexpected_failure_stops_nobody_else(tmp_path, monkeypatch, caplog):
    write_fast(tmp_path / "maps", "sub-1")
    write_fast(tmp_path / "maps", "sub-2")

    def fail(maps, grid, **options):
        if maps.scan.participant == "sub-1":
            raise RuntimeError("out of paper")
        return place(maps, grid, **options)

    place = module.place
    monkeypatch.setattr(module, "place", fail)
    cohort = prepare(tmp_path / "maps", tmp_path / "out", **FAST)
    assert cohort.ids == ("sub-2",)
    assert "RuntimeError: out of paper" in report_of(tmp_path / "out")
    assert "sub-1 failed" in caplog.text


def test_label_clean_up_can_be_switched_off(tmp_path):
    labels, affine = label_head()
    labels[1:5, 1:5, 47:51] = 24
    write_synthseg(tmp_path / "maps", "sub-1", labels, affine)
    cleaned = prepare(tmp_path / "maps", tmp_path / "a", **FAST)
    whole = prepare(tmp_path / "maps", tmp_path / "b", clean=False, **FAST)
    island = 64 * (8 / 3) ** 3 / 1000
    assert whole.volumes["csf_ml"].iloc[0] - cleaned.volumes["csf_ml"].iloc[0] == pytest.approx(
        island, abs=0.1
    )
    steps = pd.read_csv(tmp_path / "a" / "preparation.tsv", sep="\t", index_col=0)
    assert steps["removed_csf_ml"].iloc[0] == pytest.approx(island, abs=0.1)


def test_alignment_is_recorded_per_participant(tmp_path):
    write_dseg(tmp_path / "maps", "sub-1")
    cohort = prepare(tmp_path / "maps", tmp_path / "out", grid="tiny", progress=False)
    assert cohort.grid.space == "template"
    assert cohort.provenance["steps"]["align"] is True
    steps = pd.read_csv(tmp_path / "out" / "preparation.tsv", sep="\t", index_col=0)
    row = steps.loc["sub-1"]
    assert row["placed"] == "aligned"
    assert abs(row["rotation_x_deg"]) < 1
    assert row["overlap"] > 0.85
    assert steps.filter(like="placing_changed").abs().to_numpy().max() < 0.1


@pytest.mark.parametrize(("grid", "shape"), [("paper", (80, 128, 128)), ("small", (48, 56, 48))])
def test_what_is_not_aligned_lies_in_native_space(tmp_path, grid, shape):
    write_dseg(tmp_path / "maps", "sub-1")
    cohort = prepare(tmp_path / "maps", tmp_path / "out", **{**FAST, "grid": grid})
    assert cohort.grid.space == "native"
    assert cohort.grid.shape == shape


class _CutOffError(KeyboardInterrupt):
    pass


def test_cut_off_and_repeated_equals_done_at_once(tmp_path, monkeypatch):
    maps = tmp_path / "maps"
    tissues, affine = head()
    for i in range(4):
        write_fast(maps, f"sub-{i}", tissues * np.float32(1 - i / 100), affine)
    write_table(maps / "participants.tsv", [f"sub-{i}" for i in range(4)])
    prepare(maps, tmp_path / "at_once", **FAST)
    original, calls = module.place, []

    def cut_off(*args, **options):
        calls.append(args[0].scan.participant)
        if len(calls) == 3:
            raise _CutOffError
        return original(*args, **options)

    monkeypatch.setattr(module, "place", cut_off)
    with pytest.raises(_CutOffError):
        prepare(maps, tmp_path / "out", **FAST)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.partial").is_dir()
    prepare(maps, tmp_path / "out", **FAST)

    assert calls == ["sub-0", "sub-1", "sub-2", "sub-2", "sub-3"]
    assert not (tmp_path / ".out.partial").exists()
    names = sorted(path.name for path in (tmp_path / "at_once").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "out").iterdir())
    for name in names:
        whole, resumed = ((tmp_path / f / name).read_bytes() for f in ("at_once", "out"))
        assert whole.replace(b"at_once", b"out") == resumed, name


def _files(path) -> dict[str, bytes]:
    """Name to content of a cohort's files, whose own name is left out of the report."""
    return {
        file.name: file.read_bytes().replace(path.name.encode(), b"NAME") for file in path.iterdir()
    }


@pytest.fixture
def mixed(tmp_path):
    """Oblique maps of five heads that differ; one is damaged, one has its tissues swapped."""
    folder = tmp_path / "study" / "derivatives" / "fmriprep"
    ids = [f"sub-{i}" for i in range(5)]
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [9, -4, 6], degrees=True).as_matrix()
    for i, participant in enumerate(ids):
        tissues, affine = head(1 + i / 100)
        order = [1, 0, 2] if i == 3 else [0, 1, 2]
        files = write_probseg(folder, participant, tissues[order], turn @ affine)
        if i == 1:
            files["GM"].write_bytes(files["GM"].read_bytes()[:3000])
    write_table(tmp_path / "study" / "participants.tsv", ids)
    return folder


def test_processes_make_no_difference(mixed, tmp_path):
    options = {"grid": "tiny", "progress": False}
    one = prepare(mixed, tmp_path / "cohort_1", jobs=1, **options)
    prepare(mixed, tmp_path / "cohort_2", jobs=2, **options)
    assert one.ids == ("sub-0", "sub-2", "sub-4")
    assert one.grid.shape == (24, 28, 24)
    steps = pd.read_csv(one.path / "preparation.tsv", sep="\t", index_col=0)
    assert list(steps["placed"]) == ["aligned"] * 3
    assert (steps["rotation_x_deg"].abs() > 5).all()
    assert len({row.tobytes() for row in one.quantized()}) == 3
    assert _files(tmp_path / "cohort_1") == _files(tmp_path / "cohort_2")


def test_a_failure_in_another_process_stops_nobody_else(tmp_path, monkeypatch, caplog):
    for i in range(3):
        write_fast(tmp_path / "maps", f"sub-{i}")

    def with_a_fault(*args, **options):
        job = settle(*args, **options)
        first, second, third = job.scans
        return replace(job, scans=(first, replace(second, layout="unheard-of"), third))

    settle = preparation.settle
    monkeypatch.setattr(preparation, "settle", with_a_fault)
    cohort = prepare(tmp_path / "maps", tmp_path / "out", jobs=2, **FAST)
    assert cohort.ids == ("sub-0", "sub-2")
    assert "sub-1: sub-1_pve_2.nii.gz: KeyError: 'unheard-of'" in report_of(tmp_path / "out")
    assert "sub-1 failed\nTraceback" in caplog.text


def test_processes_that_were_cut_off_may_be_fewer_afterwards(mixed, tmp_path, monkeypatch):
    prepare(mixed, tmp_path / "cohort_1", jobs=1, **FAST)
    add, added = CohortWriter.add, []

    def cut_off(self, participant, *rest):
        added.append(participant)
        if len(added) == 2:
            raise _CutOffError
        add(self, participant, *rest)

    monkeypatch.setattr(CohortWriter, "add", cut_off)
    with pytest.raises(_CutOffError):
        prepare(mixed, tmp_path / "cohort_2", jobs=2, **FAST)
    prepare(mixed, tmp_path / "cohort_2", jobs=1, **FAST)
    assert added == ["sub-0", "sub-2", "sub-2", "sub-4"]
    assert _files(tmp_path / "cohort_1") == _files(tmp_path / "cohort_2")


def test_a_prepared_cohort_leaves_threads_as_they_were(source, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        prepare(source, tmp_path / "out", jobs=1, **FAST)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_no_process_at_all_is_refused(source, tmp_path):
    with pytest.raises(ConfigError, match="jobs is 0"):
        prepare(source, tmp_path / "out", jobs=0, **FAST)


def test_a_change_of_mind_does_not_continue_the_old_attempt(tmp_path, monkeypatch):
    write_fast(tmp_path / "maps", "sub-1")

    def cut_off(*args, **options):
        raise _CutOffError

    with monkeypatch.context() as patched:
        patched.setattr(module, "place", cut_off)
        with pytest.raises(_CutOffError):
            prepare(tmp_path / "maps", tmp_path / "out", **FAST)
    with pytest.raises(CohortError, match="with other options"):
        prepare(tmp_path / "maps", tmp_path / "out", **{**FAST, "grid": "small"})
    write_fast(tmp_path / "maps", "sub-2")
    with pytest.raises(CohortError, match="another source"):
        prepare(tmp_path / "maps", tmp_path / "out", **FAST)


def test_everything_is_refused_before_the_long_work(tmp_path, monkeypatch):
    write_synthseg(tmp_path / "maps", "sub-1")
    write_synthseg(tmp_path / "maps", "sub-2", outer=False)
    (tmp_path / "bad.tsv").write_text("participant_id\tage\nsub-1\t20\nsub-1\t20\n")

    def never(*args, **options):
        raise AssertionError("the long work began")

    monkeypatch.setattr(module, "place", never)
    with pytest.raises(TableError):
        prepare(tmp_path / "maps", tmp_path / "out", participants=tmp_path / "bad.tsv", **FAST)
    with pytest.raises(CohortError, match="count CSF in different ways"):
        prepare(tmp_path / "maps", tmp_path / "out", **FAST)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.tsv", "maps"]


def test_maps_with_another_definition_of_csf_are_named(tmp_path):
    for i in range(1, 9):
        write_synthseg(tmp_path / "maps", f"sub-{i}", outer=i != 4)
    with pytest.raises(CohortError) as caught:
        prepare(tmp_path / "maps", tmp_path / "out", **FAST)
    assert "1 maps 'ventricular': sub-4)" in str(caught.value)
    assert "7 maps 'intracranial': sub-1, sub-2, sub-3, sub-5, sub-6, …;" in str(caught.value)


def test_maps_with_scaled_shares_are_kept_and_doubted(tmp_path):
    write_fast(tmp_path / "maps", "sub-1", head()[0] * np.float32(0.92))
    write_fast(tmp_path / "maps", "sub-2")
    cohort = prepare(tmp_path / "maps", tmp_path / "out", **FAST)
    doubts = [(f.subject, f.severity) for f in cohort.findings() if f.code == "sum-below-1"]
    assert (len(cohort), doubts) == (2, [("sub-1", "doubt")])


def test_labels_among_shares_are_doubted(tmp_path):
    maps = tmp_path / "maps"
    for i in range(1, 5):
        write_probseg(maps, f"sub-{i}")
    alike = prepare(maps, tmp_path / "alike", **FAST).findings()
    write_dseg(maps, "sub-5")
    mixed = prepare(maps, tmp_path / "mixed", **FAST).findings()
    (finding,) = [f for f in mixed if f.code == "mixed-kinds"]
    assert finding.code not in {f.code for f in alike}
    assert (finding.severity, finding.subject) == ("doubt", "cohort")
    assert "dseg of 1 (sub-5) and probseg of 4 (sub-1, sub-2, sub-3, …)" in finding.message


def test_synthetic_sources_stay_marked(tmp_path):
    write_dseg(tmp_path / "maps", "sub-1")
    (tmp_path / "maps" / "dataset_description.json").write_text('{"Synthetic": true}')
    assert prepare(tmp_path / "maps", tmp_path / "out", **FAST).simulated


def test_copies_of_one_map_are_doubted(source, tmp_path):
    prepare(source, tmp_path / "out", **FAST)
    assert "the maps of sub-1, sub-3 have exactly the same volumes" in report_of(tmp_path / "out")


@pytest.mark.real
@pytest.mark.parametrize(
    ("layout", "definition", "volumes"),
    [("fmriprep", "brain-mask", (501.2, 690.0, 253.2)), ("freesurfer", "ventricular", None)],
)
def test_real_derivatives_by_layout(real_data, tmp_path, layout, definition, volumes):
    source = real_data / "aomic_piop2" / "derivatives"
    with pytest.raises(CohortError, match="--layout fmriprep or --layout freesurfer"):
        prepare(source, tmp_path / "out", progress=False)
    cohort = prepare(source, tmp_path / "out", layout=layout, progress=False)
    assert cohort.ids == ("sub-0001",)
    assert cohort.csf_definition == definition
    assert len(cohort.columns) == 11
    if volumes:
        np.testing.assert_allclose(cohort.volumes.loc["sub-0001"], volumes, atol=0.1)
    assert {e["subject"] for e in cohort.provenance["excluded"]} == {"sub-0002"}
    assert load_cohort(tmp_path / "out").fingerprint == cohort.fingerprint


@pytest.mark.real
def test_real_whole_head_maps(real_data, tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    for name in ("sub-08", "sub-13"):
        file = f"{name}_synthseg.nii.gz"
        (maps / file).symlink_to(real_data / "synthseg" / file)
    cohort = prepare(maps, tmp_path / "out", progress=False)
    np.testing.assert_allclose(
        cohort.volumes, [[528.9, 609.4, 444.0], [455.3, 664.6, 276.8]], atol=0.1
    )
    assert cohort.csf_definition == "intracranial"
    assert cohort.provenance["excluded"] == []
    stored = volumes_ml(cohort.maps().probabilities, cohort.grid.voxel_ml)[:, :3]
    np.testing.assert_allclose(stored, cohort.volumes, atol=0.5)


def test_ids_that_lost_their_zeros_find_their_maps(tmp_path):
    for participant in ("sub-0001", "sub-0010", "sub-01x"):
        write_probseg(tmp_path / "maps", participant)
    table = write_table(tmp_path / "t.tsv", ["1.0", "10", "sub-01x"], age=[31, 42, 53])
    cohort = prepare(tmp_path / "maps", tmp_path / "out", participants=table, **FAST)
    assert cohort.table["age"].to_dict() == {"sub-0001": 31, "sub-0010": 42, "sub-01x": 53}
    assert list(cohort.persons) == list(cohort.ids)
    assert "other-ids" in {finding.code for finding in cohort.findings()}


@pytest.mark.parametrize("written", ["{}", "{:03d}", "IXI{:03d}"])
def test_numbers_of_ixi_find_the_maps_that_it_names_otherwise(written, tmp_path):
    for name in ("002Guys0828T1", "012HH1211T1", "013HH1212T1", "013HH1212T2", "014"):
        write_probseg(tmp_path / "maps", f"sub-IXI{name}")
    table = tmp_path / "ixi.csv"
    people = {2: (2, 35.8), 12: (1, 38.7), 13: (1, 46.7), 14: (2, 50), 828: (2, 60)}
    rows = [f"{written.format(i)},{sex},{age}" for i, (sex, age) in people.items()]
    table.write_text("\n".join(['IXI_ID,"SEX_ID (1=m, 2=f)",AGE', *rows]))
    cohort = prepare(tmp_path / "maps", tmp_path / "out", participants=table, **FAST)
    # Two maps that mean 13 leave open which; 828 is a number of a scan.
    ages = {"sub-IXI002Guys0828T1": 35.8, "sub-IXI012HH1211T1": 38.7, "sub-IXI014": 50}
    assert cohort.table["age"].to_dict() == ages
    assert list(cohort.persons) == list(cohort.ids)
    found = 2 if "IXI" in written else 3  # the last has its own name
    assert f"{found} ids are taken for those of maps" in (cohort.path / "report.md").read_text()


def test_ambiguous_zeros_are_not_guessed(tmp_path):
    for participant in ("sub-01", "sub-001", "sub-2"):
        write_probseg(tmp_path / "maps", participant)
    table = write_table(tmp_path / "t.tsv", ["1", "2"], age=[31, 42])
    cohort = prepare(tmp_path / "maps", tmp_path / "out", participants=table, **FAST)
    assert cohort.ids == ("sub-2",)
