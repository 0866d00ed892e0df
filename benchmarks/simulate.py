"""Accuracy and speed of the simulator on one thread.

Draws heads of simulated people and prints seconds per head, the largest error of a volume, the
most Newton steps, and how many heads touch the border.

    python benchmarks/simulate.py --n 300 --grid full
"""

import argparse
import logging
import time

import numpy as np
import torch

from csegsynth_kit.maps import grid_named, volumes_ml
from csegsynth_kit.simulate.anatomy import Anatomy
from csegsynth_kit.simulate.average import template_base
from csegsynth_kit.simulate.questionnaire import draw_participants
from csegsynth_kit.simulate.structural import draw_volumes

log = logging.getLogger("simulate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--grid", default="full", choices=("full", "small", "paper"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    grid = grid_named(options.grid)

    began = time.perf_counter()
    template_base(grid.spacing_mm[0])
    log.info("base anatomy: %.1f s", time.perf_counter() - began)
    volumes = draw_volumes(draw_participants(options.n, seed=options.seed), seed=options.seed)
    anatomy = Anatomy(grid)
    seconds, errors, steps, touching = [], [], [], 0
    for i, row in enumerate(volumes.itertuples()):
        wanted = (row.wm_ml, row.gm_ml, row.csf_ml - row.lv_ml, row.lv_ml)
        began = time.perf_counter()
        head = anatomy.draw(wanted, (options.seed, i))
        seconds.append(time.perf_counter() - began)
        found = volumes_ml(head.maps.double(), grid.voxel_ml).numpy()
        errors.append(np.abs(found - (row.wm_ml, row.gm_ml, row.csf_ml)).max())
        steps.append(head.iterations)
        border = [head.maps.select(axis, end) for axis in (1, 2, 3) for end in (0, -1)]
        touching += any((side > 0.01).any().item() for side in border)
    log.info("%d heads on %s: %.1f s", options.n, options.grid, sum(seconds))
    log.info("seconds per head: mean %.3f, slowest %.3f", np.mean(seconds), max(seconds))
    log.info("largest error: %.1e mL", max(errors))
    log.info("Newton steps: mean %.1f, most %d", np.mean(steps), max(steps))
    log.info("heads that touch the border: %d", touching)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
