import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.analysis.importance_groups import (
    checked_groups,
    common_direction,
    correlated_groups,
    group_effects,
)
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import ConfigError, TableError
from tests.toy import TOY_COLUMNS, toy_table


@pytest.fixture(scope="module")
def features():
    """Two scores that share a trait, one that falls with age, one of its own, and a site."""
    rng = np.random.default_rng(0)
    n = 400
    trait, age = rng.normal(size=n), rng.uniform(20, 80, n)
    table = pd.DataFrame(
        {
            "age": age,
            "first": trait + 0.4 * rng.normal(size=n),
            "alone": rng.normal(size=n),
            "second": -trait + 0.4 * rng.normal(size=n),
            "aging": -age / 10 + rng.normal(size=n),
            "site": rng.choice(["a", "b", "c"], n),
        }
    )
    names = ("age", "first", "alone", "second", "aging")
    columns = [*(Column(name, "continuous") for name in names)]
    return Features.fit(table, [*columns, Column("site", "categorical", ("a", "b", "c"))])


def test_questions_with_a_common_trait_are_found_whatever_their_sign(features):
    assert correlated_groups(features) == {"first + second": ("first", "second")}
    both = correlated_groups(features, alone=())
    assert both["age + aging"] == ("age", "aging")
    assert correlated_groups(features, least_r=0.99) == {}


def test_direction_of_two_answers_is_their_common_score(features):
    direction = common_direction(features, ("first", "second"))
    r = features.correlation[1, 3]
    expected = np.sqrt((1 + abs(r)) / 2)
    np.testing.assert_allclose(np.abs(direction[[1, 3]]), expected, rtol=1e-9)
    assert np.sign(direction[1]) == -np.sign(direction[3])
    assert (direction[[0, 2, 4, 5, 6, 7]] == 0).all()
    np.testing.assert_allclose(common_direction(features, ("age",)), np.eye(8)[0], atol=1e-12)


def test_effects_of_groups_follow_from_gradients(features):
    gradients = np.random.default_rng(1).normal(size=(5, 8, 3))
    groups = {"age": ("age",), "site": ("site",), "trait": ("first", "second")}
    effects = group_effects(gradients, features, groups)
    np.testing.assert_allclose(effects[:, 0], gradients[:, 0])
    direction = common_direction(features, ("first", "second"))
    np.testing.assert_allclose(effects[:, 2], np.einsum("bfv,f->bv", gradients, direction))


def test_an_unordered_answer_excludes_the_others(features):
    """Site b adds 8 mL and a 2 mL; what all three columns share describes nobody."""
    share, sd = features.mean[5:], features.sd[5:]
    own = np.array([2.0, 8.0, 0.0])
    gradients = np.zeros((8, 3))
    gradients[5:] = ((own + 1000) * sd)[:, None]
    effect = group_effects(gradients, features, {"site": ("site",)})[0]
    spread = np.sqrt(share @ (own - share @ own) ** 2)
    np.testing.assert_allclose(effect, spread, rtol=1e-9)


def test_impossible_groups_are_refused():
    features = Features.fit(toy_table(40), TOY_COLUMNS)
    with pytest.raises(TableError, match="'iq' is not a feature"):
        checked_groups(features, {"mind": ("education", "iq")})
    for wrong in ((), ("age", "age")):
        with pytest.raises(ConfigError, match="each once"):
            checked_groups(features, {"wrong": wrong})
    assert list(checked_groups(features, None)) == ["age", "sex", "education", "site"]
