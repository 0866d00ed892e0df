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


def usual_slice(grid: Grid, view: str) -> int:
    """Index of the slice that a view shows unless another is asked for."""
    axis, offset_mm = VIEWS[view]
    return int((grid.extent_mm[axis] / 2 + offset_mm) / grid.spacing_mm[axis])


def colored_slice(maps: Tensor, grid: Grid, view: str, index: int | None = None) -> np.ndarray:
    """Blend the tissues' colors by their shares in one slice.

    Args:
        maps: (T, X, Y, Z) shares.
        grid: Their voxels.
        view: ``sagittal``, ``coronal`` or ``axial``.
        index: Which slice; by default :func:`usual_slice`.

    Returns:
        (height, width, 3) colors from 0 to 255; up is superior (anterior in the axial view),
        and the person's left is on the left.
    """
    shares = np.stack([slice_of(shares, grid, view, index) for shares in maps])
    colors = np.array([to_rgb(COLORS[tissue]) for tissue in TISSUES])
    blended = np.einsum("thw,tc->hwc", shares, colors).clip(0, 1)
    return np.round(255 * blended).astype(np.uint8)  # matplotlib would cut, and gray the white


def slice_of(values: Tensor, grid: Grid, view: str, index: int | None = None) -> np.ndarray:
    """Return a (height, width) slice of (X, Y, Z) values; by default :func:`usual_slice`."""
    axis, _ = VIEWS[view]
    index = usual_slice(grid, view) if index is None else index
    return values.select(axis, index).numpy().T


def slice_aspect(grid: Grid, view: str) -> float:
    """Return how much higher than wide a voxel is in a view."""
    width, height = (s for i, s in enumerate(grid.spacing_mm) if i != VIEWS[view][0])
    return height / width


def brain(maps: Tensor, grid: Grid, view: str, *, ax: Axes | None = None) -> Axes:
    """Draw one slice of one (T, X, Y, Z) map."""
    ax = plt.gca() if ax is None else ax
    ax.imshow(
        colored_slice(maps, grid, view),
        origin="lower",
        aspect=slice_aspect(grid, view),
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


def comparison(
    sets: Mapping[str, SegmentationMaps],
    *,
    titles: Sequence[str] = (),
    inches_per_mm: float = 0.0062,
) -> Figure:
    """Draw two maps of every set in all three views: one row per set, all to one scale.

    Args:
        sets: Name to two or more maps of one grid; the first two are shown.
        titles: Who the two are, such as their age and sex; ``person 1`` and ``2`` without.
        inches_per_mm: Scale.
    """
    shown = 2
    grid = next(iter(sets.values())).grid
    sizes = {
        view: [edge for i, edge in enumerate(grid.extent_mm) if i != axis]
        for view, (axis, _) in VIEWS.items()
    }
    widths = [sizes[view][0] for view in VIEWS for _ in range(shown)]
    height = max(size[1] for size in sizes.values())
    figure, axes = plt.subplots(
        len(sets),
        len(widths),
        figsize=(inches_per_mm * sum(widths) + 0.4, inches_per_mm * height * len(sets) + 0.7),
        squeeze=False,
        layout="constrained",
        width_ratios=widths,
    )
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    columns = [(view, i) for view in VIEWS for i in range(shown)]
    for row, (name, maps) in zip(axes, sets.items(), strict=True):
        for ax, (view, i) in zip(row, columns, strict=True):
            brain(maps.probabilities[i], maps.grid, view, ax=ax)
            ax.set_anchor("N")
        row[0].set_ylabel(name, fontsize=9)
    persons = list(titles) or [f"person {i + 1}" for i in range(shown)]
    for ax, (view, i) in zip(axes[0], columns, strict=True):
        ax.set_title(f"{view}\n{persons[i]}", fontsize=8)
    tissue_legend(figure)
    return figure


def tissue_legend(figure: Figure) -> None:
    """Say below the figure which color is which tissue."""
    handles = [Patch(facecolor=COLORS[tissue], label=tissue) for tissue in MEASURED]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(MEASURED), frameon=False, fontsize=8
    )
