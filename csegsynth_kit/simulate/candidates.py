"""Which base anatomies there are, and which one each participant gets."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.errors import CohortError, ConfigError, MapError
from csegsynth_kit.maps import Grid, average_pool
from csegsynth_kit.simulate.average import template_base
from csegsynth_kit.simulate.bases import Base
from csegsynth_kit.simulate.questionnaire import STREAMS
from csegsynth_kit.simulate.real import real_base

log = logging.getLogger(__name__)

#: The most real base anatomies held in memory (about 25 MB each at 2 mm).
_MOST_BASES = 32
#: Each participant's base is the best fitting of this many, drawn at random: the best of all
#: would give everybody of one age the same brain.
_COMPARED = 5
#: Least spread of a tissue's share that counts when bases are compared.
_LEAST_SPREAD = 0.01


@dataclass(frozen=True)
class Candidates:
    """Base anatomies to be made.

    Args:
        spacing_mm: At which heads are drawn.
        ids: Participants of ``cohort`` whose maps they are.
        cohort: Where they come from; without one, there is only the template.
        provenance: Where they come from, in words.
    """

    spacing_mm: float
    ids: tuple[str, ...]
    cohort: Cohort | None
    provenance: dict

    def make(self) -> tuple[Base, ...]:
        """Make the bases: some seconds for the template, less than one for each real map."""
        if self.cohort is None:
            return (template_base(self.spacing_mm),)
        factor = round(self.spacing_mm / self.cohort.grid.spacing_mm[0])
        grid = self.cohort.grid.pooled(factor) if factor > 1 else self.cohort.grid
        made = []
        for participant in self.ids:
            tissues = self.cohort.maps([participant]).probabilities[:, :3]
            tissues = average_pool(tissues, factor) if factor > 1 else tissues
            try:
                made.append(real_base(tissues[0], grid, participant))
            except MapError as error:
                log.warning("%s; it is no base", error)
        if not made:
            raise CohortError(
                f"none of its {len(self.ids)} maps can be bent",
                "Use maps with CSF that are aligned to the template.",
                self.cohort.path,
            )
        return tuple(made)


def template_candidates(spacing_mm: float) -> Candidates:
    """Return the MNI152 template as the only base."""
    return Candidates(spacing_mm, (), None, {"anatomies": "MNI152 average of nilearn, bent"})


def cohort_candidates(cohort: Cohort, grid: Grid, spacing_mm: float, seed: int) -> Candidates:
    """Return maps of a prepared cohort as bases.

    Args:
        cohort: Aligned to the template, with voxels of 2 or 4 mm.
        grid: Voxels of the result, not finer than those of ``cohort``.
        spacing_mm: Voxels at which heads are drawn if ``cohort`` is fine enough.
        seed: Chooses, if there are more maps than are held in memory.

    Raises:
        ConfigError: for other cohorts.
    """
    own = cohort.grid.spacing_mm[0]
    if cohort.grid.space != "template" or set(cohort.grid.spacing_mm) not in ({2.0}, {4.0}):
        raise ConfigError(
            f"base maps on grid '{cohort.grid.name}' ({cohort.grid.space} space, voxels of "
            f"{cohort.grid.spacing_mm} mm) cannot be bent",
            "Prepare them aligned to the template, on grid 'full' or 'small'.",
        )
    if own > grid.spacing_mm[0]:
        raise ConfigError(
            f"base maps of {own:g} mm are coarser than grid '{grid.name}'",
            "Prepare them on grid 'full', or choose a coarser grid.",
        )
    if cohort.csf_definition == "ventricular":
        raise ConfigError(
            "base maps whose CSF is that of the ventricles have nothing outside the brain that "
            "could give way",
            "Use maps with CSF around the brain.",
        )
    rng = np.random.default_rng([seed, STREAMS["bases"]])
    ids = tuple(cohort.ids[i] for i in sorted(rng.permutation(len(cohort))[:_MOST_BASES]))
    kind = "simulated" if cohort.simulated else "real"
    provenance = {
        "anatomies": (
            f"{len(ids)} {kind} segmentations, bent; each person has the one whose shares of "
            f"tissues fit best among {_COMPARED} drawn at random"
        ),
        "bases": {
            "cohort": cohort.fingerprint,
            "csf_definition": cohort.csf_definition,
            "participants": list(ids),
        },
    }
    return Candidates(max(spacing_mm, own), ids, cohort, provenance)


def choose_bases(
    targets_ml: np.ndarray, individuals: np.ndarray, bases: Sequence[Base], seed: int
) -> list[int]:
    """Choose for each person the best fitting of a few randomly drawn bases.

    Args:
        targets_ml: (N, 4) WM, GM, sulcal CSF and lateral ventricles (mL) of each person.
        individuals: (N,) numbers of the persons; the draw depends on it and the seed alone.
        bases: To choose from.
        seed: Of the cohort.

    Returns:
        N positions in ``bases``.
    """
    wanted = targets_ml / targets_ml.sum(1, keepdims=True)
    offered = np.stack([base.volumes_ml / base.icv_ml for base in bases])
    # Of the bases, not of the wanted: nobody's base depends on who else takes part.
    spread = np.maximum(offered.std(0), _LEAST_SPREAD)
    chosen = []
    for shares, person in zip(wanted, individuals, strict=True):
        rng = np.random.default_rng([seed, STREAMS["bases"], int(person)])
        few = np.sort(rng.permutation(len(bases))[:_COMPARED])
        distance = (((offered[few] - shares) / spread) ** 2).sum(1)
        chosen.append(int(few[distance.argmin()]))
    return chosen
