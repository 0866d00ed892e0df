"""A real person's own map, moved to other answers: abduction, action, prediction.

The encoder reads a person's code off the map; T(z, c), inverted at the person's answers c,
gives the noise z that is this person's own (abduction). Generating from the same z with other
answers (action) predicts how the map would look with them. Whether such maps can be trusted is
scored as proposed by Monteiro et al. (2023, "Measuring axiomatic soundness of counterfactual
image models"): composition, reversibility and effectiveness.

The data is cross-sectional: what is moved is the difference between people, not a life.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from csegsynth_kit.analysis.generate import checked_people
from csegsynth_kit.analysis.synthetic import SyntheticMaps
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import SegmentationMaps, volumes_ml
from csegsynth_kit.models import Family
from csegsynth_kit.models.codes import CodeFamily
from csegsynth_kit.models.compact import CompactTransform
from csegsynth_kit.models.published import PublishedTransform
from csegsynth_kit.models.vae import VAE

_AT_ONCE = 64


def reason_against(model: Family) -> str:
    """Say why a model cannot move a given map to other answers; empty if it can."""
    if not model.conditional:
        return "it takes no answers"
    if not isinstance(model, CodeFamily):
        return "its latents cannot be read off a map (diffusion would have to be inverted)"
    if not hasattr(model, "encoder"):
        return "nothing encodes maps"
    if not isinstance(model.transform, CompactTransform | PublishedTransform):
        return "its transform has no inverse here"
    return ""


@torch.no_grad()
def abduct(model: Family, maps: Tensor, people: pd.DataFrame) -> Tensor:
    """Find the latents from which the model generates these people's own maps.

    The code is the encoder's; the latent is the exact inverse of T at the person's answers, so
    that generating with unchanged answers gives the model's reconstruction of the map.

    Args:
        model: A trained conditional model with an encoder.
        maps: (N, T, X, Y, Z) shares.
        people: N rows of answers.

    Returns:
        (N, L) entries of latents that become codes. Those that give texture, which is random
        and read off no map, are left out: such a map is generated without texture.

    Raises:
        ConfigError: if the model has no such inverse, with the reason.
    """
    reason = reason_against(model)
    if reason:
        raise ConfigError(
            f"family '{model.config.family}' cannot move a given map: {reason}",
            "Use csegsynth or cvae.",
        )
    inputs = _inputs(model, people)
    parts = zip(maps.split(_AT_ONCE), inputs.split(_AT_ONCE), strict=True)
    return torch.cat([_latents(model, m.to(inputs.device), c) for m, c in parts])


def counterfactual(
    model: Family, maps: SegmentationMaps, people: pd.DataFrame, changed: pd.DataFrame
) -> SyntheticMaps:
    """Move people's own maps to other answers.

    Moved maps have no texture (see ``models.texture``): they are as smooth as reconstructions.

    Args:
        model: A trained conditional model with an encoder.
        maps: Real maps of N people.
        people: Their answers.
        changed: The answers to move them to; for the model's rendering of the maps as they
            are, the same again.

    Returns:
        N maps in the same order, named as ``maps``.
    """
    table, warnings = checked_people(model, changed)
    latents = abduct(model, maps.probabilities, people)
    moved = _generated(model, latents, _inputs(model, table))
    return SyntheticMaps(
        moved,
        maps.grid,
        maps.labels,
        table.set_axis(list(maps.labels)),
        model.features.columns,
        warnings,
        dict(model.card),
    )


def soft_dice(a: Tensor, b: Tensor) -> Tensor:
    """Overlap of shares, 2 sum(min) / sum(a + b), per map and tissue.

    It is 1 for equal soft maps (Crum et al. 2006, doi:10.1109/TMI.2006.880587), unlike the
    product form, which punishes softness itself.

    Args:
        a: (N, T, X, Y, Z) shares.
        b: Likewise.

    Returns:
        (N, T), NaN where a tissue is absent from both.
    """
    space = (-3, -2, -1)
    return 2 * torch.minimum(a, b).sum(space) / (a.sum(space) + b.sum(space))


def distances(maps: Tensor, others: Tensor, voxel_ml: float) -> pd.DataFrame:
    """How far maps of the same people are apart.

    Args:
        maps: (N, T, X, Y, Z).
        others: Likewise, row by row of the same people.
        voxel_ml: Volume of a voxel (mL).

    Returns:
        One row per person and tissue: ``person`` (row), ``tissue``, ``change_ml`` (signed),
        ``soft_dice``.
    """
    measured = [x[:, : len(MEASURED)] for x in (maps, others)]
    volumes = [volumes_ml(x, voxel_ml).double().numpy() for x in measured]
    index = pd.MultiIndex.from_product([range(len(maps)), MEASURED], names=["person", "tissue"])
    return pd.DataFrame(
        {
            "change_ml": (volumes[1] - volumes[0]).reshape(-1),
            "soft_dice": soft_dice(*measured).double().numpy().reshape(-1),
        },
        index=index,
    ).reset_index()


def moved_again(
    model: Family, maps: SegmentationMaps, journey: Mapping[str, pd.DataFrame]
) -> dict[str, SegmentationMaps]:
    """Move maps from answers to answers, each time from the map of the stop before.

    Args:
        model: A trained conditional model with an encoder.
        maps: Real maps of N people.
        journey: Name of each stop to the N people's answers there; at the first they are as
            ``maps`` show them.

    Returns:
        The maps at every stop, the first being ``maps`` themselves.
    """
    (name, here), *stops = journey.items()
    reached = {name: maps}
    for name, there in stops:
        maps = counterfactual(model, maps, here, there)
        reached[name], here = maps, there
    return reached


def _latents(model: CodeFamily, maps: Tensor, inputs: Tensor) -> Tensor:
    """Invert T at the (N, n_inputs) answers, in double precision."""
    code = model.encode(maps, inputs) if isinstance(model, VAE) else model.encode(maps)
    known, transform = inputs[:, : model.n_inputs], model.transform
    if isinstance(transform, PublishedTransform):
        return code - transform.shift(known)
    mean, log_spread = (x.double() for x in transform.moments(known))
    mixed = (code.double() - mean) * (-log_spread).exp()
    return torch.linalg.solve(transform.mix.weight.double(), mixed.T).T.to(code)


def _inputs(model: Family, people: pd.DataFrame) -> Tensor:
    encoded = model.features.encode(model.features.table_of(people))
    return torch.from_numpy(model.features.inputs(encoded)).to(model.volume_mean_ml.device)


@torch.no_grad()
def _generated(model: Family, latents: Tensor, inputs: Tensor) -> Tensor:
    parts = zip(latents.split(_AT_ONCE), inputs.split(_AT_ONCE), strict=True)
    return torch.cat([model.generate(z, c).cpu() for z, c in parts])


def answers_of(people: pd.DataFrame, model: Family) -> pd.DataFrame:
    """Keep the answers to the model's questions."""
    return people[[name for name in model.features.questions if name in people]]


def aged(people: pd.DataFrame, ages_years: np.ndarray) -> pd.DataFrame:
    """Give every person another age, and nothing else."""
    return people.assign(age=np.asarray(ages_years, float))
