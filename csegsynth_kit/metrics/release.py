"""May synthetic maps be released? An audit that ends in words, and says when it cannot tell."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from scipy.stats import norm

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import SegmentationMaps
from csegsynth_kit.metrics.extractors import Extractor
from csegsynth_kit.metrics.morphometry import Morphometry
from csegsynth_kit.metrics.neighbors import (
    Authenticity,
    Closeness,
    Twins,
    authentic,
    closeness,
    twins,
)
from csegsynth_kit.metrics.privacy import (
    Attack,
    Sign,
    attack_scores,
    copy_machine,
    distances,
    membership,
)

Verdict = Literal["no sign of copying", "doubt", "do not release", "cannot tell"]
#: An attack that is surely better than 0.5, and than this, forbids a release; below, it is a
#: doubt. So does a share of nearest people above the second: 3 times as many hits per head.
LEAK, LEAK_NEAREST = 0.6, 0.75
#: If an attack this good is still inside the interval, the audit cannot tell.
UNSEEN = 0.7
#: Persons that each group needs before an interval of an attack can be trusted.
FEWEST = 20
#: Shares of copied maps in the controls, and the one that must raise the alarm.
CONTROL_SHARES, CONTROL = (0.05, 0.2, 1.0), 0.2
#: Two attacks and one share are looked at: for all three together to be sure at one-sided
#: 2.5 %, each must be so many standard errors above 0.5 (Bonferroni).
_SURE = float(norm.isf(0.025 / 3))


@dataclass(frozen=True)
class Control:
    """What the audit says of the same maps if a share of them is copied.

    Args:
        share: Of maps replaced by training maps.
        attack: Of an attacker who sees all maps. Twins are not looked at: near copies have none.
        alarmed: Whether the attack is surely better than chance, and than on the maps as given.
    """

    share: float
    attack: Attack
    alarmed: bool


@dataclass(frozen=True)
class ReleaseAudit:
    """Figures, verdict and reasons.

    Args:
        verdict: ``do not release`` if more training than other people have a twin, or a sign is
            surely above 0.5 (counting that there are three) and above ``LEAK`` or
            ``LEAK_NEAREST``; else ``cannot tell`` if there are too few people or the copy machine
            was not found out; else ``doubt`` if a 95 % interval is above 0.5, which happens by
            chance in at most one of ten honest models, if a training person has a twin, or if
            authenticity is below its floor; else ``cannot tell`` if an attack of ``UNSEEN`` is
            not excluded.
        reasons: Sentences with figures; those that decide come first.
        attacks: By attacker; see ``attack_scores``.
        closeness: Distances, and to whom synthetic maps are nearest.
        twins: Maps that are practically a person's own.
        authenticity: With its floor among real people.
        controls: The copy machines.
        draws: Synthetic maps for the answers of each row.
        passport: JSON-ready identity of the extractor and of all draws.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    attacks: dict[str, Attack]
    closeness: Closeness
    twins: Twins
    authenticity: Authenticity
    controls: tuple[Control, ...]
    draws: int
    passport: dict = field(repr=False)


def release_audit(
    train: SegmentationMaps,
    held_out: SegmentationMaps,
    of_train: SegmentationMaps | Iterable[SegmentationMaps],
    of_held_out: SegmentationMaps | Iterable[SegmentationMaps],
    *,
    extractor: Extractor | None = None,
    persons: Sequence[str] | None = None,
    times: int = 2000,
    seed: int = 0,
) -> ReleaseAudit:
    """Audit synthetic maps for traces of the training people.

    The extractor is fitted on training and held-out people together. Fitted on training people
    alone, as for judging quality, it would treat them as special, and the attacks would need a
    floor; so fitted, both groups are alike to it, and 0.5 is exact.

    Args:
        train: Maps of all training people.
        held_out: Maps of people not trained on, drawn at random from the same cohort.
        of_train: K maps in a row for the answers of each row of ``train``, as ``generate`` gives
            them, or ``stream_maps`` a few at a time.
        of_held_out: K maps in a row for the answers of each row of ``held_out``, with other
            random numbers.
        extractor: What features are compared; morphometry by default.
        persons: Person of each row of ``train``, then of ``held_out``, if some have retests.
        times: Bootstrap resamples of an attack; a tenth of that for distances.
        seed: Of all draws.
    """
    extractor = Morphometry() if extractor is None else extractor
    _require_one_grid(train, held_out)
    probabilities = torch.cat([train.probabilities, held_out.probabilities])
    everybody = SegmentationMaps(probabilities, train.grid, train.labels + held_out.labels)
    extractor.fit(everybody)
    real = extractor.features(everybody)
    made = [_features(extractor, train, maps) for maps in (of_train, of_held_out)]
    passport = extractor.passport | {"grid": train.grid.to_dict()}
    parts = real[:, : len(train)], real[:, len(train) :], *made
    return audit_features(*parts, persons=persons, times=times, seed=seed, passport=passport)


