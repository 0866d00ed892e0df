"""Scores of counterfactual maps: composition, reversibility, effectiveness, and the truth.

After Monteiro et al. (2023, "Measuring axiomatic soundness of counterfactual image models").
Each score stands beside what it would be without a model, with its interval over people and n.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import statsmodels.api as sm

from csegsynth_kit.analysis.comparable import require_comparable
from csegsynth_kit.analysis.contrast import VolumeRegression
from csegsynth_kit.analysis.counterfactual import (
    aged,
    answers_of,
    distances,
    moved_again,
    reason_against,
)
from csegsynth_kit.analysis.truth import Truth
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.maps import SegmentationMaps
from csegsynth_kit.metrics.volumes import resamples, score_table
from csegsynth_kit.models import Family

#: How often a map is encoded and generated with unchanged answers.
_TIMES = 3
_RESAMPLES = 2000


def soundness(
    models: Mapping[str, Family], train: Cohort, test: Cohort, *, seed: int = 0
) -> pd.DataFrame:
    """Composition and reversibility of several models on people they have not seen.

    Composition: encoded and generated with unchanged answers once, twice, three times.
    Reversibility: moved to the age of another test participant and back, which passes through
    the model twice; only what is worse than composition twice is due to the move.

    Args:
        models: Name to a conditional model trained on ``train``.
        train: Training participants; two of them, paired at random with the same sex, say how
            much different people differ.
        test: Participants whose maps are moved.
        seed: Of ages and pairs.

    Returns:
        ``model``, ``score`` (``composition 1`` to ``3``, ``there and back``, ``other people``),
        ``tissue``, mean ``error_ml`` (absolute) and ``soft_dice``, each with ``_low`` and
        ``_high`` of its 95 % bootstrap interval over people, ``n``; and ``note``, the reason
        where a model cannot do this.

    Raises:
        CohortError: if a model was trained on others than ``train``, or cohorts share
            participants or count CSF differently.
        ConfigError: if there is no model, one takes no answers, or they take different ones.
    """
    require_comparable(models, train, test)
    test = _with_age(test)
    maps, parts = test.maps(), []
    for name, model in models.items():
        reason = reason_against(model)
        if reason:
            parts.append(pd.DataFrame([{"model": name, "note": reason}]))
            continue
        people = answers_of(test.table, model)
        there = aged(people, other_ages(people, seed=seed))
        still = {"input": people} | {f"composition {i + 1}": people for i in range(_TIMES)}
        reached = moved_again(model, maps, still)
        journey = {"input": people, "there": there, "there and back": people}
        reached["there and back"] = moved_again(model, maps, journey)["there and back"]
        del reached["input"]
        for score, moved in reached.items():
            parts.append(_summary(maps, moved, name, score, seed))
    parts.append(
        _summary(*_strangers(train, len(test), seed), "participants", "other people", seed)
    )
    table = pd.concat(parts, ignore_index=True)
    return table.assign(note=table.get("note", pd.Series(dtype=object)).fillna(""))


def effectiveness(
    models: Mapping[str, Family], train: Cohort, test: Cohort, *, seed: int = 0
) -> pd.DataFrame:
    """Ask a regression trained on real people which age the moved maps have.

    Every test participant is given the age of another one. Age is read off WM, GM, CSF volumes
    (and their squares) by least squares on the training participants. The same regression on
    the test participants' own maps and ages is what no model can be expected to exceed by
    honest means; their own maps with the other person's age are what a model gets that ignores
    the age it is told.

    Returns:
        ``model`` (or ``real people``, ``unmoved maps``), ``r`` of intended and read age,
        ``mae_years``, ``slope`` of read on intended age, each with its 95 % bootstrap interval
        over people; ``n``, ``note``.

    Raises:
        CohortError, ConfigError: as :func:`soundness`.
    """
    require_comparable(models, train, test)
    test = _with_age(test)
    train = train.one_scan_each().subset(train.one_scan_each().table["age"].dropna().index)
    read = _age_reader(train)
    own = test.table["age"].to_numpy(float)
    other = other_ages(test.table, seed=seed)
    volumes = test.volumes.to_numpy()
    rows = [
        _agreement("participants", own, read(volumes), seed),
        _agreement("unmoved maps", other, read(volumes), seed),
    ]
    for name, model in models.items():
        reason = reason_against(model)
        if reason:
            rows.append({"model": name, "note": reason})
            continue
        people = answers_of(test.table, model)
        moved = moved_again(model, test.maps(), {"own": people, "other": aged(people, other)})
        rows.append(_agreement(name, other, read(_volumes(moved["other"])), seed))
    table = pd.DataFrame(rows)
    return table.assign(note=table["note"].fillna(""))


def counterfactual_errors(
    models: Mapping[str, Family],
    train: Cohort,
    test: Cohort,
    truth: Truth,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Score moved maps against what these people's volumes would truly have been.

    On a simulated cohort a person's own volumes at another age are known: their noise stays,
    their expectation moves. Test participants are moved to the age of another one.

    Returns:
        As ``metrics.volumes.score_table``, of the predictors ``no change``, ``regression``
        (volumes at the own age plus the change that least squares on the training participants
        gives) and each model that can.

    Raises:
        CohortError, ConfigError: as :func:`soundness`.
    """
    require_comparable(models, train, test)
    test = _with_age(test)
    people = test.table[[c.name for c in test.feature_columns]]
    there = aged(people, other_ages(people, seed=seed))
    volumes = test.volumes.to_numpy()
    wanted = volumes + truth.predict(there) - truth.predict(people)
    able = {name: model for name, model in models.items() if not reason_against(model)}
    predictions = {"no change": volumes}
    for name, model in able.items():
        asked, moved_to = answers_of(people, model), answers_of(there, model)
        linear = VolumeRegression.fit(train, model.features)
        predictions["regression"] = volumes + linear.contrast(asked, moved_to)[..., 0]
        moved = moved_again(model, test.maps(), {"own": asked, "other": moved_to})["other"]
        predictions[name] = _volumes(moved)
    known = ~np.isnan(wanted).any(axis=1)
    chosen = {name: values[known] for name, values in predictions.items()}
    persons = test.persons.to_numpy()[known]
    return score_table(chosen, wanted[known], persons=persons, seed=seed)


