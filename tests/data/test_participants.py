"""Tables of people: published ones by name, others by their description and answers."""

import json

import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.data.participants import participant_id, read_participants
from csegsynth_kit.data.tables import is_sensitive
from csegsynth_kit.errors import TableError
from tests.data.heads import write_table


def columns_of(people):
    return {column.name: column for column in people.columns}


def features_of(people):
    return [column.name for column in people.feature_columns]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("01", "sub-01"),
        ("sub-01", "sub-01"),
        ("OAS1_0001_MR1", "sub-OAS10001MR1"),
        (" a-b.c ", "sub-abc"),
    ],
)
def test_ids_become_bids_labels(raw, expected):
    assert participant_id(raw) == expected


@pytest.mark.parametrize("raw", ["", "sub-", "a/b", "ä", "sub-01 02"])
def test_other_ids_are_refused(raw):
    with pytest.raises(TableError, match="cannot be a participant id"):
        participant_id(raw)


def test_ids_that_clash_in_file_names_are_both_named(tmp_path):
    path = write_table(tmp_path / "p.tsv", ["a-b1", "c", "ab1"], age=[20, 30, 40])
    with pytest.raises(TableError, match=r"p\.tsv: ids 'a-b1' and 'ab1' would both be sub-ab1"):
        read_participants(path)
    same = write_table(tmp_path / "q.tsv", ["ab1", "c", "ab1"], age=[20, 30, 40])
    with pytest.raises(TableError, match="more than once: sub-ab1"):
        read_participants(same)


def test_only_what_is_asked_for_is_read(tmp_path):
    path = write_table(
        tmp_path / "p.tsv", ["a", "b"], Age=[20, 30], income=["much", "odd"], sex=["M", "F"]
    )
    people = read_participants(path, asked={"age": (), "sex": (), "BMI": ()})
    assert list(people.frame) == ["age", "sex"]
    assert people.ignored == ("income",)
    assert read_participants(path).ignored == ()


def test_missing_answers_are_missing_however_they_are_written(tmp_path):
    marks = ["n/a", "N/A", "NA", "NaN", "nan", ""]
    path = write_table(
        tmp_path / "p.tsv",
        [f"sub-{i}" for i in range(9)],
        age=[20, 30.5, 40, *marks],
        site=["a", "b", "a", *marks],
    )
    people = read_participants(path)
    assert people.frame.notna().sum().tolist() == [3, 3]
    assert people.frame["age"].dtype == float
    assert columns_of(people)["site"].levels == ("a", "b")


def test_kinds_are_inferred_from_answers(tmp_path):
    n = 40
    rng = np.random.default_rng(0)
    path = write_table(
        tmp_path / "p.tsv",
        [f"sub-{i}" for i in range(n)],
        age=rng.uniform(18, 80, n).round(1),
        visits=rng.integers(1, 5, n),
        group=rng.choice([0, 1], n),
        two_weights=rng.choice([55, 80], n),
        smoking=rng.choice(["Never", "Former", "Current"], n),
        effort=rng.choice(["low", "medium", "high"], n),
        site=rng.choice(["x", "y", "z"], n),
        remark=[f"text {i}" for i in range(n)],
    )
    people = read_participants(path)
    kinds = {c.name: c.kind for c in people.columns}
    assert kinds == {
        "age": "continuous",
        "visits": "ordinal",
        "group": "categorical",
        "two_weights": "ordinal",
        "smoking": "ordinal",
        "effort": "ordinal",
        "site": "categorical",
        "remark": "text",
    }
    assert columns_of(people)["two_weights"].numeric
    assert columns_of(people)["group"].levels == ("0", "1")
    assert columns_of(people)["smoking"].levels == ("Never", "Former", "Current")
    assert columns_of(people)["effort"].levels == ("low", "medium", "high")
    assert columns_of(people)["remark"].left_out == "it is free text"


