"""Charts of how sure volumes are, and of what questions buy: axes in, axes out."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from csegsynth_kit.analysis.bands import VoxelBands
from csegsynth_kit.analysis.certainty import COVERED
from csegsynth_kit.analysis.questions import LOSSES, MODEL, REFITTED
from csegsynth_kit.constants import COLORS, MEASURED
from csegsynth_kit.show.brains import slice_aspect, slice_of
from csegsynth_kit.show.tables import interval_cell

_COLORS = {**COLORS, "all three": "#333333"}
_RANGE = {"color": "#DDDDDD", "linewidth": 0, "zorder": 0}
_LINE = {"color": "black", "linestyle": "--", "linewidth": 1.2, "zorder": 1}


def wide_coverage(table: pd.DataFrame, *, group: str = "everybody") -> pd.DataFrame:
    """Lay coverage out for reading: a row per level, a column per tissue, all in percent.

    Cells hold the share of people inside and its 95 % interval; ``expected``, where that share
    lies nineteen times of twenty if intervals are right on average, and the ratio of errors by
    which training people count, if they do, is exactly known: see ``Intervals.statement``.
    """
    rows = table[table["group"] == group]
    cells = rows.assign(
        nominal=[f"{100 * level:g} %" for level in rows["level"]],
        cell=[
            interval_cell(*row, digits=1)
            for row in (100 * rows[["covered", "covered_low", "covered_high"]]).to_numpy()
        ],
        expected=[
            f"{100 * row.expected_low:.1f} to {100 * row.expected_high:.1f}"
            for row in rows.itertuples()
        ],
    )
    wide = cells.pivot(index="nominal", columns="tissue", values="cell")[list(COVERED)]
    wide = wide.assign(expected=cells.groupby("nominal")["expected"].first(), n=rows["n"].iloc[0])
    return wide.reset_index().rename_axis(None, axis=1)


def coverage(table: pd.DataFrame, *, group: str = "everybody", ax: Axes | None = None) -> Axes:
    """Draw observed against nominal coverage with 95 % intervals, tissue by tissue.

    The gray range is where nineteen of twenty would lie if intervals are right on average; it
    leaves out how unsure the ratio of errors is by which training people count.

    Args:
        table: From ``analysis.certainty.Intervals.coverage``.
        group: Which of its groups.
        ax: Where to draw.
    """
    ax = plt.gca() if ax is None else ax
    rows = table[table["group"] == group]
    for place, (level, own) in enumerate(rows.groupby("level")):
        low, high = 100 * own["expected_low"].iloc[0], 100 * own["expected_high"].iloc[0]
        name = {"label": "expected"} if place == 0 else {}
        ax.bar(place, high - low, bottom=low, width=0.8, **_RANGE, **name)
        name = {"label": "nominal"} if place == 0 else {}
        ax.plot([place - 0.4, place + 0.4], 2 * [100 * level], **_LINE, **name)
    levels = sorted(set(rows["level"]))
    for i, tissue in enumerate(COVERED):
        own = rows[rows["tissue"] == tissue].sort_values("level")
        value, low, high = (100 * own[f"covered{end}"].to_numpy() for end in ("", "_low", "_high"))
        ax.errorbar(
            np.arange(len(own)) + 0.18 * (i - 1.5),
            value,
            yerr=_whiskers(value, low, high),
            fmt="o",
            color=_COLORS[tissue],
            markersize=4,
            capsize=2,
            label=tissue,
        )
    ax.use_sticky_edges = False  # else the axis would end where a bar does
    ax.autoscale_view()
    ax.set_xticks(range(len(levels)), [f"{100 * level:g}" for level in levels])
    ax.set(xlabel="Nominal coverage (%)", ylabel="People inside (%)")
    return ax


def coverage_by_group(
    table: pd.DataFrame, *, level: float = 0.9, tissue: str = "all three", ax: Axes | None = None
) -> Axes:
    """Draw observed coverage of one level in every group, with its 95 % interval."""
    ax = plt.gca() if ax is None else ax
    rows = table[(table["level"] == level) & (table["tissue"] == tissue)]
    names = [f"{row.group} (n = {row.n})" for row in rows.itertuples()]
    value, low, high = (100 * rows[f"covered{end}"].to_numpy() for end in ("", "_low", "_high"))
    for i, row in enumerate(rows.itertuples()):
        start, end = 100 * row.expected_low, 100 * row.expected_high
        ax.barh(i, end - start, left=start, height=0.7, **_RANGE)
    ax.errorbar(
        value,
        range(len(rows)),
        xerr=_whiskers(value, low, high),
        fmt="o",
        color=_COLORS[tissue],
        markersize=4,
        capsize=2,
    )
    ax.axvline(100 * level, **_LINE)
    ax.use_sticky_edges = False
    ax.autoscale_view()
    ax.set_yticks(range(len(rows)), names)
    ax.invert_yaxis()
    ax.set(xlabel=f"People inside, {tissue} (%)")
    return ax


def question_curve(table: pd.DataFrame, *, tissue: str = "GM", ax: Axes | None = None) -> Axes:
    """Draw the error against the number of questions answered.

    Args:
        table: From ``analysis.questions.question_curve``.
        tissue: Which tissue.
        ax: Where to draw.
    """
    ax = plt.gca() if ax is None else ax
    rows = table[table["tissue"] == tissue]
    looks = {MODEL: (COLORS[tissue], "-"), REFITTED: ("#555555", "--")}
    for name, (color, line) in looks.items():
        own = rows[rows["predictor"] == name]
        ax.plot(own["questions"], own["mae_ml"], line, color=color, label=name)
        if name == MODEL:
            ends = own["mae_low"], own["mae_high"]
            ax.fill_between(own["questions"], *ends, color=color, alpha=0.18, linewidth=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="Questions answered", ylabel=f"{tissue}, mean absolute error (mL)")
    return ax


def question_values(
    table: pd.DataFrame, what: str = "in_full_ml", *, tissue: str = "GM", ax: Axes | None = None
) -> Axes:
    """Draw what each question buys on a tissue, with its 95 % interval.

    Args:
        table: From ``analysis.questions.question_values``.
        what: ``in_full_ml``, ``beside_base_ml`` or ``alone_ml``.
        tissue: Which tissue, or ``all three``. Questions have one order for all of them.
        ax: Where to draw.
    """
    ax = plt.gca() if ax is None else ax
    order = table[table["tissue"] == LOSSES[-1]].sort_values(what, ascending=False)["question"]
    rows = table[table["tissue"] == tissue].set_index("question").loc[list(order)]
    value, low, high = (rows[f"{what}{end}"].to_numpy() for end in ("", "_low", "_high"))
    ax.axvline(0, color="#BBBBBB", linewidth=0.8, zorder=0)
    ax.errorbar(
        value,
        list(order),
        xerr=_whiskers(value, low, high),
        fmt="o",
        color=_COLORS[tissue],
        markersize=4,
        capsize=2,
    )
    ax.invert_yaxis()
    error = "energy score" if tissue == LOSSES[-1] else "mean absolute error"
    ax.set(xlabel=f"{tissue}: fall of the {error} (mL)")
    return ax


def spread_parts(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Stack the shares of a person's variance, tissue by tissue.

    Args:
        table: From ``analysis.spread.decompose_spread``.
        ax: Where to draw.
    """
    ax = plt.gca() if ax is None else ax
    start = np.zeros(len(MEASURED))
    parts = [part for part in dict.fromkeys(table["part"]) if part != "total"]
    for part, color in zip(parts, ("#4B6A88", "#B7C9D9", "#E3B23C"), strict=False):
        own = table[table["part"] == part].set_index("tissue").loc[list(MEASURED)]
        width = 100 * own["share"].fillna(0).to_numpy()
        ax.barh(list(MEASURED), width, left=start, color=color, label=part)
        start += width
    ax.invert_yaxis()
    ax.set(xlabel="Share of variance (%)", xlim=(0, 100))
    return ax


