"""Charts of certainty and questions draw what their tables hold."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.container import ErrorbarContainer

from csegsynth_kit.analysis.bands import VoxelBands
from csegsynth_kit.analysis.certainty import COVERED
from csegsynth_kit.show import brains, certainty
from tests.toy import TOY_GRID


def coverage_table():
    rows = [
        (level, group, tissue, level + 0.01, level - 0.02, level + 0.03, n, level - 0.1, 0.99)
        for level in (0.8, 0.9)
        for group, n in (("everybody", 50), ("sex: female", 24))
        for tissue in COVERED
    ]
    ends = ["covered", "covered_low", "covered_high"]
    columns = ["level", "group", "tissue", *ends, "n", "expected_low", "expected_high"]
    return pd.DataFrame(rows, columns=columns)


def drawn(ax):
    points = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    return {c.get_label(): c[0].get_xydata() for c in points}


def test_coverage_is_drawn_in_percent_with_its_interval():
    ax = certainty.coverage(coverage_table())
    points = drawn(ax)
    assert list(points) == list(COVERED)
    np.testing.assert_allclose(points["GM"][:, 1], [81, 91])
    assert np.ptp([p[0, 0] for p in points.values()]) < 0.8  # side by side, on their level's bar
    segment = ax.containers[-1][2][0].get_segments()[0]
    np.testing.assert_allclose(segment[:, 1], [78, 83])
    assert ax.get_xlabel() == "Nominal coverage (%)"
    plt.close(ax.figure)


def test_groups_are_named_with_their_size():
    ax = certainty.coverage_by_group(coverage_table(), tissue="CSF")
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["everybody (n = 50)", "sex: female (n = 24)"]
    np.testing.assert_allclose(ax.containers[-1][0].get_xdata(), 91)
    plt.close(ax.figure)


def test_curve_draws_model_and_refitted_ridge():
    table = pd.DataFrame(
        {
            "questions": [0, 1, 0, 1],
            "predictor": ["model", "model", "ridge refitted", "ridge refitted"],
            "tissue": "WM",
            "mae_ml": [48.0, 40, 49, 39],
            "mae_low": [46.0, 38, 47, 37],
            "mae_high": [50.0, 42, 51, 41],
        }
    )
    ax = certainty.question_curve(table, tissue="WM")
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(lines["model"], [48, 40])
    np.testing.assert_allclose(lines["ridge refitted"], [49, 39])
    assert "(mL)" in ax.get_ylabel()
    plt.close(ax.figure)


def test_questions_have_one_order_for_all_tissues():
    parts = []
    for tissue, gains in {"all three": [1.0, 9, 3], "WM": [7.0, 2, 1]}.items():
        table = pd.DataFrame({"question": ["a", "b", "c"], "tissue": tissue, "alone_ml": gains})
        low, high = table["alone_ml"] - 1, table["alone_ml"] + 1
        parts.append(table.assign(alone_ml_low=low, alone_ml_high=high))
    ax = certainty.question_values(pd.concat(parts), "alone_ml", tissue="WM")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "c", "a"]
    np.testing.assert_allclose(ax.containers[0][0].get_xdata(), [2, 1, 7])
    plt.close(ax.figure)


def test_parts_of_the_spread_fill_the_bar():
    shares = {"unanswered questions": 0.3, "people with the same answers": 0.7, "total": 1.0}
    table = pd.DataFrame(
        [(p, t, 10.0, s) for p, s in shares.items() for t in ("WM", "GM", "CSF")],
        columns=["part", "tissue", "sd_ml", "share"],
    )
    ax = certainty.spread_parts(table)
    ends = [bar.get_x() + bar.get_width() for bar in ax.containers[-1]]
    np.testing.assert_allclose(ends, 100)
    assert len(ax.containers) == 2
    plt.close(ax.figure)


def test_wide_coverage_is_in_percent():
    wide = certainty.wide_coverage(coverage_table())
    assert list(wide["nominal"]) == ["80 %", "90 %"]
    assert wide.loc[1, "GM"] == "91.0 [88.0, 93.0]"
    assert wide.loc[0, "expected"] == "70.0 to 99.0"
    assert set(wide["n"]) == {50}


def test_bands_are_drawn_as_the_slices_of_the_view():
    shares = {name: torch.rand(3, *TOY_GRID.shape) for name in ("mean", "sd", "low", "high")}
    card = {"csf_definition": "intracranial", "simulated": True}
    bands = VoxelBands(**shares, grid=TOY_GRID, level=0.9, draws=8, seed=0, card=card)
    figure = certainty.voxel_band(bands, tissue="CSF", view="coronal")
    images = [ax.images[0] for ax in figure.axes[:4]]
    expected = brains.slice_of(shares["sd"][2], TOY_GRID, "coronal")
    assert expected.shape == (16, 8)  # up and to the right
    np.testing.assert_allclose(images[3].get_array(), expected)
    assert figure.axes[0].get_title() == "5th percentile"
    assert figure.axes[0].get_aspect() == 7 / 12
    plt.close(figure)