def test_the_description_comes_before_the_answers(tmp_path):
    described = {
        "sex": {"Levels": {"F": "female", "M": "male"}},
        "grade": {"Levels": {"1": "", "2": "", "3": ""}, "Description": "School grade"},
        "level": {"Levels": {"b": "", "a": "", "c": ""}},
        "weight": {"Units": "kg"},
    }
    path = write_table(
        tmp_path / "p.tsv",
        ["sub-1", "sub-2", "sub-3"],
        described,
        sex=["F", "M", "F"],
        grade=[1, 2, 3],
        level=["a", "b", "a"],
        weight=[70, 80, 75],
    )
    columns = columns_of(read_participants(path))
    assert columns["sex"].levels == ("female", "male")
    assert columns["grade"].kind == "ordinal"
    assert columns["grade"].description == "School grade"
    assert columns["level"].levels == ("b", "a", "c")
    assert columns["weight"].units == "kg"


def test_the_user_comes_before_everything(tmp_path):
    path = write_table(tmp_path / "p.tsv", ["1", "2", "3"], score=[1, 2, 3], age=[20, 30, 41])
    people = read_participants(path, kinds={"score": "categorical"}, features=["score"])
    assert columns_of(people)["score"].levels == ("1", "2", "3")
    assert features_of(people) == ["score"]
    with pytest.raises(TableError, match="hight"):
        read_participants(path, kinds={"hight": "continuous"})


def test_columns_that_give_the_answer_away_are_no_features(tmp_path):
    n = 12
    rng = np.random.default_rng(0)
    names = ["TotalGrayVol", "eTIV", "lh_G_thickness", "gm_ml", "Left-Putamen", "DWI_TR_run1"]
    path = write_table(
        tmp_path / "p.tsv",
        [f"sub-{i}" for i in range(n)],
        age=rng.uniform(20, 80, n),
        religious_now=rng.choice(["yes", "no"], n),
        constant=["x"] * n,
        **{name: rng.random(n) for name in names},
    )
    people = read_participants(path)
    assert features_of(people) == ["age"]
    reasons = {c.name: c.left_out for c in people.columns}
    assert reasons["religious_now"] == "sensitive"
    assert "give the answer away" in reasons["eTIV"]
    assert reasons["DWI_TR_run1"] == "a setting of the scanner"
    assert "same answer" in reasons["constant"]
    left_out = {f.subject for f in people.findings if f.code == "left-out"}
    assert left_out == {f"column {name}" for name in reasons if name != "age"}


def test_repeated_columns_are_dropped_once(tmp_path):
    n = 12
    age = np.random.default_rng(0).uniform(20, 80, n).round(2)
    path = write_table(
        tmp_path / "p.tsv", [f"sub-{i}" for i in range(n)], age=age, months=(age * 12).round(3)
    )
    people = read_participants(path)
    assert features_of(people) == ["age"]
    assert columns_of(people)["months"].left_out == "it repeats age"
    before = write_table(
        tmp_path / "q.tsv", [f"sub-{i}" for i in range(n)], months=(age * 12).round(3), age=age
    )
    assert features_of(read_participants(before)) == ["age"]  # models ask for it by this name


def test_tables_join_on_the_first(tmp_path):
    first = write_table(tmp_path / "a.tsv", ["1", "2", "3"], age=[20, 30, 41])
    second = write_table(tmp_path / "b.tsv", ["sub-2", "sub-1", "9"], score=[5.5, 6, 7])
    people = read_participants(first, second)
    assert people.frame["score"].tolist()[:2] == [6.0, 5.5]
    assert np.isnan(people.frame["score"].iloc[2])
    assert [f.code for f in people.findings] == ["not-in-first-table"]
    third = write_table(tmp_path / "c.tsv", ["1"], age=[3])
    with pytest.raises(TableError, match=r"c\.tsv: has columns that a\.tsv has too"):
        read_participants(first, third)


@pytest.mark.parametrize("column", ["religious_now", "homeint_v24", "homeint_v15", "ethnicity"])
def test_sensitive_columns_are_known(column):
    assert is_sensitive(column)
    assert not is_sensitive("age")


# --- AOMIC


