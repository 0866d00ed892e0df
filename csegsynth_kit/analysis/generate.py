"""A person's answers in, maps or volumes out."""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from csegsynth_kit.analysis.synthetic import (
    Draw,
    SyntheticMaps,
    own_warnings,
    synthetic_labels,
)
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.participants import participant_id, participant_ids
from csegsynth_kit.errors import ConfigError, TableError
from csegsynth_kit.maps import SegmentationMaps, at_once, volumes_ml
from csegsynth_kit.models import Family, Rng

logger = logging.getLogger(__name__)

People = Mapping | Sequence[Mapping] | pd.DataFrame
#: Most memory the maps of one call may take (GB); more is written to disk person by person.
_MOST_GB = 4.0


def generate(
    model: Family,
    people: People | None = None,
    *,
    n: int = 1,
    seed: int = 0,
    by_id: bool = False,
) -> SyntheticMaps:
    """Generate maps of a person, or of several.

    The same seed gives the same individual whatever the answers, so that two calls that differ
    in one answer show what that answer changes. In a table, the first row gets the individual
    that a call for one person gives, and every other row another. Calls for different people
    need different seeds, or all of them become one individual with other answers. With
    ``by_id`` an id is another individual instead, whatever the row and who else is in the table.

    Args:
        model: A trained model.
        people: Answers of one person, a sequence of persons, or a table with one row each.
            Questions may be left out, even all of them (None): each then counts as the average
            to be expected from the answers given, and the model is told that it is open. The
            draws do not vary what is left out. None for an unconditional model.
        n: Draws per person.
        seed: Of the latents.
        by_id: Draw a person's latents from the seed and the id in a table that is indexed by
            ``participant_id``. Same id, answers and seed are then the same maps up to round-off
            in any table, and a draw does not depend on how many others there are.

    Returns:
        ``n`` maps per person, in the order of the people.

    Raises:
        TableError: for unknown features, impossible answers, ids that are one in file names, and
            people without ids where latents go by id.
        ConfigError: if the maps would not fit into memory.
    """
    if n < 1:
        raise ConfigError(f"n is {n}", "Ask for at least one draw per person.")
    table, warnings = checked_people(model, people)
    count = n if table is None else n * len(table)
    grid = model.config.grid
    size_gb = count * 4 * 4 * np.prod(grid.shape) / 1e9
    if size_gb > _MOST_GB:
        raise ConfigError(
            f"{count} maps of shape {grid.shape} would take {size_gb:.1f} GB",
            "Generate fewer at a time, or use predict_volumes, which keeps only volumes.",
        )
    draws = _draws(table, n, by_id=by_id)  # Refuses ids that clash before the long work.
    firsts = draws[::n]
    if by_id:
        own = [latents_by_id(model, first.answers_of, n=n, seed=seed) for first in firsts]
    else:
        own = [latents_of(model, first.row, n=n, seed=seed) for first in firsts]
    maps = torch.cat([part.cpu() for part in _stream(model, table, torch.cat(own))])
    return _synthetic(model, maps, table, draws, warnings, seed)


def stream_maps(
    model: Family, people: People, *, n: int = 1, seed: int = 0
) -> Iterator[SegmentationMaps]:
    """Yield the maps of :func:`generate` a few at a time, named by their number."""
    table, _ = checked_people(model, people)
    latents = torch.cat([latents_of(model, i, n=n, seed=seed) for i in range(len(table))])
    done = 0
    for part in _stream(model, table, latents):
        labels = tuple(str(done + i) for i in range(len(part)))
        yield SegmentationMaps(part.cpu(), model.config.grid, labels)
        done += len(part)


