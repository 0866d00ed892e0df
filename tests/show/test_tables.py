import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.metrics.volumes import score_table
from csegsynth_kit.show import tables
from tests.toy import toy_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("tables") / "cohort", 30, missing=0.2)


def test_participants_are_chosen_from_youngest_to_oldest(cohort):
    chosen = tables.spread_over_age(cohort, 5)
    ages = cohort.table.loc[chosen.index, "age"]
    assert list(ages) == sorted(ages)
    assert ages.iloc[0] == cohort.table["age"].min()
    assert ages.iloc[-1] == cohort.table["age"].max()
    assert chosen.iloc[0].startswith(f"{ages.iloc[0]:.0f} years, ")


def test_person_near_an_age_gives_only_answered_questions(cohort):
    person = tables.person_near(cohort, ["age", "sex", "education", "site"], age_years=50)
    assert abs(person["age"] - 50) == (cohort.table["age"] - 50).abs().min()
    assert all(pd.notna(answer) for answer in person.values())


def test_splits_are_counted_and_overlap_is_seen(cohort):
    train, valid, test = cohort.split((0.5, 0.25, 0.25))
    table = tables.splits({"right": (train, valid, test), "wrong": (train, train, test)})
    assert list(table.loc["right"]) == [len(train), len(valid), len(test), 0]
    assert table.loc["wrong", "persons in two parts"] == len(train)


def test_schema_names_every_column_and_its_use(cohort):
    table = tables.schema(cohort)
    assert list(table.index) == ["age", "sex", "education", "site"]
    assert table.loc["age", "answers"].endswith("years")
    assert table.loc["education", "answers"] == "low, medium, high"


def test_importance_is_compared_with_the_truth():
    names = [f"f{i}" for i in range(6)]
    truth_ml = np.array([10.0, -8.0, 4.0, 2.0, 0.0, 0.0])
    estimate = truth_ml + np.array([1.0, 1.0, 0.0, 0.0, 0.5, -1.5])
    tissues = ["WM", "GM", "CSF"]
    effects, truth = (
        pd.concat([pd.DataFrame({"feature": names, "tissue": t, "effect_ml": v}) for t in tissues])
        for v in (estimate, truth_ml)
    )
    row = tables.importance_against_truth(effects, truth).loc["GM"]
    assert row["largest null effect (mL per SD)"] == 1.5
    assert row["mean error (mL per SD)"] == pytest.approx(4 / 6, abs=0.01)
    assert row["features"] == 6


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    truth = rng.normal(600, 60, (30, 3))
    predictions = {"m, one draw": truth + rng.normal(0, 40, truth.shape), "ridge": truth + 10}
    return score_table(predictions, truth, times=50)


def test_scores_stand_beside_those_of_one_version_of_the_paper_each(cohort, scores):
    table = tables.beside_paper(scores, predictor="m, one draw", cohort=cohort)
    assert list(table.index) == ["WM", "GM", "CSF"]  # the paper has no WM+GM
    assert list(table.columns) == [
        "MAE (mL), paper (version 2), CamCAN",
        "MAE (mL), ours, 30 simulated people",
        "r, paper (version 1), CamCAN",
        "r, ours, 30 simulated people",
    ]
    assert list(table["MAE (mL), paper (version 2), CamCAN"]) == ["36.44", "29.20", "35.51"]
    assert list(table["r, paper (version 1), CamCAN"]) == ["0.80", "0.82", "0.70"]
    own = scores[scores["predictor"] == "m, one draw"].set_index("tissue").loc["GM"]
    assert table.loc["GM", "MAE (mL), ours, 30 simulated people"] == (
        f"{own['mae_ml']:.1f} [{own['mae_ml_low']:.1f}, {own['mae_ml_high']:.1f}]"
    )
    assert table.loc["GM", "r, ours, 30 simulated people"].startswith(f"{own['r']:.2f} [")


def test_nobody_elses_scores_stand_beside_the_paper(cohort, scores):
    assert tables.beside_paper(scores, predictor="another", cohort=cohort).empty


def test_stacked_tables_keep_their_names():
    parts = {"a": pd.DataFrame({"x": [1, 2]}), "b": pd.DataFrame({"x": [3]})}
    whole = tables.stacked(parts)
    assert whole.to_dict("list") == {"scenario": ["a", "a", "b"], "x": [1, 2, 3]}


def test_value_and_interval_share_a_cell_and_reasons_are_kept():
    table = pd.DataFrame(
        {
            "model": ["a", "b"],
            "r": [0.912, np.nan],
            "r_low": [0.85, np.nan],
            "r_high": [0.957, np.nan],
            "n": [50, np.nan],
            "note": ["", "nothing encodes maps"],
        }
    )
    shown = tables.with_intervals(table, {"r": 2})
    assert list(shown["r"]) == ["0.91 [0.85, 0.96]", ""]
    assert list(shown["n"]) == [50, ""]
    assert shown.loc[1, "note"] == "nothing encodes maps"
    assert "note" not in tables.with_intervals(table.iloc[:1], {"r": 2})


def test_rows_and_tissues_keep_their_order():
    rows = [
        {"method": m, "tissue": t, "kendall": v, "low": v - 1, "high": v + 1}
        for t, v in (("CSF", 3.0), ("WM", 1.0), ("GM", 2.0))
        for m in ("second", "first")
    ]
    wide = tables.by_tissue(pd.DataFrame(rows), "kendall", "low", "high", digits=1)
    assert list(wide.columns) == ["WM", "GM", "CSF"]
    assert list(wide.index) == ["second", "first"]
    assert wide.loc["first", "GM"] == "2.0 [1.0, 3.0]"


def test_people_are_named_by_what_is_known_of_them():
    assert tables.who({"age": 34.2, "sex": "female", "site": "a"}) == "34 years, female"
    assert tables.who(pd.Series({"age": 34.2, "sex": None})) == "34 years"
    assert tables.who({"sex": "male"}) == "male"
    assert tables.who({"site": "a"}) == ""


def test_only_answers_that_differ_are_listed():
    before = {"age": 35, "sex": "male", "smoking": "current"}
    assert tables.what_differs(before, before | {"age": 75.0}) == "age 35 to 75"
    after = {"age": 35.0, "sex": "male", "bmi": 22.5}
    said = "smoking current to unanswered, bmi unanswered to 22.5"
    assert tables.what_differs(before, after) == said
    assert tables.what_differs(before, before) == ""
