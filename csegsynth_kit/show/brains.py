"""Pictures of maps."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from csegsynth_kit.constants import COLORS, MEASURED, TISSUES
from csegsynth_kit.maps import Grid, SegmentationMaps

#: View to the axis it looks along and where the slice lies, from the middle of the box (mm).
VIEWS = {"sagittal": (0, 8.0), "coronal": (1, 6.0), "axial": (2, 6.0)}


def colored_slice(maps: Tensor, grid: Grid, view: str) -> np.ndarray:
    """Blend the tissues' colors by their shares in one slice.

    Args:
        maps: (T, X, Y, Z) shares.
        grid: Their voxels.
        view: ``sagittal``, ``coronal`` or ``axial``.

    Returns:
        (height, width, 3) colors from 0 to 255; up is superior (anterior in the axial view),
        and the person's left is on the left.
    """
    axis, offset_mm = VIEWS[view]
    index = int((grid.extent_mm[axis] / 2 + offset_mm) / grid.spacing_mm[axis])
    shares = maps.select(axis + 1, index).numpy()
    colors = np.array([to_rgb(COLORS[tissue]) for tissue in TISSUES])
    blended = np.einsum("thw,tc->whc", shares, colors).clip(0, 1)
    return np.round(255 * blended).astype(np.uint8)  # matplotlib would cut, and gray the white


def brain(maps: Tensor, grid: Grid, view: str, *, ax: Axes | None = None) -> Axes:
    """Draw one slice of one (T, X, Y, Z) map."""
    ax = plt.gca() if ax is None else ax
    axis, _ = VIEWS[view]
    width, height = (s for i, s in enumerate(grid.spacing_mm) if i != axis)
    ax.imshow(
        colored_slice(maps, grid, view),
        origin="lower",
        aspect=height / width,
        interpolation="bilinear",
    )
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def montage(
    maps: SegmentationMaps,
    *,
    titles: Sequence[str] | None = None,
    views: Sequence[str] = tuple(VIEWS),
    width: float = 1.25,
) -> Figure:
    """Draw maps side by side, one column each, one row per view.

    Args:
        maps: A few maps.
        titles: Shown above the columns; the maps' labels by default.
        views: Rows.
        width: Width of a column (inches).
    """
    titles = maps.labels if titles is None else titles
    figure, axes = plt.subplots(
        len(views),
        len(maps),
        figsize=(width * len(maps), width * 1.12 * len(views)),
        squeeze=False,
        layout="constrained",
    )
    for column, (title, one) in enumerate(zip(titles, maps.probabilities, strict=True)):
        for row, view in enumerate(views):
            brain(one, maps.grid, view, ax=axes[row, column])
        axes[0, column].set_title(title, fontsize=8)
    for row, view in enumerate(views):
        axes[row, 0].set_ylabel(view, fontsize=8)
    tissue_legend(figure)
    return figure


def rows_of_brains(
    sets: Mapping[str, SegmentationMaps],
    view: str = "axial",
    *,
    titles: Sequence[str] = (),
) -> Figure:
    """Draw several sets of maps in one view, one row per set, for comparison.

    Args:
        sets: Name to a few maps.
        view: Which slice.
        titles: Shown above the columns.
    """
    columns = max(len(maps) for maps in sets.values())
    figure, axes = plt.subplots(
        len(sets),
        columns,
        figsize=(1.1 * columns, 1.3 * len(sets)),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for row, (name, maps) in enumerate(sets.items()):
        for ax, one in zip(axes[row], maps.probabilities, strict=False):
            ax.set_axis_on()
            brain(one, maps.grid, view, ax=ax)
        axes[row, 0].set_ylabel(name, fontsize=8)
    for ax, title in zip(axes[0], titles, strict=False):
        ax.set_title(title, fontsize=8)
    tissue_legend(figure)
    return figure


def comparison(sets: Mapping[str, SegmentationMaps], *, width: float = 1.15) -> Figure:
    """Draw two maps of every set in all three views: one row per set, to see what each does.

    Args:
        sets: Name to two or more maps; the first two are shown.
        width: Width of one brain (inches).
    """
    views, shown = list(VIEWS), 2
    figure, axes = plt.subplots(
        len(sets),
        shown * len(views),
        figsize=(width * shown * len(views), 1.12 * width * len(sets) + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for row, (name, maps) in zip(axes, sets.items(), strict=True):
        for i, ax in enumerate(row):
            brain(maps.probabilities[i % shown], maps.grid, views[i // shown], ax=ax)
        row[0].set_ylabel(name, fontsize=9)
    for i, ax in enumerate(axes[0]):
        ax.set_title(f"{views[i // shown]} {i % shown + 1}", fontsize=8)
    tissue_legend(figure)
    return figure


def tissue_legend(figure: Figure) -> None:
    """Say below the figure which color is which tissue."""
    handles = [Patch(facecolor=COLORS[tissue], label=tissue) for tissue in MEASURED]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(MEASURED), frameon=False, fontsize=8
    )
