"""Which study a benchmark measures: options shared by several of them."""

import argparse
from pathlib import Path

import pandas as pd

from csegsynth_kit.show.study import Study


def study_parser(description: str) -> argparse.ArgumentParser:
    """Options that name a trained study."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", default="runs/tiny", help="folder of the study")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--family", default="csegsynth")
    parser.add_argument("--pretrain", default="", help="prepared cohort; empty for the embedded")
    parser.add_argument("--finetune", default="", help="likewise")
    parser.add_argument("--prepared", default="data/prepared")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--people", type=int, default=1000, help="fresh simulated people")
    parser.add_argument("--tables", type=Path, default=Path("runs/benchmarks"))
    return parser


def open_study(options: argparse.Namespace) -> Study:
    """Open what the options name."""
    return Study.open(
        out=options.out,
        preset_name=options.preset,
        family=options.family,
        seed=options.seed,
        pretrain_cohort=options.pretrain,
        finetune_cohort=options.finetune,
        prepared=options.prepared,
    )


def markdown(table: pd.DataFrame) -> str:
    """Lay a table out in Markdown."""
    cells = table.astype(object).to_numpy().tolist()  # whole numbers stay whole
    rows = [list(table.columns), ["---"] * table.shape[1], *cells]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
