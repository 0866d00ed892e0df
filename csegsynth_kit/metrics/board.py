"""A board of metrics: every number with its interval, its real-vs-real floor and its passport."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import SegmentationMaps
from csegsynth_kit.metrics.compare import (
    Floor,
    Sets,
    interval_of_sets,
    linear_mmd_of_sets,
    values_of_sets,
)
from csegsynth_kit.metrics.coverage import NEIGHBORS
from csegsynth_kit.metrics.extractors import Extractor, label
from csegsynth_kit.metrics.resampling import disjoint_sets, half_samples, recentered_interval
from csegsynth_kit.metrics.spaces import (
    FEATURE_METRICS,
    MMD_LINEAR,
    FeatureSpace,
    Metric,
    feature_space,
)
from csegsynth_kit.metrics.structural import (
    delta_similarity,
    pair_similarity,
    plan_similarity,
    random_pairs,
)

#: Verdicts on sets that are closer to training maps than 99 % of real sets are.
ALARM = "ALARM: closer to training maps than real people are"
CENTRAL = "in the middle of training maps: copies, or maps that vary too little"
#: People of each kind below whom distances between sets tell nothing.
FEWEST = 12


@dataclass(frozen=True)
class _Case:
    """Synthetic maps of all models against one reference, all as rows of the stacked maps."""

    reference: str
    real: np.ndarray
    made: list[np.ndarray]
    floor: list[Sets]
    floor_from: str

    @property
    def sizes(self) -> dict[str, int]:
        return {"n_real": len(self.real), "n": len(self.made[0])}


def metric_board(
    train: SegmentationMaps,
    test: SegmentationMaps,
    synthetic: Mapping[str, SegmentationMaps],
    *,
    extractor: Extractor,
    splits: int = 200,
    seed: int = 0,
    voxels: bool = True,
) -> pd.DataFrame:
    """Judge synthetic maps against held-out real maps, and for copies against training maps.

    Synthetic maps that are closer to the training maps than 99 % of real sets raise an alarm
    where whole distributions are compared (MMD, KID): they may be copies. By neighbors, maps in
    the middle of the training maps look just the same, and the verdict says so. Closer to the
    test maps (``below floor``) is chance, about once in 100 numbers, unless many metrics agree;
    then the test maps were seen.

    Everything that is fitted is fitted on ``train``. Against ``test``, both sets have the same
    N. The floor is the distribution of the same metric between disjoint sets of real maps of the
    same sizes, from ``test`` if it has 2 N maps, otherwise from training and test maps together.

    Args:
        train: Real maps that generators were trained on, one per person.
        test: Real maps that they were not.
        synthetic: Name of a model to its generated maps. N is that of the smallest set.
        extractor: What features are compared; fitted here.
        splits: Pairs of sets in the floor, and half-samples in the interval.
        seed: Of all draws.
        voxels: Whether to measure what needs no extractor as well.

    Returns:
        One row per model, metric and reference (``test`` or ``train``): ``model``, ``metric``,
        ``extractor``, ``reference``, ``value``, ``low`` and ``high`` (95 %), ``sd_spaces`` (over
        seeds or views), ``floor`` (median), ``floor_alarm`` and ``floor_detect`` (its 1st and
        95th percentile from the good side), ``n_real``, ``n``, ``verdict``, ``passport`` (JSON).
    """
    for maps in (test, *synthetic.values()):
        if not train.grid.same_box(maps.grid):
            raise ConfigError(
                f"training maps are on grid '{train.grid.name}', others on '{maps.grid.name}'",
                "Compare maps of one grid; resampling alone changes every distance.",
            )
    cases = _cases(len(train), len(test), [len(m) for m in synthetic.values()], splits, seed)
    extractor = extractor.fit(train)
    n = cases[0].sizes["n"]
    spaces = _spaces(extractor, (train, test, *synthetic.values()), n=n)
    rows = []
    # Products of small matrices are done before threads have met.
    with threadpool_limits(1, user_api="blas"):
        for case in cases:
            for metric in FEATURE_METRICS:
                if metric.audits_training and case.reference != "train":
                    continue
                rows.append(_feature_rows(spaces, metric, case, extractor, splits, seed))
    if voxels:
        rows += _voxel_rows(train, test, synthetic, cases[0], splits, seed)
    common = {"splits": splits, "seed": seed, "grid": train.grid.to_dict()}
    for row in (row for each in rows for row in each):
        row["passport"] = json.dumps(row["passport"] | common, sort_keys=True)
    judged = zip(synthetic, zip(*rows, strict=True), strict=True)
    return pd.DataFrame([{"model": name} | row for name, own in judged for row in own])


def set_size(train: int, test: int, *synthetic: int) -> int:
    """Maps of each set that is compared: real ones must come in two such sets for the floor."""
    return min(test, (train + test) // 2, *synthetic)


def _cases(train: int, test: int, synthetic: Sequence[int], splits: int, seed: int) -> list[_Case]:
    """Choose rows of train (first), test and synthetic maps (last) for each comparison."""
    n = set_size(train, test, *synthetic)
    if n < FEWEST:
        raise ConfigError(
            f"{test} test and {min(synthetic)} synthetic maps are too few to judge",
            f"Give at least {FEWEST} of each.",
        )
    rng = np.random.default_rng(seed)
    real = train + np.sort(rng.permutation(test)[:n])
    starts = train + test + np.cumsum([0, *synthetic[:-1]])
    made = [
        start + np.sort(rng.permutation(size)[:n])
        for start, size in zip(starts, synthetic, strict=True)
    ]
    alone = test >= 2 * n
    size, start = (test, train) if alone else (train + test, 0)
    pairs = disjoint_sets(size, n, n, times=splits, seed=seed)
    floor = [(start + a, start + b) for a, b in pairs]
    against_train = list(disjoint_sets(train + test, train, n, times=splits, seed=seed))
    return [
        _Case("test", real, made, floor, "test" if alone else "train and test"),
        _Case("train", np.arange(train), made, against_train, "train and test"),
    ]


def _spaces(
    extractor: Extractor, sets: Sequence[SegmentationMaps], *, n: int
) -> list[FeatureSpace]:
    train, *others = [extractor.features(maps) for maps in sets]
    stacked = np.concatenate([train, *others], axis=1)
    return [feature_space(s, t, n=n) for s, t in zip(stacked, train, strict=True)]


def _feature_rows(
    spaces: list[FeatureSpace],
    metric: Metric,
    case: _Case,
    extractor: Extractor,
    splits: int,
    seed: int,
) -> list[dict]:
    """Return one row per model; all have the same floor."""
    floor = Floor(values_of_sets(spaces, metric, case.floor).mean(0), metric.higher_is_closer)
    projection = spaces[0].projection
    passport = {**extractor.passport, "floor_from": case.floor_from}
    name = metric.name
    if name == "frechet":
        name = label(extractor, projection and projection.dim)
        passport["pca"] = projection and projection.dim
        passport["pca_explained"] = projection and round(projection.explained, 4)
    elif name == "mmd_rbf":
        passport["bandwidths"] = [[round(h, 6) for h in space.bandwidths] for space in spaces]
    elif name not in ("kid", "authenticity"):
        passport["neighbors"] = NEIGHBORS
    head = {"metric": name, "extractor": extractor.name, "reference": case.reference}
    rows = []
    for made in case.made:
        sets = case.real, made
        values = values_of_sets(spaces, metric, [sets])[:, 0]
        interval = interval_of_sets(spaces, metric, sets, times=splits, seed=seed)
        spread = values.std(ddof=1) if len(values) > 1 else np.nan
        judged = _judged(values.mean(), interval, floor, case, spread, metric.tells_copies)
        rows.append(head | judged | {"passport": passport})
    return rows


def _voxel_rows(
    train: SegmentationMaps,
    test: SegmentationMaps,
    synthetic: Mapping[str, SegmentationMaps],
    case: _Case,
    splits: int,
    seed: int,
) -> list[list[dict]]:
    """Return the metrics that need no extractor: linear MMD and |delta MS-SSIM|."""
    plan = plan_similarity(train.probabilities)
    maps = torch.cat([m.probabilities for m in (train, test, *synthetic.values())])
    head = {"extractor": "voxels", "reference": case.reference}
    passport = {"floor_from": case.floor_from, "box": [list(edges) for edges in plan.box]}

    halves = [half_samples(len(case.real), times=splits, seed=seed + i) for i in range(2)]
    floor = Floor(linear_mmd_of_sets(maps, maps, case.floor, plan=plan))
    linear = []
    for made in case.made:
        drawn = [(case.real[a], made[b]) for a, b in zip(*halves, strict=True)]
        sets = [(case.real, made), *drawn]
        value, *replicates = linear_mmd_of_sets(maps, maps, sets, plan=plan)
        interval = recentered_interval(value, np.array(replicates), bounds=MMD_LINEAR.bounds)
        linear.append({"metric": MMD_LINEAR.name} | _judged(value, interval, floor, case, np.nan))

    pairs = random_pairs(len(case.real), seed=seed)
    pool = np.unique(np.concatenate([np.concatenate(rows) for rows in case.floor]))
    pooled = pair_similarity(maps, pool[random_pairs(len(pool), seed=seed)], plan=plan)
    floor = Floor(_delta_floor(pooled, len(pairs), splits, seed))
    own, delta = pair_similarity(maps[case.real], pairs, plan=plan), []
    for made in case.made:
        generated = pair_similarity(maps[made], pairs, plan=plan)
        value, *interval = delta_similarity(own, generated, seed=seed)
        delta.append({"metric": "delta_ms_ssim"} | _judged(value, interval, floor, case, np.nan))
    scales = {"scales": plan.scales, "window": plan.window, "weights": list(plan.weights)}
    return [
        [row | head | {"passport": passport} for row in linear],
        [row | head | {"passport": passport | scales} for row in delta],
    ]


def _delta_floor(pooled: np.ndarray, pairs: int, splits: int, seed: int) -> np.ndarray:
    """|difference of mean similarity| between disjoint sets of real pairs."""
    size = min(pairs, len(pooled) // 2)
    sets = disjoint_sets(len(pooled), size, size, times=splits, seed=seed)
    return np.array([abs(pooled[a].mean() - pooled[b].mean()) for a, b in sets])


def _judged(
    value: float,
    interval: tuple[float, float],
    floor: Floor,
    case: _Case,
    spread: float,
    tells_copies: bool = False,
) -> dict:
    """Return the columns of a number."""
    verdict = "within floor"
    if floor.too_good(value) and case.reference == "train":
        verdict = ALARM if tells_copies else CENTRAL
    elif floor.too_good(value):
        verdict = "below floor"
    elif floor.worse(value):
        verdict = "worse than real"
    return {
        "value": float(value),
        "low": interval[0],
        "high": interval[1],
        "sd_spaces": float(spread),
        "floor": floor.median,
        "floor_alarm": floor.alarm,
        "floor_detect": floor.detect,
        **case.sizes,
        "verdict": verdict,
    }
