"""Simulate a cohort whose truth is known."""

import argparse

from csegsynth_kit.simulate.cohort import simulate_cohort


def run(options: argparse.Namespace) -> None:
    """Run ``csegsynth simulate``."""
    cohort = simulate_cohort(
        options.out,
        n=options.n,
        age=options.age,
        effects=options.effects,
        grid=options.grid,
        seed=options.seed,
        missing=options.missing,
        participants=options.participants,
        bases=options.bases,
        bids=options.bids,
        jobs=options.jobs,
    )
    print(f"{cohort.path}: {len(cohort)} participants")
