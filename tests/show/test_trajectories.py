"""Trajectory figures are tested by what is drawn."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex

from csegsynth_kit.analysis.change import CHANGE_UNITS, ChangeMaps
from csegsynth_kit.analysis.trajectory import regression_lines, smooth_curves
from csegsynth_kit.constants import COLORS, DIVERGING
from csegsynth_kit.maps import Grid, SegmentationMaps
from csegsynth_kit.show import trajectories

AGES = (20.0, 30.0, 40.0, 50.0, 60.0)


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def curve():
    index = pd.MultiIndex.from_product(
        [AGES, range(4), ("WM", "GM", "CSF")], names=["age_years", "draw", "tissue"]
    )
    table = index.to_frame(index=False)
    volume = 600 - 2 * table["age_years"] + 5 * table["draw"]
    return table.assign(volume_ml=volume, supported=table["age_years"] < 45)


def test_what_no_participant_is_near_is_gray(curve):
    ax = trajectories.trajectory(curve, regression_lines(curve), smooth_curves(curve), tissue="GM")
    lines = {line.get_label(): line for line in ax.lines}
    assert to_hex(lines["mean of draws"].get_color()) == COLORS["GM"].lower()
    for name, young in (("mean of draws", True), ("no near participants", False)):
        ages, volumes = lines[name].get_data()
        drawn = ages[~np.isnan(volumes)]
        assert (drawn < 45.1).all() if young else (drawn > 44.9).all()
    (dots,) = [c for c in ax.collections if len(c.get_offsets()) == len(AGES) * 4]
    colors = {to_hex(c) for c in dots.get_facecolors()}
    assert colors == {COLORS["GM"].lower(), trajectories.UNSUPPORTED.lower()}
    assert ax.get_ylabel() == "GM volume (mL)"


def test_scenarios_are_rows_with_the_cohort_behind_and_one_legend(curve):
    both = {"ideal": curve, "regressed": curve}
    reference = pd.DataFrame(
        [
            {"age_years": a, "tissue": t, "low_ml": 400.0, "median_ml": 500.0, "high_ml": 600.0}
            for a in AGES
            for t in ("WM", "GM", "CSF")
        ]
    )
    figure = trajectories.trajectories(
        both,
        {name: regression_lines(c) for name, c in both.items()},
        {name: smooth_curves(c) for name, c in both.items()},
        {name: pd.DataFrame({"age": AGES}) for name in both},
        reference=reference,
    )
    assert [ax.get_title() for ax in figure.axes][3] == "regressed: WM"
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert names[:3] == ["cohort, middle 90 %", "cohort, median", "draw: one individual"]
    assert names[3:] == ["mean of draws", "no near participants", "straight line"]
    figure.canvas.draw()


def test_lifestyles_show_model_interval_and_truth():
    table = pd.DataFrame(
        {
            "scenario": ["a", "b"],
            "tissue": "GM",
            "difference_ml": [1.0, 2.0],
            "regression_low": [-1.0, 0.0],
            "regression_high": [3.0, 4.0],
            "true_ml": [1.5, 1.5],
            "supported": [True, False],
        }
    )
    ax = trajectories.lifestyle_differences(table, tissue="GM")
    drawn = {c.get_label(): c for c in ax.collections}
    np.testing.assert_allclose(drawn["model"].get_offsets()[:, 0], [1, 2])
    np.testing.assert_allclose(drawn["truth"].get_offsets()[:, 0], 1.5)
    assert to_hex(drawn["model"].get_facecolors()[1]) == trajectories.UNSUPPORTED.lower()
    assert ax.get_xlabel() == "GM difference (mL)"


def test_lifestyles_are_panels_and_none_is_said():
    columns = ["scenario", "tissue", "difference_ml", "regression_low", "regression_high"]
    empty = pd.DataFrame(columns=[*columns, "true_ml", "supported"])
    said = [t.get_text() for ax in trajectories.lifestyles(empty).axes for t in ax.texts]
    assert said == ["no scenario applies to this person"]
    rows = [("a", t, 1.0, 0.0, 2.0, np.nan, True) for t in ("WM", "GM", "CSF")]
    figure = trajectories.lifestyles(pd.DataFrame(rows, columns=empty.columns))
    assert [t.get_text() for t in figure.legends[0].get_texts()][1:] == ["model"]
    assert figure.axes[2].get_xlabel() == "CSF difference (mL)"


def test_change_has_one_symmetric_scale_and_the_right_side_up():
    grid = Grid("g", (10, 12, 14), (8.0, 7.0, 6.0), (0.0, 0.0, 0.0))
    shares = torch.full((1, 4, *grid.shape), 0.25)
    shares[:, 3], shares[:, 0] = 0.0, 0.5
    per_decade = torch.zeros(3, *grid.shape)
    per_decade[1, :, 9:, 8:9] = -0.1  # gray matter is lost in front, where the axial view cuts
    maps = ChangeMaps(
        per_decade, SegmentationMaps(shares, grid, ("x",)), (30.0, 70.0), 1, "ideal", (), {}
    )
    figure = trajectories.change(maps, views=("axial", "coronal"))
    images = [ax.images[0] for ax in figure.axes if ax.images and len(ax.images[0].get_array()) > 1]
    limits = {image.get_clim() for image in images[:6]}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high < 0
    gm = np.asarray(images[2].get_array())  # rows are tissues
    assert (gm[9:] == np.float32(-0.1)).all()
    assert (gm[:9] == 0).all()
    assert images[2].origin == "lower"
    assert {image.get_cmap().name for image in images[:6]} == {DIVERGING}
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert f"{CHANGE_UNITS},\n30 to 70 years" in labels
    outlines = [t.get_text() for t in figure.legends[0].get_texts()]
    assert outlines == ["edge of WM and GM at 30 years", "edge of CSF at 30 years"]
    figure.canvas.draw()
    tops = {round(ax.get_position().y1, 6) for ax in figure.axes[:2]}
    assert len(tops) == 1  # so that titles stand on one line
