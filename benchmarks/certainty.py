"""How often conformal intervals hold, on fresh simulated people.

Prints Markdown tables: coverage of split-conformal intervals (validation people alone) and of
those that count training people as well; the worst group; how coverage scatters over repeated
calibrations on as few people; and where a person's spread comes from, beside the truth.

    python benchmarks/certainty.py --out runs/tiny
"""

import logging

import numpy as np
import pandas as pd
from studies import markdown, open_study, study_parser

from csegsynth_kit.analysis.certainty import COVERED, LEVELS, Intervals, coverage_table
from csegsynth_kit.analysis.generate import predict_shared_volumes
from csegsynth_kit.analysis.spread import decompose_spread
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.metrics.conformal import (
    conformal_quantile,
    expected_coverage,
    normalized_scores,
    with_joint,
)
from csegsynth_kit.show.certainty import wide_coverage

log = logging.getLogger("certainty")
#: Of the fresh people, as notebook 4 has it.
FRESH = 12345
_DRAWS, _REPEATS = 16, 1000


def main() -> None:
    options = study_parser(__doc__.splitlines()[0]).parse_args()
    study = open_study(options)
    train, valid, _ = study.split("finetune")
    model, truth = study.model(), study.truth()
    people, volumes = truth.fresh_people(options.people, seed=study.seed + FRESH)
    log.info("%s, %d training, %d validation", options.out, len(train), len(valid))
    drawn = predict_shared_volumes(model, people[list(model.features.questions)], n=_DRAWS)
    scores = with_joint(normalized_scores(volumes, drawn.mean(axis=1), drawn.std(axis=1, ddof=1)))
    options.tables.mkdir(parents=True, exist_ok=True)
    for name, others in {"validation": None, "validation and training": train}.items():
        # Scores below are in units of each person's spread of draws, as these are.
        intervals = Intervals.calibrate(model, valid, train=others, scaled=True, draws=_DRAWS)
        table = coverage_table(intervals.scores, scores, people)
        file = f"coverage-{study.out.name}-{name.replace(' ', '-')}.tsv"
        table.to_csv(options.tables / file, sep="\t", index=False)
        log.info("\n%s: %s; ratios %s", name, intervals.statement, intervals.ratios)
        log.info("%s", markdown(wide_coverage(table)))
        log.info("\n%s", markdown(worst(table)))
    log.info("\n%s", markdown(scatter(scores, len(valid))))
    log.info("\n%s", markdown(parts(model, train, people, truth)))


def worst(table: pd.DataFrame) -> pd.DataFrame:
    """The group farthest below its level, by level and tissue."""
    groups = table[table["group"] != "everybody"].copy()
    lowest = groups.loc[groups.groupby(["level", "tissue"], sort=False)["covered"].idxmin()]
    columns = ["level", "tissue", "group", "covered", "covered_low", "covered_high", "n"]
    return lowest[columns].round(3)


def scatter(scores: np.ndarray, n: int) -> pd.DataFrame:
    """Calibrate on n random people again and again, and count among all others."""
    rng, rows = np.random.default_rng(0), []
    for level in LEVELS:
        shares = []
        for _ in range(_REPEATS):
            order = rng.permutation(len(scores))
            width = conformal_quantile(scores[order[:n]], level)
            shares.append((scores[order[n:]] <= width).mean(axis=0))
        _, low, high = expected_coverage(n, level)
        shares = 100 * np.array(shares)
        row = {"nominal": level, "calibrated on": n}
        for i, tissue in enumerate(COVERED):
            near = (np.abs(shares[:, i] - 100 * level) <= 3).mean()
            row[tissue] = (
                f"{shares[:, i].mean():.1f} +- {shares[:, i].std():.1f} ({100 * near:.0f} %)"
            )
        rows.append({**row, "Beta, 95 %": f"{100 * low:.1f} to {100 * high:.1f}"})
    return pd.DataFrame(rows)


def parts(model, train, people, truth) -> pd.DataFrame:
    """Spread of one person who answers all or two questions, beside the truth (mL)."""
    person = people[list(model.features.questions)].iloc[0].to_dict()
    asked = {"all": list(person), "age, sex": ["age", "sex"]}
    many, _ = truth.fresh_people(20000, seed=1)
    expected = truth.predict(many)
    rows = []
    for name, questions in asked.items():
        known = {q: person[q] for q in questions}
        table = decompose_spread(model, known, train)
        alike = np.ones(len(many), bool)
        if "age" in known:
            alike = (np.abs(many["age"] - known["age"]) < 2) & (many["sex"] == known["sex"])
        open_sd = np.zeros(3) if name == "all" else expected[alike].std(axis=0)
        true = {
            "unanswered questions": open_sd,
            "people with the same answers": truth.floor()["sd_ml"],
        }
        for part, own in table.groupby("part", sort=False):
            sd = own.set_index("tissue")["sd_ml"][list(MEASURED)]
            known_sd = true.get(part)
            rows.append(
                {
                    "answers": name,
                    "part": part,
                    "SD (mL)": " / ".join(f"{v:.1f}" for v in sd),
                    "true SD": "" if known_sd is None else " / ".join(f"{v:.1f}" for v in known_sd),
                }
            )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
