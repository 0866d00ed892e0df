"""Where in the brain an answer matters to a model: change of each tissue, voxel by voxel."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from csegsynth_kit.analysis.generate import checked_people, latents_of
from csegsynth_kit.constants import MEASURED, TISSUES
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.files import write_json
from csegsynth_kit.data.nifti import write_nifti
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import Grid, volumes_ml
from csegsynth_kit.models import Family

_CHUNK = 32
#: Half of the step (training standard deviations) of the central difference.
_HALF_STEP = 0.5


@dataclass(frozen=True)
class Contrast:
    """Two sets of answers that differ in one question, as changes of the encoded answers.

    Args:
        question: Which question.
        unit: Of what changes between them, such as ``probability per SD``.
        columns: Encoded columns of the question.
        low: (k,) values of these columns; added to the person's own if ``relative``.
        high: (k,) likewise.
        relative: Whether a person's own answer is moved rather than replaced.
    """

    question: str
    unit: str
    columns: np.ndarray
    low: np.ndarray
    high: np.ndarray
    relative: bool

    @classmethod
    def of(
        cls, features: Features, question: str, between: tuple[str, str] | None = None
    ) -> "Contrast":
        """Choose the contrast of a question.

        Args:
            features: Of the model.
            question: One of its questions.
            between: Two answers to compare, the second minus the first. Without it, a question
                with two answers compares them, and one whose answers have an order is moved by
                half a training standard deviation up and down from everybody's own answer.

        Raises:
            TableError: for an unknown question or answer.
            ConfigError: for a question with more than two unordered answers without ``between``.
        """
        column = features.column(question)
        columns = np.flatnonzero(features.question == features.questions.index(question))
        if between is None and len(column.levels) == 2:
            between = column.levels
        if between is None and len(columns) > 1:
            raise ConfigError(
                f"{question!r} has {len(columns)} answers without an order",
                f"Choose two with between=, for example {column.levels[:2]}.",
            )
        if between is None:
            step = np.array([_HALF_STEP])
            return cls(question, "probability per SD", columns, -step, step, relative=True)
        ends = features.encode(features.table_of([{question: answer} for answer in between]))
        low, high = ends.values[:, columns]
        unit = f"probability, {between[1]} minus {between[0]}"
        return cls(question, unit, columns, low, high, relative=False)

    def inputs(self, inputs: np.ndarray, end: np.ndarray, features: Features) -> np.ndarray:
        """Return (N, n_inputs) model inputs with one end of the contrast put in."""
        moved = inputs.copy()
        own = moved[:, self.columns] if self.relative else 0.0
        moved[:, self.columns] = own + end
        if not self.relative:  # Who is given an answer has answered.
            moved[:, len(features.names) + features.questions.index(self.question)] = 0
        return moved


@dataclass(frozen=True)
class EffectMaps:
    """Mean change of each tissue's probability at every voxel.

    Args:
        change: (T, X, Y, Z) in ``unit``; sums to 0 over T.
        grid: The voxels.
        contrast: What changes.
        n: People averaged over, or whom a regression was fitted to.
        draws: Draws per person; 0 for a regression.
        card: What the model was trained on, or the regression fitted to.
        source: ``model`` for changes of generated maps, ``regression`` for slopes of least
            squares in participants' own maps.
    """

    change: Tensor
    grid: Grid
    contrast: Contrast
    n: int
    draws: int
    card: dict
    source: Literal["model", "regression"] = "model"

    @property
    def unit(self) -> str:
        """Unit of the change."""
        return self.contrast.unit

    def volumes_ml(self) -> pd.DataFrame:
        """Return ``tissue`` and ``change_ml``, the sum of the map times the volume of a voxel."""
        change = volumes_ml(self.change[: len(MEASURED)], self.grid.voxel_ml)
        return pd.DataFrame({"tissue": MEASURED, "change_ml": change.double().numpy()})

    def to_nifti(self, out: Path | str) -> list[Path]:
        """Write one float32 NIfTI image per tissue, each with a JSON sidecar.

        Args:
            out: Folder.

        Returns:
            The images, ``contrast-QUESTION_label-TISSUE_stat-effect_statmap.nii.gz``; of a
            regression with ``desc-regression`` before ``statmap``.
        """
        name = "".join(letter for letter in self.contrast.question if letter.isalnum())
        kind = "" if self.source == "model" else f"_desc-{self.source}"
        about, paths = self._about(), []
        note = "csegsynth_kit synthetic" if about["Synthetic"] else "csegsynth_kit"
        for tissue, change in zip(MEASURED, self.change.numpy(), strict=False):
            stem = f"contrast-{name}_label-{tissue}_stat-effect{kind}_statmap"
            path = Path(out) / f"{stem}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_nifti(path, change, self.grid.affine, description=note)
            write_json(path.with_name(f"{stem}.json"), about | {"Tissue": tissue})
            paths.append(path)
        return paths

    def _about(self) -> dict:
        """What the sidecars of all tissues say."""
        shared = {
            "Question": self.contrast.question,
            "Units": self.unit,
            "People": self.n,
            "CsfDefinition": self.card["csf_definition"],
            "Grid": self.grid.to_dict(),
        }
        if self.source == "regression":  # As synthetic as the maps that it was fitted to.
            return shared | {
                "Synthetic": self.card["simulated"],
                "Description": "Slope of the share of a voxel in participants' own maps with the "
                f"answer to {self.contrast.question}, by least squares at every voxel; no model "
                "generated it, and it is not a cause",
                "FittedToSimulatedData": self.card["simulated"],
            }
        return shared | {
            "Synthetic": True,
            "Description": "Mean change of the share of a voxel in generated maps with the "
            f"answer to {self.contrast.question}; an effect in the model, not a cause",
            "DrawsPerPerson": self.draws,
            "TrainedOnSimulatedData": self.card["simulated"],
        }


@torch.no_grad()
def effect_maps(
    model: Family,
    people: pd.DataFrame,
    question: str,
    *,
    between: tuple[str, str] | None = None,
    draws: int = 4,
    seed: int = 0,
) -> EffectMaps:
    """Change the answer to one question for everybody, and average the change of the maps.

    Everybody keeps all other answers, and the latents: the same individuals twice.

    Args:
        model: A trained conditional model.
        people: Answers of participants the model has not seen.
        question: Which answer changes.
        between: Two answers to compare; see :meth:`Contrast.of`.
        draws: Antithetic draws per person.
        seed: Of the latents.

    Returns:
        Mean over people and draws.
    """
    table, _ = checked_people(model, people)
    features, device = model.features, model.volume_mean_ml.device
    contrast = Contrast.of(features, question, between)
    inputs = features.inputs(features.encode(table))
    low, high = (
        torch.from_numpy(contrast.inputs(inputs, end, features)).repeat_interleave(draws, 0)
        for end in (contrast.low, contrast.high)
    )
    own = [latents_of(model, i, n=draws, seed=seed, antithetic=True) for i in range(len(table))]
    latents = torch.cat(own)
    total = torch.zeros(len(TISSUES), *model.config.grid.shape, dtype=torch.float64)
    for rows in torch.arange(len(latents)).split(_CHUNK):
        z = latents[rows].to(device)
        after, before = (model.generate(z, ends[rows].to(device)) for ends in (high, low))
        total += (after - before).double().sum(0).cpu()
    change = (total / len(latents)).float()
    return EffectMaps(change, model.config.grid, contrast, len(table), draws, dict(model.card))
