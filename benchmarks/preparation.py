"""Speed and memory of preparing many heads on several processes, as a Markdown table.

    python benchmarks/preparation.py --n 10 100 --jobs 1 2

Simulated heads of 2 mm are exported as BIDS without saying where they lie, so that each is
aligned like a real one. Every preparation runs in a process of its own, because a process never
forgets its peak of memory. Memory of the others is that of the largest one.
"""

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from studies import markdown

from csegsynth_kit.data.files import write_json
from csegsynth_kit.data.prepare import prepare
from csegsynth_kit.simulate.cohort import simulate_cohort

log = logging.getLogger("preparation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--grid", default="small", choices=("full", "small", "tiny"))
    parser.add_argument("--simulate", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.simulate:
        simulated(options.folder, options.simulate, max(options.jobs))
    elif options.prepare:
        log.info(json.dumps(measured(options.prepare, options.folder, options)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            log.info(markdown(compare(Path(folder), options)))


def compare(folder: Path, options: argparse.Namespace) -> pd.DataFrame:
    """One row for every number of heads and of processes."""
    apart("--simulate", max(options.n), "--jobs", max(options.jobs), "--folder", folder / "all")
    rows = []
    for n in options.n:
        source = first(folder / "all" / "bids", folder / f"bids_{n}", n)
        for jobs in options.jobs:
            out = folder / f"out_{n}_{jobs}"
            words = ("--jobs", jobs, "--grid", options.grid, "--folder", out)
            found = json.loads(apart("--prepare", source, *words))
            rows.append(
                {
                    "participants": n,
                    "processes": jobs,
                    "participants per s": round(n / found["seconds"], 2),
                    "main process GB": round(found["main_gb"], 3),
                    "largest other GB": round(found["others_gb"], 3),
                }
            )
    return pd.DataFrame(rows)


def apart(*words: object) -> str:
    """Run this script in another process and return what it prints last."""
    command = [sys.executable, __file__, *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip().rpartition("\n")[2]


def simulated(folder: Path, n: int, jobs: int) -> None:
    """Simulate heads and export them without the grid that they lie on."""
    bids = folder / "bids"
    simulate_cohort(
        folder / "cohort", n=n, grid="full", seed=1, bids=bids, jobs=jobs, progress=False
    )
    for path in bids.glob("sub-*/anat/*.json"):
        described = json.loads(path.read_text(encoding="utf-8"))
        described.pop("Grid", None)
        write_json(path, described)


def first(source: Path, folder: Path, n: int) -> Path:
    """Link the first participants of a data set into a folder."""
    folder.mkdir()
    for path in sorted(source.glob("sub-*"))[:n]:
        (folder / path.name).symlink_to(path, target_is_directory=True)
    (folder / "dataset_description.json").symlink_to(source / "dataset_description.json")
    return folder


def measured(source: Path, out: Path, options: argparse.Namespace) -> dict[str, float]:
    """Prepare; return seconds, and peaks of memory (GB)."""
    began = time.perf_counter()
    prepare(source, out, grid=options.grid, jobs=options.jobs[0], progress=False)
    return {"seconds": time.perf_counter() - began} | {
        name: resource.getrusage(who).ru_maxrss * 1024 / 1e9  # kB on Linux
        for name, who in (
            ("main_gb", resource.RUSAGE_SELF),
            ("others_gb", resource.RUSAGE_CHILDREN),
        )
    }


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    main()
