"""Tables as they are found in the field: odd files, codes, and columns that give answers away."""

import json

import pandas as pd
import pytest

from csegsynth_kit.data.participants import read_participants
from csegsynth_kit.data.tables import SCAN_DERIVED
from csegsynth_kit.errors import TableError


def table(tmp_path, text, described=None, name="participants.tsv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    if described is not None:
        content = described if isinstance(described, bytes) else json.dumps(described).encode()
        (tmp_path / "participants.json").write_bytes(content)
    return tmp_path / name


def rows(values, column="score", n=20):
    """A table of ``n`` people whose last answers are ``values``."""
    answers = [str(50 + i) for i in range(n - len(values))] + list(values)
    lines = [f"sub-{i:02d}\t{answer}" for i, answer in enumerate(answers)]
    return "\n".join([f"participant_id\t{column}", *lines]) + "\n"


def codes(people):
    return {finding.code for finding in people.findings}


def test_a_trailing_delimiter_shifts_nothing(tmp_path):
    people = read_participants(
        table(tmp_path, "participant_id\tage\tsex\nsub-1\t31\tM\t\nsub-2\t42\tF\t\n")
    )
    assert people.frame["age"].tolist() == [31, 42]
    assert people.frame["sex"].tolist() == ["male", "female"]


def test_a_row_with_too_many_answers_is_refused(tmp_path):
    path = table(tmp_path, "participant_id\tage\nsub-1\t31\nsub-2\t42\t7\n")
    with pytest.raises(TableError, match="line 3 has 3 answers"):
        read_participants(path)


def test_a_row_with_too_few_answers_is_refused(tmp_path):
    path = table(tmp_path, "id,age,sex,bmi\n1,31,F,20\n2,30,22\n", name="a.csv")
    with pytest.raises(TableError, match="line 3 has 3 answers"):
        read_participants(path)


def test_the_separator_is_the_one_that_separates_most(tmp_path):
    text = "sep=;\nid;Years, months;sex\n1;31, 2;F\n2;30, 4;M\n"
    people = read_participants(table(tmp_path, text, name="a.csv"))
    assert list(people.frame) == ["Years, months", "sex"]


def test_semicolons_bring_decimal_commas(tmp_path):
    path = table(tmp_path, "participant_id;age\nsub-1;31,5\nsub-2;42\n", name="p.csv")
    assert read_participants(path).frame["age"].tolist() == [31.5, 42]


def test_a_column_that_counts_rows_is_dropped_and_another_nameless_one_refused(tmp_path):
    good = table(tmp_path, ",participant_id,age\n0,sub-1,31\n1,sub-2,42\n", name="a.csv")
    assert list(read_participants(good).frame) == ["age"]
    bad = table(tmp_path, "participant_id,,age\nsub-1,7,31\nsub-2,3,42\n", name="b.csv")
    with pytest.raises(TableError, match="column 2 has no name"):
        read_participants(bad)


def test_headers_may_have_blanks_and_ids_a_decimal(tmp_path):
    path = table(tmp_path, " participant_id \t age\n1.0\t31\n10\t42\n")
    people = read_participants(path)
    assert list(people.frame.index) == ["sub-1", "sub-10"]
    assert list(people.frame) == ["age"]


@pytest.mark.parametrize("code", ["-9", "-999", "999"])
def test_numbers_far_from_all_others_are_codes_and_doubted(tmp_path, code):
    people = read_participants(table(tmp_path, rows([code, code])))
    assert people.frame["score"].isna().sum() == 2
    assert people.frame["score"].max() < 70
    assert "taken-as-missing" in codes(people)


@pytest.mark.parametrize("values", [["-9", "-12"], ["999", "980"]])
def test_numbers_among_their_like_are_answers(tmp_path, values):
    people = read_participants(table(tmp_path, rows(values)))
    assert people.frame["score"].notna().all()


def test_levels_that_mean_not_answered_are_missing(tmp_path):
    described = {"score": {"Levels": {"8": "refused", "9": "Not administered"}}}
    people = read_participants(table(tmp_path, rows(["8", "9"]), described))
    assert people.frame["score"].isna().sum() == 2


@pytest.mark.parametrize("meaning", ["declined", "homework not done", "never missing work"])
def test_levels_that_only_sound_so_are_answers(tmp_path, meaning):
    described = {"score": {"Levels": {"8": meaning, "9": "improved"}}}
    text = "participant_id\tscore\n" + "\n".join(f"sub-{i}\t{8 + i % 2}" for i in range(8))
    assert read_participants(table(tmp_path, text, described)).frame["score"].notna().all()


@pytest.mark.parametrize("values", [["1,050", "12,500"], ["1,2"] * 10])
def test_thousands_and_choices_are_no_decimals(tmp_path, values):
    people = read_participants(table(tmp_path, rows(values)))
    assert not people.columns[0].numeric


def test_only_line_ends_end_a_line(tmp_path):
    text = 'participant_id\tnote\tage\nsub-1\tfoo\x0bb\t20\nsub-2\t"a\nb"\t30\n'
    people = read_participants(table(tmp_path, text))
    assert people.frame["age"].tolist() == [20, 30]
    assert people.frame["note"].iloc[1] == "a\nb"


def test_one_odd_cell_makes_no_number_a_text(tmp_path):
    people = read_participants(table(tmp_path, rows(["89+", "61,5"], "age")))
    age = next(c for c in people.columns if c.name == "age")
    assert age.kind == "continuous"
    assert people.frame["age"].iloc[-3:].tolist() == [67, 89, 61.5]
    assert {"bounds", "decimal-comma"} <= codes(people)
    people = read_participants(table(tmp_path, rows(["?"], "age")))
    assert people.frame["age"].isna().sum() == 1
    assert "taken-as-missing" in codes(people)


def test_words_among_codes_are_answers(tmp_path):
    answers = ["0"] * 28 + ["fluoxetine", "sertraline"]
    text = "participant_id\tmedication\n" + "\n".join(
        f"sub-{i:02d}\t{a}" for i, a in enumerate(answers)
    )
    people = read_participants(table(tmp_path, text))
    assert people.frame["medication"].notna().all()


def test_far_zeros_are_doubted_and_kept(tmp_path):
    people = read_participants(table(tmp_path, rows(["0"], "BMI")))
    assert people.frame["BMI"].iloc[-1] == 0
    assert "far-zeros" in codes(people)


@pytest.mark.parametrize(
    ("column", "code", "seen", "expected"),
    [
        ("BMI", "-999", (16.0, 40.0), None),
        ("BMI", "999", (16.0, 40.0), None),
        ("age", "-999", (18.0, 88.0), None),
        ("BMI", "0", (16.0, 40.0), 0),  # Doubted and kept, as in a longer table.
        ("alcohol", "0", (0.0, 70.0), 0),
        ("handedness", "-99", (-100.0, 100.0), -99),
        ("activity", "99", (0.5, 23.0), 99),
        ("site", "-999", (), -999),
    ],
)
def test_one_row_is_read_as_a_row_of_a_longer_table(tmp_path, column, code, seen, expected):
    text = f"participant_id\t{column}\nsub-1\t{code}\n"
    people = read_participants(table(tmp_path, text), asked={column: seen})
    (answer,) = people.frame[column]
    assert pd.isna(answer) if expected is None else answer == expected
    assert ("taken-as-missing" in codes(people)) == (expected is None)
    assert ("far-zeros" in codes(people)) == (column == "BMI" and code == "0")


@pytest.mark.parametrize(("n", "missing"), [(9, 0), (20, 1)])
def test_a_single_name_that_nobody_knows_is_missing_among_enough_others(tmp_path, n, missing):
    answers = ["left", "Right"] * n
    answers = [*answers[: n - 1], "ambidextrous"]
    path = table(tmp_path, rows(answers, "handedness", n))
    people = read_participants(path, asked={"handedness": ("left", "right")})
    assert people.frame["handedness"].isna().sum() == missing
    assert ("taken-as-missing" in codes(people)) == bool(missing)


def test_several_codes_do_not_hide_one_another(tmp_path):
    people = read_participants(table(tmp_path, rows(["-9", "-8", "888", "999"])))
    assert people.frame["score"].isna().sum() == 4


def test_a_level_taken_as_missing_is_no_level(tmp_path):
    described = {"sex": {"Levels": {"1": "Male", "2": "Female", "9": "unknown"}}}
    text = "participant_id\tsex\nsub-1\t1.0\nsub-2\t2.0\nsub-3\t9.0\n"
    people = read_participants(table(tmp_path, text, described))
    assert people.columns[0].levels == ("female", "male")
    assert people.frame["sex"].tolist()[:2] == ["male", "female"]
    assert people.frame["sex"].isna().sum() == 1


def test_many_odd_cells_stay_text(tmp_path):
    people = read_participants(table(tmp_path, rows(["a", "b", "c", "d"])))
    assert not people.columns[0].numeric


@pytest.mark.parametrize("age", ["365", "-3"])
def test_ages_nobody_has_are_refused(tmp_path, age):
    with pytest.raises(TableError, match="years old"):
        read_participants(table(tmp_path, rows([age], "age")))


def test_descriptions_follow_their_column_and_name_sex(tmp_path):
    described = {"Gender": {"Description": "Sex at birth", "Levels": {"1": "Male", "2": "Female"}}}
    path = table(tmp_path, "participant_id\tGender\nsub-1\t1\nsub-2\t2\n", described)
    people = read_participants(path)
    assert people.frame["sex"].tolist() == ["male", "female"]
    assert people.columns[0].description == "Sex at birth"


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ('{"age": {"Units": "années"}}'.encode("latin-1"), "not valid JSON in UTF-8"),
        ({"age": {"Levels": 3}}, "describes the levels of 'age' by 3"),
        ({"age": {"Levels": "yes, no"}}, "describes the levels"),
    ],
)
def test_broken_descriptions_are_refused_by_name(tmp_path, described, message):
    path = table(tmp_path, "participant_id\tage\nsub-1\t31\nsub-2\t42\n", described)
    with pytest.raises(TableError, match=message) as caught:
        read_participants(path)
    assert caught.value.path.name == "participants.json"


