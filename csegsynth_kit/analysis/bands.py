"""How sure is each voxel? Quantiles of a person's draws, voxel by voxel."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from csegsynth_kit.analysis.generate import People, stream_draws
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.files import write_json
from csegsynth_kit.data.nifti import write_nifti
from csegsynth_kit.data.participants import participant_id
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import Grid
from csegsynth_kit.models import Family

_NOT_CONFORMAL = (
    "Quantiles of the model's draws, voxel by voxel. They are not conformal: nothing was "
    "calibrated on real maps, and no probability is promised that a person's map lies between "
    "them, in one voxel or in all."
)


@dataclass(frozen=True)
class VoxelBands:
    """What draws of one person have at every voxel.

    Args:
        mean: (3, X, Y, Z) mean share of WM, GM and CSF.
        sd: (3, X, Y, Z) its SD over draws.
        low: (3, X, Y, Z) lower quantile.
        high: (3, X, Y, Z) upper quantile.
        grid: Their voxels.
        level: Share of draws between the quantiles.
        draws: How many draws there were.
        seed: Of the latents.
        card: What the model was trained on.
    """

    mean: Tensor
    sd: Tensor
    low: Tensor
    high: Tensor
    grid: Grid
    level: float
    draws: int
    seed: int
    card: dict

    def to_nifti(self, out: Path | str, participant: str) -> list[Path]:
        """Write ``sub-X_label-{WM,GM,CSF}_desc-{mean,sd,low,high}_probseg.nii.gz``.

        Each has a sidecar that says that it is synthetic, and what it is not.

        Args:
            out: Folder.
            participant: A name for the person.
        """
        name, written = participant_id(participant), []
        tail = 100 * (1 - self.level) / 2
        about = {
            "mean": "Mean share of the voxel over draws",
            "sd": "Standard deviation of the share of the voxel over draws",
            "low": f"{tail:g}th percentile of the share of the voxel over draws",
            "high": f"{100 - tail:g}th percentile of the share of the voxel over draws",
        }
        sidecar = {
            "Synthetic": True,
            "CsfDefinition": self.card["csf_definition"],
            "TrainedOnSimulatedData": self.card["simulated"],
            "Grid": self.grid.to_dict(),
            "Draws": self.draws,
            "Seed": self.seed,
            "Level": self.level,
            "Warning": _NOT_CONFORMAL,
        }
        for kind, description in about.items():
            for tissue, values in zip(MEASURED, getattr(self, kind), strict=True):
                stem = Path(out) / f"{name}_label-{tissue}_desc-{kind}_probseg"
                path = stem.with_name(f"{stem.name}.nii.gz")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_nifti(
                    path,
                    np.ascontiguousarray(values.numpy()),
                    self.grid.affine,
                    description="csegsynth_kit synthetic",
                )
                write_json(
                    stem.with_name(f"{stem.name}.json"), {**sidecar, "Description": description}
                )
                written.append(path)
        return written


def voxel_bands(
    model: Family, person: People, *, level: float = 0.9, draws: int = 200, seed: int = 0
) -> VoxelBands:
    """Quantiles, mean and SD of each tissue's share at every voxel, over a person's draws.

    Draws are not kept: only the few smallest and largest of each voxel are.

    Args:
        model: A trained conditional model.
        person: Answers of one person.
        level: Share of draws between the quantiles.
        draws: At least 2.
        seed: Of the latents.

    Raises:
        ConfigError: for several people, or an impossible level or number of draws.
    """
    if not 0 < level < 1 or draws < 2:
        raise ConfigError(
            f"the level is {level:g} of {draws} draws",
            "Give a share between 0 and 1 of at least 2 draws.",
        )
    parts = (maps[:, : len(MEASURED)] for maps in stream_draws(model, person, n=draws, seed=seed))
    mean, sd, low, high = stream_quantiles(parts, draws, (1 - level) / 2)
    return VoxelBands(mean, sd, low, high, model.config.grid, level, draws, seed, dict(model.card))


def stream_quantiles(
    parts: Iterable[Tensor], n: int, tail: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, SD, lower and upper quantile over the first axis, without keeping all of it.

    Args:
        parts: (m, ...) values, n in all.
        n: At least 2.
        tail: Below the lower, and above the upper quantile; less than 0.5.

    Returns:
        Four tensors of shape (...). Quantiles are interpolated as by ``numpy.quantile``.
    """
    position = tail * (n - 1)
    kept, between = math.floor(position) + 2, position - math.floor(position)
    kept = min(kept, n)
    total = squares = lowest = highest = None
    for part in parts:
        values = part.double()
        if total is None:
            total, squares = torch.zeros_like(values[0]), torch.zeros_like(values[0])
            lowest, highest = part[:0], part[:0]
            center = values[0]
        total += (values - center).sum(0)
        squares += (values - center).square().sum(0)
        lowest = _least(torch.cat([lowest, part]), kept)
        highest = -_least(-torch.cat([highest, part]), kept)
    mean = total / n
    variance = (squares - n * mean.square()).clamp(min=0) / (n - 1)
    low = torch.lerp(lowest[-2], lowest[-1], between)
    high = torch.lerp(highest[-2], highest[-1], between)
    return (center + mean).float(), variance.sqrt().float(), low, high


def _least(values: Tensor, kept: int) -> Tensor:
    """Return the ``kept`` smallest along the first axis, in ascending order."""
    return values.topk(min(kept, len(values)), dim=0, largest=False, sorted=True).values
