"""Quality against time: the published networks and our preset, same data, same budget.

    python benchmarks/quality_over_time.py --networks small
    python benchmarks/quality_over_time.py --networks paper
    python benchmarks/quality_over_time.py --networks

Pre-trains an alpha-GAN on young participants of the embedded cohort at 4 mm (``full``: 2 mm),
keeps its averaged weights at several times, and fine-tunes from two of them for as long again
on participants of all ages, of the embedded cohort or of others (``--finetune``). Everything
that training does counts as time, its start from principal components included; validation is
left out, and so is the scoring afterwards, on participants that training has not seen, and for
volumes on simulated people where their truth is known. Without networks, what was measured is
put in a table and drawn as ``quality_over_time``.

Time is that of one processor, which is wall-clock where nothing else runs: two runs can go on
side by side, and other work on the machine does not count.
"""

import argparse
import copy
import itertools
import json
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.ticker import LogLocator
from studies import markdown

from csegsynth_kit.analysis import quality
from csegsynth_kit.analysis.evaluate import evaluate_people
from csegsynth_kit.analysis.generate import generate
from csegsynth_kit.analysis.regression import RIDGE
from csegsynth_kit.analysis.truth import known_truth
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.files import write_json
from csegsynth_kit.maps import GRIDS
from csegsynth_kit.models import Family, build
from csegsynth_kit.models.presets import Preset, preset
from csegsynth_kit.show import plots
from csegsynth_kit.show.study import Study
from csegsynth_kit.training.runs import Run
from csegsynth_kit.training.trainer import Trainer
from csegsynth_kit.training.validation import validate

#: Column to what it says, and its axis; an energy distance is unbiased and may be below 0.
_SCORES = {
    "reconstruction": ("reconstruction error", {"yscale": "log"}),
    "volumes": ("energy distance of volumes", {"yscale": "symlog"}),
    "frechet": ("Fréchet distance, morphometry", {"yscale": "log"}),
    "mae_ratio": ("MAE of volumes / ridge", {"yscale": "log"}),
}
_LOOKS = {
    "paper": ("published networks", "#555555"),
    "small": ("preset small", "#0072B2"),
    "full": ("preset full, 2 mm", "#D55E00"),
}
#: Maps that are compared at a time, and pairs of real sets in the floor.
_MAPS, _SPLITS = 64, 20
#: The published networks take a second to generate a map.
_PEOPLE, _DRAWS = 60, 4
_LEAST_DRAWS = 3
_FRESH_SEED = 12345


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=["small", "paper"], choices=list(_LOOKS))
    parser.add_argument("--minutes", nargs="+", type=float, default=[1, 2, 5, 10, 30])
    parser.add_argument("--finetune-at", nargs="*", type=float, default=[5, 30], metavar="MINUTES")
    parser.add_argument("--finetune", nargs="+", default=[""], help="cohorts; the embedded one")
    parser.add_argument("--participants", type=int, default=256, help="of each stage")
    parser.add_argument("--prepared", default="data/prepared")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in options.networks:
        rows = []
        for row in measured(name, options):
            rows.append(row)
            write_json(options.out / f"quality-{name}.json", rows)
    files = sorted(options.out.glob("quality-*.json"))
    table = pd.DataFrame([row for file in files for row in json.loads(file.read_text())])
    print(markdown(table))
    plots.save(figure(table), options.out / "quality_over_time")