def write_id1000(path):
    """Six people in the columns and codes of AOMIC ID1000."""
    head = [
        *("participant_id", "age", "sex", "handedness", "BMI", "education_level", "background_SES"),
        *(f"IST_{x}" for x in ("fluid", "memory", "crystallised", "intelligence_total")),
        *("BAS_drive", "BAS_fun", "BAS_reward", "BIS", *(f"NEO_{x}" for x in "NEOAC"), "STAI_T"),
        *(f"{x}_{y}" for x in ("sexual_attraction", "gender_identity") for y in "MF"),
        *(f"religious_{x}" for x in ("upbringing", "now", "importance")),
        *(f"DWI_TR_run{run}" for run in (1, 2, 3)),
    ]
    rng = np.random.default_rng(0)
    lines = ["\t".join(head)]
    for i in range(6):
        row = dict.fromkeys(head, "n/a")
        row |= {
            name: str(rng.integers(10, 60)) for name in head if name[:3] in ("IST", "BAS", "NEO")
        }
        row |= {
            "participant_id": f"sub-{i + 1:04d}",
            "age": str(20 + i),
            "sex": "male" if i % 2 else "female",
            "handedness": "left" if i == 3 else "right",
            "BMI": "0" if i == 2 else str(21 + i / 2),
            "education_level": ("low", "medium", "high")[i % 3] if i < 5 else "n/a",
            "background_SES": str(2 + i / 2),
            "BIS": str(15 + i * i),
            "STAI_T": str(30 + i**3),
            "sexual_attraction_M": str(i),
            "religious_now": "yes" if i % 2 else "no",
            "DWI_TR_run1": str(6.3 + i),
        }
        lines.append("\t".join(row[name] for name in head))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_aomic_id1000_by_its_columns_and_codes(tmp_path):
    people = read_participants(write_id1000(tmp_path / "participants.tsv"))
    columns = columns_of(people)
    assert people.known == "AOMIC ID1000"
    assert np.isnan(people.frame.loc["sub-0003", "BMI"])  # A BMI of 0 means unanswered.
    assert people.frame["BMI"].notna().sum() == 5
    assert columns["sex"].levels == ("female", "male")
    assert columns["education_level"].levels == ("low", "medium", "high")
    assert columns["education_level"].kind == "ordinal"
    assert columns["handedness"].levels == ("left", "right")
    assert columns["background_SES"].kind == "continuous"
    assert columns["BMI"].units == "kg/m^2"
    features = features_of(people)
    assert {"age", "sex", "BMI", "IST_fluid", "STAI_T", "NEO_N"} <= set(features)
    hidden = [n for n in columns if n.startswith(("sexual", "gender", "relig", "DWI"))]
    assert len(hidden) == 10
    assert not set(hidden) & set(features)
    assert "1 answers equal to 0 mean missing" in " ".join(f.message for f in people.findings)


def test_a_level_the_description_adds_to_a_known_table_is_accepted(tmp_path):
    path = write_id1000(tmp_path / "participants.tsv")
    text = path.read_text(encoding="utf-8").replace("\tleft\t", "\tambidextrous\t")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match="ambidextrous"):
        read_participants(path)
    levels = dict.fromkeys(("left", "right", "ambidextrous"), "")
    described = {"handedness": {"Levels": levels}, "sex": {"Levels": {"M": "", "F": ""}}}
    path.with_suffix(".json").write_text(json.dumps(described))
    people = read_participants(path)
    assert columns_of(people)["handedness"].levels == ("left", "right", "ambidextrous")
    assert columns_of(people)["sex"].levels == ("female", "male")


@pytest.mark.real
def test_the_real_piop2_table_follows_its_description(real_data):
    folder = real_data / "aomic_piop2"
    people = read_participants(folder / "participants.tsv")
    described = json.loads((folder / "participants.json").read_text(encoding="utf-8"))
    columns = columns_of(people)
    assert people.frame.shape == (226, 11)
    assert people.frame.index.is_unique
    for name, column in columns.items():
        entry = described[name]
        assert column.description == entry.get("Description", entry.get("LongName"))
        assert column.units == entry.get("Units", "")
        if "Levels" in entry and name != "sex":
            assert column.levels == tuple(entry["Levels"])
            assert set(people.frame[name].dropna()) <= set(column.levels)
    assert columns["sex"].levels == ("female", "male")
    assert set(people.frame["sex"].dropna()) == {"female", "male"}
    numbers = ["age", "BMI", "raven_score", "NEO_N", "NEO_E", "NEO_O", "NEO_A", "NEO_C"]
    assert all(columns[name].kind == "continuous" for name in numbers)
    ages = people.frame["age"].dropna()
    assert len(ages) > 200
    assert ages.between(18, 27).all()
    assert features_of(people) == list(columns)


