import json
import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from csegsynth_kit import maps as maps_module
from csegsynth_kit.analysis import generate as module
from csegsynth_kit.analysis.generate import (
    generate,
    generate_shared,
    latents_by_id,
    latents_of,
    predict_shared_volumes,
    predict_volumes,
    stream_maps,
)
from csegsynth_kit.data.readers.detect import discover, read_subject
from csegsynth_kit.errors import ConfigError, TableError
from tests.models_for_tests import started_model

PERSON = {"age": 71, "sex": "female", "education": "high", "site": "b"}


def volumes_of(maps):
    table = maps.volumes_ml().pivot(index="map", columns="tissue", values="volume_ml")
    return table.loc[list(maps.labels), ["WM", "GM", "CSF"]].to_numpy()


def test_same_seed_same_maps_and_another_seed_others(model):
    first, again, other = (generate(model, PERSON, n=3, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.probabilities, again.probabilities)
    assert not torch.equal(first.probabilities, other.probabilities)
    torch.testing.assert_close(first.probabilities.sum(1), torch.ones(3, *model.config.grid.shape))


def test_a_person_does_not_depend_on_who_else_is_generated(model):
    alone = generate(model, [PERSON], n=2, seed=5)
    together = generate(model, [PERSON, {**PERSON, "age": 30}], n=2, seed=5)
    torch.testing.assert_close(alone.probabilities, together.probabilities[:2])


def people(*ids, **answers):
    index = pd.Index(ids, name="participant_id")
    return pd.DataFrame([{**PERSON, **answers}] * len(ids), index=index)


def maps_of(maps):
    return dict(zip(maps.labels, maps.probabilities, strict=True))


def test_an_id_is_the_same_individual_in_any_table(model, monkeypatch):
    table = people("sub-a", "sub-b", "sub-c")
    whole = maps_of(generate(model, table, n=2, seed=5, by_id=True))
    monkeypatch.setattr(maps_module, "_AT_ONCE", (1, 1))
    parts = [table.iloc[::-1], table.iloc[1:2], table.rename(index=lambda i: i[4:])]
    for part in parts:
        for label, found in maps_of(generate(model, part, n=2, seed=5, by_id=True)).items():
            # Round-off depends on how many maps are generated at once.
            torch.testing.assert_close(found, whole[label], atol=1e-4, rtol=0)
    drawn = list(whole.values())
    distances = [(a - b).abs().max() for i, a in enumerate(drawn) for b in drawn[:i]]
    assert min(distances) > 0.01


def test_latents_by_id_depend_on_seed_id_and_draw_alone(model):
    drawn = latents_by_id(model, "sub-a", n=3, seed=1)
    assert torch.equal(drawn[:1], latents_by_id(model, "sub-a", n=1, seed=1))
    others = [latents_by_id(model, i, n=3, seed=s) for i, s in (("sub-b", 1), ("sub-a", 2))]
    latents = torch.cat([drawn, *others]).flatten(1)
    assert len(latents.unique(dim=0)) == 9
    assert latents.mean().abs() < 5 / latents.numel() ** 0.5
    assert 0.8 < latents.std() < 1.2


def test_latents_by_id_are_told_apart_where_seeds_of_32_bits_are_not(model):
    """Of these two ids, torch's generators have the same state."""
    one, other = (latents_by_id(model, i, n=1, seed=0) for i in ("sub-021794", "sub-044570"))
    assert not torch.equal(one, other)


def test_an_id_is_the_same_with_and_without_its_prefix(model):
    bare, full = (latents_by_id(model, i, n=2, seed=1) for i in ("a", "sub-a"))
    assert torch.equal(bare, full)


def test_latents_by_id_are_where_the_model_is(model):
    assert latents_by_id(model, "a", n=2, seed=1).shape == (2, *model.latent_shape)
    elsewhere = SimpleNamespace(
        latent_shape=(3, 4), volume_mean_ml=torch.zeros(3, device=torch.device("meta"))
    )
    assert latents_by_id(elsewhere, "a", n=2, seed=1).device.type == "meta"


@pytest.mark.parametrize("given", [PERSON, [PERSON], people("a", "a")])
def test_people_without_ids_cannot_be_drawn_by_id(model, given):
    with pytest.raises(TableError, match="no ids of their own"):
        generate(model, given, by_id=True)


def test_the_rows_of_a_table_decide_unless_asked_otherwise(model):
    ids, numbers = (generate(model, t, seed=3) for t in (people("a", "b"), [PERSON, PERSON]))
    assert torch.equal(ids.probabilities, numbers.probabilities)


def test_the_same_seed_is_the_same_individual_whatever_the_answers(model):
    """Only the answers move: with everything hidden the two maps would be one."""
    assert torch.equal(latents_of(model, 0, n=2, seed=3), latents_of(model, 0, n=2, seed=3))
    young, old = (volumes_of(generate(model, {**PERSON, "age": a}, seed=3)) for a in (25, 80))
    assert young[0, :2].sum() > old[0, :2].sum()  # the toy brains shrink with age


def test_questions_may_stay_unanswered(model):
    for person in ({"age": 71}, {"sex": "male"}, {"site": "c"}, {**PERSON, "education": None}):
        maps = generate(model, person, seed=0)
        assert torch.isfinite(maps.probabilities).all()


@pytest.mark.parametrize(
    ("person", "message"),
    [
        ({"agee": 71}, "'agee' is not a feature of this model. Its features are age, sex"),
        ({"age": "old"}, "age = 'old' is not possible"),
        ({"age": -3}, "age = -3 is not possible. Give a number from 0 to 125"),
        ({"age": float("inf")}, "age = inf is not possible"),
        ({"sex": "unsure"}, "sex = 'unsure' is not a possible answer"),
        ({"education": "none"}, "Possible answers are low, medium, high"),
        ([], "there is nobody to generate"),
    ],
)
def test_impossible_answers_are_refused_by_name(model, person, message):
    with pytest.raises(TableError) as error:
        generate(model, person)
    assert message in str(error.value)


def test_no_answers_are_the_same_however_they_are_not_given(model, tmp_path):
    nothing, empty, hidden = (generate(model, p, seed=3) for p in (None, {}, {"age": None}))
    assert torch.equal(nothing.probabilities, empty.probabilities)
    assert torch.equal(nothing.probabilities, hidden.probabilities)
    assert nothing.answers.isna().all(axis=None)
    assert not torch.equal(
        nothing.probabilities, generate(model, {"age": 71}, seed=3).probabilities
    )
    nothing.to_bids(tmp_path / "out")
    (path, *_) = (tmp_path / "out").rglob("*probseg.json")
    assert json.loads(path.read_text())["GeneratedFrom"] == "no answers"


def test_ids_that_clash_in_file_names_are_refused_before_anything_is_drawn(model, monkeypatch):
    monkeypatch.setattr(module, "_stream", None)
    ids = pd.Index(["a-b1", "ab1"], name="participant_id")
    with pytest.raises(TableError, match="'a-b1' and 'ab1' would both be sub-ab1"):
        generate(model, pd.DataFrame([PERSON, PERSON], index=ids))


def test_a_wrong_answer_in_a_table_is_told_with_its_id(model):
    ids = pd.Index(["sub-1", "sub-2"], name="participant_id")
    table = pd.DataFrame([PERSON, {**PERSON, "site": "d"}], index=ids)
    with pytest.raises(TableError, match="site of sub-2 = 'd' is not a possible answer"):
        generate(model, table)


def test_a_single_draw_needs_no_number(model):
    assert generate(model, PERSON).named("grandma").labels == ("sub-grandma",)
    assert generate(model, [PERSON, PERSON]).labels == ("sub-synthetic0001", "sub-synthetic0002")


def test_synonyms_of_sex_are_understood(model):
    expected = generate(model, {**PERSON, "sex": "female"}, seed=1).probabilities
    for word in ("F", "f", "Female"):
        maps = generate(model, {**PERSON, "sex": word}, seed=1)
        torch.testing.assert_close(maps.probabilities, expected)


def test_answers_outside_the_training_support_are_flagged(model, caplog):
    with caplog.at_level(logging.INFO, logger="csegsynth_kit"):
        maps = generate(model, [{**PERSON, "age": 99}, PERSON, {**PERSON, "age": 101}])
    assert len(maps.warnings) == 1
    assert "age: 2 of 3 answers (99.0 to 101.0)" in maps.warnings[0]
    assert "extrapolations" in caplog.text
    assert generate(model, PERSON).warnings == ()


def test_a_pre_trained_model_takes_no_answers(cohort):
    model = started_model(cohort, conditional=False)
    assert len(generate(model, n=3)) == 3
    with pytest.raises(TableError, match="only pre-trained"):
        generate(model, PERSON)


def test_too_many_maps_for_memory_are_refused(model, monkeypatch):
    monkeypatch.setattr(module, "_MOST_GB", 1e-5)
    with pytest.raises(ConfigError, match="predict_volumes"):
        generate(model, PERSON, n=8)


def test_maps_in_parts_are_those_at_once(model, monkeypatch):
    people = [{"age": 30}, {"age": 50, "sex": "male"}, {"age": 80}]
    whole = generate(model, people, n=2, seed=4)
    monkeypatch.setattr(maps_module, "_AT_ONCE", (1, 4))
    parts = list(stream_maps(model, people, n=2, seed=4))
    assert len(parts) > 1
    torch.testing.assert_close(torch.cat([p.probabilities for p in parts]), whole.probabilities)
    assert sum((p.labels for p in parts), ()) == ("0", "1", "2", "3", "4", "5")


def test_predicted_volumes_are_those_of_the_maps(model):
    people = [PERSON, {**PERSON, "age": 30}]
    maps = generate(model, people, n=3, seed=2)
    predicted = predict_volumes(model, people, n=3, seed=2, antithetic=False)
    np.testing.assert_allclose(predicted.reshape(6, 3), volumes_of(maps), rtol=1e-5)


def test_antithetic_latents_come_in_opposite_pairs(model):
    z = latents_of(model, 4, n=6, seed=0, antithetic=True)
    torch.testing.assert_close(z[:3], -z[3:])
    torch.testing.assert_close(z[:3], latents_of(model, 4, n=3, seed=0))


def test_shared_latents_leave_the_answers_as_the_only_difference(model):
    volumes = predict_shared_volumes(model, [PERSON, PERSON, {**PERSON, "age": 30}], n=4, seed=1)
    np.testing.assert_allclose(volumes[0], volumes[1], rtol=1e-6)
    assert np.abs(volumes[0] - volumes[2]).max() > 1
    maps = generate_shared(model, [PERSON, PERSON], seed=1)
    torch.testing.assert_close(maps.probabilities[0], maps.probabilities[1])


def test_a_sidecar_warns_of_its_own_answers_alone(model, tmp_path):
    people = pd.DataFrame([PERSON, {**PERSON, "age": 120}])
    people.index = pd.Index(["sub-in", "sub-out"], name="participant_id")
    maps = generate(model, people, n=2)
    assert maps.warnings[0].startswith("age: 1 of 2 answers (120.0)")
    maps.warned("mind this").to_bids(tmp_path)
    told = {}
    for path in tmp_path.glob("*/anat/*_dseg.json"):
        told.setdefault(path.name[:16], []).append(json.loads(path.read_text())["Warnings"])
    assert told["sub-syntheticind"] == [["mind this"]] * 2
    for own, always in told["sub-syntheticout"]:
        assert own.startswith("age: 120 lies outside what training participants answered (")
        assert always == "mind this"


def test_export_says_that_it_is_synthetic_and_is_read_back(model, tmp_path):
    maps = generate(model, {**PERSON, "age": 120}, n=2, seed=0)
    assert maps.named("grandma").labels == ("sub-grandmadraw01", "sub-grandmadraw02")
    maps.to_bids(tmp_path / "out", participant="grandma")
    scans = discover(tmp_path / "out").scans
    assert [scan.participant for scan in scans] == ["sub-grandmadraw01", "sub-grandmadraw02"]
    read = [read_subject(scan) for scan in scans]
    for subject, expected in zip(read, volumes_of(maps), strict=True):
        np.testing.assert_allclose(subject.volumes_ml, expected, rtol=1e-4)
    assert {subject.csf_definition for subject in read} == {"intracranial"}
    sidecars = list((tmp_path / "out").rglob("*probseg.json"))
    assert sidecars
    for path in sidecars:
        sidecar = json.loads(path.read_text())
        assert sidecar["Synthetic"] is True
        assert "age: 120 lies outside" in sidecar["Warnings"][0]
    answers = (tmp_path / "out" / "participants.tsv").read_text()
    assert "120" in answers
