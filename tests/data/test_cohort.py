"""A prepared cohort opens as it was written, and splits by person."""

import json
from dataclasses import replace

import numpy as np
import pytest

from csegsynth_kit.data.cohort import load_cohort
from csegsynth_kit.errors import CohortError, ConfigError
from tests.toy import toy_cohort


@pytest.fixture
def cohort(tmp_path):
    return toy_cohort(tmp_path / "toy", 40, missing=0.2)


def with_retests(cohort):
    """The same cohort in which the first ten rows are five people seen twice."""
    ids = cohort.ids
    persons = {ids[i]: f"person-{i // 2}" for i in range(10)}
    return replace(cohort, provenance={**cohort.provenance, "persons": persons})


def test_a_cohort_opens_as_it_was_written(cohort):
    again = load_cohort(cohort.path)
    assert again.fingerprint == cohort.fingerprint
    assert again.columns == cohort.columns
    assert again.grid.same_box(cohort.grid)
    assert again.table.equals(cohort.table)
    maps = again.maps(again.ids[3:5])
    assert maps.labels == again.ids[3:5]
    np.testing.assert_allclose(maps.probabilities.sum(1), 1, atol=1e-6)


def test_maps_follow_their_participants_through_subsets(cohort):
    chosen = (cohort.ids[7], cohort.ids[2], cohort.ids[30])
    part = cohort.subset(chosen)
    assert part.ids == chosen
    np.testing.assert_array_equal(part.quantized(), cohort.quantized()[[7, 2, 30]])
    np.testing.assert_array_equal(part.subset([chosen[2]]).quantized(), cohort.quantized()[[30]])
    with pytest.raises(CohortError, match="no participant 'sub-x'"):
        cohort.subset(["sub-x"])


def test_parts_are_disjoint_and_complete(cohort):
    parts = cohort.split((0.6, 0.2, 0.2), seed=3)
    assert [len(p) for p in parts] == [24, 8, 8]
    assert sorted(i for p in parts for i in p.ids) == sorted(cohort.ids)


def test_rows_of_one_person_stay_together(cohort):
    cohort = with_retests(cohort)
    for seed in range(20):
        parts = cohort.split((0.5, 0.25, 0.25), seed=seed)
        people = [set(p.persons) for p in parts]
        assert not people[0] & people[1]
        assert not (people[0] | people[1]) & people[2]
        assert sum(len(p) for p in parts) == 40


def test_one_scan_of_each_person_is_the_first(cohort):
    kept = with_retests(cohort).one_scan_each()
    assert kept.ids == (*cohort.ids[0:10:2], *cohort.ids[10:])
    assert kept.persons.is_unique
    assert cohort.one_scan_each().ids == cohort.ids


def test_the_split_depends_on_seed_and_ids_alone(cohort):
    first = [p.ids for p in cohort.split(seed=1)]
    assert [p.ids for p in cohort.split(seed=1)] == first
    assert [p.ids for p in cohort.split(seed=2)] != first
    shuffled = cohort.subset(list(reversed(cohort.ids)))
    assert [set(p.ids) for p in shuffled.split(seed=1)] == [set(part) for part in first]


def test_the_split_is_kept(cohort):
    parts = cohort.split(seed=1)
    (path,) = (cohort.path / "splits").iterdir()
    kept = json.loads(path.read_text())
    assert [tuple(kept[name]) for name in ("train", "valid", "test")] == [p.ids for p in parts]


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1)])
def test_impossible_fractions_are_refused(cohort, fractions):
    with pytest.raises(ConfigError, match="three shares of 1"):
        cohort.split(fractions)


def test_too_few_people_are_refused(cohort):
    with pytest.raises(ConfigError, match="cannot be split"):
        cohort.subset(cohort.ids[:3]).split((0.98, 0.01, 0.01))


def test_the_fingerprint_sees_answers_volumes_and_people(cohort):
    table = cohort.table.copy()
    table.iloc[0, 0] += 1
    different = [
        replace(cohort, table=table),
        replace(cohort, volumes=cohort.volumes * 1.01),
        cohort.subset(cohort.ids[1:]),
        replace(cohort, provenance={**cohort.provenance, "csf_definition": "ventricular"}),
    ]
    assert len({cohort.fingerprint, *(c.fingerprint for c in different)}) == 5


def test_other_folders_are_refused(cohort, tmp_path):
    with pytest.raises(CohortError, match="is not a prepared cohort"):
        load_cohort(tmp_path)
    np.save(cohort.path / "maps.npy", cohort.quantized()[:-1])
    with pytest.raises(CohortError, match="its files disagree"):
        load_cohort(cohort.path)
    (cohort.path / "grid.json").write_text("{")
    with pytest.raises(CohortError, match=r"grid\.json: is not valid JSON"):
        load_cohort(cohort.path)


@pytest.mark.parametrize(
    ("name", "damage", "found"),
    [
        ("maps.npy", lambda content: content[:5000], "file size"),
        ("maps.npy", lambda content: b"", "No data"),
        ("participants.tsv", lambda content: b"", "No columns"),
        ("participants.tsv", lambda content: content.replace(b".", b"x"), "to float"),
        ("participants.json", lambda content: b"[]", "holds a list"),
        ("participants.json", lambda content: b'{"age": 3}', "'int'"),
        ("volumes.tsv", lambda content: content.replace(b"gm_ml", b"gm"), "gm_ml"),
        ("grid.json", lambda content: b"{}", "'shape'"),
        ("grid.json", lambda content: content.replace(b"8,", b"0,", 1), "shape"),
    ],
)
def test_damaged_files_are_named(cohort, name, damage, found):
    path = cohort.path / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CohortError, match=found) as caught:
        load_cohort(cohort.path)
    assert caught.value.path == path
    assert caught.value.remedy == "Prepare it again."