# --- OASIS-1


@pytest.mark.real
def test_the_real_oasis_table(real_data):
    people = read_participants(real_data / "oasis1" / "oasis_cross-sectional.csv")
    columns = columns_of(people)
    assert people.known == "OASIS-1 cross-sectional"
    assert len(people.frame) == 355
    retests = [i for i in people.frame.index if i.endswith("MR2")]
    assert people.persons.nunique() == 355 - sum(
        i.replace("MR2", "MR1") in people.frame.index for i in retests
    )
    assert people.persons.nunique() == 338
    for retest in retests:
        first = retest.replace("MR2", "MR1")
        if first in people.persons:
            assert people.persons[first] == people.persons[retest]
    assert people.frame["age"].between(18, 96).all()
    assert set(people.frame["sex"]) == {"female", "male"}
    assert 0.3 < people.frame["MMSE"].isna().mean() < 0.7
    assert columns["CDR"].kind == columns["education"].kind == "ordinal"
    assert columns["MMSE"].kind == "continuous"
    for name in ("eTIV", "nWBV", "ASF"):
        assert "give the answer away" in columns[name].left_out
    assert "age" in features_of(people)
    assert "socioeconomic_status" in features_of(people)


@pytest.mark.real
@pytest.mark.parametrize(
    "saved",
    [
        lambda t: t.rename(columns={"ID": "participant_id"}),
        lambda t: t.rename(columns=lambda name: name.lower().replace("/", "")),
        lambda t: t.drop(columns=["eTIV", "nWBV", "ASF"]),
    ],
    ids=["bids", "nilearn", "without volumes"],
)
def test_the_real_oasis_table_is_known_under_other_headers(tmp_path, real_data, saved):
    path = real_data / "oasis1" / "oasis_cross-sectional.csv"
    published = read_participants(path)
    saved(pd.read_csv(path)).to_csv(tmp_path / "oasis.csv", index=False)
    people = read_participants(tmp_path / "oasis.csv")
    assert people.known == published.known
    assert people.persons.nunique() == 338
    assert features_of(people) == features_of(published)
    pd.testing.assert_frame_equal(
        people.frame[features_of(people)], published.frame[features_of(people)]
    )


def test_oasis_2_and_ixi_are_known(tmp_path):
    longitudinal = tmp_path / "oasis2.csv"
    longitudinal.write_text(
        "Subject ID,MRI ID,Group,Visit,MR Delay,M/F,Hand,Age,EDUC,SES,MMSE,CDR,eTIV,nWBV,ASF\n"
        "OAS2_0001,OAS2_0001_MR1,Nondemented,1,0,M,R,87,14,2,27,0,1987,0.696,0.883\n"
        "OAS2_0001,OAS2_0001_MR2,Nondemented,2,457,M,R,88,14,2,30,0,2004,0.681,0.876\n"
        "OAS2_0002,OAS2_0002_MR1,Demented,1,0,M,R,75,12,,23,0.5,1678,0.736,1.046\n"
        "OAS2_0004,OAS2_0004_MR1,Demented,1,0,F,R,88,18,3,28,0,1215,0.710,1.444\n"
    )
    people = read_participants(longitudinal)
    assert people.known == "OASIS-2 longitudinal"
    assert people.persons.nunique() == 3
    assert {"age", "sex", "education_years", "MMSE", "CDR"} <= set(features_of(people))
    assert not {"Visit", "MR Delay", "Subject ID", "nWBV"} & set(features_of(people))

    ixi = tmp_path / "ixi.csv"
    ixi.write_text(
        'IXI_ID,"SEX_ID (1=m, 2=f)",HEIGHT,WEIGHT,ETHNIC_ID,MARITAL_ID,OCCUPATION_ID,'
        "QUALIFICATION_ID,DOB,DATE_AVAILABLE,STUDY_DATE,AGE\n"
        "1,2,164,58,1,4,1,5,1970-01-01,1,2005-11-29,35.8\n"
        "2,1,0,77,1,2,2,3,1966-02-20,1,2005-11-18,38.78\n"
        "12,1,175,70,1,2,1,5,1966-08-20,1,2005-06-01,38.78\n"
    )
    people = read_participants(ixi)
    assert people.frame["sex"].tolist() == ["female", "male", "male"]
    assert people.frame["HEIGHT"].isna().sum() == 1
    assert columns_of(people)["MARITAL_ID"].kind == "categorical"
    assert not {"ETHNIC_ID", "DOB", "STUDY_DATE"} & set(features_of(people))


