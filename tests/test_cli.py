import importlib
import os
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from csegsynth_kit import cli, commands
from csegsynth_kit.analysis import generate
from csegsynth_kit.commands import generate as generate_command
from csegsynth_kit.commands import run as run_command
from csegsynth_kit.commands import train as train_command
from csegsynth_kit.data.readers.base import Layout
from csegsynth_kit.maps import GRIDS
from csegsynth_kit.models import FAMILIES
from csegsynth_kit.show import studio_server
from csegsynth_kit.training.pretrained import adopt, save_pretrained, split_digest
from csegsynth_kit.training.runs import STAGES, Run
from tests.toy import toy_cohort
from tests.training.jobs import toy_preset, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    toy_cohort(folder / "cohort", 24)
    return train(folder / "cohort", folder / "runs", toy_preset(epochs=1))


def test_choices_are_those_of_the_library():
    """The parser states them itself, so that --help need not load torch."""
    assert set(cli._LAYOUTS) == {"auto", *get_args(Layout)}
    assert set(cli._GRIDS) == set(GRIDS)
    assert cli._STAGES == STAGES
    assert set(cli._FAMILIES) == set(FAMILIES)


@pytest.fixture(scope="module")
def parsers():
    (found,) = (a for a in cli._parser()._actions if a.dest == "command")
    return found


def test_every_command_exists(parsers):
    there = {path.stem for path in Path(commands.__file__).parent.glob("[!_]*.py")}
    assert there == set(parsers.choices)
    for name in there:
        assert callable(importlib.import_module(f"csegsynth_kit.commands.{name}").run)


def test_every_option_of_every_command_is_explained(parsers):
    bare = {
        (name, action.dest)
        for name, parser in parsers.choices.items()
        for action in parser._actions
        if not action.help
    }
    assert bare == set()
    for parser in parsers.choices.values():
        assert "``" not in parser.format_help()


def test_generate_prints_volumes_and_writes_bids(run, tmp_path, capsys):
    person = '{"age": 71, "sex": "female"}'
    arguments = ["generate", str(run.path), "--person", person, "--n", "2"]
    assert cli.main([*arguments, "--out", str(tmp_path / "out"), "--name", "grandma"]) == 0
    printed = capsys.readouterr().out
    assert "WM" in printed
    assert "synthetic maps: 2" in printed
    names = {p.name for p in (tmp_path / "out").glob("sub-*")}
    assert names == {"sub-grandmadraw01", "sub-grandmadraw02"}
    assert all(name in printed for name in names)


