"""Figures are tested by what is drawn: data, labels, units, orientation."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb

from csegsynth_kit.analysis.regression import regression_effects
from csegsynth_kit.constants import COLORS, VOLUME_COLUMNS
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.findings import Finding
from csegsynth_kit.maps import Grid, SegmentationMaps
from csegsynth_kit.show import brains, cohorts, effects, plots
from tests.toy import TOY_COLUMNS, TOY_GRID, toy_cohort, toy_table

GRID = Grid("g", (10, 12, 14), (8.0, 7.0, 6.0), (0.0, 0.0, 0.0))


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("show") / "cohort", 20, missing=0.2)


def marked(corner: tuple[slice, slice, slice]) -> torch.Tensor:
    """A map that is white matter in one corner and background elsewhere."""
    maps = torch.zeros(4, *GRID.shape)
    maps[3] = 1
    maps[3][corner], maps[0][corner] = 0, 1
    return maps


@pytest.mark.parametrize(
    ("view", "corner", "where"),
    [
        ("axial", (slice(0, 3), slice(9, 12), slice(None)), "upper left"),  # left, anterior
        ("axial", (slice(7, 10), slice(0, 3), slice(None)), "lower right"),  # right, posterior
        ("coronal", (slice(0, 3), slice(None), slice(11, 14)), "upper left"),  # left, superior
        ("sagittal", (slice(None), slice(9, 12), slice(11, 14)), "upper right"),  # front, top
    ],
)
def test_left_is_left_and_up_is_up(view, corner, where):
    colors = brains.colored_slice(marked(corner), GRID, view)
    painted = np.isclose(colors / 255, to_rgb(COLORS["WM"]), atol=0.003).all(-1)
    rows, columns = np.nonzero(painted)
    height, width = painted.shape
    vertical = "upper" if rows.mean() > height / 2 else "lower"  # drawn with origin "lower"
    horizontal = "left" if columns.mean() < width / 2 else "right"
    assert f"{vertical} {horizontal}" == where
    ax = brains.brain(marked(corner), GRID, view)
    assert ax.images[0].origin == "lower"


def test_colors_are_blended_by_share():
    maps = torch.zeros(4, *GRID.shape)
    maps[0], maps[2] = 0.25, 0.75
    color = brains.colored_slice(maps, GRID, "axial")[4, 4]
    expected = 0.25 * np.array(to_rgb(COLORS["WM"])) + 0.75 * np.array(to_rgb(COLORS["CSF"]))
    np.testing.assert_allclose(color / 255, expected, atol=0.5001 / 255)


def test_montage_has_a_column_per_map_and_a_legend():
    maps = SegmentationMaps(torch.rand(3, 4, *GRID.shape).softmax(1), GRID, ("a", "b", "c"))
    figure = brains.montage(maps)
    assert len(figure.axes) == 9
    assert [ax.get_title() for ax in figure.axes[:3]] == ["a", "b", "c"]
    assert [t.get_text() for t in figure.legends[0].texts] == ["WM", "GM", "CSF"]
    assert brains.montage(maps[:1])  # one map is enough


def test_volumes_by_age_draws_everybody_with_units(cohort):
    ax = cohorts.volumes_by_age(cohort, tissue="CSF")
    points = np.concatenate([c.get_offsets() for c in ax.collections])
    assert len(points) == len(cohort)
    np.testing.assert_allclose(sorted(points[:, 1]), sorted(cohort.volumes["csf_ml"]))
    assert ax.get_xlabel() == "Age (years)"
    assert ax.get_ylabel() == "CSF volume (mL)"


def test_answers_given_shows_shares(cohort):
    ax = cohorts.answers_given(cohort)
    widths = [bar.get_width() for bar in ax.patches]
    names = [c.name for c in cohort.feature_columns]
    np.testing.assert_allclose(widths, 100 * cohort.table[names].notna().mean())


def test_doctor_figure_leaves_out_what_there_is_nothing_of(cohort):
    figure = cohorts.doctor_figure(cohort)
    assert [ax.get_title() for ax in figure.axes] == [f"{len(cohort)} participants"]


def test_nearly_white_background_is_drawn_white():
    maps = torch.zeros(4, *GRID.shape)
    maps[0], maps[3] = 1e-4, 1 - 1e-4
    assert (brains.colored_slice(maps, GRID, "axial") == 255).all()


def test_scores_show_value_and_interval():
    table = pd.DataFrame(
        {
            "predictor": ["mean", "model"],
            "tissue": "GM",
            "mae_ml": [50.0, 40.0],
            "mae_ml_low": [45.0, 36.0],
            "mae_ml_high": [56.0, 43.0],
        }
    )
    ax = plots.scores(table, tissue="GM")
    segments = ax.collections[0].get_segments()
    np.testing.assert_allclose([s[:, 0] for s in segments], [[45, 56], [36, 43]])
    assert ax.get_xlabel() == "Mean absolute error (mL), GM"


def test_importance_draws_model_regression_and_truth():
    features = ["age", "sex", "noise"]
    base = {"feature": features, "tissue": "WM"}
    table = pd.DataFrame({**base, "effect_ml": [-9.0, 5.0, 1.0], "importance_ml": [9.0, 5.0, 1.0]})
    low_high = {"effect_low": [-12.0, 2.0, -2.0], "effect_high": [-6.0, 8.0, 3.0]}
    regression = pd.DataFrame({**base, **low_high})
    truth = pd.DataFrame({**base, "effect_ml": [-10.0, 6.0, 0.0]})
    ax = plots.importance(table, regression, truth, tissue="WM")
    assert [t.get_text() for t in ax.get_yticklabels()] == features
    offsets = {c.get_label(): c for c in ax.collections}
    np.testing.assert_allclose(offsets["model"].get_offsets()[:, 0], [-9, 5, 1])
    np.testing.assert_allclose(offsets["truth"].get_offsets()[:, 0], [-10, 6, 0])
    bars = offsets["regression, 95 % interval"].get_segments()
    np.testing.assert_allclose([b[:, 0] for b in bars], [[-12, -6], [2, 8], [-2, 3]])


def test_two_answers_are_marked_with_where_their_effect_leads(cohort):
    features = Features.fit(cohort.table, cohort.feature_columns)
    labels = plots.direction_labels(features)
    assert labels == {"sex": "sex (per SD, to male)"}
    shown = {"feature": ["age", "sex"], "tissue": "GM", "importance_ml": [2.0, 1.0]}
    table = pd.DataFrame(shown | {"effect_ml": [-2.0, 1.0]})
    ax = plots.importance(table, labels=labels)
    own = pd.DataFrame({"feature": ["sex", "age"], "tissue": "GM", "low": 0.0, "high": [1.0, 2]})
    effects.training_intervals(own, tissue="GM", ax=ax)  # names still find their rows
    assert [t.get_text() for t in ax.get_yticklabels()] == ["age", "sex (per SD, to male)"]
    places = [segment[0, 1] for segment in ax.collections[-1].get_segments()]
    np.testing.assert_allclose(places, [1, 0])


def test_two_answers_count_per_sd_toward_the_second():
    """Half the difference between men and women, whose coded answer has an SD of a half."""
    people = toy_table(200)
    people["sex"] = ["female", "male"] * 100
    features = Features.fit(people, TOY_COLUMNS)
    volumes = np.tile(500.0 + 60 * (people["sex"] == "male").to_numpy()[:, None], (1, 3))
    table = pd.DataFrame(volumes, people.index, list(VOLUME_COLUMNS))
    cohort = Cohort(None, people, TOY_COLUMNS, table, TOY_GRID, {}, np.arange(200))
    found = regression_effects(cohort, features).set_index(["feature", "tissue"])["effect_ml"]
    sd = features.sd[features.names.index("sex")]
    assert sd == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(found["sex"], 60 * sd, rtol=1e-6)


def test_tissues_share_one_order_of_features_and_one_legend():
    features = ["age", "sex", "noise"]
    wm = pd.DataFrame({"feature": features, "tissue": "WM", "importance_ml": [3.0, 1, 2]})
    gm = pd.DataFrame({"feature": features, "tissue": "GM", "importance_ml": [0.5, 9, 1]})
    table = pd.concat([wm, gm], ignore_index=True).assign(effect_ml=lambda t: t["importance_ml"])
    figure, axes = plots.panels(2)
    for ax, tissue in zip(axes, ("WM", "GM"), strict=True):
        plots.importance(table, truth=table, tissue=tissue, ax=ax)
        assert [t.get_text() for t in ax.get_yticklabels()] == ["sex", "age", "noise"]
    plots.shared_legend(figure, axes)
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["model", "truth"]
    figure.canvas.draw()


def test_saved_figures_are_equal_each_time(tmp_path):
    figure, ax = plots.panels(1)
    ax.plot([1, 2], [3, 4])
    path = plots.save(figure, tmp_path / "figures" / "one")
    first = path.read_bytes(), path.with_suffix(".svg").read_bytes()
    plots.save(figure, tmp_path / "figures" / "one")
    assert path.read_bytes() == first[0]
    assert path.with_suffix(".svg").exists()


def test_a_history_does_not_magnify_what_is_flat():
    table = pd.DataFrame({"epoch": [-1, 0, 1], "valid_r_wm": [0.980, 0.984, 0.981]})
    flat = plots.history(table, ["valid_r_wm"], ylabel="Correlation")
    low, high = flat.get_ylim()
    assert high - low > 0.19
    assert low < 0.98 < 0.984 < high
    steep = plots.history(table.assign(valid_r_wm=[0.1, 0.5, 0.9]), ["valid_r_wm"], ylabel="r")
    assert steep.get_ylim()[0] > 0


def test_what_a_family_does_not_measure_is_left_out_of_its_history():
    table = pd.DataFrame({"epoch": [-1, 0], "valid_sd_ratio": [0.9, 1.0]})
    ax = plots.history(table, ["valid_reconstruction"], ylabel="Reconstruction error")
    assert len(ax.lines) == 0
    assert ax.texts[0].get_text() == "not measured"


def test_comparison_says_who_the_two_are():
    maps = SegmentationMaps(torch.rand(2, 4, *GRID.shape).softmax(1), GRID, ("a", "b"))
    figure = brains.comparison({"real": maps}, titles=["34 years", "66 years, male"])
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:2] == ["sagittal\n34 years", "sagittal\n66 years, male"]
    assert brains.comparison({"real": maps}).axes[5].get_title() == "axial\nperson 2"


def test_one_finding_is_a_bar_and_counts_are_whole(cohort, monkeypatch):
    finding = Finding(subject="sub-001", severity="doubt", code="csf-low", message="little CSF")
    monkeypatch.setattr(Cohort, "findings", lambda self: [finding])
    volumes, found, *_ = cohorts.doctor_figure(cohort).axes
    (bar,) = found.patches
    bottom, top = found.get_ylim()
    assert bar.get_height() / (bottom - top) < 0.3
    for ticks in (found.get_xticks(), volumes.get_yticks()):
        np.testing.assert_array_equal(ticks, np.round(ticks))
