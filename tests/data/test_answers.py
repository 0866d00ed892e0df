"""Answers to a model's questions, as they are found in tables and typed in shells."""

import pandas as pd
import pytest

from csegsynth_kit.data.answers import (
    abbreviations,
    perhaps_meant,
    person_of,
    question_words,
    read_answers_for,
    shortened,
    unanswered,
)
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.participants import read_participants
from csegsynth_kit.data.renaming import in_any_case
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import TableError
from tests.data.heads import write_table
from tests.toy import TOY_COLUMNS, toy_table

COLUMNS = (*TOY_COLUMNS, Column("IST_item2", "continuous", units="points", description="Item 2"))


@pytest.fixture(scope="module")
def features():
    table = toy_table(30)
    table["IST_item2"] = [float(10 + i) for i in range(30)]
    return Features.fit(table, COLUMNS)


def test_a_table_means_the_same_as_when_it_is_prepared(features, tmp_path):
    ages = [*range(20, 60, 2), -999, "n/a"]
    sexes = ["F", "M"] * 11
    path = write_table(
        tmp_path / "p.tsv", [f"a{i}" for i in range(22)], Age=ages, sex=sexes, site=["a"] * 22
    )
    ours, prepared = read_answers_for(features, path), read_participants(path)
    for name in ("age", "sex"):
        pd.testing.assert_series_equal(ours.frame[name], prepared.frame[name])
    assert list(ours.frame) == list(features.questions)
    assert ours.frame[["education", "IST_item2"]].isna().all(axis=None)


def test_a_row_does_not_change_its_meaning_with_its_company(features, tmp_path):
    many = write_table(tmp_path / "p.tsv", ["x", *"abcdefgh"], age=[-99, *range(20, 28)])
    alone = write_table(tmp_path / "q.tsv", ["x"], age=[-99])
    first = read_answers_for(features, many).frame.loc["sub-x"]
    pd.testing.assert_series_equal(first, read_answers_for(features, alone).frame.loc["sub-x"])
    assert pd.isna(first["age"])


@pytest.mark.parametrize(
    ("question", "written", "meant"),
    [
        ("age", "45,5", 45.5),
        ("age", "89+", 89.0),
        ("education", "-999", None),
        ("sex", "-9", None),
        ("site", "-9", None),
    ],
)
def test_a_single_row_is_read_by_what_other_people_answer(
    features, tmp_path, question, written, meant
):
    asked = {"age": [30]} | {question: [written]}
    path = write_table(tmp_path / "p.tsv", ["x"], **asked)
    found = read_answers_for(features, path).frame[question].iloc[0]
    assert found == meant if meant else pd.isna(found)


@pytest.mark.parametrize("written", ["EDUCATON", "educaton", "education_", "deucation"])
def test_a_question_that_is_misspelled_is_refused(features, tmp_path, written):
    columns = {"age": [30], written: ["low"], "ist item2": [15], "other": [1]}
    path = write_table(tmp_path / "p.tsv", ["a"], **columns)
    with pytest.raises(TableError) as error:
        read_answers_for(features, path)
    assert f"'{written}' (education?), 'ist item2' (IST_item2?)." in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


def test_a_question_may_be_written_in_upper_or_lower_case(features, tmp_path):
    path = write_table(tmp_path / "p.tsv", ["a"], AGE=[30], Education=["low"], SITE=["a"])
    read = read_answers_for(features, path)
    assert read.ignored == ()
    assert read.frame[["age", "education", "site"]].to_numpy().tolist() == [[30, "low", "a"]]
    one = features.table_of({"AGE": 30, "Education": "low", "SITE": "a"})
    pd.testing.assert_frame_equal(one, read.frame.reset_index(drop=True), check_dtype=False)
    both = write_table(tmp_path / "q.tsv", ["a"], Education=["low"], EDUCATION=["high"], age=[30])
    with pytest.raises(TableError, match=r"'Education' \(education\?\), 'EDUCATION'"):
        read_answers_for(features, both)
    with pytest.raises(TableError, match="'Education' is not a feature"):
        features.table_of({"Education": "low", "EDUCATION": "high"})


