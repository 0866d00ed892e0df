"""Which perturbations each metric and extractor detects, on a simulated cohort, as Markdown.

    python benchmarks/metric_ladder.py --n 100 400 --people 1600 --train 400

The first people train extractors and bandwidths, the others are the real maps that are damaged.
A cell holds the share of repeats beyond 95 % of the real-vs-real floor; + marks more than half,
! the alarm of sets that are closer than real people are.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from studies import markdown

from csegsynth_kit.data.cohort import load_cohort
from csegsynth_kit.metrics.ladder import detection_table, perturbation_ladder
from csegsynth_kit.metrics.ladder_voxels import voxel_ladder
from csegsynth_kit.metrics.morphometry import Morphometry
from csegsynth_kit.metrics.random_conv import RandomConv3d
from csegsynth_kit.simulate.cohort import simulate_cohort

log = logging.getLogger("metric_ladder")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--people", type=int, default=1600)
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--grid", default="tiny")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--cohort", type=Path, help="a prepared cohort instead of a simulated one")
    parser.add_argument("--tsv", type=Path, help="where to write all numbers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        cohort = (
            load_cohort(options.cohort)
            if options.cohort
            else simulate_cohort(
                Path(folder) / "cohort", n=options.people, grid=options.grid, seed=options.seed
            )
        )
        train = cohort.maps(cohort.ids[: options.train])
        real = cohort.maps(cohort.ids[options.train :])
    tables = []
    for extractor in (Morphometry(), RandomConv3d()):
        began = time.perf_counter()
        ladder = perturbation_ladder(
            train, real, extractor=extractor, sizes=options.n, repeats=options.repeats
        )
        tables.append(ladder)
        log.info("<!-- %s: %.0f s -->", extractor.name, time.perf_counter() - began)
    began = time.perf_counter()
    tables.append(voxel_ladder(train, real, sizes=options.n, repeats=options.repeats))
    log.info("<!-- voxels: %.0f s -->", time.perf_counter() - began)
    whole = pd.concat(tables, ignore_index=True)
    if options.tsv:
        whole.to_csv(options.tsv, sep="\t", index=False, float_format="%.6g")
    for (extractor, n), rows in whole.groupby(["extractor", "n"], sort=False):
        table = detection_table(rows).droplevel(["extractor", "n"], axis=1).reset_index()
        log.info("\n### %s, N = %d\n\n%s", extractor, n, markdown(table))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
