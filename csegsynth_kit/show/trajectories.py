"""Charts of one individual at other ages; what the data cannot say is gray."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from csegsynth_kit.analysis.change import CHANGE_UNITS, ChangeMaps
from csegsynth_kit.analysis.truth import Truth
from csegsynth_kit.constants import COLORS, DIVERGING, MEASURED, TISSUES
from csegsynth_kit.maps import Grid
from csegsynth_kit.show.brains import VIEWS
from csegsynth_kit.show.plots import only_first_names, panels, shared_legend

#: Colors of the outlines of the brain and of the CSF around it.
_BRAIN, _CSF = "#444444", "#AAAAAA"
_TRUTH = {"color": "black", "linestyle": "--", "linewidth": 1.2}
#: Color of what no training participants are near.
UNSUPPORTED = "#B5B5B5"
#: Colors end at this percentile of the changes inside the head, so that one voxel sets no scale.
_SCALE_PERCENTILE = 99.5


def trajectory(
    table: pd.DataFrame,
    lines: pd.DataFrame,
    smooth: pd.DataFrame,
    *,
    reference: pd.DataFrame | None = None,
    truth: pd.Series | None = None,
    tissue: str = "GM",
    ax: Axes | None = None,
) -> Axes:
    """Draw volumes over age: draws, smooth mean, regression line with band, the cohort behind.

    Args:
        table: From ``analysis.trajectory.simulate_trajectory``.
        lines: From ``analysis.trajectory.regression_lines``.
        smooth: From ``analysis.trajectory.smooth_curves``.
        reference: From ``analysis.reference.group_reference``.
        truth: Expected volume (mL) indexed by age, where it is known.
        tissue: Which tissue.
        ax: Where to draw.
    """
    ax = plt.gca() if ax is None else ax
    rows, line, curve = (t[t["tissue"] == tissue] for t in (table, lines, smooth))
    if reference is not None:
        _band(reference[reference["tissue"] == tissue], ax)
    colors = np.where(rows["supported"], COLORS[tissue], UNSUPPORTED)
    ax.scatter(rows["age_years"], rows["volume_ml"], s=6, c=colors, alpha=0.35, linewidths=0)
    dot = {"s": 12, "color": COLORS[tissue], "alpha": 0.6, "linewidths": 0}
    ax.scatter([], [], **dot, label="draw: one individual")  # the first of the dots may be gray
    supported = _supported_at(rows, curve["age_years"].to_numpy())
    for shown, color, label in (
        (supported, COLORS[tissue], "mean of draws"),
        (~supported, UNSUPPORTED, "no near participants"),
    ):
        values = np.where(shown, curve["volume_ml"], np.nan)
        ax.plot(curve["age_years"], values, color=color, linewidth=2, label=label)
    ax.plot(line["age_years"], line["line_ml"], color="#555555", linewidth=1, label="straight line")
    ax.fill_between(
        line["age_years"], line["low_ml"], line["high_ml"], color="#555555", alpha=0.25, linewidth=0
    )
    if truth is not None:
        ax.plot(truth.index, truth, **_TRUTH, label="truth")
    ax.set(xlabel="Age (years)", ylabel=f"{tissue} volume (mL)")
    return ax


def trajectories(
    curves: Mapping[str, pd.DataFrame],
    lines: Mapping[str, pd.DataFrame],
    smooth: Mapping[str, pd.DataFrame],
    people: Mapping[str, pd.DataFrame],
    *,
    reference: pd.DataFrame | None = None,
    truth: Truth | None = None,
) -> Figure:
    """Draw scenarios in rows and tissues in columns; see :func:`trajectory`."""
    figure, axes = plt.subplots(
        len(curves),
        len(MEASURED),
        figsize=(3.1 * len(MEASURED), 2.5 * len(curves)),
        layout="constrained",
        squeeze=False,
        sharey="col",
        sharex=True,
    )
    for i, (row, (name, curve)) in enumerate(zip(axes, curves.items(), strict=True)):
        expected = None if truth is None else truth.predict(people[name])
        for t, (ax, tissue) in enumerate(zip(row, MEASURED, strict=True)):
            known = None
            if expected is not None:
                known = pd.Series(expected[:, t], index=people[name]["age"].to_numpy())
            trajectory(
                curve,
                lines[name],
                smooth[name],
                reference=reference,
                truth=known,
                tissue=tissue,
                ax=ax,
            )
            ax.set_title(f"{name}: {tissue}")
            ax.set_xlabel("Age (years)" if i == len(axes) - 1 else "")
    shared_legend(figure, axes[0], rows=2)
    return figure


def lifestyle_differences(
    table: pd.DataFrame, *, tissue: str = "GM", names: Sequence[str] = (), ax: Axes | None = None
) -> Axes:
    """Draw the difference each scenario makes at one age, beside the regression's interval.

    Args:
        table: From ``analysis.scenarios.compare_lifestyles``, one age per scenario.
        tissue: Which tissue.
        names: Scenarios from top to bottom; as in the table by default.
        ax: Where to draw.
    """
    ax = plt.gca() if ax is None else ax
    rows = table[table["tissue"] == tissue].set_index("scenario")
    rows = rows.loc[list(names)] if names else rows
    ax.axvline(0, color="#BBBBBB", linewidth=0.8)
    ax.hlines(
        rows.index,
        rows["regression_low"],
        rows["regression_high"],
        color="#C9C9C9",
        linewidth=5,
        label="regression, 95 % interval",
    )
    colors = list(np.where(rows["supported"], COLORS[tissue], UNSUPPORTED))
    ax.scatter(rows["difference_ml"], rows.index, s=22, c=colors, zorder=3, label="model")
    if rows["true_ml"].notna().any():
        ax.scatter(
            rows["true_ml"], rows.index, marker="|", s=80, color="black", zorder=4, label="truth"
        )
    ax.invert_yaxis()
    ax.margins(y=0.25)
    ax.set(xlabel=f"{tissue} difference (mL)")
    return ax


def lifestyles(table: pd.DataFrame) -> Figure:
    """Draw the difference each scenario makes, one panel per tissue; say so if there is none.

    Args:
        table: From ``analysis.scenarios.compare_lifestyles``, one age per scenario.
    """
    figure, axes = panels(len(MEASURED), height=1.2 + 0.35 * max(table["scenario"].nunique(), 1))
    if table.empty:
        for ax in axes:
            ax.set_axis_off()
        axes[1].text(0.5, 0.5, "no scenario applies to this person", ha="center", color="#666666")
        return figure
    for ax, tissue in zip(axes, MEASURED, strict=True):
        lifestyle_differences(table, tissue=tissue, ax=ax)
    only_first_names(axes)
    shared_legend(figure, axes)
    return figure


def change(maps: ChangeMaps, *, views: Sequence[str] = tuple(VIEWS), width: float = 1.5) -> Figure:
    """Draw where each tissue becomes more or less: tissues in rows, views in columns.

    Purple is loss, green gain. Lines outline the brain (white plus gray matter) at the first age,
    lighter ones the CSF around it.

    Args:
        maps: From ``analysis.change.change_maps``.
        views: Columns.
        width: Width of a column (inches).
    """
    grid, start = maps.start.grid, maps.start.probabilities[0]
    inside = start[TISSUES.index("background")] < 0.5
    sizes = maps.per_decade[:, inside].abs().flatten().numpy()
    limit = float(np.percentile(sizes, _SCALE_PERCENTILE)) if sizes.size else 0.0
    limit = limit or 1e-6  # A model that changes nothing has an empty picture.
    figure, axes = plt.subplots(
        len(MEASURED),
        len(views),
        figsize=(width * len(views) + 0.9, width * 1.12 * len(MEASURED) + 0.3),
        squeeze=False,
        layout="constrained",
        width_ratios=[_width_mm(grid, view) for view in views],
    )
    brain = start[0] + start[1]
    outlines = ((brain, _BRAIN), (brain + start[2], _CSF))
    for row, (tissue, values) in enumerate(zip(MEASURED, maps.per_decade, strict=True)):
        for column, view in enumerate(views):
            ax, (axis, offset_mm) = axes[row, column], VIEWS[view]
            index = int((grid.extent_mm[axis] / 2 + offset_mm) / grid.spacing_mm[axis])
            wide, high = (s for i, s in enumerate(grid.spacing_mm) if i != axis)
            picture = ax.imshow(
                values.select(axis, index).T.numpy(),
                origin="lower",
                aspect=high / wide,
                cmap=DIVERGING,
                vmin=-limit,
                vmax=limit,
            )
            for shares, color in outlines:
                if shares.select(axis, index).max() > 0.5:
                    lines = shares.select(axis, index).T.numpy()
                    ax.contour(lines, levels=[0.5], colors=color, linewidths=0.6)
            ax.set(xticks=[], yticks=[])
            ax.set_anchor("N")
            for spine in ax.spines.values():
                spine.set_visible(False)
            if row == 0:
                ax.set_title(view, fontsize=8)
        axes[row, 0].set_ylabel(tissue, fontsize=8)
    first, last = maps.ages_years
    figure.colorbar(  # a bar would center the panels beside it, and with them their titles
        picture,
        ax=axes,
        shrink=0.6,
        panchor=False,
        label=f"{CHANGE_UNITS},\n{first:g} to {last:g} years",
    )
    names = f"edge of WM and GM at {first:g} years", f"edge of CSF at {first:g} years"
    handles = [
        Line2D([], [], color=color, linewidth=1, label=name)
        for name, (_, color) in zip(names, outlines, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    return figure


def _width_mm(grid: Grid, view: str) -> float:
    return next(edge for i, edge in enumerate(grid.extent_mm) if i != VIEWS[view][0])


def _band(reference: pd.DataFrame, ax: Axes) -> None:
    ages = reference["age_years"]
    ax.fill_between(
        ages,
        reference["low_ml"],
        reference["high_ml"],
        color="#E9E9E9",
        linewidth=0,
        zorder=0,
        label="cohort, middle 90 %",
    )
    ax.plot(
        ages,
        reference["median_ml"],
        color="#FFFFFF",
        linewidth=1.5,
        zorder=0.5,
        path_effects=[withStroke(linewidth=2.5, foreground="#A8A8A8")],  # seen in the legend, too
        label="cohort, median",
    )


def _supported_at(rows: pd.DataFrame, ages_years: np.ndarray) -> np.ndarray:
    """Tell whether the simulated age nearest to each of these ages is supported."""
    known = rows.groupby("age_years")["supported"].first()
    nearest = np.abs(ages_years[:, None] - known.index.to_numpy()[None]).argmin(axis=1)
    return known.to_numpy()[nearest]
