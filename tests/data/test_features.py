"""Features: encoding inverts, imputes by the conditional mean, and learns from training only."""

import json

import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.data.features import Features
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import TableError

COLUMNS = (
    Column("age", "continuous", units="years"),
    Column("score", "continuous"),
    Column("grade", "ordinal"),
    Column("effort", "ordinal", ("low", "medium", "high")),
    Column("sex", "categorical", ("female", "male")),
    Column("site", "categorical", ("a", "b", "c")),
)


def people(n: int, seed: int = 0, *, missing: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age = rng.uniform(18, 88, n)
    table = pd.DataFrame(
        {
            "age": age,
            "score": 50 - 0.4 * age + rng.normal(0, 8, n),
            "grade": rng.integers(1, 6, n).astype(float),
            "effort": rng.choice(["low", "medium", "high"], n),
            "sex": rng.choice(["female", "male"], n),
            "site": rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2]),
        },
        index=[f"sub-{i}" for i in range(n)],
    )
    return table.mask(rng.random(table.shape) < missing)


@pytest.fixture(scope="module")
def features() -> Features:
    return Features.fit(people(200, missing=0.2), COLUMNS)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_decoding_inverts_encoding(features, missing):
    table = people(50, 1, missing=missing)
    decoded = features.decode(features.encode(table).values)
    for column in COLUMNS:
        expected = table[column.name].reset_index(drop=True)
        pd.testing.assert_series_equal(
            decoded[column.name], expected, check_dtype=False, rtol=1e-10
        )