def measured(name: str, options: argparse.Namespace) -> Iterator[dict]:
    """Train one kind of network, and score what there was at each time."""
    grid = "full" if name == "full" else "small"
    studies = [
        Study.open(
            out=str(options.out),
            preset_name=grid,
            finetune_cohort=folder,
            prepared=options.prepared,
        )
        for folder in options.finetune
    ]
    young, others, _ = studies[0].split("pretrain")
    others = studies[0].cohort("pretrain").subset(others.ids + young.ids[options.participants :])
    young = young.subset(young.ids[: options.participants])
    chosen = preset("csegsynth", name)
    # Without an end: the clock ends it. Two maps per step, for the published networks would see
    # a batch of twelve only a few dozen times in an hour.
    clocked = {"steps": 0, "epochs": 100_000, "selection": "last"}
    if name == "paper":
        clocked["batch_size"] = 2
    if name == "full":
        clocked["accumulate"] = 4  # the same result, in the memory of a laptop
    chosen = replace(
        chosen,
        model=replace(chosen.model, grid=GRIDS[grid]),
        pretrain=replace(chosen.pretrain, **clocked),
        finetune=replace(chosen.finetune, **clocked),
    )
    fresh = build(chosen.model, None)
    started = trained(fresh, chosen, "pretrain", young, options.minutes, options)
    about = {"networks": name}
    for minutes, model in started.items():
        at = {"cohort": young.path.name, "stage": "pretrain", "minutes": minutes}
        yield about | at | scores_of_maps(model, young, others)
    for minutes, study in itertools.product(options.finetune_at, studies):
        train, valid, test = study.split("finetune")
        train = train.subset(train.ids[: options.participants])
        model = build(chosen.model, Features.fit(train.table, train.feature_columns))
        model.start_from(started[minutes].state_dict())
        model = trained(model, chosen, "finetune", train, [minutes], options)[minutes]
        # Nothing is chosen by validation here: whoever training has not seen will do.
        unseen = study.cohort("finetune").subset(valid.ids + test.ids)
        scores = scores_of_maps(model, train, test, asked=valid)
        scores |= scores_of_volumes(model, train, unseen)
        at = {"cohort": unseen.path.name, "stage": "finetune", "minutes": 2 * minutes}
        yield about | at | scores


class OverTime(BaseException):
    """The budget is spent; nobody but us may catch it."""


def trained(
    model: Family,
    chosen: Preset,
    stage: str,
    train: Cohort,
    minutes: list[float],
    options: argparse.Namespace,
) -> dict[float, Family]:
    """Train until the last of some times, and return copies of the model at each.

    Of our networks, it is the model after its start, or after the last epoch that was over by
    then, because only then everything in it fits together; of the published ones, whose epochs
    take a quarter of an hour, the model as it was.
    """
    root = options.out / "quality-runs" / chosen.name
    shutil.rmtree(root, ignore_errors=True)
    run = Run.open(root, family="csegsynth", stage=stage, preset=chosen)
    trainer = Trainer(model, getattr(chosen, stage), run, progress=False)
    left, kept, settled = sorted(minutes), {}, []
    start, settle = model.fit_statistics, trainer._settle
    ends = time.process_time() + 60 * left[0]

    def copied() -> Family:
        with trainer.average.applied():
            return copy.deepcopy(model).eval()

    def start_and_copy(everybody) -> None:
        start(everybody)
        settled[:] = [copy.deepcopy(model).eval()]

    def settle_and_copy(everybody) -> float:
        seconds = settle(everybody)
        settled[:] = [copied()]
        return seconds

    def keep(*_):
        nonlocal ends
        began = time.process_time()
        done = left.pop(0)
        if chosen.model.architecture == "published":
            kept[done] = copied()
        elif settled:
            kept[done] = settled[0]
        if not left:
            raise OverTime
        ends += 60 * (left[0] - done) + time.process_time() - began  # copying does not count
        signal.setitimer(signal.ITIMER_PROF, max(1e-3, ends - time.process_time()))

    model.fit_statistics, trainer._settle = start_and_copy, settle_and_copy
    signal.signal(signal.SIGPROF, keep)
    signal.setitimer(signal.ITIMER_PROF, 60 * left[0])
    try:
        trainer.fit(train, None)
    except OverTime:
        pass
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return kept


def scores_of_maps(
    model: Family, train: Cohort, others: Cohort, *, asked: Cohort | None = None
) -> dict[str, float]:
    """Compare generated maps with those of participants that training has not seen.

    Conditional models are asked for the answers of others still, as two sets of participants
    are not of the same ages either.
    """
    others = first(others)
    scores = validate(model, others, draws=_LEAST_DRAWS, seed=1)
    people = first(asked).table[list(model.features.questions)] if asked else None
    made = generate(model, people, n=1 if asked else _MAPS)
    known = train.one_scan_each()
    board = quality.judge_maps(
        {"made": made},
        known.maps(known.ids[: 2 * _MAPS]),
        others.maps(),
        extractors=quality.extractors_from("")[:1],
        splits=_SPLITS,
    )
    rows = board[board["reference"] == "test"].set_index("metric")
    # Fréchet distances are named by their extractor, and how far it is reduced.
    rows = rows.rename(lambda metric: "frechet" if "(" in metric else metric)
    volumes = scores.get("energy_distance", scores.get("energy_score"))
    return {
        "reconstruction": round(scores["reconstruction"], 4),
        "volumes": round(volumes, 3),
        "sd_ratio": round(scores["sd_ratio"], 2),
        **{
            short: float(f"{rows.loc[metric, column]:.3g}")
            for short, metric, column in (
                ("frechet", "frechet", "value"),
                ("frechet_floor", "frechet", "floor"),
                ("mmd_rbf", "mmd_rbf", "value"),
                ("delta_ms_ssim", "delta_ms_ssim", "value"),
                ("delta_ms_ssim_floor", "delta_ms_ssim", "floor"),
            )
        },
    }


