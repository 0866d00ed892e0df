"""Charts of how sure volumes are, and of what questions buy: axes in, axes out."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from csegsynth_kit.analysis.certainty import COVERED
from csegsynth_kit.analysis.questions import MODEL, REFITTED
from csegsynth_kit.constants import COLORS, MEASURED

_COLORS = {**COLORS, "all three": "#333333"}
_RANGE = {"color": "#DDDDDD", "linewidth": 0, "zorder": 0}
_LINE = {"color": "black", "linestyle": "--", "linewidth": 1.2, "zorder": 1}


def coverage(table: pd.DataFrame, *, group: str = "everybody", ax: Axes | None = None) -> Axes:
    """Draw observed against nominal coverage with 95 % intervals, tissue by tissue.

    The gray range is where nineteen of twenty would lie if intervals are right on average.

    Args:
        table: From ``analysis.certainty.Intervals.coverage``.
        group: Which of its groups.
        ax: Where to draw.
    """
    ax = plt.gca() if ax is None else ax
    rows = table[table["group"] == group]
    levels = 100 * np.array(sorted(set(rows["level"])))
    low = 100 * rows.groupby("level")["expected_low"].first()
    high = 100 * rows.groupby("level")["expected_high"].first()
    ax.fill_between(levels, low, high, label="expected", **_RANGE)
    ax.plot(levels, levels, label="nominal", **_LINE)
    step = 0.6 if len(levels) > 1 else 0.1
    for i, tissue in enumerate(COVERED):
        own = rows[rows["tissue"] == tissue]
        _interval(
            ax,
            100 * own["level"] + step * (i - 1.5),
            *(100 * own[name] for name in ("covered", "covered_low", "covered_high")),
            color=_COLORS[tissue],
            label=tissue,
        )
    ax.set(xticks=levels, xlabel="Nominal coverage (%)", ylabel="People inside (%)")
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
        xerr=[value - low, high - value],
        fmt="o",
        color=_COLORS[tissue],
        markersize=4,
        capsize=2,
    )
    ax.axvline(100 * level, **_LINE)
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
    order = table[table["tissue"] == "all three"].sort_values(what, ascending=False)["question"]
    rows = table[table["tissue"] == tissue].set_index("question").loc[list(order)]
    value, low, high = (rows[f"{what}{end}"].to_numpy() for end in ("", "_low", "_high"))
    ax.axvline(0, color="#BBBBBB", linewidth=0.8, zorder=0)
    ax.errorbar(
        value,
        list(order),
        xerr=[value - low, high - value],
        fmt="o",
        color=_COLORS[tissue],
        markersize=4,
        capsize=2,
    )
    ax.invert_yaxis()
    ax.set(xlabel=f"{tissue}: fall of the error (mL)")
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


def _interval(ax: Axes, x, value, low, high, **look) -> None:
    ax.errorbar(
        x, value, yerr=[value - low, high - value], fmt="o", markersize=4, capsize=2, **look
    )
