"""Quality against wall-clock: the published alpha-GAN and our preset, same data, same budget.

    python benchmarks/quality_over_time.py --budget 600

Pre-trains both on the same participants of the embedded young cohort at 4 mm until the time is
over, one after the other, and scores both on validation participants after every epoch. Prints
a Markdown table and draws ``quality_over_time`` to ``--out``. Epochs are short, because the
published networks see few participants in so many minutes. Time is that of training steps;
validations, and the start of ours, are not counted but for the budget.
"""

import argparse
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from studies import markdown

from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.maps import GRIDS
from csegsynth_kit.models import build
from csegsynth_kit.models.presets import Preset, preset
from csegsynth_kit.show import plots
from csegsynth_kit.show.study import Study
from csegsynth_kit.training.runs import Run
from csegsynth_kit.training.trainer import Trainer

#: Column of the history to what it says and the best value there is.
_SCORES = {
    "valid_reconstruction": ("error of reconstructions (share)", 0.0),
    "valid_energy_distance": ("energy distance of volumes", 0.0),
    "valid_sd_ratio": ("SD of volumes / real", 1.0),
}
_COLORS = {"paper": "#555555", "small": "#0072B2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=int, default=600, help="seconds for each")
    parser.add_argument("--participants", type=int, default=96)
    parser.add_argument("--family", default="csegsynth")
    parser.add_argument("--prepared", default="data/prepared")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    study = Study.open(
        out=str(options.out), preset_name="small", family=options.family, prepared=options.prepared
    )
    train, valid, _ = study.split("pretrain")
    train, valid = train.subset(train.ids[: options.participants]), valid.subset(valid.ids[:32])
    histories = {}
    for name in ("small", "paper"):
        chosen = preset(options.family, name)
        chosen = replace(
            chosen,
            model=replace(chosen.model, grid=GRIDS["small"]),
            # Without an end: the clock ends it. Two maps per step, for the published networks
            # would see a batch of twelve no more than twenty times in ten minutes.
            pretrain=replace(
                chosen.pretrain,
                steps=0,
                epochs=100_000,
                validation_draws=4,
                batch_size=chosen.pretrain.batch_size if name == "small" else 2,
            ),
        )
        histories[name] = trained(chosen, train, valid, options)
    rows = [
        {
            "networks": name,
            "minutes": minutes,
            **{title: _at(history, column, 60 * minutes) for column, (title, _) in _SCORES.items()},
        }
        for name, history in histories.items()
        for minutes in (1, 2, 5, 10, 60, 480)
        if 60 * minutes <= options.budget
    ]
    print(markdown(pd.DataFrame(rows).round(4)))
    plots.save(figure(histories), options.out / "quality_over_time")


class OverTime(Exception):  # noqa: N818
    """The budget is spent."""


def trained(chosen: Preset, train: Cohort, valid: Cohort, options) -> pd.DataFrame:
    """Train until the time is over, and return the history with seconds of training."""
    root = options.out / "quality-runs"
    shutil.rmtree(root / chosen.name, ignore_errors=True)
    run = Run.open(root / chosen.name, family=options.family, stage="pretrain", preset=chosen)
    trainer = Trainer(build(chosen.model, None), chosen.pretrain, run, progress=False)

    def over(*_):
        raise OverTime

    signal.signal(signal.SIGALRM, over)
    signal.alarm(options.budget)
    try:
        trainer.fit(train, valid)
    except OverTime:
        pass
    finally:
        signal.alarm(0)
    history = run.history().reindex(columns=[*_SCORES, "seconds"])  # none before an epoch's end
    return history.assign(trained_s=history["seconds"].fillna(0).cumsum())


def _at(history: pd.DataFrame, column: str, seconds: float) -> float:
    """Return the last score before a time, NaN before the first."""
    rows = history[history["trained_s"] <= seconds][column].dropna()
    return float("nan") if rows.empty else float(rows.iloc[-1])


def figure(histories: dict[str, pd.DataFrame]) -> plt.Figure:
    """One panel per score, one line per preset."""
    drawn, axes = plots.panels(len(_SCORES), width=2.6, height=2.4)
    names = {"paper": "published networks", "small": "preset small"}
    for ax, (column, (title, best)) in zip(axes, _SCORES.items(), strict=True):
        for name, history in histories.items():
            rows = history.dropna(subset=column)
            minutes = rows["trained_s"] / 60
            ax.plot(minutes, rows[column], marker=".", color=_COLORS[name], label=names[name])
        ax.axhline(best, color="black", linestyle="--", linewidth=1)
        ax.set(xlabel="minutes", title=title)
    axes[0].legend()
    return drawn


if __name__ == "__main__":
    main()
