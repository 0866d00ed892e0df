"""How sure are a person's volumes? Conformal intervals, calibrated on people left out.

The spread of a model's draws is what the model believes. Here it becomes a promise: intervals
about the mean of the draws, as wide as it takes to hold for nine people of ten (or whatever the
level) among people the model was not fitted to. See ``metrics.conformal`` for what is promised.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from csegsynth_kit.analysis.comparable import require_comparable
from csegsynth_kit.analysis.generate import People, checked_people, predict_shared_volumes
from csegsynth_kit.analysis.regression import LASSO, fit_baseline, left_out_errors
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.files import write_json
from csegsynth_kit.errors import CohortError, ConfigError, RunError
from csegsynth_kit.metrics.conformal import (
    conformal_quantile,
    expected_coverage,
    least_people,
    normalized_scores,
    observed_coverage,
    with_joint,
)
from csegsynth_kit.models import Family

#: Every tissue by itself, and all of them at once.
COVERED = (*MEASURED, "all three")
LEVELS = (0.8, 0.9, 0.95)
_DIGITS = 6


@dataclass(frozen=True)
class Intervals:
    """Conformal intervals of a model's volumes.

    They hold for people like those they were calibrated on, who answered the same questions;
    nobody promises that they hold within every group of them: see :meth:`coverage`.

    Args:
        model: The model whose draws they lie about.
        scores: (n, 4) scores of the people left out, each column in ascending order.
        asked: Questions whose answers are used; all others count as unanswered.
        draws: Draws whose mean and SD are taken; everybody has the same latents.
        seed: Of the latents.
        people: How many of the people left out are ``valid`` and how many ``train``.
        scaled: Whether widths follow the SD of a person's draws; else they are the same for all.
        ratios: Per tissue, the error of the model over that of the lasso on validation people,
            by which scores of training participants were multiplied; empty without these.
    """

    model: Family
    scores: np.ndarray
    asked: tuple[str, ...]
    draws: int
    seed: int
    people: Mapping[str, int]
    scaled: bool = False
    ratios: tuple[float, ...] = ()

    @property
    def statement(self) -> str:
        """Whom they were calibrated on, and what expected ranges of coverage leave out."""
        counted = ", ".join(f"{n} {part}" for part, n in self.people.items())
        if not self.ratios:
            return f"calibrated on {counted}"
        return (
            f"calibrated on {counted}; expected ranges of coverage take the ratio of errors for "
            f"known, though {self.people['valid']} people tell it, and are too short by that"
        )

    @classmethod
    def calibrate(
        cls,
        model: Family,
        valid: Cohort,
        *,
        train: Cohort | None = None,
        asked: Sequence[str] | None = None,
        scaled: bool = False,
        draws: int = 16,
        seed: int = 0,
    ) -> "Intervals":
        """Calibrate on people the model was not fitted to, one row of each.

        With ``valid`` alone this is split-conformal prediction: right on average over samples
        of validation participants, whatever the model, but of 50 people a particular sample may
        be off by 4 to 6 points (one SD).

        With ``train``, training participants count as well, each left out of a lasso that is
        fitted to the others (cross-conformal: Barber et al. 2021, doi:10.1214/20-AOS1965). The
        model itself saw them; so their errors are the lasso's, multiplied by the ratio of the
        model's to the lasso's mean error on validation people, whom neither saw. (Validation
        people count with their lasso errors as well: scores must all be of one kind.) This is right
        as far as errors of model and lasso are distributed alike but for their size. Our
        presets start from that lasso.

        Args:
            model: A trained conditional model.
            valid: Validation participants: that some epoch was chosen on them matters little.
            train: The model's training participants.
            asked: Questions that will be asked; all by default. Intervals of people who leave
                questions out are right only if these were left out here, too.
            scaled: Whether a person's interval shall be wider where that person's draws differ
                more. What is promised to everybody together is the same; which of the two is
                nearer to the level within groups, :meth:`coverage` tells.
            draws: Draws whose mean and SD are taken.
            seed: Of latents and folds.

        Raises:
            CohortError: if the model was trained on others than ``train``, or cohorts share
                participants or count CSF differently.
            TableError: for unknown questions.
        """
        _require_same_csf(model, valid)
        if train is not None:
            require_comparable({"the model": model}, train, valid)
        asked = model.features.questions if asked is None else tuple(asked)
        empty = cls(model, np.empty((0, len(COVERED))), asked, draws, seed, {}, scaled)
        valid = valid.one_scan_each()
        own = empty._scores(valid.table, valid.volumes.to_numpy())
        if train is None:
            return empty._with(own, {"valid": len(valid)}, ())
        features = Features.fit(train.table, [model.features.column(name) for name in asked])
        lasso = fit_baseline(LASSO, train, features, seed=seed)(valid.table)
        _, sd = empty._moments(valid.table)
        theirs = normalized_scores(valid.volumes.to_numpy(), lasso, sd)
        ratios = own.mean(axis=0) / theirs.mean(axis=0)
        train = train.one_scan_each()
        errors = left_out_errors(train, features, name=LASSO, seed=seed)
        left_out = normalized_scores(errors, np.zeros_like(errors), empty._moments(train.table)[1])
        scores = ratios * np.concatenate([theirs, left_out])
        return empty._with(scores, {"valid": len(valid), "train": len(train)}, ratios)

    def of(self, people: People, level: float = 0.9, *, together: bool = False) -> pd.DataFrame:
        """Return each person's interval for every tissue.

        Args:
            people: Answers, as in ``generate``; those to questions not in ``asked`` are ignored.
            level: How often an interval shall hold.
            together: Whether the three intervals of a person shall hold at once; each then
                holds more often.

        Returns:
            ``person`` (label of the row), ``tissue``, ``mean_ml`` of the draws, ``low_ml``,
            ``high_ml`` (not below 0), ``level``, ``n`` people calibrated on, ``unanswered``: how
            many of the questions asked this person leaves out, and ``extrapolated``: those
            whose answer no training participant gave or reached, where nothing is promised.

        Raises:
            ConfigError: if there were too few people for the level.
        """
        table, _ = checked_people(self.model, people)
        width = conformal_quantile(self.scores, level)
        width = np.full(len(MEASURED), width[-1]) if together else width[:-1]
        mean, sd = self._moments(table)
        answers = table[list(self.asked)]
        values = {
            "mean_ml": mean,
            "low_ml": np.maximum(mean - width * sd, 0),
            "high_ml": mean + width * sd,
        }
        index = pd.MultiIndex.from_product([table.index, MEASURED], names=["person", "tissue"])
        flat = {name: value.reshape(-1) for name, value in values.items()}
        result = pd.DataFrame(flat, index=index).reset_index()
        about = {
            "unanswered": answers.isna().sum(axis=1).to_numpy(),
            "extrapolated": _extrapolated(self.model, answers),
        }
        repeated = {name: np.repeat(values, len(MEASURED)) for name, values in about.items()}
        return result.assign(level=level, n=len(self.scores), **repeated)

    def coverage(
        self,
        people: pd.DataFrame,
        volumes: np.ndarray,
        *,
        levels: Sequence[float] = LEVELS,
        by: Sequence[str] = ("age", "sex"),
    ) -> pd.DataFrame:
        """Count how often intervals hold, among everybody and within groups.

        Args:
            people: (N rows) answers of people nothing was fitted to, one row of each.
            volumes: (N, 3) their volumes (mL).
            levels: Those for which there were too few people are left out.
            by: Questions that make groups: thirds of numbers, or the answers. Those that nobody
                was asked are left out.

        Returns:
            One row per ``level``, ``group`` (``everybody`` first) and ``tissue`` (and
            ``all three`` at once): ``covered``, the share of people inside, its 95 % interval
            ``covered_low`` and ``covered_high`` (Wilson), ``n`` people, and the 95 % range
            ``expected_low`` to ``expected_high`` of that share if intervals are right on
            average, given how few people were calibrated on and counted. If training people
            count, that range leaves out how unsure ``ratios`` are, and is too short by it.
        """
        scores = with_joint(self._scores(people, np.asarray(volumes, float)))
        return coverage_table(self.scores, scores, people, levels=levels, by=by)

    def save(self, path: Path | str) -> Path:
        """Write everything but the model as JSON; no row of it is one person's."""
        content = {
            "train": self.model.card["train"],
            "scores": dict(zip(COVERED, self.scores.T.round(_DIGITS).tolist(), strict=True)),
            "asked": list(self.asked),
            "draws": self.draws,
            "seed": self.seed,
            "people": dict(self.people),
            "scaled": self.scaled,
            "ratios": list(self.ratios),
        }
        write_json(Path(path), content)
        return Path(path)

    @classmethod
    def load(cls, path: Path | str, model: Family) -> "Intervals":
        """Read what :meth:`save` wrote, for the same model.

        Raises:
            RunError: if the intervals are of a model with other training participants.
        """
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        if stored["train"] != model.card["train"]:
            raise RunError(
                "holds intervals of a model with other training participants",
                "Calibrate intervals for this model.",
                path,
            )
        scores = np.array([stored["scores"][name] for name in COVERED]).T
        names = ("draws", "seed", "people", "scaled")
        kept = {name: stored[name] for name in names}
        return cls(model, scores, tuple(stored["asked"]), ratios=tuple(stored["ratios"]), **kept)

    def _with(self, scores: np.ndarray, people: dict, ratios: Sequence[float]) -> "Intervals":
        # Each column by itself: nobody's three scores can be read off together.
        ordered = np.sort(with_joint(scores), axis=0)
        own = tuple(float(ratio) for ratio in ratios)
        return replace(self, scores=ordered, people=people, ratios=own)

    def _scores(self, people: pd.DataFrame, volumes: np.ndarray) -> np.ndarray:
        return normalized_scores(volumes, *self._moments(people))

    def _moments(self, people: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return (N, 3) mean and scale (mL) of the draws of people who answer what is asked."""
        for name in self.asked:
            self.model.features.column(name)
        answers = people.reindex(columns=list(self.asked))
        if self.draws < 2:
            raise ConfigError(f"there are {self.draws} draws", "Two are the least; 16 are usual.")
        drawn = predict_shared_volumes(self.model, answers, n=self.draws, seed=self.seed)
        mean, sd = drawn.mean(axis=1), drawn.std(axis=1, ddof=1)
        if not self.scaled:  # Tissues keep a scale of their own, for their joint score.
            sd = np.broadcast_to(self.model.volume_sd_ml.double().cpu().numpy(), sd.shape)
        return mean, sd


def coverage_table(
    calibrated: np.ndarray,
    scores: np.ndarray,
    people: pd.DataFrame,
    *,
    levels: Sequence[float] = LEVELS,
    by: Sequence[str] = ("age", "sex"),
) -> pd.DataFrame:
    """Count how many of (N, 4) ``scores`` lie within quantiles of the (n, 4) ``calibrated``.

    Columns of both are COVERED. Everything else as in :meth:`Intervals.coverage`.
    """
    groups = {"everybody": np.ones(len(people), bool)}
    for name in (one for one in by if one in people):
        groups |= _groups(people[name], name)
    n, rows = len(calibrated), []
    for level in (one for one in levels if least_people(one) <= n):
        width = conformal_quantile(calibrated, level)
        for group, members in groups.items():
            _, *expected = expected_coverage(n, level, tested=members.sum())
            for i, tissue in enumerate(COVERED):
                share = observed_coverage(scores[members, i] <= width[i])
                rows.append((level, group, tissue, *share, members.sum(), *expected))
    covered = ["covered", "covered_low", "covered_high"]
    columns = ["level", "group", "tissue", *covered, "n", "expected_low", "expected_high"]
    return pd.DataFrame(rows, columns=columns)


def _require_same_csf(model: Family, cohort: Cohort) -> None:
    if model.card["csf_definition"] != cohort.csf_definition:
        raise CohortError(
            f"counts CSF as {cohort.csf_definition!r}, the model as "
            f"{model.card['csf_definition']!r}",
            "Calibrate on people measured like the training participants.",
            cohort.path,
        )


def _extrapolated(model: Family, answers: pd.DataFrame) -> np.ndarray:
    """Name the questions, (N,) as text, whose answers lie outside those of training."""
    found = model.features.outside_support(answers.reset_index(drop=True)).groupby("row")
    named = found["feature"].agg(", ".join)
    return named.reindex(range(len(answers)), fill_value="").to_numpy(object)


def _groups(answers: pd.Series, name: str) -> dict[str, np.ndarray]:
    """Name groups of people to (N,) membership: thirds of numbers, else one per answer."""
    if not pd.api.types.is_numeric_dtype(answers):
        return {f"{name}: {a}": (answers == a).to_numpy() for a in sorted(set(answers.dropna()))}
    cuts = np.unique(np.nanquantile(answers, [0, 1 / 3, 2 / 3, 1]))
    groups = {}
    for i, (low, high) in enumerate(pairwise(cuts)):
        above = answers >= low if i == 0 else answers > low
        groups[f"{name} {low:.3g} to {high:.3g}"] = (above & (answers <= high)).to_numpy()
    return groups
