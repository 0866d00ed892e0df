"""Where a person's spread comes from."""

import numpy as np
import pytest

from csegsynth_kit.analysis.spread import (
    MODELS,
    SAME_ANSWERS,
    TOTAL,
    TRAINING,
    UNANSWERED,
    completed,
    decompose_spread,
    variance_parts,
)
from csegsynth_kit.errors import CohortError
from tests.models_for_tests import started_model

PERSON = {"age": 71, "sex": "female", "education": "high", "site": "b"}


def test_parts_of_nested_draws_sum_to_the_variance_of_all_of_them():
    rng = np.random.default_rng(0)
    levels = [(1, 1, 1), (3, 1, 1), (3, 4, 1), (3, 4, 5)]
    volumes = sum((i + 1) * rng.normal(size=(*size, 2)) for i, size in enumerate(levels))
    parts = variance_parts(volumes)
    np.testing.assert_allclose(sum(parts), volumes.reshape(-1, 2).var(axis=0))
    same = np.broadcast_to(volumes[:1, :1], volumes.shape)
    np.testing.assert_allclose(variance_parts(same)[1:], 0, atol=1e-12)


def test_open_questions_are_answered_by_people_alike(cohort, model):
    filled = completed(model.features, cohort.table, {"age": 71}, donors=8)
    assert len(filled) == 8
    assert set(filled["age"]) == {71}
    asked = list(model.features.questions)
    assert filled.notna().all(axis=None)
    lent = [tuple(row) for row in filled[asked[1:]].to_numpy()]
    known = {tuple(row) for row in cohort.table[asked[1:]].dropna().to_numpy()}
    assert set(lent) <= known  # whole sets of answers that somebody gave
    assert len(completed(model.features, cohort.table, PERSON)) == 1


def test_donors_are_those_whose_open_answers_are_expected_to_be_nearest(cohort, model):
    features, person = model.features, {k: v for k, v in PERSON.items() if k != "education"}
    pool = cohort.table[list(features.questions)].dropna(subset="education")
    hidden = np.array([features.columns[q].name == "education" for q in features.question])

    def expected(table):
        values = features.encode(table).values
        return features.impute(np.where(hidden, np.nan, values))[:, hidden][:, 0]

    distance = np.abs(expected(pool) - expected(features.table_of(person)))
    nearest = pool["education"].iloc[np.argsort(distance)[:5]]
    filled = completed(features, cohort.table, person, donors=5)
    assert sorted(filled["education"]) == sorted(nearest)


def test_only_open_questions_add_to_the_spread_and_parts_sum_to_the_total(cohort, model):
    options = {"donors": 10, "draws": 8, "refits": 4}
    for person, answered in ((PERSON, True), ({"education": "low"}, False)):
        table = decompose_spread(model, person, cohort, **options)
        variance = (table["sd_ml"] ** 2).to_frame().assign(**table[["part", "tissue"]])
        wide = variance.pivot(index="part", columns="tissue", values="sd_ml")
        parts = wide.loc[[UNANSWERED, SAME_ANSWERS, TRAINING]]
        np.testing.assert_allclose(parts.sum(), wide.loc[TOTAL])
        assert (wide.loc[UNANSWERED] == 0).all() == answered
        shares = table[table["part"] != TOTAL].groupby("tissue")["share"].sum()
        np.testing.assert_allclose(shares, 1)


def test_several_models_add_their_own_part(cohort, model):
    options = {"draws": 4, "refits": 0}
    alone = decompose_spread(model, PERSON, cohort, **options).set_index("part")
    assert alone.loc[TRAINING, "sd_ml"].isna().all()
    same = decompose_spread([model, model], PERSON, cohort, **options).set_index("part")
    np.testing.assert_allclose(same.loc[MODELS, "sd_ml"], 0, atol=1e-5)
    np.testing.assert_allclose(same.loc[TOTAL, "sd_ml"], alone.loc[TOTAL, "sd_ml"], rtol=1e-5)
    other = started_model(cohort.subset(cohort.ids[:30]))
    with pytest.raises(CohortError, match="not the training participants of the model 'model 2'"):
        decompose_spread([model, other], PERSON, cohort, **options)
