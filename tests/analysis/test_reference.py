import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.analysis.reference import group_reference, reference_for
from csegsynth_kit.analysis.support import Support
from csegsynth_kit.analysis.trajectory import AgeRegression
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import TableError


class Observed:
    """As much of a cohort as a reference reads."""

    def __init__(self, table, volumes):
        self.table = table
        self.volumes = pd.DataFrame(volumes, index=table.index)

    def one_scan_each(self):
        return self


@pytest.fixture(scope="module")
def observed():
    rng = np.random.default_rng(0)
    age = rng.uniform(18, 88, 3000)
    sex = rng.choice(["female", "male"], 3000)
    mean = np.stack([500 - (age - 45) ** 2 / 20, 800 - 3 * age, 200 + 2 * age], axis=1)
    mean[sex == "male"] += 100
    return Observed(pd.DataFrame({"age": age, "sex": sex}), mean + rng.normal(0, 20, mean.shape))


def test_curves_are_the_quantiles_of_people_of_that_sex_and_age(observed):
    table = group_reference(observed, [30.0, 60.0], sex="male").set_index(["tissue", "age_years"])
    expected = {"WM": (588.75, 588.75), "GM": (810, 720), "CSF": (360, 420)}
    for tissue, values in expected.items():
        for age, value in zip((30.0, 60.0), values, strict=True):
            row = table.loc[(tissue, age)]
            assert row["median_ml"] == pytest.approx(value, abs=4)
            assert row["high_ml"] - row["median_ml"] == pytest.approx(1.645 * 20, abs=6)
            assert row["median_ml"] - row["low_ml"] == pytest.approx(1.645 * 20, abs=6)
    assert table["n"].iloc[0] == (observed.table["sex"] == "male").sum()


def test_nine_tenths_are_inside(observed):
    ages = observed.table["age"].to_numpy()
    table = group_reference(observed, ages)
    gm = table[table["tissue"] == "GM"]
    volumes = observed.volumes[1].to_numpy()
    inside = (gm["low_ml"].to_numpy() <= volumes) & (volumes <= gm["high_ml"].to_numpy())
    assert inside.mean() == pytest.approx(0.9, abs=0.01)


def test_ages_of_nobody_have_no_reference(observed):
    table = group_reference(observed, [10.0, 50.0, 95.0])
    assert table.groupby("age_years")["median_ml"].count().to_dict() == {10.0: 0, 50.0: 3, 95.0: 0}


@pytest.mark.parametrize(
    "use",
    [
        lambda cohort, features: group_reference(cohort, [50.0]),
        lambda cohort, features: AgeRegression.fit(cohort.table, features),
        Support.fit,
    ],
)
def test_ages_by_brackets_are_refused(observed, use):
    brackets = pd.cut(observed.table["age"], [0, 40, 60, 99], labels=["18-40", "41-60", "61+"])
    cohort = Observed(observed.table.assign(age=brackets.astype(object)), observed.volumes)
    columns = (
        Column("age", "categorical", ("18-40", "41-60", "61+")),
        Column("sex", "categorical", ("female", "male")),
    )
    with pytest.raises(TableError, match=r"'age' has answers such as .*'61\+'.*no numbers"):
        use(cohort, Features.fit(cohort.table, columns))


def test_without_ages_there_is_no_reference(observed):
    with pytest.raises(TableError, match="no feature 'age'"):
        group_reference(Observed(observed.table[["sex"]], observed.volumes), [50.0])


def test_a_handful_of_people_is_no_group(observed):
    few = Observed(observed.table.iloc[:15], observed.volumes.iloc[:15])
    with pytest.raises(TableError, match="only"):
        group_reference(few, [50.0])


def test_a_person_is_shown_beside_as_many_alike_as_there_are(observed):
    few = Observed(observed.table.iloc[:100].copy(), observed.volumes.iloc[:100])
    few.table["sex"] = ["male"] * 10 + ["female"] * 90
    for person, n in (({"sex": "female"}, 90), ({"sex": "male"}, 100), ({"age": 40}, 100)):
        assert set(reference_for(few, [50.0], person)["n"]) == {n}
    no_sex = Observed(few.table[["age"]], few.volumes)
    assert set(reference_for(no_sex, [50.0], {"sex": "male"})["n"]) == {100}
    handful = Observed(few.table.iloc[:15], few.volumes.iloc[:15])
    assert reference_for(handful, [50.0], {}) is None
