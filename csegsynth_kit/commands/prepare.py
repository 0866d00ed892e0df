"""Turn a folder of segmentations into a cohort."""

import argparse

from csegsynth_kit.data.prepare import prepare
from csegsynth_kit.show.cohorts import doctor_figure
from csegsynth_kit.show.plots import save, style


def run(options: argparse.Namespace) -> None:
    """Run ``csegsynth prepare``."""
    cohort = prepare(
        options.source,
        options.out,
        layout=options.layout,
        participants=options.participants,
        grid=options.grid,
        features=options.features,
        id_column=options.id_column,
        align=options.align,
        clean=options.clean,
        jobs=options.jobs,
    )
    style()
    save(doctor_figure(cohort), cohort.path / "report.png")
    excluded = {finding["subject"] for finding in cohort.provenance["excluded"]}
    without = f", {len(excluded)} left out" if excluded else ""
    print(f"{cohort.path}: {len(cohort)} participants{without}; see report.md")
