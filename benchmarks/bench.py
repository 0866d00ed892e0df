"""What training, generating, simulating and preparing cost on this machine, in one run.

    make bench
    python benchmarks/bench.py --only training generation

Prints Markdown tables, and writes them as TSV, with a figure of cost against the size of grid
and cohort, to ``--out``. Run it on an idle machine. Each figure comes from a process of its own,
so that peak memory is its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import preparation as preparation_of
import torch
import training_step
from machine import describe, peak_gb, rates
from studies import markdown

from csegsynth_kit.analysis.generate import generate
from csegsynth_kit.models import FAMILIES, build
from csegsynth_kit.models.presets import preset
from csegsynth_kit.show import plots
from csegsynth_kit.simulate.cohort import simulate_cohort
from csegsynth_kit.training.trainer import default_device

_STEPS = 3
_OUR_GRIDS = ("tiny", "small", "full")
#: The published networks need sizes that 8 divides, which ``tiny`` has not.
_PAPER_GRIDS = ("small", "paper-4mm")
_SIMULATED = {"tiny": 128, "small": 64}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, *words = json.loads(options.measure)
        print(json.dumps({"generation": generation_of, "simulation": simulation_of}[name](*words)))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    device = default_device()
    operations, copied = rates(device)
    print(f"{describe(device)}; matrix product {operations / 1e9:.0f} GFLOP/s, ", end="")
    print(f"copy {copied / 1e9:.1f} GB/s, {os.cpu_count()} processors")
    for part in options.only:
        began = time.perf_counter()
        table = PARTS[part](options)
        table.to_csv(options.out / f"bench-{part}.tsv", sep="\t", index=False)
        print(f"\n## {part} ({time.perf_counter() - began:.0f} s)\n\n{markdown(table)}", flush=True)
    figure = cost_figure(options.out)
    if figure is not None:
        plots.save(figure, options.out / "cost")


def training(chosen: argparse.Namespace) -> pd.DataFrame:
    """One training step of every family, literally as published, our way, and our presets."""
    parts = []
    for family in chosen.families:
        for grid in dict.fromkeys((*_PAPER_GRIDS, *_OUR_GRIDS)):
            cases = [c for c in training_step.CASES if c != "ours" and grid in _PAPER_GRIDS]
            cases += ["ours"] if grid in _OUR_GRIDS else []
            if torch.cuda.is_available() and grid == "full":
                cases = list(training_step.CASES)
            options = argparse.Namespace(
                family=family, grid=grid, cases=cases, steps=_STEPS, batch=None, precision="fp32"
            )
            parts.append(training_step.compare(options))
    return pd.concat(parts, ignore_index=True)


def generation(chosen: argparse.Namespace) -> pd.DataFrame:
    """Maps per second, one draw at a time and many."""
    rows = [
        _measured("generation", family, grid, n)
        for family in chosen.families
        for grid in _OUR_GRIDS
        for n in (1, 16)
    ]
    return pd.DataFrame(rows)


def generation_of(family: str, grid: str, n: int) -> dict:
    """Generate from untrained networks, which cost what trained ones do."""
    device = default_device()
    model = build(preset(family, grid).model, None, seed=0).to(device).eval()
    times = []
    for seed in range(6):
        began = time.perf_counter()
        generate(model, None, n=n, seed=seed)
        times.append(time.perf_counter() - began)
    seconds = sorted(times[1:])[2]
    return {
        "family": family,
        "grid": grid,
        "draws": n,
        "ms per map": round(1000 * seconds / n, 1),
        "maps per s": float(f"{n / seconds:.3g}"),
        "peak GB": round(peak_gb(device), 2),
    }


def simulation(chosen: argparse.Namespace) -> pd.DataFrame:
    """Heads per second, in one process and in all."""
    jobs = dict.fromkeys((1, os.cpu_count()))
    return pd.DataFrame(
        [_measured("simulation", grid, n, j) for grid, n in _SIMULATED.items() for j in jobs]
    )


def simulation_of(grid: str, n: int, jobs: int) -> dict:
    """Simulate a cohort into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        simulate_cohort(Path(folder) / "cohort", n=n, grid=grid, jobs=jobs, progress=False)
        seconds = time.perf_counter() - began
    row = {"grid": grid, "heads": n, "processes": jobs, "heads per s": round(n / seconds, 1)}
    return row | {"peak GB": round(peak_gb(), 2)}


def _measured(*words) -> dict:
    command = [sys.executable, __file__, "--measure", json.dumps(words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def cost_figure(folder: Path) -> plt.Figure | None:
    """Cost against the size of grid and cohort, from whatever has been measured."""
    paths = {
        part: folder / f"bench-{part}.tsv" for part in ("training", "generation", "preparation")
    }
    if not all(path.exists() for path in paths.values()):
        return None
    tables = {part: pd.read_csv(path, sep="\t") for part, path in paths.items()}
    plots.style()
    figure, (grids, cohorts) = plt.subplots(1, 2, figsize=(7.2, 3.0), layout="constrained")
    train = tables["training"].query("family == 'csegsynth'")
    made = tables["generation"].query("family == 'csegsynth' and draws == 16")
    lines = {
        "training, as published": (train.query("case == 'naive'"), "s per map", 1),
        "training, published networks, our way": (train.query("case == 'paper'"), "s per map", 1),
        "training, our presets": (train.query("case == 'ours'"), "s per map", 1),
        "generation, our presets": (made, "ms per map", 1e-3),
    }
    for marker, (name, (rows, column, unit)) in zip("sDo^", lines.items(), strict=True):
        voxels = [torch.Size(training_step.GRID[g].shape).numel() for g in rows["grid"]]
        order = sorted(zip(voxels, rows[column] * unit, strict=True))
        grids.plot(*zip(*order, strict=True), marker=marker, label=name)
    grids.set(
        xscale="log",
        yscale="log",
        xlabel="voxels per map",
        ylabel="seconds per map",
        ylim=(5e-4, 400),  # room for the legend
    )
    grids.legend(fontsize="x-small", loc="upper left")
    alone = tables["preparation"].query("processes == 1")
    cohorts.plot(alone["participants"], alone["main process GB"], marker="o")
    cohorts.set(
        xlabel="participants prepared (2 mm images)",
        ylabel="peak memory (GB)",
        xlim=(0, None),
        ylim=(0, 1.5 * alone["main process GB"].max()),
    )
    return figure


def preparation(chosen: argparse.Namespace) -> pd.DataFrame:
    """Participants per second and peak memory, few and many."""
    options = argparse.Namespace(
        n=[10, 100], jobs=list(dict.fromkeys((1, os.cpu_count()))), grid="small"
    )
    with tempfile.TemporaryDirectory() as folder:
        return preparation_of.compare(Path(folder), options)


PARTS = {
    "training": training,
    "generation": generation,
    "simulation": simulation,
    "preparation": preparation,
}

if __name__ == "__main__":
    main()