def other_ages(people: pd.DataFrame, *, seed: int) -> np.ndarray:
    """Give each of N people the age of another: (N,) years, the same ages in another order."""
    order = np.random.default_rng(seed).permutation(len(people))
    ages = np.empty(len(people))
    ages[order] = people["age"].to_numpy(float)[np.roll(order, 1)]
    return ages


def _with_age(test: Cohort) -> Cohort:
    test = test.one_scan_each()
    return test.subset(test.table["age"].dropna().index)


def _volumes(maps: SegmentationMaps) -> np.ndarray:
    table = maps.volumes_ml()
    return table["volume_ml"].to_numpy().reshape(len(MEASURED), -1).T


def _age_reader(train: Cohort):
    """Fit age on standardized volumes and their squares; returns (N, 3) mL to (N,) years."""
    volumes = train.volumes.to_numpy()
    mean, sd = volumes.mean(0), volumes.std(0, ddof=1)

    def design(values: np.ndarray) -> np.ndarray:
        z = (values - mean) / sd
        return np.column_stack([np.ones(len(z)), z, z**2])

    fit = sm.OLS(train.table["age"].to_numpy(float), design(volumes)).fit()
    return lambda values: fit.predict(design(values))


def _agreement(name: str, intended: np.ndarray, read: np.ndarray, seed: int) -> dict:
    """Score (N,) ages read off maps against the intended ones."""
    statistics = {
        "r": lambda a, b: np.corrcoef(a, b)[0, 1],
        "mae_years": lambda a, b: np.abs(a - b).mean(),
        "slope": lambda a, b: np.cov(a, b)[0, 1] / a.var(ddof=1),
    }
    rows = resamples(len(intended), times=_RESAMPLES, seed=seed)
    row = {"model": name, "n": len(intended), "note": ""}
    for label, statistic in statistics.items():
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample may be one person
            values = [statistic(intended[chosen], read[chosen]) for chosen in rows]
        low, high = np.nanpercentile(values, [2.5, 97.5])
        row |= {label: statistic(intended, read), f"{label}_low": low, f"{label}_high": high}
    return row


def _strangers(train: Cohort, n: int, seed: int) -> tuple[SegmentationMaps, SegmentationMaps]:
    """Pair up to ``n`` training participants with others of the same sex, if sex is known."""
    train = train.one_scan_each()
    sex = train.table.get("sex", pd.Series("", index=train.table.index)).fillna("")
    rng, first, second = np.random.default_rng(seed), [], []
    for _, ids in sex.groupby(sex).groups.items():
        drawn = rng.permutation(list(ids))[: n // 2 * 2]
        first += list(drawn[0::2][: len(drawn) // 2])
        second += list(drawn[1::2])
    return train.maps(first[:n]), train.maps(second[:n])


def _summary(
    maps: SegmentationMaps, others: SegmentationMaps, model: str, score: str, seed: int
) -> pd.DataFrame:
    table = distances(maps.probabilities, others.probabilities, maps.grid.voxel_ml)
    n = len(maps)
    rows = resamples(n, times=_RESAMPLES, seed=seed)
    parts = []
    for tissue in MEASURED:
        own = table[table["tissue"] == tissue]
        row = {"model": model, "score": score, "tissue": tissue, "n": n}
        for name, values in (
            ("error_ml", own["change_ml"].abs().to_numpy()),
            ("soft_dice", own["soft_dice"].to_numpy()),
        ):
            low, high = np.percentile(values[rows].mean(1), [2.5, 97.5])
            row |= {name: values.mean(), f"{name}_low": low, f"{name}_high": high}
        parts.append(row)
    return pd.DataFrame(parts)
