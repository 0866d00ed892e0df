"""Run the notebook series."""

import argparse
from pathlib import Path

from csegsynth_kit.batch import find_notebooks, run_series
from csegsynth_kit.data.cohort import load_cohort
from csegsynth_kit.data.files import require_folder
from csegsynth_kit.models.presets import preset
from csegsynth_kit.show.study import families_of
from csegsynth_kit.training.runs import STAGES


def run(options: argparse.Namespace) -> None:
    """Run ``csegsynth run``."""
    families = families_of(",".join(options.families))
    # Refused now rather than by a cell of the first notebook, as are cohorts below.
    for family in families:
        preset(family, options.preset)
    out = Path(options.out or Path("runs") / options.preset).resolve()
    require_folder(out)
    parameters = {"preset": options.preset, "seed": options.seed, "out": str(out)}
    for stage in STAGES:
        cohort = getattr(options, stage)
        if cohort is not None:
            load_cohort(cohort)
            parameters[f"{stage}_cohort"] = str(Path(cohort).resolve())
    notebooks = find_notebooks(options.notebooks, options.only)
    index = run_series(notebooks, out, parameters, families=families)
    print(f"Report: {index}")