def _features(
    extractor: Extractor,
    train: SegmentationMaps,
    maps: SegmentationMaps | Iterable[SegmentationMaps],
) -> np.ndarray:
    """Return (S, N, D) features of maps that may come in parts."""
    parts = []
    for part in [maps] if isinstance(maps, SegmentationMaps) else maps:
        _require_one_grid(train, part)
        parts.append(extractor.features(part))
    return np.concatenate(parts, axis=1)


def _require_one_grid(train: SegmentationMaps, maps: SegmentationMaps) -> None:
    if not train.grid.same_box(maps.grid):
        raise ConfigError(
            f"training maps are on grid '{train.grid.name}', others on '{maps.grid.name}'",
            "Compare maps of one grid; resampling alone changes every distance.",
        )


def audit_features(
    train: np.ndarray,
    held_out: np.ndarray,
    of_train: np.ndarray,
    of_held_out: np.ndarray,
    *,
    persons: Sequence[str] | None = None,
    times: int = 2000,
    seed: int = 0,
    passport: dict | None = None,
) -> ReleaseAudit:
    """As :func:`release_audit`, on features: for maps that do not fit into memory at once.

    Args:
        train: (S, N, D) features, from an extractor fitted on both groups of people.
        held_out: (S, M, D).
        of_train: (S, N * K, D).
        of_held_out: (S, M * K, D).
        persons: (N + M,) person of each row, if some have retests.
        times: As there.
        seed: Of all draws.
        passport: JSON-ready identity of the extractor.
    """
    made = of_train, of_held_out
    d = distances(train, held_out, *made, persons=persons)
    near = closeness(d, times=times // 10, seed=seed)
    attacks = {
        name: membership(s, d.member, d.person, times=times, seed=seed)
        for name, s in attack_scores(d).items()
    }
    common = train, held_out, made, persons, attacks, times, seed
    controls = tuple(_control(share, *common) for share in CONTROL_SHARES)
    found = twins(d)
    authenticity = authentic(d, splits=max(20, times // 20), seed=seed)
    signs = {words: attacks[name] for name, words in _ATTACKERS.items()}
    signs[_NEAREST] = near.nearest
    verdict, reasons = _judge(signs, found, authenticity, controls)
    about = (passport or {}) | {"seed": seed, "times": times, "draws": d.draws}
    figures = attacks, near, found, authenticity, controls
    return ReleaseAudit(verdict, tuple(reasons), *figures, d.draws, about)


def _control(
    share: float,
    train: np.ndarray,
    held_out: np.ndarray,
    made: Sequence[np.ndarray],
    persons: Sequence[str] | None,
    as_given: dict[str, Attack],
    times: int,
    seed: int,
) -> Control:
    copied = copy_machine(train, made, share=share, seed=seed)
    d = distances(train, held_out, *copied, persons=persons)
    scores = attack_scores(d)["anybody"]
    attack = membership(scores, d.member, d.person, times=times, seed=seed)
    return Control(share, attack, _surely(attack) and attack.value > as_given["anybody"].value)


_ATTACKERS = {
    "anybody": "An attacker who compares a person with all synthetic maps",
    "own answers": "An attacker who also knows the person's answers",
}
_NEAREST = "Training people are nearest to synthetic maps"


def _judge(
    signs: dict[str, Sign], found: Twins, authenticity: Authenticity, controls: Sequence[Control]
) -> tuple[Verdict, list[str]]:
    """Return the verdict and the sentences it rests on."""
    limits = {name: LEAK_NEAREST if name == _NEAREST else LEAK for name in signs}
    leaks = [_in_words(n, s) for n, s in signs.items() if _surely(s) and s.value > limits[n]]
    above = [_in_words(n, s) for n, s in signs.items() if s.low > 0.5]
    wide = [_in_words(n, s) for n, s in signs.items() if s.high >= UNSEEN and n != _NEAREST]
    untold = _blind(next(iter(signs.values())), controls)
    notes = [_twins_in_words(found), _authenticity_in_words(authenticity)]
    if found.members and found.members / _n(signs)[0] > found.others / _n(signs)[1]:
        return "do not release", [notes[0], *above, notes[1]]
    if leaks:
        return "do not release", [*leaks, *(s for s in above if s not in leaks), *notes]
    if untold:
        return "cannot tell", [*untold, *above, *notes]
    close = authenticity.floor.too_good(authenticity.value)
    if above or close or found.members:
        return "doubt", [*above, *notes]
    if wide:
        remark = f"{UNSEEN:g} is not excluded: more held-out people are needed."
        return "cannot tell", [*wide, remark, *notes]
    return "no sign of copying", [*(_in_words(n, s) for n, s in signs.items()), *notes]


def _n(signs: dict[str, Sign]) -> tuple[int, int]:
    first = next(iter(signs.values()))
    return first.n_members, first.n_others


def _surely(sign: Sign) -> bool:
    """Whether a sign is above 0.5 even though it is one of three."""
    return sign.low > 0.5 and sign.value - _SURE * sign.se > 0.5


def _blind(sign: Sign, controls: Sequence[Control]) -> list[str]:
    """Say why the audit would not see copies, if so."""
    reasons = []
    if min(sign.n_members, sign.n_others) < FEWEST:
        reasons.append(
            f"There are only {sign.n_members} training and {sign.n_others} held-out persons; at "
            f"least {FEWEST} of each are needed."
        )
    (control,) = (c for c in controls if c.share == CONTROL)
    if not control.alarmed:
        reasons.append(
            f"The audit did not find out a machine that copies {100 * CONTROL:.0f} % of its maps "
            f"(attack {_figures(control.attack)}): it has too few people or maps."
        )
    return reasons


def _in_words(name: str, sign: Sign) -> str:
    people = f"{sign.n_members} training and {sign.n_others} held-out persons"
    if name == _NEAREST:
        return f"{name} with a share of {_figures(sign)} per head, 0.50 being equal ({people})."
    return (
        f"{name} tells a training person from a held-out one with probability "
        f"{_figures(sign)}, 0.50 being chance ({people})."
    )


def _figures(sign: Sign) -> str:
    return f"{sign.value:.2f} (95 % interval {sign.low:.2f} to {sign.high:.2f})"


def _twins_in_words(found: Twins) -> str:
    if not found.members:
        return "No synthetic map is practically the map of a training person."
    return (
        f"{found.maps} synthetic maps are practically the maps of {found.members} training "
        f"persons: nearer than two people are (so are maps to {found.others} held-out persons)."
    )


def _authenticity_in_words(authenticity: Authenticity) -> str:
    floor = authenticity.floor
    figures = f"authenticity {authenticity.value:.2f}, real people {floor.median:.2f}"
    if not floor.too_good(authenticity.value):
        return (
            f"Synthetic maps are not surely nearer to training people than other people are "
            f"({figures}, of which 99 % of sets are above {floor.alarm:.2f})."
        )
    return (
        f"Synthetic maps are nearer to training people than other people are ({figures}, of "
        f"which 99 % of sets are above {floor.alarm:.2f}). Maps that vary too little give this as "
        "well as copies."
    )
