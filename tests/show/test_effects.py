"""Pictures of effects are tested by what is drawn: limits, orders, units."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from csegsynth_kit.analysis.effect_maps import Contrast, EffectMaps
from csegsynth_kit.constants import DIVERGING
from csegsynth_kit.maps import Grid
from csegsynth_kit.show import effects

GRID = Grid("g", (12, 14, 10), (14.0, 14.0, 16.0))


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def planted(size: float) -> EffectMaps:
    change = torch.zeros(4, *GRID.shape)
    change[1, 4:8, 5:9, 3:7], change[3, 4:8, 5:9, 3:7] = -size, size
    none = np.zeros(1)
    contrast = Contrast("age", "probability per SD", none.astype(int), none, none, True)
    card = {"csf_definition": "intracranial", "simulated": True}
    return EffectMaps(change, GRID, contrast, 5, 2, card)


def test_limits_are_shared_and_symmetric():
    named = {"model": planted(0.1), "regression": planted(0.3)}
    assert effects.color_limit(named) == pytest.approx(0.3)
    figure = effects.effect_figure(named)
    bar = figure.axes[-1]
    np.testing.assert_allclose(bar.get_ylim(), (-0.3, 0.3), atol=1e-6)
    assert bar.get_ylabel() == "Probability per SD"
    drawn = {image.get_cmap().name for ax in figure.axes for image in ax.images}
    assert DIVERGING in drawn
    texts = [t.get_text() for t in figure.texts]
    assert sorted(texts) == ["CSF", "GM", "WM", "model", "regression"]


def test_a_model_without_effect_can_be_drawn():
    assert effects.color_limit({"model": planted(0.0)}) == 1.0


def table() -> pd.DataFrame:
    rows = [
        {"feature": f, "tissue": t, "method": m, "rank": r, "value": v, "low": v - 1, "high": v + 1}
        for t in ("WM", "GM", "CSF")
        for m in ("gradient", "permutation")
        for f, r, v in (("noise", 2.0, 0.0), ("age", 1.0, 9.0))
    ]
    return pd.DataFrame(rows)


def test_ranks_are_shown_with_the_first_on_top():
    ax = effects.ranks(table(), tissue="GM")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["age", "noise"]
    assert [t.get_text() for t in ax.texts] == ["1", "1", "2", "2"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["gradient", "permutation"]


def test_intervals_lie_beside_their_questions():
    figure, ax = plt.subplots()
    ax.scatter([9, 0], ["age", "noise"])
    effects.training_intervals(table().query("method == 'gradient'"), tissue="GM", ax=ax)
    segments = ax.collections[-1].get_segments()
    by_place = {s[0, 1]: tuple(s[:, 0]) for s in segments}
    assert by_place == {0.0: (8.0, 10.0), 1.0: (-1.0, 1.0)}
    assert figure
