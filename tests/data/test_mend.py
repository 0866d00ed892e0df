"""Tables as they are found in the field: odd files, codes, and columns that give answers away."""

import json

import pandas as pd
import pytest

from csegsynth_kit.data.answers import read_answers_for
from csegsynth_kit.data.features import Features
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


@pytest.mark.parametrize(
    "word",
    [
        *("None", "<NA>", "-", "?", "unknown", "n.a.", "Not reported"),
        *("Prefer not to say", "unknown / not reported", "refused or missing"),
    ],
)
@pytest.mark.parametrize("others", [["1", "2", "3", "4"], ["8", "12", "16.5", "21"]])
def test_words_for_missing_make_no_numbers_a_category(tmp_path, word, others):
    people = read_participants(table(tmp_path, rows([*others * 3, *[word] * 4], n=16)))
    assert people.columns[0].numeric
    assert people.frame["score"].isna().sum() == 4
    assert people.frame["score"].mean() == pytest.approx(sum(map(float, others)) / 4)


def test_words_for_missing_are_answers_where_the_description_lists_them(tmp_path):
    text = rows(["yes", "no", "unknown", "unknown"], n=4)
    people = read_participants(table(tmp_path, text))
    assert people.columns[0].levels == ("no", "yes")
    assert "taken-as-missing" in codes(people)
    listed = {"score": {"Levels": ["yes", "no", "unknown"]}}
    assert read_participants(table(tmp_path, text, listed)).frame["score"].notna().all()


@pytest.mark.parametrize("code", ["-999", "99", "?"])
def test_codes_among_words_are_no_level(tmp_path, code):
    people = read_participants(table(tmp_path, rows([*["low", "high", "medium"] * 3, code], n=10)))
    assert people.columns[0].levels == ("low", "medium", "high")
    assert people.frame["score"].isna().sum() == 1
    assert "taken-as-missing" in codes(people)


@pytest.mark.parametrize(
    ("others", "code", "missing"),
    [
        (["14", "29", "30", "22"], "-1", True),
        (["14", "29", "30", "22"], "-4", True),
        (["14", "29", "30", "22"], "99", True),
        (["1", "2", "3", "4"], "-1", True),
        (["-1.5", "0.3", "2.9", "-0.2"], "-999", True),
        (["-1.5", "0.3", "2.9", "-0.2"], "-9", False),
        (["0", "1", "2", "1"], "-1", False),
        (["1", "1", "1", "1"], "-1", False),
        (["2", "4", "7", "1"], "-3", False),
        (["0.25", "1", "0.5", "1.5"], "-6", False),
        (["60", "71", "80", "95"], "99", False),
        (["10", "20", "30", "45"], "99", False),
        (["18", "20", "22", "30"], "77", False),
        (["1", "2", "-1", "-3"], "-2", False),
    ],
)
def test_codes_are_told_from_answers_by_their_distance(tmp_path, others, code, missing):
    people = read_participants(table(tmp_path, rows([*others * 3, code, code], n=14)))
    assert people.frame["score"].isna().sum() == (2 if missing else 0)
    assert ("taken-as-missing" in codes(people)) == missing
    doubted = code in ("-1", "-3", "-6") and not missing and len(set(others)) > 1
    assert ("negative" in codes(people)) == doubted


def test_levels_may_be_objects_and_codes_may_have_decimals(tmp_path):
    described = {
        "sex": {"Levels": {"1": {"Description": "Male"}, "2": {"Description": "Female"}}},
        "smoker": {"Levels": {"0": "no", "1": "yes", "9": {"Description": "not answered"}}},
        "hand": {"Levels": {"1": "right", "2": "left", "3": "both"}, "Kind": "demographic"},
        "site": {"Levels": {"1": "Rome", "2": "Oslo", "3": "Bonn"}},
        "arm": {"Levels": {"R": "right", "L": "left"}},
    }
    header = "participant_id\tsex\tsmoker\thand\tsite\tarm\n"
    text = "".join(f"sub-{i}\t{1 + i % 2}.0\t{i % 2 or 9}\t{i}.0\t{i}\tLeft\n" for i in (1, 2, 3))
    people = read_participants(table(tmp_path, header + text.replace("Left", "r", 1), described))
    assert people.frame["sex"].tolist() == ["female", "male", "female"]
    assert people.frame["smoker"].tolist()[::2] == ["1", "1"]
    assert people.frame["smoker"].isna().sum() == 1
    kinds = {c.name: c.kind for c in people.columns}
    assert (kinds["hand"], kinds["site"]) == ("ordinal", "categorical")
    assert people.frame["arm"].tolist() == ["R", "L", "L"]
    (order,) = [f for f in people.findings if f.code == "ordered"]
    assert (order.subject, "from 1 (right) to 3 (both)" in order.message) == ("column hand", True)


