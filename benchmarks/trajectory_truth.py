"""Trajectories, moved maps and lifestyles of trained models against the known truth.

Prints Markdown tables: slopes per decade at 30, 50 and 70 years of 20 fresh people, ages of the
white-matter peak, scores of moved maps, and differences that lifestyles make.

    python benchmarks/trajectory_truth.py RUN COHORT [RUN COHORT ...]

RUN is the folder of a fine-tuned model, COHORT the simulated cohort it was trained on, in the
split that the series uses (80/10/10, seed 0).
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from studies import markdown

from csegsynth_kit.analysis.contrast import VolumeRegression
from csegsynth_kit.analysis.scenarios import compare_lifestyle, lifestyles
from csegsynth_kit.analysis.soundness import counterfactual_errors, effectiveness, soundness
from csegsynth_kit.analysis.support import Support
from csegsynth_kit.analysis.trajectory import AgeRegression, peak_age, scenario, slopes
from csegsynth_kit.analysis.truth import Truth, known_truth
from csegsynth_kit.data.cohort import Cohort, load_cohort
from csegsynth_kit.models import Family
from csegsynth_kit.show.tables import with_intervals
from csegsynth_kit.training.runs import Run

_PEOPLE, _AGES = 20, (30, 50, 70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, help="RUN COHORT, in pairs")
    parser.add_argument("--only", choices=("slopes", "moved", "lifestyles"))
    options = parser.parse_args()
    for run, path in zip(options.paths[::2], options.paths[1::2], strict=True):
        cohort = load_cohort(path)
        train, _, test = cohort.split((0.8, 0.1, 0.1), seed=0)
        model, truth = Run.load(run).load_model(), known_truth(cohort)
        title = f"{model.config.family}, {len(train)} training participants"
        print(f"\n## {title}, effects {truth.effects:g}\n")
        if options.only in (None, "slopes"):
            table, peaks = slope_table(model, train, truth)
            print(markdown(table), "\n")
            print(f"Age of the white-matter peak, {_PEOPLE} people: {peaks}\n")
        if options.only in (None, "moved"):
            for table in moved_tables(model, train, test, truth):
                print(markdown(table), "\n")
        if options.only in (None, "lifestyles"):
            print(markdown(lifestyle_table(model, train, truth)))


def fresh(truth: Truth, model: Family, n: int) -> list[dict]:
    people, _ = truth.fresh_people(n, seed=2718)
    return people[list(model.features.questions)].to_dict("records")


def slope_table(model: Family, train: Cohort, truth: Truth) -> tuple[pd.DataFrame, str]:
    """Mean slope over fresh people, its spread, and what the sample allows."""
    regression = AgeRegression.fit(train.table, model.features)
    linear = VolumeRegression.fit(train, model.features)
    people = fresh(truth, model, _PEOPLE)
    options = {"around": _AGES, "linear": linear, "truth": truth, "draws": 16}
    parts = [
        slopes(model, person, regression, **options).assign(person=i)
        for i, person in enumerate(people)
    ]
    groups = pd.concat(parts).groupby(["scenario", "age_years", "tissue"], sort=False)
    mean, spread = groups.mean(), groups["slope_ml_per_decade"].std()
    table = pd.DataFrame(
        {
            "slope (mL/decade)": mean["slope_ml_per_decade"].round(1),
            "SD over people": spread.round(1),
            "truth": mean["true_slope"].round(1),
            "error": (mean["slope_ml_per_decade"] - mean["true_slope"]).round(1),
            "error %": 100 * (mean["slope_ml_per_decade"] / mean["true_slope"] - 1),
            "regression 95 %": [
                f"{low:.1f} to {high:.1f}"
                for low, high in zip(mean["regression_low"], mean["regression_high"], strict=True)
            ],
        }
    )
    table["error %"] = table["error %"].round(0).astype(int)
    peaks = []
    for name, moving in (("ideal", None), ("regressed", regression)):
        ages = [peak_age(model, person, regression=moving, draws=8) for person in people]
        peaks.append(f"{name} {np.mean(ages):.1f} (SD {np.std(ages, ddof=1):.1f})")
    return table.reset_index(), ", ".join(peaks)


def moved_tables(model: Family, train: Cohort, test: Cohort, truth: Truth) -> list[pd.DataFrame]:
    """Composition and reversibility, effectiveness, and errors against the truth."""
    models = {model.config.family: model}
    sound = with_intervals(soundness(models, train, test), {"error_ml": 1, "soft_dice": 3})
    effective = with_intervals(
        effectiveness(models, train, test), {"r": 2, "mae_years": 1, "slope": 2}
    )
    errors = counterfactual_errors(models, train, test, truth)
    return [sound, effective, with_intervals(errors, {"mae_ml": 1})]


def lifestyle_table(model: Family, train: Cohort, truth: Truth) -> pd.DataFrame:
    """Mean over people to whom a scenario applies of its difference at 60 years."""
    linear, support = (
        VolumeRegression.fit(train, model.features),
        Support.fit(train, model.features),
    )
    rows = []
    for one in lifestyles(from_age_years=50):
        able = [p for p in fresh(truth, model, 300) if not one.reason_against(p, model.features)]
        for person in able[:_PEOPLE]:
            people = scenario(person, (60.0,))
            options = {"regression": linear, "support": support, "truth": truth, "draws": 8}
            rows.append(compare_lifestyle(model, people, one, **options))
    table = pd.concat(rows)
    groups = table.groupby(["scenario", "tissue"], sort=False)
    named = ["difference_ml", "regression_low", "regression_high", "true_ml", "supported"]
    return groups[named].mean().round(2).assign(n=groups.size()).reset_index()


if __name__ == "__main__":
    main()