def test_ixi_repeats_people_and_their_rows_are_joined_where_they_agree(tmp_path):
    ixi = tmp_path / "ixi.csv"
    ixi.write_text(
        'IXI_ID,"SEX_ID (1=m, 2=f)",HEIGHT,WEIGHT,ETHNIC_ID,STUDY_DATE,AGE\n'
        "1,2,164,58,1,2005-11-29,35.8\n"
        "2,1,0,77,0,2005-11-18,38.78\n"
        "2,0,170,0,0,2006-01-01,\n"  # another date contradicts nothing
        "219,1,180,80,1,2006-01-01,30\n"
        "219,2,165,60,1,2006-01-01,50\n"
        "3,0,0,0,0,,\n"
        "3,0,0,0,0,,\n"
        "12,1,175,70,1,2005-06-01,38.78\n"
    )
    people = read_participants(ixi)
    assert list(people.frame.index) == ["sub-1", "sub-2", "sub-3", "sub-12"]
    assert people.frame["sex"].fillna("unknown").tolist() == ["female", "male", "unknown", "male"]
    assert people.frame.loc["sub-2", ["HEIGHT", "WEIGHT", "age"]].tolist() == [170, 77, 38.78]
    told = {finding.code: finding.message for finding in people.findings}
    assert "rows of 2 people" in told["joined-rows"]
    assert told["contradicting-rows"].endswith("sub-219.")


@pytest.mark.parametrize("missing", ["-", "k.A.", "keine Angabe", "xx"])
def test_cells_without_a_number_leave_german_ages_numbers(missing, tmp_path):
    rows = [f"{i};{20 + 3 * i},5" for i in range(12)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["participant_id;age", *rows, f"12;{missing}", "13;"]))
    people = read_participants(table)
    assert columns_of(people)["age"].kind == "continuous"
    assert people.frame["age"].tolist()[:12] == [20.5 + 3 * i for i in range(12)]
    assert people.frame["age"].isna().sum() == 2
    assert any(f.subject == "column age" and f.severity == "doubt" for f in people.findings)


