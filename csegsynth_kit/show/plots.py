"""Charts of models: axes in, axes out; units on every axis; only :func:`save` writes."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from csegsynth_kit.constants import COLORS, MEASURED
from csegsynth_kit.data.features import Features

#: Least height of a history's axis, relative to its values.
_LEAST_SPAN = 0.2
_TRUTH = {"color": "black", "linestyle": "--", "linewidth": 1.2}


def style() -> None:
    """Set the one look of all figures."""
    sns.set_theme(
        context="paper",
        style="ticks",
        rc={
            "figure.dpi": 72,
            "savefig.dpi": 200,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 9,
            "axes.labelsize": 8.5,
            "legend.fontsize": 8,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.frameon": False,
            "svg.fonttype": "none",
        },
    )


def panels(n: int = 3, *, width: float = 3.0, height: float = 2.7) -> tuple[Figure, np.ndarray]:
    """Return a figure with ``n`` panels in a row (sizes in inches)."""
    return plt.subplots(1, n, figsize=(width * n, height), layout="constrained")


def save(figure: Figure, path: Path | str) -> Path:
    """Write a figure as PNG and SVG next to each other, and return the PNG's path."""
    path = Path(path).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".svg", ".png"):
        metadata = {"Date": None} if suffix == ".svg" else {}
        figure.savefig(path.with_suffix(suffix), metadata=metadata)
    return path


def history(
    table: pd.DataFrame, names: Sequence[str], *, ylabel: str, ax: Axes | None = None
) -> Axes:
    """Draw columns of a training history against the epoch; 0 is the start, before training.

    Columns that the history of this family does not have are left out: a GAN, for instance,
    reconstructs nothing.
    """
    ax = plt.gca() if ax is None else ax
    kept = [name for name in names if name in table]
    if not kept:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color="#999999")
    for name, style_ in zip(kept, ("-", "--", ":", "-."), strict=False):
        rows = table[["epoch", name]].dropna()
        ax.plot(rows["epoch"] + 1, rows[name], style_, color="#333333", label=_readable(name))
    ax.set(xlabel="Epoch", ylabel=ylabel)
    if len(kept) > 1:
        ax.legend()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    low, high = ax.get_ylim()
    least = _LEAST_SPAN * max(abs(low), abs(high))
    if high - low < least:  # Else a thousandth would look like an event.
        middle = (low + high) / 2
        ax.set_ylim(middle - least / 2, middle + least / 2)
    return ax


def agreement(
    truth: np.ndarray, predicted: np.ndarray, *, tissue: str = "GM", ax: Axes | None = None
) -> Axes:
    """Scatter (N,) observed over (N,) predicted volumes of a tissue, with the identity line.

    Observed volumes are upright, so that their slope on predictions, 1 for a calibrated model, is
    the slope that one sees (Pineiro et al. 2008, doi:10.1016/j.ecolmodel.2008.05.006).
    """
    ax = plt.gca() if ax is None else ax
    ax.scatter(predicted, truth, s=10, color=COLORS[tissue], alpha=0.75, linewidths=0)
    low, high = min(truth.min(), predicted.min()), max(truth.max(), predicted.max())
    ax.plot([low, high], [low, high], **_TRUTH)
    ax.set_aspect("equal")
    ax.set(xlabel=f"Predicted {tissue} (mL)", ylabel=f"Observed {tissue} (mL)")
    return ax


def scores(
    table: pd.DataFrame,
    statistic: str = "mae_ml",
    *,
    tissue: str = "GM",
    xlabel: str = "Mean absolute error (mL)",
    ax: Axes | None = None,
) -> Axes:
    """Show a statistic of every predictor with its 95 % interval."""
    ax = plt.gca() if ax is None else ax
    rows = table[table["tissue"] == tissue].dropna(subset=statistic).reset_index(drop=True)
    values = rows[statistic].to_numpy()
    errors = np.stack([values - rows[f"{statistic}_low"], rows[f"{statistic}_high"] - values])
    ax.errorbar(
        values,
        rows["predictor"],
        xerr=np.abs(errors),
        fmt="o",
        color=COLORS[tissue],
        ecolor=COLORS[tissue],
        markersize=5,
        capsize=2,
    )
    ax.invert_yaxis()
    ax.margins(y=0.12)
    ax.set(xlabel=f"{xlabel}, {tissue}")
    return ax


