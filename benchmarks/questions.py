"""What each question buys, on fresh simulated people.

Prints Markdown tables: the fall of the error with each answer; the error against the number of
questions, of the model and of ridge regression refitted to these questions.

    python benchmarks/questions.py --out runs/tiny
"""

import logging

import pandas as pd
from studies import markdown, open_study, study_parser

from csegsynth_kit.analysis.questions import (
    LOSSES,
    MODEL,
    REFITTED,
    question_curve,
    question_order,
    question_values,
)
from csegsynth_kit.constants import MEASURED

log = logging.getLogger("questions")
FRESH = 12345
GROUPS = {
    "IST (three scales)": ["IST_fluid", "IST_memory", "IST_crystallised"],
    "personality (NEO, STAI)": ["NEO_N", "NEO_E", "NEO_O", "NEO_A", "NEO_C", "STAI_T"],
    "education and SES": ["education_level", "background_SES"],
    "lifestyle": ["smoking", "alcohol", "activity", "BMI"],
}


def main() -> None:
    parser = study_parser(__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--steps", type=int, nargs="+", help="questions of the curve; default all")
    parser.add_argument("--valued", type=int, default=1000, help="people for single questions")
    options = parser.parse_args()
    study = open_study(options)
    train, _, _ = study.split("finetune")
    model = study.model()
    people, volumes = study.truth().fresh_people(options.people, seed=study.seed + FRESH)
    questions = model.features.questions
    groups = {n: own for n, own in GROUPS.items() if set(own) <= set(questions)}
    options.tables.mkdir(parents=True, exist_ok=True)
    log.info("%s, %d training participants", options.out, len(train))
    order = question_order(train, model.features)
    curve = question_curve(
        model, train, people, volumes, order, steps=options.steps, draws=options.draws
    )
    curve.to_csv(options.tables / f"curve-{study.out.name}.tsv", sep="\t", index=False)
    log.info("\n%s", markdown(steps(curve, order)))
    if not options.valued:
        return
    people, volumes = people.iloc[: options.valued], volumes[: options.valued]
    values = question_values(model, people, volumes, groups=groups, draws=options.draws)
    values.to_csv(options.tables / f"values-{study.out.name}.tsv", sep="\t", index=False)
    for what in ("in_full_ml", "beside_base_ml", "alone_ml"):
        log.info("\n%s\n%s", what, markdown(gains(values, what)))


def steps(curve: pd.DataFrame, order: pd.DataFrame) -> pd.DataFrame:
    """One row per step: what is added, both errors, and their ratio."""
    rows = []
    for step in order[order["questions"].isin(curve["questions"])].itertuples():
        own = curve[curve["questions"] == step.questions].set_index(["predictor", "tissue"])
        row = {"questions": step.questions, "added": step.added, "expected": step.unexplained}
        row["expected"] = f"{step.unexplained:.3f}"
        for name in (MODEL, REFITTED):
            maes = own.loc[name]["mae_ml"][list(MEASURED)]
            row[f"{name}, MAE (mL)"] = " / ".join(f"{v:.1f}" for v in maes)
        ratios = own.loc[MODEL].loc[list(MEASURED)]
        row["ratio"] = " / ".join(
            f"{r.ratio:.3f} [{r.ratio_low:.3f}, {r.ratio_high:.3f}]" for r in ratios.itertuples()
        )
        rows.append(row)
    return pd.DataFrame(rows)


def gains(values: pd.DataFrame, what: str) -> pd.DataFrame:
    """One row per question, the most valuable first."""
    cells = values.assign(
        cell=[
            f"{r[what]:.2f} [{r[f'{what}_low']:.2f}, {r[f'{what}_high']:.2f}]"
            for r in values.to_dict("records")
        ]
    )
    wide = cells.pivot(index="question", columns="tissue", values="cell")[list(LOSSES)]
    whole = values[values["tissue"] == "all three"].set_index("question")[what]
    return wide.loc[whole.sort_values(ascending=False).index].reset_index()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
