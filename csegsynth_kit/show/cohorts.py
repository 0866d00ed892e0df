"""Charts of cohorts: axes in, axes out; units on every axis."""

from collections import Counter
from functools import partial

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from csegsynth_kit.constants import COLORS, MEASURED
from csegsynth_kit.data.cohort import Cohort

_MARKERS = {"female": "o", "male": "^"}
_SEVERITY = {"excluded": "#A63A2B", "doubt": "#DDA01F", "note": "#9A9A9A"}
#: Kinds of findings shown; the rest is in the report.
_MOST_KINDS = 8
#: Rows that a chart of findings has room for at least.
_LEAST_ROWS = 4


def volumes_by_age(cohort: Cohort, *, tissue: str = "GM", ax: Axes | None = None) -> Axes:
    """Scatter a tissue's volume against age, by sex where it is known."""
    ax = plt.gca() if ax is None else ax
    volume = cohort.volumes[f"{tissue.lower()}_ml"]
    if "age" not in cohort.table:
        ax.hist(volume, color=COLORS[tissue])
        ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        ax.set(xlabel=f"{tissue} volume (mL)", ylabel="Participants")
        return ax
    sex = cohort.table.get("sex", pd.Series("", index=cohort.table.index)).fillna("n/a")
    for level, group in volume.groupby(sex):
        filled = level != "male"
        ax.scatter(
            cohort.table.loc[group.index, "age"],
            group,
            s=9,
            marker=_MARKERS.get(level, "o"),
            facecolors=COLORS[tissue] if filled else "none",
            edgecolors=COLORS[tissue],
            linewidths=0.7,
            alpha=0.75,
            label=f"{level} (n = {len(group)})",
        )
    ax.legend(
        handletextpad=0.1, columnspacing=1, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1)
    )
    ax.set(xlabel="Age (years)", ylabel=f"{tissue} volume (mL)")
    return ax


def answers_given(cohort: Cohort, *, ax: Axes | None = None) -> Axes:
    """Show the share of participants who answered each feature's question."""
    ax = plt.gca() if ax is None else ax
    names = [column.name for column in cohort.feature_columns]
    share = 100 * cohort.table[names].notna().mean()
    ax.barh(names, share, color="#7A7A7A")
    ax.invert_yaxis()
    ax.set(xlim=(0, 100), xlabel=f"Answered (% of {len(cohort)} participants)")
    return ax


def doctor_figure(cohort: Cohort) -> Figure:
    """Show the report of a preparation: volumes, findings, and how heads were turned.

    What there is nothing to show of is left out.
    """
    found = Counter((f.severity, f.code) for f in cohort.findings() if f.code != "left-out")
    steps = cohort.preparation()
    turned = steps.dropna(subset="rotation_x_deg") if "rotation_x_deg" in steps else steps[:0]
    parts = [partial(_volume_histograms, cohort)]
    if found:
        parts.append(partial(_finding_counts, found))
    if len(turned):
        parts.append(partial(_rotations, turned))
    figure, axes = plt.subplots(
        1, len(parts), figsize=(3.4 * len(parts), 3), layout="constrained", squeeze=False
    )
    for draw, ax in zip(parts, axes.flat, strict=True):
        draw(ax)
    return figure


def _volume_histograms(cohort: Cohort, ax: Axes) -> None:
    for tissue in MEASURED:
        volumes = cohort.volumes[f"{tissue.lower()}_ml"]
        ax.hist(volumes, bins="auto", color=COLORS[tissue], alpha=0.75, label=tissue)
    ax.legend()
    ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    ax.set(xlabel="Volume (mL)", ylabel="Participants", title=f"{len(cohort)} participants")


def _finding_counts(found: Counter, ax: Axes) -> None:
    rows = sorted(found.items(), key=lambda item: (list(_SEVERITY).index(item[0][0]), -item[1]))
    rows = rows[:_MOST_KINDS]
    names = [f"{severity}: {code.replace('-', ' ')}" for (severity, code), _ in rows]
    bars = ax.barh(
        names,
        [count for _, count in rows],
        color=[_SEVERITY[severity] for (severity, _), _ in rows],
    )
    ax.bar_label(bars, padding=2, fontsize=8)
    ax.margins(x=0.15)
    ax.set_ylim(max(len(rows), _LEAST_ROWS) - 0.5, -0.5)  # one finding is a bar, not a wall
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    ax.set(xlabel="Findings", title="Findings")


def _rotations(turned: pd.DataFrame, ax: Axes) -> None:
    ax.scatter(turned["rotation_x_deg"], turned["overlap"], s=12, color="#444444", linewidths=0)
    ax.set(
        xlabel="Pitch corrected (degrees)",
        ylabel="Overlap with the template",
        ylim=(0, 1),
        title="Alignment to the template",
    )
