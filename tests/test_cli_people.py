"""``csegsynth generate`` for tables of people, and for one name again and again."""

import json

import nibabel as nib
import numpy as np
import pytest

from csegsynth_kit import cli
from csegsynth_kit.commands import generate as command
from csegsynth_kit.training import pretrained
from tests.models_for_tests import started_model
from tests.toy import toy_cohort

ROWS = {
    "p1": "p1\t30\tmale\t1\n",
    "p2": "p2\t60\tfemale\t2\n",
    "p3": "p3\t60\tfemale\t3\n",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return started_model(toy_cohort(tmp_path_factory.mktemp("people") / "cohort", 24))


@pytest.fixture
def generate(model, monkeypatch, tmp_path):
    """Run the command with some options; other folders have other names."""
    monkeypatch.setattr(command, "open_model", lambda run: model)

    def run(*options, out="out"):
        return cli.main(["generate", *map(str, options), "--out", str(tmp_path / out)])

    return run


@pytest.fixture
def table(tmp_path):
    def write(*names):
        path = tmp_path / f"{''.join(names)}.tsv"
        path.write_text("ID\tAge\tgender\tHair\n" + "".join(ROWS[name] for name in names))
        return path

    return write


def shares(folder):
    """Name of every map to its share of GM."""
    found = sorted(folder.rglob("*label-GM_probseg.nii.gz"))
    return {path.parts[-3]: nib.load(path).get_fdata() for path in found}


def test_a_person_is_the_same_in_any_table(generate, table, tmp_path):
    assert generate("--participants", table("p1", "p2", "p3"), "--n", 2) == 0
    whole = shares(tmp_path / "out")
    assert len(whole) == 6
    for names in (["p3", "p2", "p1"], ["p2"]):
        out = "".join(names)
        assert generate("--participants", table(*names), "--n", 2, out=out) == 0
        part = shares(tmp_path / out)
        assert len(part) == 2 * len(names)
        for name, share in part.items():
            np.testing.assert_allclose(share, whole[name], atol=1e-4)
    drawn = list(whole.values())  # Those of p2 and p3 have the same answers.
    assert all(np.abs(a - b).max() > 0.01 for i, a in enumerate(drawn) for b in drawn[:i])


def test_a_single_draw_is_the_first_of_many(generate, table, tmp_path):
    for n, out in ((1, "one"), (3, "three")):
        assert generate("--participants", table("p1", "p2"), "--n", n, out=out) == 0
    one, three = shares(tmp_path / "one"), shares(tmp_path / "three")
    for name, share in one.items():
        np.testing.assert_allclose(share, three[f"{name}draw01"], atol=1e-4)


def test_another_seed_is_another_individual(generate, table, tmp_path):
    for seed in (0, 1):
        options = ("--participants", table("p1"), "--seed", seed)
        assert generate(*options, out=str(seed)) == 0
    (first,), (other,) = (shares(tmp_path / str(seed)).values() for seed in (0, 1))
    assert np.abs(first - other).max() > 0.01


def test_volumes_are_written_beside_the_maps(generate, table, tmp_path, capsys):
    assert generate("--participants", table("p1", "p2"), "--n", 2) == 0
    assert "synthetic maps: 4, their volumes in volumes.tsv" in capsys.readouterr().out
    lines = (tmp_path / "out" / "volumes.tsv").read_text().splitlines()
    assert lines[0].split("\t")[:3] == ["participant_id", "answers_of", "draw"]
    assert lines[2].split("\t")[:3] == ["sub-syntheticp1draw02", "sub-p1", "2"]
    assert len(lines) == 5


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1), (2, 2), (1, 1)])
def test_more_draws_of_a_name_are_refused_before_they_are_drawn(
    generate, table, tmp_path, capsys, monkeypatch, first, then
):
    for i, who in enumerate([("--person", "{}", "--name", "x"), ("--participants", table("p1"))]):
        assert generate(*who, "--n", first, out=str(i)) == 0
    written = (tmp_path / "0" / "volumes.tsv").read_text()
    monkeypatch.setattr(command, "generate", None)
    for i, who in enumerate([("--person", "{}", "--name", "x"), ("--participants", table("p1"))]):
        capsys.readouterr()
        assert generate(*who, "--n", then, out=str(i)) == 2
        told = capsys.readouterr().err
        assert str(tmp_path / str(i)) in told
        assert "Choose another" in told
    assert (tmp_path / "0" / "volumes.tsv").read_text() == written


def test_columns_are_called_as_in_the_table(generate, tmp_path, capsys):
    path = tmp_path / "people.tsv"
    path.write_text("id\tage\tsex\tGender_Text\nx\t30\tmale\tm\n")
    assert generate("--participants", path) == 0
    told = capsys.readouterr().err
    assert "Ignored columns, which the model does not ask for: Gender_Text.\n" in told


def test_open_questions_are_counted_by_person(generate, tmp_path, capsys):
    path = tmp_path / "people.tsv"
    path.write_text("id\tage\tsite\nx\t30\ta\ny\tn/a\tb\n")
    assert generate("--participants", path, "--n", 3) == 0
    told = capsys.readouterr().err
    assert "Unanswered by everybody, 2 of 4 questions: sex, education.\n" in told
    assert "Unanswered by some, 1 of 4 questions: age (1 of 2).\n" in told
    assert told.count("Open questions are n/a in participants.tsv.") == 1
    assert "WARNING: sex: nobody's answer is known" in told
    about = json.loads(next((tmp_path / "out").rglob("*_probseg.json")).read_text())
    assert "sex: nobody's answer is known" in about["Warnings"][-1]


def test_only_the_first_of_many_open_questions_are_named(tmp_path, capsys):
    model = pretrained.load_pretrained("csegsynth-small")
    first, *others = model.features.questions
    assert first == "age"
    path = tmp_path / "people.tsv"
    path.write_text("id\tage\tsex\nx\t30\tmale\ny\t40\tn/a\n")
    options = ("--participants", str(path), "--out", str(tmp_path / "out"))
    assert cli.main(["generate", "csegsynth-small", *options]) == 0
    told = capsys.readouterr().err
    left = [name for name in others if name != "sex"]
    named = ", ".join(left[:4])
    count = f"{len(left)} of {len(others) + 1} questions"
    assert f"Unanswered by everybody, {count}: {named} and {len(left) - 4} more.\n" in told
    assert f"Unanswered by some, 1 of {len(others) + 1} questions: sex (1 of 2).\n" in told


@pytest.mark.parametrize("n", [1, 2])
def test_ids_that_look_like_a_draw_of_another_are_refused_before_any_is_drawn(
    generate, tmp_path, capsys, monkeypatch, n
):
    monkeypatch.setattr(command, "generate", None)
    path = tmp_path / "people.tsv"
    path.write_text("id\tage\nx\t30\nxdraw01\t40\n")
    assert generate("--participants", path, "--n", n) == 2
    assert "Rename one of them" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
