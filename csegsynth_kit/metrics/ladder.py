"""The perturbation ladder: which known damage a metric on an extractor can find at a given N."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import SegmentationMaps
from csegsynth_kit.metrics.compare import Floor, Sets, values_of_sets
from csegsynth_kit.metrics.extractors import Extractor, label
from csegsynth_kit.metrics.perturb import MAP_PERTURBATIONS, perturb
from csegsynth_kit.metrics.resampling import disjoint_sets
from csegsynth_kit.metrics.spaces import (
    FEATURE_METRICS,
    FeatureSpace,
    Metric,
    feature_space,
)

#: Damage to sets rather than to single maps.
SET_PERTURBATIONS = ("variance x0.5", "duplicates", "memorized", "memorized, against training")
#: Copies of each person in ``duplicates``.
COPIES = 10
_METRICS = ("frechet", "mmd_rbf", "kid", "coverage", "authenticity")


def perturbation_ladder(
    train: SegmentationMaps,
    real: SegmentationMaps,
    *,
    extractor: Extractor,
    sizes: Sequence[int],
    metrics: Sequence[str] = _METRICS,
    repeats: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Find which perturbations of real maps a metric tells from real maps.

    ``repeats`` times, two disjoint sets of N real maps are drawn; their distance makes the
    floor. Then the second set is perturbed. A perturbation is detected if it is worse than 95 %
    of the floor in most repeats. ``memorized`` is a set of training maps: against other real
    maps it must look real. ``memorized, against training`` is a copy machine: N maps drawn from
    N training maps, so that some come twice and others not at all, beside all N. A metric that
    is to tell copies must raise the alarm there of being better than 99 % of the floor.
    ``variance x0.5`` halves the variance of all features.

    Args:
        train: Real maps on which the extractor, bandwidths and projections are fitted.
        real: Other real maps, at least twice the largest size.
        extractor: What features are compared; fitted here.
        sizes: Maps in each set, N.
        metrics: Names of ``spaces.FEATURE_METRICS``.
        repeats: Pairs of sets.
        seed: Of the draws.

    Returns:
        One row per N, perturbation and metric: ``extractor``, ``metric``, ``n``,
        ``perturbation``, ``value`` (median), ``floor`` (median), ``floor_detect``, ``ratio`` of
        value to floor, ``power`` (share of repeats that are worse), ``detected``, ``alarm``.
    """
    require_pool(train, real, sizes)
    extractor = extractor.fit(train)
    chosen = [metric for metric in FEATURE_METRICS if metric.name in metrics]
    fitted, clean = extractor.features(train), extractor.features(real)
    damaged = {name: extractor.features(perturb(real, name)) for name in MAP_PERTURBATIONS}
    rows = []
    for n in sizes:
        sets = list(disjoint_sets(len(real), n, n, times=repeats, seed=seed))
        floors = _values(fitted, clean, clean, sets, chosen, n)
        for name, first, second, pairs in _perturbed(fitted, clean, damaged, sets, seed):
            values = _values(fitted, first, second, pairs, chosen, n)
            for metric in chosen:
                floor = Floor(floors[metric.name], metric.higher_is_closer)
                judged = ladder_row(values[metric.name], floor, centered=metric.centered)
                head = {"extractor": extractor.name, "metric": _title(extractor, metric, n)}
                rows.append(head | {"n": n, "perturbation": name} | judged)
    return pd.DataFrame(rows)


def require_pool(train: SegmentationMaps, real: SegmentationMaps, sizes: Sequence[int]) -> None:
    """Raise ConfigError if two disjoint sets of the largest size cannot be drawn."""
    n = max(sizes)
    if len(real) < 2 * n or len(train) < n:
        raise ConfigError(
            f"{len(real)} real and {len(train)} training maps are too few for sets of {n}",
            f"Give {2 * n} real and {n} training maps, or smaller sets.",
        )


def detection_table(ladder: pd.DataFrame) -> pd.DataFrame:
    """Arrange ladders for reading: perturbations in rows, extractor, metric and N in columns.

    A cell holds the share of repeats beyond the floor, and ``+`` where the damage is detected, or
    ``!`` where the alarm of copies rings.
    """
    marks = np.where(ladder["alarm"], " !", np.where(ladder["detected"], " +", ""))
    cells = ladder.assign(cell=ladder["power"].map("{:.2f}".format) + marks)
    order = list(dict.fromkeys(ladder["perturbation"]))
    columns = list(dict.fromkeys(zip(cells["metric"], cells["extractor"], cells["n"], strict=True)))
    wide = cells.pivot_table(
        index="perturbation",
        columns=["metric", "extractor", "n"],
        values="cell",
        aggfunc="first",
        sort=False,
    )
    return wide.loc[order, columns]


def ladder_row(values: np.ndarray, floor: Floor, *, centered: bool) -> dict:
    """Summarize the values of one perturbation against the floor.

    Args:
        values: (R,) of perturbed sets.
        floor: Of real sets.
        centered: Whether the floor is about 0, so that a ratio to it means nothing.
    """
    power = float(np.mean(floor.worse(values)))
    median = float(np.median(values))
    return {
        "value": median,
        "floor": floor.median,
        "floor_detect": floor.detect,
        "ratio": np.nan if centered else median / floor.median,
        "power": power,
        "detected": power > 0.5,
        "alarm": float(np.mean(floor.too_good(values))) > 0.5,
    }


def _perturbed(
    fitted: np.ndarray,
    clean: np.ndarray,
    damaged: dict[str, np.ndarray],
    sets: list[Sets],
    seed: int,
) -> Iterator[tuple[str, np.ndarray, np.ndarray, list[Sets]]]:
    """Yield name, (S, N, D) features of real and of damaged maps, and rows into the two."""
    for name, features in damaged.items():
        yield name, clean, features, sets
    mean = fitted.mean(1, keepdims=True)
    yield "variance x0.5", clean, mean + np.sqrt(0.5) * (clean - mean), sets
    yield "duplicates", clean, clean, [(a, duplicated(b)) for a, b in sets]
    rng = np.random.default_rng(seed)
    copied = [rng.permutation(fitted.shape[1])[: len(a)] for a, _ in sets]
    yield (
        "memorized",
        clean,
        fitted,
        [(a, rows) for (a, _), rows in zip(sets, copied, strict=True)],
    )
    machine = [(rows, rng.choice(rows, len(rows))) for rows in copied]
    yield "memorized, against training", fitted, fitted, machine


def duplicated(rows: np.ndarray) -> np.ndarray:
    """Return as many rows, but of a tenth of the people."""
    people = rows[: max(1, len(rows) // COPIES)]
    return np.resize(people, len(rows))


def _values(
    fitted: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    sets: list[Sets],
    metrics: Sequence[Metric],
    n: int,
) -> dict[str, np.ndarray]:
    """Return (R,) values of each metric, averaged over spaces; one space is held at a time."""
    total = {metric.name: np.zeros(len(sets)) for metric in metrics}
    for train, a, b in zip(fitted, first, second, strict=True):
        space = feature_space(np.concatenate([a, b]), train, n=n)
        shifted = [(real, len(a) + made) for real, made in sets]
        for metric in metrics:
            total[metric.name] += _in_one(space, metric, shifted) / len(fitted)
    return total


def _in_one(space: FeatureSpace, metric: Metric, sets: list[Sets]) -> np.ndarray:
    return values_of_sets([space], metric, sets)[0]


def _title(extractor: Extractor, metric: Metric, n: int) -> str:
    if metric.name != "frechet":
        return metric.name
    return label(extractor, n // 3 if n // 3 < extractor.dim else None)