def generate_shared(model: Family, people: People, *, seed: int = 0) -> SyntheticMaps:
    """As :func:`generate` with one draw, but the same latent for everybody.

    For one person at several ages, or with several answers.
    """
    table, warnings = checked_people(model, people)
    shared = latents_of(model, 0, n=1, seed=seed)
    maps = torch.cat([m.cpu() for m in _stream(model, table, torch.cat([shared] * len(table)))])
    draws = [replace(draw, row=0) for draw in _draws(table, 1)]
    return _synthetic(model, maps, table, draws, warnings, seed)


def stream_draws(model: Family, person: People, *, n: int, seed: int = 0) -> Iterator[Tensor]:
    """Yield (m, T, X, Y, Z) draws of one person, n in all, as :func:`generate` makes them."""
    table, _ = checked_people(model, person)
    if len(table) != 1:
        raise ConfigError(f"there are {len(table)} people", "Give one.")
    yield from _stream(model, table, latents_of(model, 0, n=n, seed=seed))


def predict_volumes(
    model: Family, people: People, *, n: int = 16, seed: int = 0, antithetic: bool = True
) -> np.ndarray:
    """Volumes of generated maps, without keeping the maps.

    Args:
        model: A trained conditional model.
        people: As in :func:`generate`.
        n: Draws per person. Their mean is the prediction, one of them a plausible person.
        seed: Of the latents.
        antithetic: Draw latents in pairs z, -z: each is still a fair draw, and the mean of
            the draws is more precise.

    Returns:
        (N, n, 3) WM, GM, CSF (mL).
    """
    table, _ = checked_people(model, people)
    own = [latents_of(model, i, n=n, seed=seed, antithetic=antithetic) for i in range(len(table))]
    return _volumes(model, table, torch.cat(own))


def predict_shared_volumes(
    model: Family, people: People, *, n: int = 16, seed: int = 0
) -> np.ndarray:
    """As :func:`predict_volumes`, but with the same (antithetic) latents in every row.

    For one person at several ages, or with several answers: differences between rows are then
    effects of the answers alone.

    Returns:
        (N, n, 3) WM, GM, CSF (mL).
    """
    table, _ = checked_people(model, people)
    shared = latents_of(model, 0, n=n, seed=seed, antithetic=True)
    return _volumes(model, table, torch.cat([shared] * len(table)))


def latents_of(
    model: Family, person: int, *, n: int, seed: int, antithetic: bool = False
) -> Tensor:
    """Return the (n, *latent_shape) latents of a row, whoever else is generated."""
    _check_seed(seed)
    drawn = (n + 1) // 2 if antithetic else n
    z = Rng(seed, person, total=drawn).normal(*model.latent_shape)
    return torch.cat([z, -z])[:n] if antithetic else z


def latents_by_id(model: Family, participant: str, *, n: int, seed: int) -> Tensor:
    """Return the (n, *latent_shape) latents of an id, with or without ``sub-``.

    Each draw is the same for any n, and on any device.
    """
    _check_seed(seed)
    digest = hashlib.sha256(participant_id(participant).encode()).digest()
    key = [seed, *np.frombuffer(digest[:16], "<u4").tolist()]
    # Not of torch, whose generator takes 32 bits of a seed: of 100,000 ids some would be alike.
    draws = [
        np.random.default_rng([*key, i]).standard_normal(model.latent_shape, dtype=np.float32)
        for i in range(n)
    ]
    return torch.from_numpy(np.stack(draws)).to(model.volume_mean_ml.device)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise ConfigError(f"the seed is {seed}", "Give a seed of 0 or above.")


def checked_people(
    model: Family, people: People | None
) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    """Check answers against the model's questions.

    Returns:
        The table of answers, and a warning for each feature with answers nobody in training gave.

    Raises:
        TableError: for unknown features, impossible answers, or a model that does not fit.
    """
    if not model.conditional:
        if people is not None:
            raise TableError(
                "this model was only pre-trained and takes no answers",
                "Give a fine-tuned model, or leave the answers out.",
            )
        return None, ()
    table = model.features.table_of({} if people is None else people)
    if table.empty:
        raise TableError("there is nobody to generate", "Give at least one person.")
    warnings = tuple(
        f"{feature}: {len(rows)} of {len(table)} answers ({_range(rows['answer'])}) lie outside "
        f"what training participants answered ({rows['seen_in_training'].iloc[0]}); their maps "
        "are extrapolations."
        for feature, rows in model.features.outside_support(table).groupby("feature", sort=False)
    )
    return table, warnings


