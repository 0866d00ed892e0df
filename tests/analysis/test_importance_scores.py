import numpy as np
import pytest

from csegsynth_kit.analysis.importance_scores import (
    Importance,
    agreement_with_truth,
    importance_table,
    rank_agreement,
    rank_stability,
    true_importance,
    with_percentiles,
)
from csegsynth_kit.analysis.truth import Truth
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.simulate.questionnaire import FEATURES, draw_participants
from csegsynth_kit.simulate.truth import permutation_importance

VALUES = np.array([[-9.0, 3, 1], [5, 2, 2], [1, 1, 3], [0.5, 0, 4]])


def importance(noise: float, *, signed: bool = True, method: str = "m") -> Importance:
    resampled = VALUES + noise * np.random.default_rng(0).normal(size=(200, 4, 3))
    return with_percentiles(
        VALUES,
        resampled,
        method=method,
        unit="mL",
        groups=("a", "b", "c", "d"),
        over="people",
        n=30,
        signed=signed,
    )


def test_ranks_go_by_size_where_values_have_a_direction():
    table = importance_table([importance(0.0), importance(0.0, signed=False, method="u")], top=2)
    assert len(table) == 2 * 4 * 3
    wm = table[table["tissue"] == "WM"].set_index(["method", "feature"])
    assert wm.loc["m", "rank"].tolist() == [1, 2, 3, 4]
    assert wm.loc["u", "rank"].tolist() == [4, 1, 2, 3]
    assert wm.loc["m", "in_top"].tolist() == [1, 1, 0, 0]
    assert (table["rank_low"] == table["rank"]).all()
    assert (table["low"] == table["value"]).all()


def test_noise_makes_ranks_unstable():
    firm, shaky = importance(0.01), importance(3.0, method="shaky")
    stability = rank_stability([firm, shaky]).set_index(["method", "tissue"])
    assert stability.loc["m", "kendall"].tolist() == [1, 1, 1]
    assert (stability.loc["shaky", "kendall"] < 0.8).all()
    assert (stability["kendall_low"] <= stability["kendall_high"]).all()
    table = importance_table([shaky]).query("tissue == 'GM'")
    assert (table["rank_low"] < table["rank_high"]).all()
    assert table["in_top"].sum() == pytest.approx(3)


def test_agreement_is_one_with_the_own_order_and_minus_one_with_the_reverse():
    found = importance(0.0)
    own = agreement_with_truth([found], np.abs(VALUES))
    assert own["spearman"].tolist() == pytest.approx([1, 1, 1])
    reverse = agreement_with_truth([found], -np.abs(VALUES))
    assert reverse["spearman"].tolist() == pytest.approx([-1, -1, -1])
    pairs = rank_agreement([found, importance(0.0, method="n")])
    assert pairs["spearman"].tolist() == pytest.approx([1, 1, 1])
    other = Importance(**{**vars(found), "groups": ("a", "b", "c", "e")})
    with pytest.raises(ConfigError, match="different groups"):
        rank_agreement([found, other])


def test_true_importance_is_what_permuting_costs_the_best_model():
    people = draw_participants(300, age="lifespan", seed=1)
    groups = {name: (name,) for name in FEATURES}
    true = true_importance(Truth("lifespan", 2.0), people, groups)
    known = permutation_importance(people, 2.0).set_index(["feature", "tissue"])
    expected = known["mse_increase_ml2"].unstack()[["WM", "GM", "CSF"]].loc[list(FEATURES)]
    np.testing.assert_allclose(2 * true**2, expected, atol=1e-6)
    nulls = [FEATURES.index(name) for name in ("handedness", "NEO_N", "STAI_T")]
    assert (true[nulls] == 0).all()
    both = true_importance(Truth("lifespan", 2.0), people, {"both": ("IST_fluid", "NEO_N")})
    np.testing.assert_allclose(both[0], true[FEATURES.index("IST_fluid")])