def test_generate_takes_a_table(run, tmp_path):
    table = tmp_path / "people.tsv"
    table.write_text("participant_id\tage\tsex\nsub-1\t30\tmale\nsub-2\t60\tn/a\n")
    out = tmp_path / "out"
    assert (
        cli.main(["generate", str(run.path), "--participants", str(table), "--out", str(out)]) == 0
    )
    assert {p.name for p in out.glob("sub-*")} == {"sub-synthetic1", "sub-synthetic2"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--person", "{'age': 71}"], "--person is not valid JSON"),
        (["--person", "[71]"], "--person is not a JSON object"),
        (["--person", '{"agee": 71}'], "'agee' is not a feature"),
        (["--person", '{"age": -1}'], "age = -1 is not possible"),
        (["--person", "{age: 71}"], """Write --person '{"age": 71, "sex": "female"}'"""),
        (["--person", "{}", "--name", "my grandma"], "'my grandma' cannot be a participant id"),
        (["--participants", "no.tsv"], "no.tsv: the file does not exist"),
    ],
)
def test_mistakes_are_told_in_one_line_and_write_nothing(run, tmp_path, capsys, arguments, message):
    out = tmp_path / "out"
    assert cli.main(["generate", str(run.path), *arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("csegsynth: ")
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_table_may_hold_columns_that_the_model_does_not_ask_for(run, tmp_path, capsys):
    table = tmp_path / "people.tsv"
    table.write_text("code\tAge\tsex\tincome\teTIV\nx1\t-999\tM\t3\t1500\nx2\t60\tF\t4\t1400\n")
    arguments = ["generate", str(run.path), "--participants", str(table)]
    out = ["--out", str(tmp_path / "out")]
    assert cli.main([*arguments, *out]) == 2
    assert "no column of participant ids" in capsys.readouterr().err
    assert cli.main([*arguments, *out, "--id-column", "code"]) == 0
    told = capsys.readouterr().err
    assert "Ignored columns, which the model does not ask for: income, eTIV.\n" in told
    assert "WARNING: column age: 1 answers (-999) are taken as missing" in told
    assert "Unanswered by everybody, 2 of 4 questions: education, site.\n" in told
    assert "Unanswered by some, 1 of 4 questions: age (1 of 2).\n" in told
    answers = pd.read_csv(tmp_path / "out" / "participants.tsv", sep="\t", index_col=0)
    assert answers.loc["sub-syntheticx2", ["age", "sex"]].tolist() == [60, "female"]


def test_no_answers_are_drawn_from_and_told(run, tmp_path, capsys):
    volumes = []
    for i, person in enumerate([[], ["--person", "{}"]]):
        assert cli.main(["generate", str(run.path), *person, "--out", str(tmp_path / str(i))]) == 0
        printed = capsys.readouterr()
        assert "Unanswered, 4 of 4 questions: age, sex, education, site.\n" in printed.err
        assert "Unanswered by" not in printed.err
        volumes.append(printed.out.splitlines()[:4])
    assert volumes[0] == volumes[1]


def test_the_questions_are_told_with_the_answers_seen(run, capsys):
    features = run.load_model().features
    low, high = features.support[features.questions.index("age")]
    assert cli.main(["generate", str(run.path), "--questions"]) == 0
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    told = {row[0].strip(): [cell.strip() for cell in row[1:] if cell] for row in rows}
    assert told["age"][0] == f"{low:g} to {high:g} years"
    assert told["education"][0] == "low, medium, high"


def test_the_packaged_questions_explain_their_abbreviations(capsys):
    assert cli.main(["generate", "--questions"]) == 0
    told = capsys.readouterr().out
    for short in ("BMI", "SES", "IST", "NEO", "STAI"):
        assert f"\n{short}: " in told
    assert "MMSE" not in told
    assert cli.main(["generate", "alpha-gan-small", "--questions"]) == 0
    assert "asks nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--cohort", "nowhere", "--stage", "pretrain"),
        ("run",),
        ("studio", "csegsynth-small"),
    ],
)
def test_no_work_begins_for_a_place_that_can_hold_no_folder(tmp_path, capsys, monkeypatch, words):
    monkeypatch.setattr(train_command, "load_cohort", None)
    monkeypatch.setattr(run_command, "run_series", None)
    monkeypatch.setattr(studio_server, "find_spec", lambda name: True)
    file = tmp_path / "file"
    file.write_text("mine")
    assert cli.main([*words, "--out", str(file)]) == 2
    assert f"{file}: is a file, not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_place_that_can_hold_no_folder_is_refused_before_anything_is_drawn(
    tmp_path, capsys, monkeypatch, below
):
    monkeypatch.setattr(generate_command, "open_model", None)
    file = tmp_path / "file"
    file.write_text("mine")
    assert cli.main(["generate", "--person", "{}", "--out", str(file / below)]) == 2
    assert f"{file}: is a file, not a folder" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda p, mode: mode == os.F_OK and p.exists())
    assert cli.main(["generate", "--person", "{}", "--out", str(tmp_path / "new" / below)]) == 2
    assert "is a folder that you may not write to" in capsys.readouterr().err
    assert cli.main(["generate", "--person", "{}"]) == 2
    assert "Name one with --out" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_named(tmp_path, capsys):
    assert cli.main(["generate", str(tmp_path), "--person", "{}", "--out", "x"]) == 2
    assert f"{tmp_path}: is not a run folder" in capsys.readouterr().err
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "config.json").write_text("{}")
    assert cli.main(["generate", str(tmp_path), "--person", "{}", "--out", "x"]) == 2
    assert f"Give one of those in it: {Path('models', 'mine')}." in capsys.readouterr().err


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_trained_and_generates(family, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_command, "preset", lambda family, _: toy_preset(family, epochs=1))
    toy_cohort(tmp_path / "cohort", 40)
    toy_cohort(tmp_path / "young", 24, seed=1)
    common = ["train", "--family", family, "--out", str(tmp_path / "runs")]
    assert cli.main([*common, "--stage", "pretrain", "--cohort", str(tmp_path / "young")]) == 0
    base = capsys.readouterr().out.strip()
    arguments = [*common, "--stage", "finetune", "--cohort", str(tmp_path / "cohort")]
    assert cli.main([*arguments, "--parent", base]) == 0
    told, fitted = capsys.readouterr().out.strip().splitlines()
    assert told.startswith("new: ")
    arguments = ["generate", fitted, "--person", '{"age": 50}', "--out", str(tmp_path / "maps")]
    assert cli.main(arguments) == 0


