"""How well does each importance method find the planted truth?

Rank correlation of every method with the true importance of the questions, per tissue, for
studies with trained models of the simulated lifespan cohort; fresh people, nobody of whom was
trained on.

    python benchmarks/importance_truth.py 400:runs/tiny 1600:runs/large:data/prepared/large
"""

import argparse
import logging
from pathlib import Path

import pandas as pd

from csegsynth_kit.analysis.importance_groups import Groups, single_questions
from csegsynth_kit.analysis.importance_methods import (
    by_gradient,
    by_integrated_gradients,
    by_permutation,
)
from csegsynth_kit.analysis.importance_refit import refit_effects
from csegsynth_kit.analysis.importance_regression import by_partial_r2
from csegsynth_kit.analysis.importance_sanity import randomization_check
from csegsynth_kit.analysis.importance_scores import (
    Importance,
    agreement_with_truth,
    importance_table,
    rank_stability,
    true_importance,
)
from csegsynth_kit.show.study import Study

log = logging.getLogger("importance_truth")

#: Questions that belong together by what they ask.
GROUPS = {
    "IST": ("IST_fluid", "IST_memory", "IST_crystallised"),
    "anxiety": ("NEO_N", "STAI_T"),
    "personality": ("NEO_E", "NEO_O", "NEO_A", "NEO_C"),
    "background": ("education_level", "background_SES"),
    "body": ("BMI", "smoking", "alcohol", "activity"),
    "age": ("age",),
    "sex": ("sex",),
    "handedness": ("handedness",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+", help="name:folder of results[:cohort]")
    parser.add_argument("--prepared", default="data/prepared")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--refits", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/importance_truth"))
    options = parser.parse_args()
    for named in options.studies:
        name, out, *cohort = named.split(":")
        study = Study.open(
            out=out,
            preset_name="tiny",
            prepared=options.prepared,
            finetune_cohort=cohort[0] if cohort else "",
        )
        for kind, table in measured(study, options).items():
            path = options.out / f"{name}_{kind}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(path, sep="\t", index=False)
            log.info("%s, %s\n%s", name, kind, table.round(3).to_string(index=False))


def measured(study: Study, options: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Every method beside the truth, by question and by group, and the sanity check."""
    model, (train, _, _), seed = study.model(), study.split("finetune"), options.seed
    truth = study.truth()
    people, volumes = truth.fresh_people(options.people, seed=seed + 98765)
    people = people[list(model.features.questions)]
    tables = {}
    for kind, groups in (("questions", single_questions(model.features)), ("groups", GROUPS)):
        found = _methods(study, train, people, volumes, groups, options)
        true = true_importance(truth, people, groups)
        tables[f"{kind}_truth"] = agreement_with_truth(found, true)
        tables[f"{kind}_stability"] = rank_stability(found)
        tables[f"{kind}_values"] = importance_table(found)
    tables["randomization"] = randomization_check(model, people.head(50), seed=seed)
    return tables


def _methods(study, train, people, volumes, groups: Groups, options) -> list[Importance]:
    model, seed = study.model(), options.seed
    over_training = refit_effects(
        model, train, people.head(50), groups=groups, refits=options.refits, seed=seed
    )
    return [
        by_gradient(model, people, groups=groups, draws=2, seed=seed),
        over_training,
        by_integrated_gradients(model, people, groups=groups, seed=seed),
        *by_permutation(model, people, volumes, groups=groups, draws=2, seed=seed),
        by_partial_r2(train, model.features, groups=groups, seed=seed),
    ]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
