"""Where one individual's tissues change between two ages, voxel by voxel."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from csegsynth_kit.analysis.generate import checked_people, generate_shared
from csegsynth_kit.analysis.trajectory import CROSS_SECTIONAL, AgeRegression, scenario
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.files import write_json
from csegsynth_kit.data.nifti import write_nifti
from csegsynth_kit.data.participants import participant_id
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import SegmentationMaps
from csegsynth_kit.models import Family

#: What a change map tells.
CHANGE_UNITS = "change of probability per decade"


@dataclass(frozen=True)
class ChangeMaps:
    """Change of each tissue's share between two ages, of individuals who keep their latents.

    Args:
        per_decade: (3, X, Y, Z) change of the share of WM, GM, CSF per decade, mean over draws.
        start: The individual (or the mean of the draws) at the first age.
        ages_years: The two ages.
        draws: Individuals averaged.
        scenario: ``ideal`` or ``regressed``.
        warnings: Answers outside what the model has seen.
        card: What the model was trained on.
    """

    per_decade: Tensor
    start: SegmentationMaps
    ages_years: tuple[float, float]
    draws: int
    scenario: str
    warnings: tuple[str, ...]
    card: Mapping

    def volumes_ml_per_decade(self) -> dict[str, float]:
        """Sum the change of each tissue over all voxels (mL per decade)."""
        total = self.per_decade.double().sum((-3, -2, -1)) * self.start.grid.voxel_ml
        return dict(zip(MEASURED, total.tolist(), strict=True))

    def to_nifti(self, out: Path | str, participant: str) -> list[Path]:
        """Write one image per tissue, each with a sidecar that says what it is.

        Args:
            out: Folder.
            participant: A name for the person, of letters and digits.

        Returns:
            Paths of ``sub-NAME_label-TISSUE_desc-ageAtoB_statmap.nii.gz``.
        """
        first, last = self.ages_years
        name = participant_id(participant)
        grid, paths = self.start.grid, []
        for tissue, change in zip(MEASURED, self.per_decade, strict=True):
            stem = f"{name}_label-{tissue}_desc-age{first:.0f}to{last:.0f}_statmap"
            path = Path(out) / f"{stem}.nii.gz"
            values = np.ascontiguousarray(change.float().numpy())
            write_nifti(path, values, grid.affine, description="csegsynth_kit synthetic")
            about = {
                "Synthetic": True,
                "Description": f"Change of the share of each voxel that is {tissue}, "
                "from one generated map to another of the same individual",
                "Units": CHANGE_UNITS,
                "AgesYears": [first, last],
                "Scenario": self.scenario,
                "Draws": self.draws,
                "CsfDefinition": self.card["csf_definition"],
                "TrainedOnSimulatedData": self.card["simulated"],
                "Grid": grid.to_dict(),
                "Caution": CROSS_SECTIONAL,
            }
            if self.warnings:
                about["Warnings"] = list(self.warnings)
            write_json(path.with_name(f"{stem}.json"), about)
            paths.append(path)
        return paths


def change_maps(
    model: Family,
    person: Mapping,
    ages_years: tuple[float, float],
    *,
    regression: AgeRegression | None = None,
    draws: int = 1,
    seed: int = 0,
) -> ChangeMaps:
    """Difference of one individual's maps at two ages, per decade.

    Args:
        model: A trained conditional model.
        person: Answers.
        ages_years: From which age to which.
        regression: As in ``trajectory.scenario``: without it only age moves.
        draws: Individuals to average; one shows an individual, several what they share.
        seed: Of the latents; draw 1 is that of ``generate_shared`` with the same seed.

    Raises:
        ConfigError: if the ages are equal or there is no draw.
    """
    first, last = map(float, ages_years)
    if first == last or draws < 1:
        raise ConfigError(
            f"the ages are {first:g} and {last:g}, and there are {draws} draws",
            "Give two different ages and at least one draw.",
        )
    people = scenario(person, (first, last), regression=regression)
    _, warnings = checked_people(model, people)
    total = sum(
        generate_shared(model, people, seed=seed + i).probabilities.double() for i in range(draws)
    )
    before, after = total / draws
    per_decade = (after - before)[: len(MEASURED)] * 10 / (last - first)
    start = SegmentationMaps(before[None].float(), model.config.grid, (f"{first:g} years",))
    name = "ideal" if regression is None else "regressed"
    return ChangeMaps(
        per_decade.to(torch.float32), start, (first, last), draws, name, warnings, dict(model.card)
    )
