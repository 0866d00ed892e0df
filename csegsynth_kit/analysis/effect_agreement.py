"""Do a model's effect maps agree with what a voxelwise regression finds in the real maps?

The general linear model of every voxel's tissue shares, with the model's answers as regressors,
is the field's conventional answer to where an answer matters. It is fitted to people, so it is
noisy; how well two halves of the people agree with each other is the floor by which the
agreement of a model must be read.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from statsmodels.stats.multitest import fdrcorrection

from csegsynth_kit.analysis.comparable import require_same_csf, require_trained_alike
from csegsynth_kit.analysis.design import regressors
from csegsynth_kit.analysis.effect_maps import Contrast, EffectMaps, effect_maps
from csegsynth_kit.analysis.importance_refit import Refitter
from csegsynth_kit.constants import MEASURED, TISSUES
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.folds import folds_of
from csegsynth_kit.errors import CohortError, ConfigError
from csegsynth_kit.maps import Grid, dequantize
from csegsynth_kit.metrics.resampling import recentered_interval
from csegsynth_kit.models import Family

_CHUNK = 64
#: Groups of people from which halves are put together.
_FOLDS = 20
#: Mean share of brain and CSF from which a voxel counts.
_LEAST_SHARE = 0.5
#: False discovery rate, and share of the mask that is compared as the strongest voxels.
_FDR, _STRONGEST = 0.05, 0.10


@dataclass(frozen=True)
class VoxelGLM:
    """Sufficient statistics of voxelwise least squares, by groups of people.

    Args:
        encoded: (P,) encoded column of each regressor, see ``design``.
        mask: (X, Y, Z) bool, voxels that are compared.
        cross: (K, P, P) X'X of each group.
        mixed: (K, P, 3, V) X'y of each group, over the voxels of the mask.
        squared: (K, 3, V) y'y of each group.
        counts: (K,) people per group.
        group: Group of each person.
        grid: Voxels of the maps.
        card: ``csf_definition`` and ``simulated`` of the maps, and ``train``, the fingerprint of
            the participants.
    """

    encoded: np.ndarray
    mask: np.ndarray
    cross: np.ndarray
    mixed: np.ndarray
    squared: np.ndarray
    counts: np.ndarray
    group: pd.Series
    grid: Grid
    card: dict

    @classmethod
    def of(cls, model: Family, train: Cohort, *, seed: int = 0) -> "VoxelGLM":
        """Read the maps once; of each person the first counts.

        Regressors are those of ``design.regressors``.

        Args:
            model: Whose answers are the regressors.
            train: Its training participants.
            seed: Of the groups.

        Raises:
            CohortError: if the model was trained on others, or counts CSF differently.
            ConfigError: if the model takes no answers.
        """
        require_trained_alike({"the model": model}, train)
        require_same_csf({"the model": model}, train)
        cohort = train.one_scan_each()
        x, encoded = regressors(model.features, cohort.table)
        fold = folds_of(cohort.persons, _FOLDS, seed=seed)
        quantized = torch.from_numpy(cohort.quantized())
        mean = sum(part.float().sum(0) for part in quantized.split(_CHUNK)) / (255 * len(quantized))
        mask = mean.sum(0) >= _LEAST_SHARE
        groups = range(fold.max() + 1)
        statistics = []
        for k in groups:
            y = dequantize(quantized[torch.from_numpy(fold == k)])[:, : len(MEASURED), mask]
            y, own = y.double().numpy(), x[fold == k]
            statistics.append(
                (own.T @ own, np.einsum("np,ntv->ptv", own, y, optimize=True), (y**2).sum(0))
            )
        cross, mixed, squared = (np.stack(parts) for parts in zip(*statistics, strict=True))
        counts = np.bincount(fold, minlength=len(groups))
        group = pd.Series(fold, index=cohort.persons.to_numpy())
        card = {"csf_definition": cohort.csf_definition, "simulated": cohort.simulated}
        card["train"] = train.fingerprint
        return cls(encoded, mask.numpy(), cross, mixed, squared, counts, group, cohort.grid, card)

    def fit(
        self, contrast: np.ndarray, groups: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Estimate a contrast of the slopes at every voxel.

        Args:
            contrast: (P,) weights of the slopes.
            groups: Which groups of people; all by default.

        Returns:
            (3, V) estimates, (3, V) t values, and residual degrees of freedom.
        """
        groups = np.arange(len(self.counts)) if groups is None else groups
        cross = self.cross[groups].sum(axis=0)
        mixed, squared = self.mixed[groups].sum(axis=0), self.squared[groups].sum(axis=0)
        inverse = np.linalg.pinv(cross, hermitian=True)
        slopes = np.einsum("pq,qtv->ptv", inverse, mixed)
        left = squared - np.einsum("ptv,ptv->tv", slopes, mixed)
        freedom = int(self.counts[groups].sum()) - np.linalg.matrix_rank(cross, hermitian=True)
        estimate = np.einsum("p,ptv->tv", contrast, slopes)
        variance = left.clip(min=0) / freedom * (contrast @ inverse @ contrast)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(variance > 0, estimate / np.sqrt(variance), 0.0)
        return estimate, t, int(freedom)

    def effect_maps(self, contrast: Contrast) -> EffectMaps:
        """Lay the estimates of a contrast out as maps, 0 outside the mask."""
        estimate, _, _ = self.fit(slopes_of(contrast, self.encoded))
        change = torch.zeros(len(TISSUES), *self.mask.shape)
        change[: len(MEASURED), torch.from_numpy(self.mask)] = torch.from_numpy(estimate).float()
        change[-1] = -change[: len(MEASURED)].sum(0)
        n = int(self.counts.sum())
        return EffectMaps(change, self.grid, contrast, n, 0, self.card, source="regression")

    def masked(self, effects: EffectMaps) -> EffectMaps:
        """Set effects to 0 outside the mask, where they are not compared."""
        return replace(effects, change=effects.change * torch.from_numpy(self.mask))

    def halves(self, times: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Split the groups of people into two halves, several times."""
        rng = np.random.default_rng(seed)
        k = len(self.counts)
        orders = [rng.permutation(k) for _ in range(times)]
        return [(order[: k // 2], order[k // 2 :]) for order in orders]


def slopes_of(contrast: Contrast, encoded: np.ndarray) -> np.ndarray:
    """Return the weights of the slopes that give a contrast, at the mean age.

    Args:
        contrast: Of one question.
        encoded: (P,) encoded column of each regressor.
    """
    change = dict(zip(contrast.columns, contrast.high - contrast.low, strict=True))
    return np.array([change.get(column, 0.0) for column in encoded])


def effect_agreement(
    effects: EffectMaps,
    glm: VoxelGLM,
    *,
    splits: int = 20,
    seed: int = 0,
    refitter: Refitter | None = None,
    people: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Compare effect maps with a regression of the real maps, beside what halves agree.

    Args:
        effects: Of a model.
        glm: Of real maps on the same grid, with the model's features.
        splits: Splits of the people into halves.
        seed: Of the splits.
        refitter: With it, the model is also refitted on one half and compared with the
            regression of the other, so that both see different people, in ``splits`` splits;
            encoder and generator have seen both.
        people: Answers at which a refitted model's effects are taken.

    Returns:
        Per ``comparison`` and tissue, over ``voxels``: ``r`` of the maps of effects, with its
        95 % interval, ``r_t`` of the effects with the regression's t map, ``same_sign``, the
        share of the ``significant`` voxels (false discovery rate 5 % in the regression) with
        the same sign, ``slope`` of the model's effects on the regression's, ``dice`` of the 10 %
        strongest voxels of both (0.1 by chance), and ``n`` people of the regression. Intervals:
        of the model on all, from half-samples (the delete-half jackknife); of halves, the
        percentiles over splits, which are not independent.

    Raises:
        ConfigError: if the maps have other voxels than the regression.
        CohortError: if they are of a model with other training participants or another CSF.
    """
    if effects.change.shape[1:] != glm.mask.shape:
        raise ConfigError(
            f"effects have shape {tuple(effects.change.shape[1:])}, the maps {glm.mask.shape}",
            "Compare on one grid.",
        )
    _require_same_people(effects, glm, refitter)
    contrast = slopes_of(effects.contrast, glm.encoded)
    fits = [[glm.fit(contrast, half) for half in halves] for halves in glm.halves(splits, seed)]
    own, whole = _masked(effects, glm), glm.fit(contrast)
    n = int(glm.counts.sum())
    with_all = _compare(own, whole)
    against_halves = np.stack([_compare(own, first) for first, _ in fits])
    between = np.stack([_compare(first[0], second) for first, second in fits])
    rows = [
        *_rows("model, regression", with_all, against_halves, n, recentered=True),
        *_rows("model, regression on a half", None, against_halves, n // 2),
        *_rows("regression on a half, on the other", None, between, n // 2),
    ]
    if refitter is not None:
        apart = _refitted(effects, glm, refitter, people, contrast, splits, seed)
        rows += _rows("model of a half, regression on the other", None, apart, n // 2)
    return pd.DataFrame(rows).assign(voxels=int(glm.mask.sum()))


def _require_same_people(effects: EffectMaps, glm: VoxelGLM, refitter: Refitter | None) -> None:
    """Check that effects, regression and refits are of one training sample, measured alike."""
    for key in ("train", "csf_definition"):
        if effects.card[key] not in (None, glm.card[key]):
            raise CohortError(
                f"effects are of a model whose {key} is {effects.card[key]!r}, the regression's "
                f"is {glm.card[key]!r}",
                "Make the regression of the model's own participants: VoxelGLM.of(model, train).",
            )
    strangers = set() if refitter is None else set(refitter.persons) - set(glm.group.index)
    if strangers:
        raise CohortError(
            f"{len(strangers)} persons of the refitter are not in the regression",
            "Make both of the same training participants.",
        )


_STATISTICS = ("r", "r_t", "same_sign", "significant", "slope", "dice")


def _compare(effect: np.ndarray, fit: tuple[np.ndarray, np.ndarray, int]) -> np.ndarray:
    """Return the (3, 6) _STATISTICS of (3, V) effects and a regression, per tissue."""
    return np.array([_agreement(*maps, fit[2]) for maps in zip(effect, *fit[:2], strict=True)])


def _agreement(effect: np.ndarray, slope: np.ndarray, t: np.ndarray, freedom: int) -> tuple:
    """Compare (V,) effects of one tissue with slopes and t values of a regression."""
    found, _ = fdrcorrection(2 * student.sf(np.abs(t), freedom), alpha=_FDR)
    same = (np.sign(effect) == np.sign(slope))[found].mean() if found.any() else np.nan
    strongest = max(1, round(_STRONGEST * len(effect)))
    first, second = (np.argsort(-np.abs(m), kind="stable")[:strongest] for m in (effect, slope))
    dice = len(np.intersect1d(first, second)) / strongest
    scale = (effect @ slope) / (slope @ slope)
    r, r_t = (np.corrcoef(effect, other)[0, 1] for other in (slope, t))
    return r, r_t, same, found.mean(), scale, dice


def _masked(effects: EffectMaps, glm: VoxelGLM) -> np.ndarray:
    return effects.change[: len(MEASURED)].double().numpy()[:, glm.mask]


def _refitted(effects, glm, refitter, people, contrast, splits, seed) -> np.ndarray:
    """Compare models refitted on one half with regressions of the other: (splits, 3, 6)."""
    fold = glm.group.loc[refitter.persons].to_numpy()
    found = []
    for first, second in glm.halves(splits, seed):
        model = refitter.fit(np.flatnonzero(np.isin(fold, first)))
        question, draws = effects.contrast.question, effects.draws
        maps = effect_maps(model, people, question, draws=draws, seed=seed)
        found.append(_compare(_masked(maps, glm), glm.fit(contrast, second)))
    return np.stack(found)


def _rows(
    comparison: str,
    values: np.ndarray | None,
    replicates: np.ndarray,
    n: int,
    *,
    recentered: bool = False,
) -> list[dict]:
    """Lay out (3, 6) statistics and (splits, 3, 6) replicates; means of these without values."""
    values = _mean_of_known(replicates) if values is None else values
    rows = []
    for t, tissue in enumerate(MEASURED):
        r = replicates[:, t, 0]
        if recentered:
            low, high = recentered_interval(values[t, 0], r, bounds=(-1, 1))
        else:
            low, high = np.percentile(r, [2.5, 97.5])
        row = {"comparison": comparison, "tissue": tissue, "r": values[t, 0]}
        row |= {"r_low": low, "r_high": high}
        row |= dict(zip(_STATISTICS[1:], values[t, 1:], strict=True))
        rows.append({**row, "n": n})
    return rows


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Average over the first axis what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    count, total = known.sum(axis=0), np.where(known, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