def _volumes(model: Family, table: pd.DataFrame, latents: Tensor) -> np.ndarray:
    """Volumes (N, n, 3) of (N * n, *latent_shape) latents, chunk by chunk."""
    volumes = [
        volumes_ml(maps[:, : len(MEASURED)], model.config.grid.voxel_ml).cpu()
        for maps in _stream(model, table, latents)
    ]
    return torch.cat(volumes).reshape(len(table), -1, len(MEASURED)).double().numpy()


@torch.no_grad()
def _stream(model: Family, table: pd.DataFrame | None, latents: Tensor) -> Iterator[Tensor]:
    """Generate maps in chunks, in order: person by person, draw by draw."""
    device = model.volume_mean_ml.device
    inputs = None
    if table is not None:
        inputs = torch.from_numpy(model.features.inputs(model.features.encode(table)))
        inputs = inputs.repeat_interleave(len(latents) // len(table), 0)
    for part in torch.arange(len(latents)).split(at_once(model.config.grid)):
        features = None if inputs is None else inputs[part].to(device)
        yield model.generate(latents[part].to(device), features)


def _range(answers: pd.Series) -> str:
    unique = sorted(set(answers))
    return str(unique[0]) if len(unique) == 1 else f"{unique[0]} to {unique[-1]}"


def _synthetic(
    model: Family,
    maps: Tensor,
    table: pd.DataFrame | None,
    draws: list[Draw],
    warnings: tuple[str, ...],
    seed: int,
) -> SyntheticMaps:
    for warning in warnings:
        logger.info(warning)  # carried by the result, and told by the command line
    labels, answers = _labels(table, draws)
    card = {**model.card, "texture": getattr(model, "texture", None) is not None}
    return SyntheticMaps(
        maps,
        model.config.grid,
        labels,
        answers,
        model.features.columns if model.conditional else (),
        warnings,
        card,
        seed,
        tuple(draws),
        own_warnings(model.features, answers) if warnings else (),
    )


def _draws(table: pd.DataFrame | None, n: int, *, by_id: bool = False) -> list[Draw]:
    """List the draws of everybody in the table, n each."""
    ids = [""] if table is None else _ids(table) or [""] * len(table)
    if by_id and not all(ids):
        raise TableError(
            "the people have no ids of their own to draw from",
            "Give a table indexed by participant_id, with one row per id, or by_id=False.",
        )
    return [Draw(k + 1, n, row, who, by_id) for row, who in enumerate(ids) for k in range(n)]


def _ids(table: pd.DataFrame) -> list[str]:
    """Return the ids of a table of participants as in file names; empty if it has none."""
    ids = [str(i) for i in table.index]
    if table.index.name != "participant_id" or len(set(ids)) < len(ids):
        return []
    return participant_ids(ids)


def _labels(table: pd.DataFrame | None, draws: list[Draw]) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Name every map by id, else by number, and repeat the answers it was generated from."""
    n = draws[0].of
    if table is None:
        labels = tuple(f"sub-synthetic{i + 1:04d}" for i in range(n))
        return labels, pd.DataFrame(index=list(labels))
    labels = synthetic_labels([draw.answers_of for draw in draws[::n]], n)
    return labels, table.iloc[np.arange(len(table)).repeat(n)].set_axis(list(labels))


def grid_of_people(person: Mapping, feature: str, values: Iterable) -> pd.DataFrame:
    """Return one row per value of ``feature``, everything else as in ``person``."""
    return pd.DataFrame([{**person, feature: value} for value in values])
