"""All families at a grid that takes longer than a series: one row per family, as Markdown.

    python benchmarks/families.py --preset small --pretrain-steps 40 --finetune-steps 20

Trains what is missing on the embedded cohorts with so many batches, then compares volumes of
fresh people with ridge regression, and maps of the test participants with real ones.
"""

import argparse
import logging
import time
from dataclasses import replace
from pathlib import Path

from csegsynth_kit.analysis import quality
from csegsynth_kit.analysis.evaluate import evaluate_people
from csegsynth_kit.analysis.generate import generate
from csegsynth_kit.analysis.regression import RIDGE
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.files import write_tsv
from csegsynth_kit.show import brains, tables
from csegsynth_kit.show.study import FAMILY_NAMES, Study

log = logging.getLogger("families")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--pretrain-steps", type=int, default=40)
    parser.add_argument("--finetune-steps", type=int, default=20)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--families", nargs="+", default=list(FAMILY_NAMES))
    parser.add_argument("--out", type=Path, default=Path("runs/families"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    studies = [shortened(family, options) for family in options.families]
    for study in studies:
        for stage in ("pretrain", "finetune"):
            start = time.perf_counter()
            study.train(stage, progress=False)
            log.info("%s, %s: %.0f s", study.family, stage, time.perf_counter() - start)
    compare(studies, options)


def shortened(family: str, options: argparse.Namespace) -> Study:
    """Return a family's study with fewer batches than its preset has."""
    study = Study.open(
        out=str(options.out),
        preset_name=options.preset,
        family=family,
        prepared="data/prepared",
        seed=options.seed,
    )
    steps = {"pretrain": options.pretrain_steps, "finetune": options.finetune_steps}
    stages = {
        stage: replace(getattr(study.preset, stage), steps=n, epochs=0)
        for stage, n in steps.items()
    }
    return replace(study, preset=replace(study.preset, **stages))


def compare(studies: list[Study], options: argparse.Namespace) -> None:
    """Write volume scores, distances and the comparison figure."""
    models = {study.name: study.model() for study in studies}
    study, seed = studies[-1], options.seed
    train, valid, test = study.split("finetune")
    people, volumes = study.truth().fresh_people(options.people, seed=seed + 12345)
    start = time.perf_counter()
    result = evaluate_people(models, train, people, volumes, n=options.draws, seed=seed)
    log.info("volumes: %.0f s", time.perf_counter() - start)
    ratios = result.ratios[result.ratios["reference"] == RIDGE].set_index(["model", "tissue"])
    spread = result.spread.set_index(["model", "tissue"])
    answers = test.table[list(next(iter(models.values())).features.questions)]
    others = valid.table[answers.columns]
    made = {name: generate(model, others, seed=seed) for name, model in models.items()}
    board = quality.judge_maps(
        made, train.maps(), test.maps(), extractors=quality.extractors_from(""), seed=seed
    )
    for name in models:
        of_tissues = [(name, tissue) for tissue in MEASURED]
        cells = [
            " / ".join(
                f"{r['ratio']:.3f} [{r['ratio_low']:.3f}, {r['ratio_high']:.3f}]"
                for _, r in ratios.loc[of_tissues].iterrows()
            ),
            " / ".join(f"{s:.1f}" for s in spread.loc[of_tissues, "within_sd_ml"]),
            " / ".join(f"{s:.2f}" for s in spread.loc[of_tissues, "sd_ratio"]),
        ]
        log.info("| %s | %s |", name, " | ".join(cells))
    log.info("%s", quality.paper_table(board).T.to_string())
    chosen = tables.spread_over_age(test, 4).index[1:3]
    shown = {"real": test.maps(chosen)}
    for name, model in models.items():
        shown[name] = generate(model, answers.loc[chosen], seed=seed)
    study.save(brains.comparison(shown), "comparison")
    write_tsv(options.out / "ratios.tsv", result.ratios.set_index("model"))
    write_tsv(options.out / "board.tsv", board.set_index(board.columns[0]))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