@pytest.fixture
def fine_tune(tmp_path, monkeypatch):
    """Fine-tune a toy from a run folder, on people of its own; return the exit status."""
    monkeypatch.setattr(train_command, "preset", lambda family, _: toy_preset(family, epochs=1))
    toy_cohort(tmp_path / "cohort", 40)
    arguments = ["train", "--stage", "finetune", "--cohort", str(tmp_path / "cohort")]
    out = ["--out", str(tmp_path / "fitted")]
    return lambda parent: cli.main([*arguments, *out, "--parent", str(parent)])


def test_nothing_starts_from_half_a_pre_training(fine_tune, tmp_path, monkeypatch, capsys):
    toy_cohort(tmp_path / "young", 24, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "mark_finished", lambda *_: None)  # as if it had been stopped before
        half = train(tmp_path / "young", tmp_path / "runs", toy_preset(epochs=1), "pretrain")
    assert half.best().exists()
    assert fine_tune(half.path) == 2
    error = capsys.readouterr().err
    assert f"{half.path}: is not trained to its end" in error
    assert "Repeat the command that began it" in error
    assert not (tmp_path / "fitted").exists()
    train(tmp_path / "young", tmp_path / "runs", toy_preset(epochs=1), "pretrain")
    assert fine_tune(half.path) == 0


def test_a_packaged_ancestor_is_a_start(fine_tune, tmp_path):
    (tmp_path / "weights").mkdir()
    young = toy_cohort(tmp_path / "young", 24, seed=1)
    chosen, parts = toy_preset(epochs=1), young.split((0.5, 0.25, 0.25))[:2]
    trained = train(young.path, tmp_path / "runs", chosen, "pretrain")
    card = {"statement": "Toys.", "training": {"split": split_digest(*parts)}}
    save_pretrained(trained, "alpha-gan-toy", card, folder=tmp_path / "weights")
    run = Run.open(tmp_path / "new", family="csegsynth", stage="pretrain", preset=chosen)
    adopt(run, "alpha-gan-toy", *parts, folder=tmp_path / "weights")
    assert not run.last().exists()
    assert fine_tune(run.path) == 0


@pytest.mark.parametrize("rank", [{}, {"RANK": "0"}])
def test_a_world_of_one_is_trained_without_others(rank, fine_tune, tmp_path, monkeypatch):
    toy_cohort(tmp_path / "young", 24, seed=1)
    base = train(tmp_path / "young", tmp_path / "runs", toy_preset(epochs=1), "pretrain")
    for name, value in {"WORLD_SIZE": "1", **rank}.items():
        monkeypatch.setenv(name, value)
    assert fine_tune(base.path) == 0


@pytest.mark.parametrize(
    ("told", "unset"),
    [
        (["MASTER_ADDR", "MASTER_PORT"], "RANK"),
        (["RANK", "MASTER_PORT"], "MASTER_ADDR"),
    ],
)
def test_a_world_of_several_needs_torchrun(told, unset, fine_tune, tmp_path, monkeypatch, capsys):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WORLD_SIZE", *told):
        monkeypatch.setenv(name, "4")
    assert fine_tune(tmp_path) == 2
    assert f"is not set: {unset}." in (error := capsys.readouterr().err)
    assert "torchrun --nproc-per-node" in error


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ["csegsynth"]),
        (["--families", "cldm", "cvae"], ["cldm", "cvae"]),
        (["--families", "all"], ["cvae", "cgan", "cldm", "csegsynth"]),
    ],
)
def test_the_series_takes_every_family(given, expected, tmp_path, monkeypatch):
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_command, "run_series", lambda *args, **more: calls.append((args, more)))
    notebooks = Path(__file__).parents[1] / "notebooks"
    assert cli.main(["run", *given, "--notebooks", str(notebooks)]) == 0
    (((_, out, _), more),) = calls
    assert more == {"families": expected}
    assert out == tmp_path / "runs" / "tiny"


def test_a_preset_that_a_family_lacks_is_refused_before_the_series(tmp_path, capsys):
    arguments = ["run", "--families", "cvae", "--preset", "paper-reference", "--out", str(tmp_path)]
    assert cli.main(arguments) == 2
    assert "family 'cvae' has no preset 'paper-reference'" in capsys.readouterr().err


def test_a_cohort_that_does_not_exist_is_refused_before_the_series(tmp_path, capsys):
    assert cli.main(["run", "--finetune", str(tmp_path / "no"), "--out", str(tmp_path)]) == 2
    assert "is not a prepared cohort" in capsys.readouterr().err


def test_generation_from_the_command_line_equals_the_library(run, tmp_path, capsys):
    cli.main(["generate", str(run.path), "--person", '{"age": 50}', "--out", str(tmp_path / "o")])
    printed = capsys.readouterr().out
    maps = generate.generate(run.load_model(), {"age": 50})
    for volume in maps.volumes_ml()["volume_ml"]:
        assert f"{volume:.1f}" in printed
