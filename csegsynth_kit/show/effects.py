"""Pictures of effects: where in the brain, in which order, and how sure."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from nilearn.datasets import load_mni152_template
from nilearn.plotting import plot_stat_map

from csegsynth_kit.analysis.effect_maps import EffectMaps
from csegsynth_kit.constants import COLORS, DIVERGING, MEASURED

#: Where the three slices cut (mm, MNI space): basal ganglia and lateral ventricles.
_CUT_MM = (8.0, -14.0, 14.0)
#: Share of the limit below which the template shows through.
_SHOWN_FROM = 0.05
#: Percentile of absolute values at which colors end: single voxels must not set the scale.
_LIMIT_PERCENTILE = 99.5
#: Resolution (mm) of the template beneath.
_TEMPLATE_MM = 2


def effect_figure(named: Mapping[str, EffectMaps], *, width: float = 2.9) -> Figure:
    """Draw effect maps on the template, one row per name and one column per tissue.

    All panels have the same limits, symmetric about 0. Maps of a grid in native space have no
    template beneath.

    Args:
        named: Name to effects of one unit.
        width: Of a panel (inches).
    """
    first = next(iter(named.values()))
    limit = color_limit(named)
    template = first.grid.space == "template"
    beneath = load_mni152_template(resolution=_TEMPLATE_MM) if template else None
    height = 0.42 * width * len(named)
    figure, axes = plt.subplots(
        len(named),
        len(MEASURED),
        figsize=(width * len(MEASURED) + 0.9, height + 0.35),
        squeeze=False,
    )
    figure.subplots_adjust(0.04, 0.02, 0.88, 1 - 0.3 / (height + 0.35), 0.02, 0.04)
    for i, (row, (name, effects)) in enumerate(zip(axes, named.items(), strict=True)):
        for ax, tissue, change in zip(row, MEASURED, effects.change.numpy(), strict=False):
            ax.set_axis_off()
            plot_stat_map(
                nib.Nifti1Image(change, effects.grid.affine),
                bg_img=beneath,
                cut_coords=_CUT_MM if template else None,
                threshold=_SHOWN_FROM * limit,
                vmin=-limit,
                vmax=limit,
                cmap=DIVERGING,
                axes=ax,
                figure=figure,
                colorbar=False,
                annotate=False,
                draw_cross=False,
                black_bg=False,
            )
            if i == 0:
                place = ax.get_position()
                above = (place.x0 + place.x1) / 2, place.y1
                figure.text(*above, tissue, ha="center", va="bottom", fontsize=9)
        place = row[0].get_position()
        middle = (place.y0 + place.y1) / 2
        figure.text(0.005, middle, name, rotation=90, va="center", fontsize=8)
    scale = ScalarMappable(Normalize(-limit, limit), DIVERGING)
    bar = figure.colorbar(scale, cax=figure.add_axes((0.905, 0.15, 0.012, 0.7)))
    bar.set_label(first.unit[0].upper() + first.unit[1:], fontsize=8)
    return figure


def color_limit(named: Mapping[str, EffectMaps]) -> float:
    """Return the limit of colors: nearly the largest absolute effect where there is any."""
    sizes = [np.abs(one.change[: len(MEASURED)].numpy()) for one in named.values()]
    shown = [size[size > _SHOWN_FROM * size.max()] for size in sizes]
    return max((float(np.percentile(s, _LIMIT_PERCENTILE)) for s in shown if s.size), default=1.0)


def ranks(table: pd.DataFrame, *, tissue: str = "GM", ax: Axes | None = None) -> Axes:
    """Show the rank of every question by every method as a grid of numbers.

    Args:
        table: From ``analysis.importance_scores.importance_table``.
        tissue: Which tissue.
        ax: Where to draw.
    """
    ax = plt.gca() if ax is None else ax
    rows = table.assign(mean_rank=table.groupby("feature")["rank"].transform("mean")).sort_values(
        "mean_rank", kind="stable"
    )
    names = list(rows["feature"].unique())
    methods = list(table["method"].unique())
    own = table[table["tissue"] == tissue]
    grid = own.pivot(index="feature", columns="method", values="rank").loc[names, methods]
    sns.heatmap(
        grid, annot=True, fmt=".0f", cmap="cividis_r", cbar=False, ax=ax, annot_kws={"size": 7}
    )
    ax.set(title=f"{tissue}: rank (1 is largest)", xlabel="", ylabel="")
    ax.tick_params(axis="x", rotation=35, length=0)
    plt.setp(ax.get_xticklabels(), ha="right")
    return ax


def training_intervals(table: pd.DataFrame, *, tissue: str, ax: Axes) -> Axes:
    """Add 95 % intervals over training samples to a chart of ``plots.importance``.

    Args:
        table: Rows of one method from ``analysis.importance_scores.importance_table``.
        tissue: Which tissue.
        ax: The chart.
    """
    own = table[table["tissue"] == tissue].set_index("feature")
    ax.hlines(
        own.index,
        own["low"],
        own["high"],
        color=COLORS[tissue],
        linewidth=1.5,
        label="model, 95 % over training samples",
    )
    return ax