def importance(
    table: pd.DataFrame,
    regression: pd.DataFrame | None = None,
    truth: pd.DataFrame | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    tissue: str = "GM",
    ax: Axes | None = None,
) -> Axes:
    """Show each feature's effect on a tissue; the largest over all tissues comes first.

    Args:
        table: From ``analysis.importance.gradient_importance``.
        regression: From ``analysis.regression.regression_effects``; drawn as gray intervals.
        truth: ``feature``, ``tissue``, ``effect_ml``, where it is known; drawn as strokes.
        labels: Feature to what stands for it, such as :func:`direction_labels`; itself without.
        tissue: Which tissue.
        ax: Where to draw.
    """
    ax = plt.gca() if ax is None else ax
    largest = table.groupby("feature")["importance_ml"].max().sort_values(ascending=False)
    names = list(largest.index)
    rows = table[table["tissue"] == tissue].set_index("feature").loc[names].reset_index()
    ax.axvline(0, color="#BBBBBB", linewidth=0.8)
    if regression is not None:
        own = regression[regression["tissue"] == tissue].set_index("feature").reindex(names)
        ax.hlines(
            names,
            own["effect_low"],
            own["effect_high"],
            color="#C9C9C9",
            linewidth=5,
            label="regression, 95 % interval",
        )
    ax.scatter(rows["effect_ml"], names, s=20, color=COLORS[tissue], zorder=3, label="model")
    if truth is not None:
        known = truth[truth["tissue"] == tissue].set_index("feature")["effect_ml"].reindex(names)
        ax.scatter(known, names, marker="|", s=70, color="black", zorder=4, label="truth")
    ax.invert_yaxis()
    ax.set_yticks(range(len(names)), [(labels or {}).get(name, name) for name in names])
    ax.set(xlabel=f"{tissue} effect (mL per SD of the answer)")
    return ax


def direction_labels(features: Features) -> dict[str, str]:
    """Say of questions with two answers which of them the effect leads to.

    It is per SD, as of any other question: of 0 and 1 here, so that the difference between the
    two answers is the effect divided by that SD, twice it or more.

    Returns:
        Question to label, such as ``sex (per SD, to male)``, of these questions only.
    """
    return {
        column.name: f"{column.name} (per SD, to {column.levels[1]})"
        for column in features.columns
        if len(column.levels) == 2
    }


def shared_legend(figure: Figure, axes: Sequence[Axes], *, rows: int = 1) -> None:
    """Say below the figure what the marks of panels alike mean, each in all of its colors.

    Args:
        figure: Where the panels are.
        axes: The panels.
        rows: Lines of the legend.
    """
    _, names = axes[0].get_legend_handles_labels()
    marks = zip(*(ax.get_legend_handles_labels()[0] for ax in axes), strict=True)
    handles = [own if len({_color(mark) for mark in own}) > 1 else own[0] for own in marks]
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=math.ceil(len(names) / rows),
        handler_map={tuple: HandlerTuple(ndivide=None)},
    )


def _color(mark: Artist) -> str:
    return to_hex(mark.get_color() if isinstance(mark, Line2D) else mark.get_edgecolor()[0])


def only_first_names(axes: Sequence[Axes]) -> None:
    """Keep the names on the vertical axis of the first panel only."""
    for ax in list(axes)[1:]:
        ax.set_yticklabels([])


def _readable(name: str) -> str:
    name = name.removeprefix("valid_").removeprefix("generator_")
    tissues = {f"r_{tissue.lower()}": tissue for tissue in MEASURED}
    return {"mae": "MAE", **tissues}.get(name) or name.replace("_", " ")
