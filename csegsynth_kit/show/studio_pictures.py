"""Slices of maps as small PNG files, fast enough to follow a slider."""

import io

import matplotlib as mpl
import numpy as np
from PIL import Image
from torch import Tensor

from csegsynth_kit.constants import DIVERGING, TISSUES
from csegsynth_kit.maps import Grid
from csegsynth_kit.show.brains import VIEWS, colored_slice

#: Pixels of a picture per millimeter of the head; the browser enlarges the rest of the way.
PIXELS_PER_MM = 1.0
#: Change of a voxel's share that has the strongest color, in shares.
LARGEST_CHANGE = 0.5


def slice_at(grid: Grid, view: str, position_mm: float) -> int:
    """Index of the slice whose middle is nearest to a position along the axis of a view.

    Args:
        grid: Voxels.
        view: ``sagittal``, ``coronal`` or ``axial``.
        position_mm: World position: x, y or z; beyond the box, the outermost slice is taken.
    """
    axis, _ = VIEWS[view]
    index = round((position_mm - grid.affine[axis, 3]) / grid.spacing_mm[axis])
    return int(np.clip(index, 0, grid.shape[axis] - 1))


def position_mm(grid: Grid, view: str, index: int) -> float:
    """World position (mm) of the middle of a slice, along the axis of its view."""
    axis, _ = VIEWS[view]
    return float(grid.affine[axis, 3] + index * grid.spacing_mm[axis])


def size_mm(grid: Grid, view: str) -> tuple[float, float]:
    """Width and height (mm) of the slices of a view."""
    axis, _ = VIEWS[view]
    width, height = (edge for i, edge in enumerate(grid.extent_mm) if i != axis)
    return width, height


def tissue_picture(maps: Tensor, grid: Grid, view: str, index: int) -> bytes:
    """Draw a slice of (T, X, Y, Z) shares in the tissues' colors, as PNG."""
    return _png(colored_slice(maps, grid, view, index), grid, view)


def change_picture(
    before: Tensor, after: Tensor, grid: Grid, view: str, index: int, *, tissue: str
) -> bytes:
    """Draw where a tissue's share grew or fell, as PNG.

    Args:
        before: (T, X, Y, Z) shares.
        after: (T, X, Y, Z) shares of the same voxels.
        grid: Their voxels.
        view: ``sagittal``, ``coronal`` or ``axial``.
        index: Which slice.
        tissue: Which tissue.
    """
    return _png(change_slice(before, after, view, index, tissue=tissue), grid, view)


def change_slice(
    before: Tensor, after: Tensor, view: str, index: int, *, tissue: str
) -> np.ndarray:
    """Color the change of a tissue's share in a slice, as in :func:`change_picture`.

    Returns:
        (height, width, 3) colors from 0 to 255, oriented as ``brains.colored_slice``; white where
        nothing changes.
    """
    axis, _ = VIEWS[view]
    channel = TISSUES.index(tissue)
    parts = (maps[channel].select(axis, index).numpy() for maps in (after, before))
    change = np.subtract(*parts).T
    scaled = np.round(127 * (change / LARGEST_CHANGE).clip(-1, 1)).astype(int) + 127
    return _change_table()[scaled]


def _change_table() -> np.ndarray:
    """Colors (255, 3) from the strongest fall to the strongest growth; the middle is white."""
    table = mpl.colormaps[DIVERGING](np.linspace(0, 1, 255))[:, :3]
    table = np.round(255 * table).astype(np.uint8)
    table[127] = 255
    return table


def _png(colors: np.ndarray, grid: Grid, view: str) -> bytes:
    """Enlarge (height, width, 3) colors, the first row lowest, to the picture's size."""
    size = tuple(round(PIXELS_PER_MM * edge) for edge in size_mm(grid, view))
    picture = Image.fromarray(colors[::-1]).resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)  # the browser is near; size matters little
    return buffer.getvalue()
