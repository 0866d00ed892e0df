"""Can one tell from synthetic maps who was in the training set?

Everything here is a function of distances between people's and synthetic maps. Two rules keep
it fair. *Every person is asked for alike*: a model that is given answers draws people who share
them, so the same number of maps is generated for the answers of each training and each held-out
person; then a person is near to synthetic maps for their answers in both groups. *Every person
is measured alike*: references have equal sizes, because among more people the nearest is nearer,
and features are standardized on training and held-out people together, so that no group is
special. If membership has left no trace, the two groups are exchangeable, and 0.5 is exact.

Held-out people must be a random part of the same cohort: another site or age would be found out
without any leak.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.kernels import squared_distances

#: False-positive rate at which the share of found members is reported, and the held-out people
#: that are needed for it.
LOW_RATE, PEOPLE_FOR_LOW_RATE = 0.10, 50


@dataclass(frozen=True)
class Distances:
    """Distances of people to each other and to synthetic maps.

    Args:
        real: (N, N) among real maps, as multiples of the median distance of two people.
        made: (N, N * K) from real maps to synthetic ones; K draws for the answers of each row.
        member: (N,) booleans: trained on.
        person: (N,) who each row is, from 0; rows of one person are retests.
    """

    real: np.ndarray
    made: np.ndarray
    member: np.ndarray
    person: np.ndarray

    @property
    def draws(self) -> int:
        """Synthetic maps for the answers of each row."""
        return self.made.shape[1] // len(self.real)

    def draws_of(self, rows: np.ndarray) -> np.ndarray:
        """Return (R * K,) columns of ``made`` that were generated for (R,) rows."""
        return (rows[:, None] * self.draws + np.arange(self.draws)).ravel()

    def persons(self, *, member: bool) -> np.ndarray:
        """Return the persons of a group."""
        return np.unique(self.person[self.member == member])

    def first_rows(self) -> np.ndarray:
        """Return the first row of every person, so that retests do not count twice."""
        return np.unique(self.person, return_index=True)[1]

    def to_others(self) -> np.ndarray:
        """Return (N, N) distances, infinite between rows of one person."""
        return np.where(self.person[:, None] == self.person, np.inf, self.real)


def distances(
    train: np.ndarray,
    held_out: np.ndarray,
    of_train: np.ndarray,
    of_held_out: np.ndarray,
    *,
    persons: Sequence[str] | None = None,
) -> Distances:
    """Measure Euclidean distances in each feature space and average them over spaces.

    Args:
        train: (S, N, D) standardized features of training people.
        held_out: (S, M, D) of people not trained on.
        of_train: (S, N * K, D) of synthetic maps, K in a row for the answers of each row.
        of_held_out: (S, M * K, D) alike, with as many draws.
        persons: (N + M,) person of each row of ``train`` and ``held_out``; one each by default.

    Raises:
        ConfigError: if draws are unequal, or a person is both trained on and held out.
    """
    n, m = train.shape[1], held_out.shape[1]
    _require_equal_draws(n, m, of_train.shape[1], of_held_out.shape[1])
    codes = _codes(np.arange(n + m) if persons is None else persons, n, m)
    real = np.concatenate([train, held_out], axis=1)
    made = np.concatenate([of_train, of_held_out], axis=1)
    among, between = np.zeros((n + m, n + m)), np.zeros((n + m, len(made[0])))
    for own, synthetic in zip(real, made, strict=True):
        apart = np.sqrt(squared_distances(own, own))
        np.fill_diagonal(apart, 0)
        unit = np.median(apart[np.triu_indices(n + m, k=1)]) * len(real)
        among += apart / unit
        between += np.sqrt(squared_distances(own, synthetic)) / unit
    return Distances(among, between, np.arange(n + m) < n, codes)


def _require_equal_draws(n: int, m: int, of_train: int, of_held_out: int) -> None:
    draws = of_train // n
    if draws < 1 or (of_train, of_held_out) != (n * draws, m * draws):
        raise ConfigError(
            f"{of_train} synthetic maps for {n} training people and {of_held_out} for {m} "
            "held-out people are not equally many each",
            "Generate the same number of maps for the answers of everybody.",
        )


def _codes(persons: Sequence, n: int, m: int) -> np.ndarray:
    """Number the (N + M,) persons from 0."""
    codes = np.unique(persons, return_inverse=True)[1]
    if len(codes) != n + m or set(codes[:n]) & set(codes[n:]):
        raise ConfigError(
            f"{len(codes)} persons do not fit {n} training and {m} held-out rows, or some are "
            "in both groups",
            "Name the person of each row, and hold out whole persons.",
        )
    return codes


@dataclass(frozen=True)
class Sign:
    """A number that is 0.5 without any leak, and above it with one.

    Args:
        value: Of all people.
        low: Lower end of its 95 % interval.
        high: Upper end.
        se: Standard error.
        n_members: Training persons.
        n_others: Held-out persons.
    """

    value: float
    low: float
    high: float
    se: float
    n_members: int
    n_others: int


@dataclass(frozen=True)
class Attack(Sign):
    """How well an attacker tells members from others: area under the ROC curve (AUC).

    Args:
        found: Share of members found where ``LOW_RATE`` of the others are accused wrongly; nan
            if there are fewer than ``PEOPLE_FOR_LOW_RATE`` others.
        found_low: Lower end of its 95 % interval.
        found_high: Upper end.
    """

    found: float
    found_low: float
    found_high: float


def attack_scores(d: Distances) -> dict[str, np.ndarray]:
    """Return (N,) scores of attackers; higher accuses a person of being a member.

    An attacker accuses people who are near to a synthetic map (after Shokri et al., 2017, IEEE
    S&P, and Hayes et al., 2019, PoPETs 2019:133). ``anybody`` looks at all maps, one set of draws
    per person; ``own answers`` knows the person's answers and looks at the maps drawn for them.
    The distance is taken as a multiple of that to the nearest other real person: a usual brain
    is near to everything, and by chance one group may be more usual (calibration by difficulty,
    Watson et al., 2022, ICLR). ``no maps`` accuses usual people, whatever the maps: how uneven
    the groups are.
    """
    unusual = d.to_others().min(1)
    unit = np.maximum(unusual, 1e-9)
    rows = np.arange(len(d.made))
    every = d.made[:, d.draws_of(d.first_rows())].min(1)
    own = d.made[rows[:, None], d.draws_of(rows).reshape(-1, d.draws)].min(1)
    return {"anybody": -every / unit, "own answers": -own / unit, "no maps": -unusual}


def membership(
    scores: np.ndarray, member: np.ndarray, person: np.ndarray, *, times: int = 2000, seed: int = 0
) -> Attack:
    """AUC of an attack, with a percentile bootstrap interval over persons of either group.

    Rows of a person are drawn together. The synthetic maps are what is judged, so they stay.

    Args:
        scores: (N,) higher for suspected members.
        member: (N,) booleans.
        person: (N,) who each row is.
        times: Bootstrap resamples.
        seed: Of the resamples.
    """
    rng = np.random.default_rng(seed)
    groups = [np.unique(person[member == side], return_inverse=True)[1] for side in (True, False)]
    sizes = [int(group.max()) + 1 for group in groups]
    inside, outside = scores[member], scores[~member]
    wins = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
    weights = [rng.multinomial(n, np.full(n, 1 / n), times) for n in sizes]
    w, v = (weight[:, group] for weight, group in zip(weights, groups, strict=True))
    values = np.einsum("bi,bi->b", w @ wins, v) / (w.sum(1) * v.sum(1))
    low, high = np.percentile(values, [2.5, 97.5])
    found = (np.nan,) * 3
    if sizes[1] >= PEOPLE_FOR_LOW_RATE:
        whole = _found(inside, outside, np.ones_like(w[:1]), np.ones_like(v[:1]))
        shares = np.percentile(_found(inside, outside, w, v), [2.5, 97.5])
        found = (float(whole[0]), *map(float, shares))
    return Attack(
        float(wins.mean()), float(low), float(high), float(values.std(ddof=1)), *sizes, *found
    )


def _found(inside: np.ndarray, outside: np.ndarray, w: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Share (B,) of members above the score that ``LOW_RATE`` of the others exceed.

    Args:
        inside: (N,) scores of members.
        outside: (M,) scores of the others.
        w: (B, N) how often each member counts.
        v: (B, M) how often each other counts.
    """
    order = np.argsort(outside)[::-1]
    accused = np.cumsum(v[:, order], axis=1) > LOW_RATE * v.sum(1, keepdims=True) + 1e-9
    limit = outside[order][accused.argmax(1)]
    return (w * (inside > limit[:, None])).sum(1) / w.sum(1)


def copy_machine(
    train: np.ndarray,
    others: Sequence[np.ndarray],
    *,
    share: float,
    seed: int,
) -> list[np.ndarray]:
    """Replace a share of synthetic maps by training maps: what an audit must find.

    Args:
        train: (S, N, D) features of training people.
        others: (S, M, D) features of sets of synthetic maps.
        share: Of the maps that are replaced, whatever answers were asked for.
        seed: Of who is copied, and where.

    Returns:
        Sets like ``others``.
    """
    rng = np.random.default_rng(seed)
    copied = []
    for made in others:
        made = made.copy()
        n = made.shape[1]
        where = rng.permutation(n)[: round(share * n)]
        made[:, where] = train[:, rng.integers(0, train.shape[1], len(where))]
        copied.append(made)
    return copied