def test_rows_may_name_their_person(tmp_path):
    text = "participant_id\tage\tperson_id\nsub-1a\t31\tsub-1\nsub-1b\t32\t1\nsub-2\t42\tn/a\n"
    people = read_participants(table(tmp_path, text))
    assert people.persons.tolist() == ["sub-1", "sub-1", "sub-2"]
    assert list(people.frame) == ["age"]


def test_measurements_of_the_scan_are_recognized():
    aseg = (
        "BrainSegVolNotVent SupraTentorialVolNotVent BrainSegVol-to-eTIV MaskVol-to-eTIV CSF GM WM "
        "3rd-Ventricle 5th-Ventricle Brain-Stem CC_Posterior CC_Mid_Anterior TotalGray GMV TBV TIV "
        "ICV eTIV lhCortexVol Left-Hippocampus WM-hypointensities Optic-Chiasm SurfaceHoles gm_ml "
        "EstimatedTotalIntraCranialVol mean_thickness"
    )
    asked = (
        "age sex BMI csf_abeta accuracy stem_score total_score education wm_span left_handed "
        "right_grip_kg left_eye_acuity"
    )
    assert [name for name in aseg.split(" ") if not SCAN_DERIVED.search(name)] == []
    assert [name for name in asked.split(" ") if SCAN_DERIVED.search(name)] == []


def test_missing_words_are_missing(tmp_path):
    people = read_participants(table(tmp_path, rows([".", "NULL", "n/a"])))
    assert people.frame["score"].isna().sum() == 3
    assert pd.api.types.is_float_dtype(people.frame["score"])