def first(people: Cohort) -> Cohort:
    """One scan each of as many people as are compared."""
    once = people.one_scan_each()
    return once.subset(once.ids[:_MAPS])


def scores_of_volumes(model: Family, train: Cohort, unseen: Cohort) -> dict[str, float]:
    """Compare the mean of draws with ridge regression, on fresh people where there are any."""
    truth = known_truth(train)
    if truth is None:
        people, volumes = unseen.table, unseen.volumes.to_numpy()
        persons = unseen.persons.to_numpy()
    else:
        people, volumes = truth.fresh_people(_PEOPLE, seed=_FRESH_SEED)
        persons = None
    result = evaluate_people({"made": model}, train, people, volumes, persons=persons, n=_DRAWS)
    rows = result.ratios[result.ratios["reference"] == RIDGE].set_index("tissue")
    rows = rows.loc[list(MEASURED)]
    mean = {"mae_ratio": round(rows["ratio"].mean(), 3), "people": len(people)}
    return mean | {
        f"mae_{column}_{tissue.lower()}": round(rows.loc[tissue, column], 3)
        for column in ("ratio", "ratio_low", "ratio_high")
        for tissue in MEASURED
    }


def figure(table: pd.DataFrame) -> plt.Figure:
    """One panel per score, one line per kind of network; diamonds are fine-tuned models.

    Hollow ones are fine-tuned on other cohorts than the embedded one. Distances of the grids
    differ, so that each has its own line of what two sets of participants have.
    """
    plots.style()
    drawn, axes = plots.panels(len(_SCORES), width=2.6, height=2.8)
    for ax, (column, (title, axis)) in zip(axes, _SCORES.items(), strict=True):
        for name, (label, color) in _LOOKS.items():
            own = table[table["networks"] == name].dropna(subset=column)
            for (stage, cohort), rows in own.groupby(["stage", "cohort"], sort=False):
                if (stage, column) == ("finetune", "volumes"):
                    continue  # energy scores, which are another scale
                embedded = cohort.startswith(("young-", "lifespan-"))
                what = f"{label}, pre-trained"
                if stage == "finetune":
                    what = f"{label}, fine-tuned" + ("" if embedded else f" on {cohort}")
                ax.plot(
                    rows["minutes"],
                    rows[column],
                    ".-" if stage == "pretrain" else "D",
                    markersize=4 if stage == "pretrain" else 6,
                    color=color,
                    fillstyle="full" if embedded else "none",
                    label=what,
                )
        for height, color in references(table, column):
            ax.axhline(height, color=color, linestyle="--", linewidth=1)
        ax.set(xscale="log", xlabel="minutes, one processor", title=title, **axis)
        ax.set_xlim(0.8, 1.25 * table["minutes"].max())
        ax.set_xticks(ticks := sorted(table["minutes"].unique()), [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        if axis["yscale"] == "log":
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        else:
            ax.set(yticks=[0, 1, 10, 100], ylim=(-0.5, 200))
        ax.yaxis.set_major_formatter("{x:g}")
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return drawn


def references(table: pd.DataFrame, column: str) -> list[tuple[float, str]]:
    """Heights and colors of lines: two sets of participants, or ridge regression."""
    if column != "frechet":
        return [(height, "black") for height in {"volumes": [0], "mae_ratio": [1]}.get(column, [])]
    fine = table["networks"] == "full"
    floors = {
        color: table.loc[rows, "frechet_floor"].median()
        for color, rows in (("black", ~fine), (_LOOKS["full"][1], fine))
    }
    return [(floor, color) for color, floor in floors.items() if pd.notna(floor)]


if __name__ == "__main__":
    main()