@pytest.mark.parametrize("said", ["available", "assessed", "recorded"])
def test_opposites_are_answers(tmp_path, said):
    people = read_participants(table(tmp_path, rows([said, f"not {said}"] * 4, n=8)))
    assert people.columns[0].levels == tuple(sorted([said, f"not {said}"]))


def test_codes_that_pandas_has_made_decimals_are_written_plainly(tmp_path):
    path = table(tmp_path, rows(["1.0", "2.0", "3", "n/a"] * 3, "site", 12))
    people = read_participants(path)
    assert people.columns[0].levels == ("1", "2", "3")
    features = Features.fit(people.frame, people.columns)
    one = table(tmp_path, "participant_id\tsite\nsub-1\t2.0\n", name="one.tsv")
    assert read_answers_for(features, one).frame["site"].tolist() == ["2"]


def test_ages_in_months_are_no_codes(tmp_path):
    described = {"age": {"Units": "months"}}
    path = table(tmp_path, "participant_id\tage\nsub-1\t99\n", described)
    people = read_participants(path, asked={"age": (5.0, 11.0)})
    assert people.frame["age"].tolist() == [8.25]


def test_what_one_person_answers_says_nothing_of_another(tmp_path):
    for answers in (["99"], ["99", "99"]):
        path = table(tmp_path, rows(answers, "mmse", len(answers)))
        people = read_participants(path, asked={"mmse": (10.0, 30.0)})
        assert people.frame["mmse"].tolist() == [99.0] * len(answers)
    path = table(tmp_path, rows(["none"], "mmse", 1))
    assert read_participants(path, asked={"mmse": (10.0, 30.0)}).frame["mmse"].isna().all()


def test_codes_of_known_tables_may_be_decimals_and_in_other_case(tmp_path):
    text = 'IXI_ID,"SEX_ID (1=m, 2=f)",AGE\n1,2.0,35\n2,1.0,38\n'
    people = read_participants(table(tmp_path, text, name="ixi.csv"))
    assert people.frame["sex"].tolist() == ["female", "male"]


def test_sex_is_the_usual_column_among_several(tmp_path):
    text = "participant_id\tMF\tgender\tsex_at_birth\n"
    text += "sub-1\t12\tman\tfemale\nsub-2\t13\tman\tmale\nsub-3\t15\twoman\tfemale\n"
    people = read_participants(table(tmp_path, text))
    assert people.frame["sex"].tolist() == ["female", "male", "female"]
    assert people.frame["MF"].tolist() == [12, 13, 15]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "categorical") for name in ("site", "marital_status", "Diagnosis")),
        *((name, "ordinal") for name in ("age_group", "pain_site", "education")),
    ],
)
def test_codes_have_an_order_unless_their_name_says_otherwise(tmp_path, name, kind):
    people = read_participants(table(tmp_path, rows(["1", "2", "3"] * 3, name, 9)))
    assert people.columns[0].kind == kind
    levels = {name: {"Levels": {"1": "a", "2": "b", "3": "c"}}}
    described = table(tmp_path, rows(["1", "2", "3"] * 3, name, 9), levels)
    assert ("ordered" in codes(read_participants(described))) == (kind == "ordinal")
    stated = read_participants(described, kinds={name: "categorical"})
    assert "ordered" not in codes(stated)


def test_levels_that_differ_in_case_stay_apart(tmp_path):
    described = {"score": {"Levels": {"a": "lower", "A": "upper"}}}
    people = read_participants(table(tmp_path, rows(["a", "A"] * 2, n=4), described))
    assert people.frame["score"].tolist() == ["a", "A"] * 2


def test_sex_beside_a_code_is_no_order(tmp_path):
    people = read_participants(table(tmp_path, rows(["1", "2", "1", "9"], "sex", 4)))
    assert people.columns[0].levels == ("1", "2")
    assert people.frame["sex"].isna().sum() == 1


