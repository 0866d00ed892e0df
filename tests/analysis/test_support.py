import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.analysis.support import Support
from csegsynth_kit.analysis.trajectory import scenario, simulate_trajectory
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import TableError

COLUMNS = (
    Column("age", "continuous"),
    Column("sex", "categorical", ("female", "male")),
    Column("score", "continuous"),
    Column("site", "categorical", ("a", "b", "c")),
)


@pytest.fixture(scope="module")
def crowd():
    """Women from 20 to 60 and men from 20 to 80, every year; everybody scores about as old."""
    rng = np.random.default_rng(0)
    ages = np.concatenate([np.repeat(np.arange(20.0, 60), 5), np.repeat(np.arange(20.0, 80), 5)])
    return pd.DataFrame(
        {
            "age": ages,
            "sex": ["female"] * 200 + ["male"] * 300,
            "score": ages + rng.normal(0, 3, 500),
            "site": rng.choice(["a", "b", "c"], 500),
        }
    )


@pytest.fixture(scope="module")
def support(crowd):
    features = Features.fit(crowd, COLUMNS)
    return Support(features, features.encode(crowd).values, crowd["age"].to_numpy())


def test_counts_are_those_of_the_definition(support, crowd):
    person = {"age": 40.0, "sex": "female"}
    row = support.of(support.features.table_of(person)).iloc[0]
    close = (crowd["age"] - 40).abs() <= 5
    assert row["same_age_n"] == close.sum()
    assert row["same_sex_n"] == (close & (crowd["sex"] == "female")).sum()
    assert row["near_n"] == row["same_sex_n"]  # no other question was answered
    assert row["supported"]


def test_other_answers_must_be_near_too(support):
    people = pd.DataFrame({"age": 40.0, "sex": "male", "score": [40.0, 50.0, 75.0]})
    table = support.of(people)
    assert table["near_n"].is_monotonic_decreasing
    assert list(table["supported"]) == [True, False, False]
    assert (table["same_sex_n"] == table["same_sex_n"].iloc[0]).all()


def test_half_of_comparable_pairs_are_near(support, crowd):
    """The typical number is that of the definition, by brute force on one question."""
    table = support.of(crowd[["age", "sex", "score"]])
    n = [
        (crowd["age"].sub(a).abs().le(5) & (crowd["sex"] == s)).sum() - 1
        for a, s in zip(crowd["age"], crowd["sex"], strict=True)
    ]
    assert table["typical_n"].iloc[0] == pytest.approx(np.median(n) / 2, rel=0.15)
    assert table["near_n"].sum() - len(crowd) == pytest.approx(np.sum(n) / 2, rel=0.01)
    assert table["supported"].mean() == pytest.approx(0.96, abs=0.04)


def test_a_sex_that_nobody_of_that_age_has_is_unsupported(support):
    people = pd.DataFrame({"age": [30.0, 70.0, 30.0, 70.0], "sex": ["female"] * 2 + ["male"] * 2})
    assert list(support.of(people)["supported"]) == [True, False, True, True]


def test_an_unordered_answer_counts_once(support, crowd):
    """A site has three columns, but is one question, as a score is: by brute force."""
    person = pd.DataFrame({"age": [40.0], "sex": "male", "score": 47.0, "site": "a"})
    names = list(support.features.names)
    score, site = [names.index("score")], [i for i, n in enumerate(names) if n[:5] == "site="]

    def apart(values, others):
        parts = [(values[:, None, i] - others[None, :, i]) ** 2 for i in (score, site)]
        return sum(part.mean(-1) for part in parts) / 2

    age, sex = crowd["age"].to_numpy(), crowd["sex"].to_numpy()
    peers = (abs(age[:, None] - age) <= 5) & (sex[:, None] == sex) & ~np.eye(500, dtype=bool)
    radius = np.median(apart(support.values, support.values)[peers])
    own = support.features.encode(person).values
    near = (abs(age - 40) <= 5) & (sex == "male") & (apart(own, support.values)[0] <= radius)
    assert support.of(person)["near_n"].item() == near.sum()


def test_an_answer_between_two_is_near_the_nearer_one(crowd):
    """Where most people agree, as on a dementia rating, near is not only who agrees exactly."""
    crowd = crowd.assign(rating=np.where(np.arange(len(crowd)) % 10 == 0, 1.0, 0.0))
    columns = [Column("age", "continuous"), Column("rating", "ordinal")]
    features = Features.fit(crowd, columns)
    support = Support(features, features.encode(crowd).values, crowd["age"].to_numpy())
    near = support.of(pd.DataFrame({"age": 50.0, "rating": [0.0, 0.1, 0.4, 0.9, 1.0]}))["near_n"]
    assert near[0] == near[1] == near[2] > near[3] == near[4] > 0


def test_a_trajectory_is_marked_where_nobody_is_near(model, cohort):
    support = Support.fit(cohort, model.features)
    ages = (30.0, 50.0, 115.0)
    people = scenario({"age": 40, "sex": "male"}, ages)
    table = simulate_trajectory(model, people, support=support, draws=2)
    marked = table.groupby("age_years")["supported"].first()
    expected = support.of(model.features.table_of(people))["supported"].to_numpy()
    assert list(marked) == list(expected)
    assert not marked[115.0]


def test_without_age_nothing_is_counted(cohort):
    features = Features.fit(cohort.table, [c for c in cohort.feature_columns if c.name != "age"])
    with pytest.raises(TableError, match="no feature 'age'"):
        Support.fit(cohort, features)