def legend_below(figure: Figure, ax: Axes) -> None:
    """Say below the figure what the marks of one panel mean."""
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))


def voxel_band(bands: VoxelBands, *, tissue: str = "GM", view: str = "axial") -> Figure:
    """Draw mean, both quantiles and SD of a tissue's share in one slice.

    Args:
        bands: From ``analysis.bands.voxel_bands``.
        tissue: Which tissue.
        view: ``sagittal``, ``coronal`` or ``axial``, as in ``show.brains``.
    """
    percent = 100 * (1 - bands.level) / 2
    titles = {
        "low": f"{percent:g}th percentile",
        "mean": "mean",
        "high": f"{100 - percent:g}th percentile",
        "sd": "SD",
    }
    figure, axes = plt.subplots(1, len(titles), figsize=(8.2, 2.7), layout="constrained")
    for ax, (kind, title) in zip(axes, titles.items(), strict=True):
        shares = getattr(bands, kind)[MEASURED.index(tissue)]
        look = {"cmap": "magma"} if kind == "sd" else {"cmap": "gray", "vmin": 0, "vmax": 1}
        image = ax.imshow(slice_of(shares, bands.grid, view), origin="lower", **look)
        ax.set(xticks=[], yticks=[], title=title, aspect=slice_aspect(bands.grid, view))
        ax.spines[:].set_visible(False)
        if kind in ("high", "sd"):
            bar = figure.colorbar(image, ax=ax, shrink=0.8)
            bar.set_label(f"share that is {tissue}" if kind == "high" else "SD of the share")
    figure.suptitle(f"{bands.draws} draws", fontsize=9)
    return figure


def _whiskers(value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Lengths below and above; a share of 1 may exceed its upper bound by round-off."""
    return np.maximum([value - low, high - value], 0)
