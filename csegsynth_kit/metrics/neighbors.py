"""Whom synthetic maps are nearest to: at equal reference sizes, twin by twin, person by person."""

from dataclasses import dataclass

import numpy as np

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.compare import Floor
from csegsynth_kit.metrics.coverage import authenticity, ball_radii
from csegsynth_kit.metrics.privacy import Distances, Sign
from csegsynth_kit.metrics.resampling import FEWEST_PERSONS, disjoint_sets, recentered_interval

#: A synthetic map is a twin of a person if it is nearer than this share of the distance that
#: only 1 % of people have to their nearest other person.
TWIN_SHARE = 0.25
#: From whom to whom nearest distances are reported.
PAIRS = (
    ("synthetic", "train"),
    ("synthetic", "held out"),
    ("held out", "train"),
    ("train", "train"),
)
#: Subsets of training people whose mean is the value, and in each half-sample.
_SUBSETS, _SUBSETS_OF_HALF = 20, 2


@dataclass(frozen=True)
class Closeness:
    """Nearest distances at equal reference sizes, and to whom synthetic maps are nearest.

    Args:
        table: From whom to whom, to median distance, low and high (95 %); multiples of the
            median distance of two people.
        reference: Persons in each reference set of ``table``.
        nearest: To which group the nearest person of a synthetic map belongs, as the training
            group's share of hits per head; 0.5 without any leak.
    """

    table: dict[tuple[str, str], tuple[float, float, float]]
    reference: int
    nearest: Sign


def closeness(d: Distances, *, times: int = 200, seed: int = 0) -> Closeness:
    """Compare distances to training and to held-out people.

    For the table, random subsets of training persons are as large as the held-out set, because
    among more people the nearest is nearer. Such a subset misses most copied people, so the
    share compares everybody at once and divides by heads: without a leak, each person is
    equally often the nearest (a balanced form of the share of records closer to training data,
    Platzer and Reutterer, 2021, Frontiers in Big Data 4:679939). Every person enters with the
    first row and one set of draws. Intervals come from random halves of the persons of either
    group; see ``resampling``.

    Args:
        d: Of everybody.
        times: Halves.
        seed: Of subsets and halves.
    """
    rng = np.random.default_rng(seed)
    groups = [d.persons(member=side) for side in (True, False)]
    n, m = map(len, groups)
    if min(n, m) < FEWEST_PERSONS:
        raise ConfigError(
            f"{n} training and {m} held-out persons are too few to compare",
            f"Give at least {FEWEST_PERSONS} of each.",
        )
    size = min(n - 1, m)
    value = _compared(d, groups, size, _SUBSETS, rng)
    spread = np.empty((times, len(value)))
    for i in range(times):
        halves = [rng.permutation(group)[: len(group) // 2] for group in groups]
        half = min(len(halves[0]) - 1, len(halves[1]))
        spread[i] = _compared(d, halves, half, _SUBSETS_OF_HALF, rng)
    bounds = [(0, np.inf)] * len(PAIRS) + [(0, 1)]
    ends = [
        recentered_interval(v, s, bounds=b) for v, s, b in zip(value, spread.T, bounds, strict=True)
    ]
    rows = [(float(v), *e) for v, e in zip(value, ends, strict=True)]
    nearest = Sign(*rows[-1], float(spread[:, -1].std(ddof=1)), n, m)
    return Closeness(dict(zip(PAIRS, rows[:-1], strict=True)), size, nearest)


def _compared(
    d: Distances, groups: list[np.ndarray], size: int, subsets: int, rng: np.random.Generator
) -> np.ndarray:
    """Return (5,) statistics: four medians, each a mean over subsets, and the share."""
    train, held_out = (d.first_rows()[group] for group in groups)
    medians = [
        _medians(d, rng.permutation(train)[: size + 1], rng.permutation(held_out)[:size])
        for _ in range(subsets)
    ]
    return np.array([*np.mean(medians, axis=0), _share(d, train, held_out)])


def _medians(d: Distances, train: np.ndarray, held_out: np.ndarray) -> list[float]:
    """Median nearest distances of PAIRS among R + 1 training and R held-out rows."""
    reference = train[:-1]
    maps = d.draws_of(np.concatenate([reference, held_out]))
    among = d.real[np.ix_(train, train)] + np.diag(np.full(len(train), np.inf))
    distances = (
        d.made[np.ix_(reference, maps)],
        d.made[np.ix_(held_out, maps)],
        d.real[np.ix_(reference, held_out)],
        among,  # One person more, so that each has as many others.
    )
    return [float(np.median(between.min(0))) for between in distances]


def _share(d: Distances, train: np.ndarray, held_out: np.ndarray) -> float:
    """Per head, how often training people are the nearest of all, as a share of both groups."""
    maps = d.draws_of(np.concatenate([train, held_out]))
    near, far = (d.made[np.ix_(rows, maps)].min(0) for rows in (train, held_out))
    hits = (near < far).mean() + 0.5 * (near == far).mean()
    per_head = hits / len(train), (1 - hits) / len(held_out)
    return float(per_head[0] / sum(per_head))


@dataclass(frozen=True)
class Twins:
    """Synthetic maps that are practically a person's own.

    Args:
        maps: Such maps of training persons.
        members: Training persons who have one.
        others: Held-out persons who have one.
        limit: Distance below which a map is one.
    """

    maps: int
    members: int
    others: int
    limit: float


def twins(d: Distances) -> Twins:
    """Count synthetic maps nearer to a person than two people ever are; see ``TWIN_SHARE``."""
    limit = TWIN_SHARE * float(np.percentile(d.to_others().min(1), 1))
    near = d.made <= limit
    members, others = (
        len(np.unique(d.person[near.any(1) & (d.member == g)])) for g in (True, False)
    )
    return Twins(int(near[d.member].any(0).sum()), members, others, limit)


@dataclass(frozen=True)
class Authenticity:
    """Share of authentic maps among synthetic ones, and among real people at the same sizes.

    Args:
        value: Of all synthetic maps, against all training persons.
        floor: Of held-out sets of real people against others.
    """

    value: float
    floor: Floor


def authentic(d: Distances, *, splits: int = 100, seed: int = 0) -> Authenticity:
    """Return authenticity with its floor: sets of people against as many as were trained on.

    Synthetic maps that vary too little are below the floor as well, since they lie in the
    middle, where people are near. So it points at copies only together with other signs.

    Args:
        d: Of everybody.
        splits: Sets of people in the floor.
        seed: Of the sets.
    """
    rows = d.first_rows()
    train = rows[d.member[rows]]
    value = authenticity(_nearest(d.real[np.ix_(train, train)]), d.made[train])
    real = d.real[np.ix_(rows, rows)]
    sets = disjoint_sets(len(rows), len(train), len(rows) - len(train), times=splits, seed=seed)
    floor = [authenticity(_nearest(real[np.ix_(a, a)]), real[np.ix_(a, b)]) for a, b in sets]
    return Authenticity(value, Floor(np.array(floor)))


def _nearest(within: np.ndarray) -> np.ndarray:
    return ball_radii(within, neighbors=1)