def test_answers_are_standardized_with_training_statistics_only(features):
    table = people(200, missing=0.2)
    encoded = features.encode(table).values
    np.testing.assert_allclose(np.nanmean(encoded, axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.nanstd(encoded, axis=0, ddof=1), 1, atol=1e-9)
    others = people(500, 7)
    others["age"] += 100
    before = features.encode(table.iloc[:3]).values
    features.encode(others)
    np.testing.assert_array_equal(features.encode(table.iloc[:3]).values, before)
    age = features.names.index("age")
    assert features.encode(others).values[:, age].mean() > 3


def test_questions_become_numbers_ranks_or_one_column_per_level(features):
    assert features.names == (
        "age",
        "score",
        "grade",
        "effort",
        "sex",
        "site=a",
        "site=b",
        "site=c",
    )
    assert features.questions == ("age", "score", "grade", "effort", "sex", "site")
    table = people(4)
    table["effort"] = ["low", "medium", "high", None]
    table["site"] = ["a", "b", "c", None]
    raw = features.encode(table).values * features.sd + features.mean
    np.testing.assert_allclose(raw[:3, 3], [0, 1, 2], atol=1e-9)
    np.testing.assert_allclose(raw[:3, 5:], np.eye(3), atol=1e-9)
    assert np.isnan(raw[3, [3, 5, 6, 7]]).all()
    np.testing.assert_array_equal(features.encode(table).answered[3], [1, 1, 1, 0, 1, 0])


def test_imputation_is_the_conditional_mean_of_a_gaussian(features):
    table = people(60, 3, missing=0.35)
    values = features.encode(table).values
    imputed = features.impute(values)
    covariance = features.correlation
    for row, filled in zip(values, imputed, strict=True):
        hidden = np.isnan(row)
        given = ~hidden
        expected = row.copy()
        if given.any():
            precision = np.linalg.inv(covariance[np.ix_(given, given)])
            expected[hidden] = covariance[np.ix_(hidden, given)] @ precision @ row[given]
        else:
            expected[hidden] = 0
        np.testing.assert_allclose(filled, expected, atol=1e-9)


def test_imputation_beats_the_mean_where_answers_are_related(features):
    table = people(300, 5)
    values = features.encode(table).values
    hidden = values.copy()
    score = features.names.index("score")
    hidden[:, score] = np.nan
    error = features.impute(hidden)[:, score] - values[:, score]
    assert (error**2).mean() < 0.75 * (values[:, score] ** 2).mean()


def test_unanswered_questions_are_flagged(features):
    table = people(5)
    table.loc["sub-2", ["age", "site"]] = None
    inputs = features.inputs(features.encode(table))
    assert inputs.dtype == np.float32
    assert inputs.shape == (5, features.n_inputs) == (5, 8 + 6)
    assert np.isfinite(inputs).all()
    flags = inputs[:, 8:]
    np.testing.assert_array_equal(flags[2], [1, 0, 0, 0, 0, 1])
    assert flags[[0, 1, 3, 4]].sum() == 0


def test_hidden_answers_are_as_if_never_given(features):
    table = people(6)
    hidden = np.zeros((6, 6), bool)
    hidden[1, [0, 5]] = True
    removed = table.copy()
    removed.loc["sub-1", ["age", "site"]] = None
    np.testing.assert_allclose(
        features.inputs(features.hide(features.encode(table), hidden)),
        features.inputs(features.encode(removed)),
    )


def test_questions_that_do_not_vary_are_dropped():
    table = people(30)
    table["sex"] = "female"
    table["grade"] = np.nan
    fitted = Features.fit(table, COLUMNS)
    assert fitted.questions == ("age", "score", "effort", "site")
    table["site"] = table["site"].replace("c", "a")
    assert "site=c" not in Features.fit(table, COLUMNS).names
    with pytest.raises(TableError, match="no feature varies"):
        Features.fit(table, (COLUMNS[4],))
    with pytest.raises(TableError, match="'height'"):
        Features.fit(table, (Column("height", "continuous"),))


def test_collinear_answers_stay_solvable():
    table = people(40)
    table["months"] = table["age"] * 12
    fitted = Features.fit(table, (*COLUMNS, Column("months", "continuous")))
    assert np.linalg.eigvalsh(fitted.correlation).min() > 0.005
    np.testing.assert_allclose(np.diag(fitted.correlation), 1)
    values = fitted.encode(table).values
    values[:, fitted.names.index("months")] = np.nan
    imputed = fitted.impute(values)[:, fitted.names.index("months")]
    assert np.corrcoef(imputed, table["age"])[0, 1] > 0.99


def test_people_are_checked_by_question(features):
    table = features.table_of({"age": 71, "sex": "F", "effort": "High"})
    assert table["sex"].iloc[0] == "female"
    assert table["effort"].iloc[0] == "high"
    assert table["site"].isna().all()
    for person, match in (
        ({"height": 2}, "'height' is not a feature"),
        ({"age": 300}, "age = 300"),
        ({"age": "old"}, "age = 'old'"),
        ({"site": "d"}, "site = 'd'.*a, b, c"),
    ):
        with pytest.raises(TableError, match=match):
            features.table_of(person)


def test_answers_beyond_training_are_listed(features):
    table = features.table_of([{"age": 120, "site": "a"}, {"age": 50}])
    outside = features.outside_support(table)
    assert list(outside["feature"]) == ["age"]
    assert list(outside["row"]) == [0]


def test_the_stored_form_is_the_same_and_holds_nobody(features):
    stored = json.loads(json.dumps(features.to_dict()))
    again = Features.from_dict(stored)
    table = people(20, 9, missing=0.3)
    np.testing.assert_array_equal(
        again.inputs(again.encode(table)), features.inputs(features.encode(table))
    )
    assert again.columns == features.columns
    assert again.support == features.support
    assert "sub-" not in json.dumps(stored)


@pytest.mark.parametrize(
    ("answer", "allowed"), [(1e40, False), (True, False), (-1.0, False), (5.0, True), (12.0, True)]
)
def test_numbers_nobody_can_mean_are_refused(answer, allowed):
    features = Features.fit(people(200), COLUMNS)  # grades from 1 to 5
    if allowed:
        features.table_of({"grade": answer})
        return
    with pytest.raises(
        TableError, match=r"grade = .* is not possible\. Give a number from 0 to 17"
    ):
        features.table_of({"grade": answer})


def test_answers_outside_the_support_are_listed_for_repeated_rows_too():
    table = people(200)
    features = Features.fit(table, COLUMNS)
    asked = pd.DataFrame({"age": [99.0, 100.0]}, index=["same", "same"])
    found = features.outside_support(features.table_of(asked))
    assert list(found["answer"]) == [99.0, 100.0]
