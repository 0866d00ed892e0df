"""Predict what trainings take on this machine."""

import argparse

from csegsynth_kit.models.presets import preset
from csegsynth_kit.training import plan


def run(options: argparse.Namespace) -> None:
    """Run ``csegsynth plan``."""
    names = [options.preset] if options.preset else list(plan.PRESETS)
    presets = [preset(options.family, name) for name in names]
    free = plan.free_memory()
    print("A few short steps are taken on this machine; that lasts about a minute.", flush=True)
    print("Free memory: " + ("unknown" if free is None else f"{free / 1e9:.1f} GB"))
    found = plan.plans(presets, participants=options.participants, free=free)
    print(plan.table(found, free).to_string(index=False))
    print(
        "batch: participants per step; parts: a batch is computed in so many; step: seconds of "
        "one; in all: time of the whole stage, while the machine is as busy as now; fits: whether "
        "memory suffices."
    )
    best = plan.suggestion(found, free)
    if best is None:
        print("None of these fits into memory. Free some, or choose a smaller preset.")
        return
    chosen, costs = best
    time = plan.spoken(sum(cost.seconds for cost in costs))
    print(f"Suggested: --preset {chosen.name}, the finest of these that fits; {time} in all.")
    for cost in costs:
        own = getattr(preset(options.family, chosen.name), cost.stage)
        if cost.accumulate > own.accumulate:
            print(
                f"For --stage {cost.stage}, memory holds a batch only in smaller parts: add "
                f"--accumulate {cost.accumulate} to csegsynth train."
            )
    if options.check:
        compared = plan.check(chosen, costs, participants=options.participants)
        print(compared.round(2).to_string(index=False))