def test_semicolons_bring_decimal_commas_below_ten(tmp_path):
    text = rows(["7,0", "6,5", "8,5", "7,7"] * 3, "sleep", 12).replace("\t", ";")
    people = read_participants(table(tmp_path, text, name="p.csv"))
    assert people.frame["sleep"].tolist() == [7.0, 6.5, 8.5, 7.7] * 3
    assert "decimal-comma" in codes(people)


def test_with_tabs_one_column_must_show_that_commas_are_decimal(tmp_path):
    columns = {
        "age": ["31,5", "42,0", "27,25", "50,5", "61,5"],
        "sleep": ["7,0", "6,5", "8,5", "7,7", "7,7"],
        "apoe": ["3,3", "3,4", "2,3", "4,4", "3,3"],
        "steps": ["5,100", "7,200", "6,300", "9,900", "5,200"],
    }

    def read(*names):
        lines = zip(*(columns[name] for name in names), strict=True)
        body = ["\t".join([f"sub-{i}", *line]) for i, line in enumerate(lines)]
        text = "\n".join(["\t".join(["participant_id", *names]), *body]) + "\n"
        return read_participants(table(tmp_path, text))

    people = read(*columns)
    assert people.frame["age"].tolist() == [31.5, 42.0, 27.25, 50.5, 61.5]
    assert people.frame["sleep"].tolist() == [7.0, 6.5, 8.5, 7.7, 7.7]
    assert people.frame["apoe"].tolist() == columns["apoe"]
    assert people.frame["steps"].tolist() == columns["steps"]
    alone = read("sleep", "apoe")
    assert not any(column.numeric for column in alone.columns)


@pytest.mark.parametrize(
    ("units", "per_year"), [("Months", 12), ("weeks", 52.18), ("days", 365.25), ("years", 1)]
)
def test_ages_are_in_years_whatever_their_units(tmp_path, units, per_year):
    ages = [str(round(years * per_year)) for years in (5, 7, 9)]
    people = read_participants(
        table(tmp_path, rows(ages, "age", 3), {"age": {"Units": units}}),
    )
    assert people.frame["age"].tolist() == pytest.approx([5, 7, 9], abs=0.01)
    assert people.columns[0].units == ("years")


@pytest.mark.parametrize("name", ["age_years", "Age at scan", "AGE"])
def test_age_is_known_by_other_names(tmp_path, name):
    people = read_participants(table(tmp_path, rows(["30", "30", "40"], name, 3)))
    assert [(c.name, c.kind) for c in people.columns] == [("age", "continuous")]


def test_what_differs_in_case_alone_is_one_answer(tmp_path):
    people = read_participants(table(tmp_path, rows(["Right", "right", "Right", "left"], n=4)))
    assert people.columns[0].levels == ("Right", "left")
    assert "spelling" in codes(people)


def test_what_nobody_shares_is_no_category(tmp_path):
    dates = [f"2020-01-{day:02d}" for day in range(1, 7)]
    people = read_participants(table(tmp_path, rows(dates, n=6)))
    assert people.columns[0].left_out == "it is free text"


def test_tables_saved_by_pandas_and_excel_are_read(tmp_path):
    text = "Unnamed: 0\tparticipant_id\tage\n3\tsub-1\t31\n7\tsub-2\t42\n"
    (tmp_path / "p.tsv").write_bytes(text.encode("utf-16"))
    people = read_participants(tmp_path / "p.tsv")
    assert list(people.frame) == ["age"]
    assert list(people.frame.index) == ["sub-1", "sub-2"]


def test_quotes_in_a_tsv_are_characters(tmp_path):
    text = 'participant_id\tnote\tage\nsub-1\t"tall" he said\t20\nsub-2\tx\t30\n'
    people = read_participants(table(tmp_path, text))
    assert people.frame["note"].tolist() == ['"tall" he said', "x"]
    assert people.frame["age"].tolist() == [20, 30]


@pytest.mark.parametrize(
    ("ids", "persons"),
    [
        (["OAS1_0001_MR1", "OAS1_0001_MR2", "OAS1_0002_MR1"], 2),
        (["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"], 2),
        (["sub-01MR1", "sub-01MR2", "sub-ses1"], 3),
    ],
)
def test_scans_of_one_person_are_kept_together(tmp_path, ids, persons):
    text = "participant_id\tage\n" + "".join(f"{i}\t{30 + n}\n" for n, i in enumerate(ids))
    people = read_participants(table(tmp_path, text))
    assert people.persons.nunique() == persons
    assert ("persons" in codes(people)) == (persons < 3)