def test_ages_that_are_no_numbers_are_doubted(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("participant_id,age,sex\n1,young,M\n2,40,F\n3,old,F\n4,61,M\n")
    (doubt,) = (f for f in read_participants(table).findings if f.code == "no-numbers")
    assert doubt.message.startswith("2 of 4 ages are no numbers ('young' of sub-1)")


def test_other_tables_must_not_repeat_people(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("participant_id,age\n1,30\n1,0\n2,40\n")
    with pytest.raises(TableError, match="more than once: sub-1"):
        read_participants(table)


# --- 1000 Functional Connectomes


@pytest.mark.real
def test_the_real_fcon1000_table(real_data):
    people = read_participants(real_data / "fcon1000" / "fcon1000.csv")
    assert people.known.startswith("1000 Functional Connectomes")
    assert len(people.frame) == 858
    assert features_of(people) == ["age", "sex", "site"]
    assert people.frame["age"].between(7.8, 85.1).all()
    # Women have the smaller heads: 0 is female.
    size = people.frame["EstimatedTotalIntraCranialVol"].groupby(people.frame["sex"]).mean()
    assert size["male"] > 1.05 * size["female"]
    reasons = {c.name: c.left_out for c in people.columns}
    assert sum("give the answer away" in r for r in reasons.values()) > 190
    assert columns_of(people)["site"].kind == "categorical"
    assert 15 <= len(columns_of(people)["site"].levels) <= 25


# --- CamCAN, in exactly the shape its users describe


@pytest.fixture
def camcan(tmp_path):
    rng = np.random.default_rng(0)
    n = 20
    ids = [f"CC{110033 + 7 * i}" for i in range(n)]
    standard = ["CCID,Age,Sex,Hand,Coil,MT_TR"]
    for i, ccid in enumerate(ids):
        sex = "FEMALE" if i % 2 else "MALE"
        standard.append(f"{ccid},{18 + 3 * i},{sex},{100 if i % 5 else -60},32,30")
    names = [
        "homeint_v15",
        "homeint_v24",
        "homeint_v74",
        "homeint_mmse_i",
        "homeint_storyrecall_i",
        "homeint_storyrecall_d",
        "homeint_primary_years",
        "homeint_secondary_years",
        "homeint_university_years",
        "additional_acer",
        "additional_memory",
        "additional_hads_anxiety",
        "additional_STW_total",
        "epaq_DURTV",
        "epaq_WKDAYSLEEP",
    ]
    approved = ["\t".join(["CCID", *names])]
    for i, ccid in enumerate(ids[:-2]):
        row = {name: str(rng.integers(5, 60)) for name in names}
        row |= {"homeint_v15": rng.choice(list("ABCDE")), "homeint_v24": str(i % 3 + 1)}
        row |= {"homeint_primary_years": "6", "homeint_secondary_years": "7"}
        row["homeint_university_years"] = "20" if i == 4 else ("n/a" if i == 5 else "3")
        if i == 6:
            row |= dict.fromkeys([n for n in names if n.endswith("_years")], "")
        approved.append("\t".join([ccid, *(row[name] for name in names)]))
    approved.append("\t".join(["CC999999", *["1"] * len(names)]))
    first, second = tmp_path / "standard_data.csv", tmp_path / "approved_data.tsv"
    first.write_text("\n".join(standard) + "\n", encoding="utf-8")
    second.write_text("\n".join(approved) + "\n", encoding="utf-8")
    return first, second


def test_camcan_as_its_users_describe_it(camcan):
    people = read_participants(*camcan)
    frame, columns, features = people.frame, columns_of(people), features_of(people)
    assert people.known == "CamCAN"
    assert len(frame) == 20
    assert frame.index[0] == "sub-CC110033"
    assert columns["sex"].levels == ("female", "male")
    assert columns["handedness"].kind == "continuous"
    assert frame["handedness"].tolist()[:2] == [-60, 100]
    # Education in years: the sum of all schools; 28 years and more are entry errors.
    assert frame["education_years"].iloc[0] == 16
    assert np.isnan(frame["education_years"].iloc[4])
    assert frame["education_years"].iloc[5] == 13
    assert np.isnan(frame["education_years"].iloc[6])
    assert {"age", "sex", "education_years", "additional_acer", "homeint_v74"} <= set(features)
    assert "sensitive" in columns["homeint_v15"].left_out
    assert "sensitive" in columns["homeint_v24"].left_out
    assert columns["Coil"].left_out == "a setting of the scanner"
    assert "not among the default features" in columns["epaq_DURTV"].left_out
    assert not {"homeint_v15", "homeint_v24", "Coil", "epaq_DURTV"} & set(features)
    assert frame["additional_acer"].isna().sum() == 2
    messages = " ".join(f.message for f in people.findings)
    assert "1 rows have no row in standard_data.csv" in messages
    assert "1 sums of 28 or more set missing" in messages


def test_camcan_features_can_be_chosen(camcan):
    people = read_participants(*camcan, features=["age", "epaq_DURTV"])
    assert features_of(people) == ["age", "epaq_DURTV"]


def test_the_bids_table_of_camcan(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_text(
        "participant_id\tage\thand\tgender_text\tgender_code\ttiv_cubicmm\n"
        "sub-CC110033\t24\t100\tMALE\t1\t1420000\n"
        "sub-CC110037\t18\t-80\tFEMALE\t2\t1320000\n"
        "sub-CC110045\t61\t90\tFEMALE\t2\t1380000\n"
    )
    people = read_participants(path)
    assert "tiv_cubicmm" not in features_of(people)
    assert set(people.frame["sex"]) == {"female", "male"}
    assert "gender_code" not in features_of(people)
