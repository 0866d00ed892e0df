"""Drawing one head of a cohort: what a process is told, and what it hands back."""

from dataclasses import dataclass, field

import numpy as np

from csegsynth_kit.maps import Grid, average_pool, quantize
from csegsynth_kit.simulate.anatomy import Anatomy
from csegsynth_kit.simulate.bases import Base


@dataclass(frozen=True)
class Task:
    """One head to draw.

    Args:
        participant: Its id.
        targets_ml: WM, GM, sulcal CSF, lateral ventricles (mL).
        seed: The individual.
        base: Position of the base anatomy among the workshop's.
    """

    participant: str
    targets_ml: tuple[float, float, float, float]
    seed: tuple[int, ...]
    base: int = 0


@dataclass(frozen=True)
class Drawn:
    """One head, pooled to the grid of the cohort.

    Args:
        participant: Its id.
        quantized: (3, X, Y, Z) uint8 in steps of 1/255.
        volumes_ml: WM, GM, CSF (mL) before pooling and rounding.
    """

    participant: str
    quantized: np.ndarray
    volumes_ml: tuple[float, float, float]


@dataclass(frozen=True)
class Workshop:
    """Draws heads at the resolution of its bases and pools them to a grid.

    Args:
        grid: Voxels of the result.
        bases: Base anatomies, all of the same spacing.
    """

    grid: Grid
    bases: tuple[Base, ...]
    _anatomies: dict[int, Anatomy] = field(default_factory=dict, repr=False)

    def draw(self, task: Task) -> Drawn:
        """Draw one head."""
        anatomy = self._anatomy(task.base)
        head = anatomy.draw(task.targets_ml, task.seed)
        factor = round(self.grid.spacing_mm[0] / anatomy.grid.spacing_mm[0])
        maps = average_pool(head.maps[None], factor)[0] if factor > 1 else head.maps
        return Drawn(task.participant, quantize(maps).numpy(), tuple(head.volumes_ml.tolist()))

    def _anatomy(self, base: int) -> Anatomy:
        if base not in self._anatomies:
            factor = round(self.grid.spacing_mm[0] / self.bases[base].grid.spacing_mm[0])
            grid = self.grid.refined(factor) if factor > 1 else self.grid
            self._anatomies[base] = Anatomy(grid, self.bases[base])
        return self._anatomies[base]