def test_questions_that_differ_in_case_alone_are_told_apart():
    assert in_any_case(["Memory"], ["memory", "MEMORY"]) == {}
    assert in_any_case(["memory", "AGE"], ["memory", "MEMORY", "age"]) == {"AGE": "age"}


def test_columns_that_merely_resemble_a_question_are_ignored(features, tmp_path):
    names = ["education_years", "IST_item1", "IST_item22", "stage", "wage", "ages"]
    path = write_table(tmp_path / "p.tsv", ["a"], sex=["M"], **{n: [1] for n in names})
    assert read_answers_for(features, path).ignored == tuple(names)
    both = write_table(tmp_path / "q.tsv", ["a"], education=["low"], educations=["high"])
    assert read_answers_for(features, both).ignored == ("educations",)


def test_ignored_columns_have_the_names_of_the_file(features, tmp_path):
    camcan = {"CCID": ["CC1"], "Age": [30], "Hand": [90], "Coil": [1], "school_years": [12]}
    path = tmp_path / "camcan.csv"
    pd.DataFrame(camcan).to_csv(path, index=False)
    assert read_answers_for(features, path).ignored == ("Hand", "Coil", "school_years")


def test_short_names_that_resemble_an_open_question_are_told():
    ignored = ("agee", "height", "age_years", "gender", "IST_item1")
    assert (
        perhaps_meant(ignored, ["age", "sex", "IST_item2"]) == "'agee' (age?), 'age_years' (age?)"
    )
    assert perhaps_meant(ignored, ["education"]) == ""
    assert perhaps_meant(["education", "Hand", "Ha"], ["education_level", "handedness"]) == (
        "'education' (education_level?), 'Hand' (handedness?)"
    )
    other = ["IST_item22", "IST_item10", "IST_item", "sitelist", "worker_id"]
    assert perhaps_meant(other, ["IST_item2", "IST_item1", "site", "work"]) == ""


def test_a_table_without_any_question_is_refused(features, tmp_path):
    path = write_table(tmp_path / "p.tsv", ["a"], height=[180], weight=[80])
    with pytest.raises(
        TableError, match=r"none of the model's questions \(columns: height, weight"
    ):
        read_answers_for(features, path)


def test_an_impossible_answer_is_told_with_file_and_id(features, tmp_path):
    path = write_table(tmp_path / "p.tsv", ["a", "b"], site=["a", "q"])
    with pytest.raises(TableError, match=r"p\.tsv: site of sub-b = 'q' is not a possible answer"):
        read_answers_for(features, path)


@pytest.mark.parametrize("other", ["30,5", "50+", "-9", "999"])
def test_of_several_odd_cells_the_one_that_is_no_number_is_named(features, tmp_path, other):
    path = write_table(tmp_path / "p.tsv", ["a", "b", "c"], age=[other, "about 40", "50+"])
    with pytest.raises(TableError, match="age of sub-b = 'about 40' is not possible"):
        read_answers_for(features, path)


def test_what_the_shell_left_of_json_is_shown_with_the_remedy():
    assert person_of('{"age": 71, "sex": null}') == {"age": 71, "sex": None}
    with pytest.raises(TableError) as error:
        person_of("{age: 71}")
    assert ": {age: 71}. Write --person '{" in str(error.value)
    with pytest.raises(TableError, match=r"not a JSON object: \[71\]"):
        person_of("[71]")


def test_questions_open_for_everybody_are_told_from_those_open_for_some():
    table = pd.DataFrame({"age": [30, None], "sex": ["male", "female"], "site": [None, None]})
    assert unanswered(table) == (["site"], ["age (1 of 2)"])
    assert unanswered(table[["sex"]]) == ([], [])


def test_questions_are_told_with_units_and_the_answers_seen(features):
    told = question_words(features).set_index("question")
    low, high = features.support[0]
    assert told.loc["age", "answers"] == f"{low:g} to {high:g} years"
    assert told.loc["site", "answers"] == "a, b, c"
    assert told.loc["IST_item2"].tolist() == ["10 to 39 points", "Item 2"]
    assert list(abbreviations(features)) == ["IST"]


def test_only_the_first_of_many_names_are_listed():
    assert shortened(("a", "b"), most=2) == "a, b"
    assert shortened(("a", "b", "c"), most=2) == "a, b and 1 more"
