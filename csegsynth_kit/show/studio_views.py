"""Three orthogonal views of the studio, each with a slider for where it cuts."""

from collections.abc import Callable

import ipywidgets as widgets
from torch import Tensor

from csegsynth_kit.maps import Grid
from csegsynth_kit.show.brains import VIEWS, usual_slice
from csegsynth_kit.show.studio_pictures import (
    change_picture,
    position_mm,
    size_mm,
    slice_at,
    tissue_picture,
)

#: Size of a picture on the page (CSS pixels per millimeter of the head).
_SCALE = 1.3
#: The coordinate along each view's axis, and where it grows to.
_AXES = {"sagittal": "x, right", "coronal": "y, front", "axial": "z, up"}


class View(widgets.VBox):
    """One view: the person, the place of the cut, and the pinned person or the change since.

    Args:
        name: ``sagittal``, ``coronal`` or ``axial``.
        grid: Voxels of the maps.
    """

    def __init__(self, name: str, grid: Grid):
        self.name, self._grid = name, grid
        width, height = (f"{_SCALE * edge:.0f}px" for edge in size_mm(grid, name))
        first, last = (position_mm(grid, name, i) for i in (0, grid.shape[VIEWS[name][0]] - 1))
        tallest = max(size_mm(grid, view)[1] for view in VIEWS)
        space = f"{_SCALE * (tallest - size_mm(grid, name)[1]) / 2:.0f}px 0"
        shape = {"width": width, "height": height, "margin": space}
        self.now = widgets.Image(format="png", layout=shape)
        self.beside = widgets.Image(format="png", layout={**shape, "display": "none"})
        self.cut = widgets.FloatSlider(
            value=position_mm(grid, name, usual_slice(grid, name)),
            min=first,
            max=last,
            step=grid.spacing_mm[VIEWS[name][0]],
            description=_AXES[name],
            tooltip=f"Where the {name} view cuts (mm)",
            readout_format=".0f",
            layout={"width": width},
            style={"description_width": "54px"},
        )
        title = widgets.HTML(f'<div class="studio-view">{name}</div>')
        super().__init__([title, self.now, self.cut, self.beside])
        self.add_class(f"studio-{name}")

    @property
    def index(self) -> int:
        """Index of the slice that is shown."""
        return slice_at(self._grid, self.name, self.cut.value)

    def on_cut(self, act: Callable[[], None]) -> None:
        """Call ``act`` when the place of the cut changes."""
        self.cut.observe(lambda change: act(), "value")

    def show(self, now: Tensor, before: Tensor | None, *, tissue: str | None) -> None:
        """Draw the person, and below it the pinned one.

        Args:
            now: (T, X, Y, Z) shares.
            before: (T, X, Y, Z) shares of the pinned person, if there is one.
            tissue: Whose change is shown instead of the pinned person; None for that person.
        """
        place = self._grid, self.name, self.index
        self.now.value = tissue_picture(now, *place)
        if before is None:
            self.beside.layout.display = "none"
            return
        if tissue is None:
            self.beside.value = tissue_picture(before, *place)
        else:
            self.beside.value = change_picture(before, now, *place, tissue=tissue)
        self.beside.layout.display = None
