"""Do intervals of effects cover the truth over repeated simulated cohorts?

Tables: 200 cohorts of 400 people, ordinary least squares; 20 of them, the lasso that our models'
volumes start from, with intervals from bootstrap refits. Maps: ten cohorts of 400 people of one
simulated pool; the whole conditioning of a trained model is refitted to each, the generator staying
what it was, and intervals are those of ``refit_effects``. Cohorts beyond the size of the pool come
from another division of it and share people with the first ones.

    python benchmarks/importance_coverage.py --study runs/tiny --pool data/prepared/pool-tiny
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from scipy.stats import t as student

from csegsynth_kit.analysis.importance_refit import Refitter, refit_effects
from csegsynth_kit.analysis.importance_regression import by_partial_r2
from csegsynth_kit.analysis.importance_scores import true_importance
from csegsynth_kit.analysis.regression import regression_effects
from csegsynth_kit.analysis.truth import Truth
from csegsynth_kit.constants import MEASURED, VOLUME_COLUMNS
from csegsynth_kit.data.cohort import Cohort, load_cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.maps import GRIDS
from csegsynth_kit.metrics.volumes import resamples
from csegsynth_kit.models.calibration import volume_target
from csegsynth_kit.show.study import Study
from csegsynth_kit.simulate.cohort import simulate_cohort
from csegsynth_kit.simulate.questionnaire import COLUMNS, FEATURES, draw_participants
from csegsynth_kit.simulate.structural import ACTIVE, draw_volumes

log = logging.getLogger("importance_coverage")

_N = 400
NULLS = tuple(name for name in FEATURES if name not in ACTIVE)
TRUTH = Truth("lifespan", 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, default=Path("runs/tiny"))
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    parser.add_argument("--pool", type=Path, default=Path("data/prepared/pool-tiny"))
    parser.add_argument("--tables", type=int, default=200, help="cohorts for least squares")
    parser.add_argument("--lassos", type=int, default=20, help="cohorts for the lasso")
    parser.add_argument("--maps", type=int, default=10, help="cohorts with maps")
    parser.add_argument("--refits", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/importance_coverage.tsv"))
    options = parser.parse_args()
    log.info("%s", of_tables(options.tables).to_string())
    found = [of_lassos(options.lassos, options.refits)]
    log.info("%s", summary(found[0]).to_string())
    if options.maps:
        found.append(of_maps(options))
        log.info("%s", summary(found[1]).to_string())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(found).to_csv(options.out, sep="\t", index=False)


def cohort_of_tables(seed: int) -> Cohort:
    """Answers and volumes without maps."""
    table = draw_participants(_N, age="lifespan", seed=1000 + seed)
    volumes = draw_volumes(table, seed=1000 + seed)[list(VOLUME_COLUMNS)]
    return Cohort(Path(), table, COLUMNS, volumes, GRIDS["tiny"], {}, np.arange(_N))


def of_tables(times: int) -> pd.DataFrame:
    """Share of cohorts in which intervals and tests of least squares say the truth."""
    rows = []
    for seed in range(times):
        cohort = cohort_of_tables(seed)
        features = Features.fit(cohort.table, cohort.feature_columns)
        r2 = by_partial_r2(cohort, features, times=1)
        effects = regression_effects(cohort, features).set_index(["feature", "tissue"])
        truth = TRUTH.effects_of(cohort.table, features).set_index(["feature", "tissue"])
        known = truth["effect_ml"].reindex(effects.index)
        inside = known.between(effects["effect_low"], effects["effect_high"])
        for g, question in enumerate(r2.groups):
            for t, tissue in enumerate(MEASURED):
                row = {"null": question in NULLS, "question": question, "tissue": tissue}
                row["slope covers the truth"] = inside[question, tissue]
                row["p above .05"] = r2.p[g, t] > 0.05
                row["partial R2 from 0"] = r2.low[g, t] == 0
                rows.append(row)
    table = pd.DataFrame(rows)
    means = table.groupby("null").mean(numeric_only=True).astype(float)
    return means.assign(intervals=table.groupby("null").size())


def of_lassos(times: int, refits: int) -> pd.DataFrame:
    """Effects of the lasso, and their spread over bootstrap refits."""
    rows = []
    for seed in range(times):
        cohort = cohort_of_tables(seed)
        features = Features.fit(cohort.table, cohort.feature_columns)
        x = torch.from_numpy(features.inputs(features.encode(cohort.table)))[:, : len(FEATURES)]
        y = torch.tensor(cohort.volumes.to_numpy())
        y = (y - y.mean(0)) / y.std(0)
        sd = cohort.volumes.std().to_numpy()
        persons = np.array(cohort.ids)

        def effects(chosen, x=x, y=y, persons=persons, sd=sd) -> np.ndarray:
            target = volume_target(x[chosen], y[chosen], tuple(persons[chosen]), curved=(0,))
            return target.slopes.numpy()[: len(FEATURES)] * sd

        value = effects(np.arange(_N))
        boot = np.stack([effects(own) for own in resamples(_N, times=refits, seed=seed)])
        rows += tidy("lasso", seed, features, cohort.table, value, boot)
    return pd.DataFrame(rows)


def of_maps(options: argparse.Namespace) -> pd.DataFrame:
    """Mean gradients of a model refitted to each of several cohorts, and their spread."""
    study = Study.open(out=str(options.study), preset_name="tiny", prepared=str(options.prepared))
    model = study.model()
    if not options.pool.exists():
        simulate_cohort(options.pool, n=_N * options.maps, grid="tiny", seed=777, jobs=1)
    pool = load_cohort(options.pool)
    people = draw_participants(50, age="lifespan", seed=4321)[list(FEATURES)]
    rows = []
    for c in range(options.maps):
        cohort = pool.subset(_another_sample(pool.ids, c))
        refitted = Refitter.of(model, cohort).fit(np.arange(_N))
        found = refit_effects(refitted, cohort, people, refits=options.refits, seed=c)
        rows += tidy("model", c, model.features, people, found.values, found.resampled)
        log.info("cohort %d of %d", c + 1, options.maps)
    return pd.DataFrame(rows)


def _another_sample(ids: Sequence[str], number: int) -> list[str]:
    """Return _N of the ids: disjoint samples, then those of other divisions of the pool."""
    per_division = len(ids) // _N
    division, part = divmod(number, per_division)
    order = np.random.default_rng(division).permutation(len(ids)) if division else range(len(ids))
    return [ids[i] for i in order[part * _N : (part + 1) * _N]]


def tidy(method, cohort, features, people, value, boot) -> list[dict]:
    """One row per question and tissue: estimate, standard error, truth."""
    truth = TRUTH.effects_of(people, features).set_index(["feature", "tissue"])["effect_ml"]
    reach = student.ppf(0.975, len(boot) - 1)
    rows = []
    for g, question in enumerate(features.questions):
        for t, tissue in enumerate(MEASURED):
            se, own = boot[:, g, t].std(ddof=1), value[g, t]
            known = truth[question, tissue]
            row = {"method": method, "cohort": cohort, "question": question, "tissue": tissue}
            row |= {"null": question in NULLS, "value": own, "se": se, "truth": known}
            rows.append({**row, "covered": abs(own - known) <= reach * se})
    return rows


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Coverage, and whether the standard errors are as large as estimates really vary."""
    rows = rows.assign(error=(rows["value"] - rows["truth"]).abs(), zero=rows["value"] == 0)
    spread = rows.groupby(["null", "question", "tissue"])["value"].std().rename("real_sd")
    together = rows.groupby(["null", "question", "tissue"])["se"].mean().to_frame().join(spread)
    found = rows.groupby("null").agg(
        coverage=("covered", "mean"),
        intervals=("covered", "size"),
        mean_error=("error", "mean"),
        exactly_zero=("zero", "mean"),
    )
    between = rows.groupby(["null", "cohort"])["covered"].mean().groupby("null")
    found["coverage_se"] = between.std() / np.sqrt(between.size())
    found["mean_se"] = together.groupby("null")["se"].mean()
    found["real_sd"] = together.groupby("null")["real_sd"].mean()
    groups = {name: (name,) for name in FEATURES}
    true = pd.DataFrame(
        true_importance(TRUTH, draw_participants(2000, age="lifespan", seed=1), groups),
        index=list(FEATURES),
        columns=list(MEASURED),
    )
    ranks = [
        {
            "tissue": tissue,
            "rho": spearmanr(
                own.set_index("question")["value"].abs().loc[list(FEATURES)], true[tissue]
            )[0],
        }
        for (_, tissue), own in rows.groupby(["cohort", "tissue"])
    ]
    log.info("%s", pd.DataFrame(ranks).groupby("tissue")["rho"].agg(["mean", "std", "size"]))
    return found


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
