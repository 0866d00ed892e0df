"""Prepare the real whole-head label maps and print volumes, overlap, time and memory.

Run from the root of the repository:
``CSEGSYNTH_TEST_DATA=… python benchmarks/prepare_real_maps.py``.
"""

import os
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from machine import peak_gb

from csegsynth_kit.data.align import fit_rigid
from csegsynth_kit.data.cleanup import clean_labels
from csegsynth_kit.data.place import place
from csegsynth_kit.data.prepare import prepare
from csegsynth_kit.data.readers.detect import discover, read_subject
from csegsynth_kit.maps import GRIDS, with_background

TISSUES = ("WM", "GM", "CSF")


def soft_dice(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """Overlap of two (3, X, Y, Z) shares per tissue: (3,) in [0, 1]."""
    space = (1, 2, 3)
    return (2 * torch.minimum(a, b).sum(space) / (a + b).sum(space)).numpy()


def hard_dice(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """Overlap of the most probable tissues of two (3, X, Y, Z) shares: (3,) in [0, 1]."""
    labels = [with_background(x).argmax(0) for x in (a, b)]
    return np.array([_overlap(*(x == t for x in labels)) for t in range(3)])


def _overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def between(heads: list[torch.Tensor], dice) -> np.ndarray:
    return np.mean([dice(a, b) for a, b in combinations(heads, 2)], axis=0)


def main() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    source = Path(os.environ["CSEGSYNTH_TEST_DATA"]) / "synthseg"
    scans = discover(source).scans
    start_gb = peak_gb()
    rows, centered, aligned = [], [], []
    for scan in scans:
        times = [time.perf_counter()]
        maps = read_subject(scan)
        times.append(time.perf_counter())
        cleaned = clean_labels(maps)
        times.append(time.perf_counter())
        placed = place(cleaned.maps, GRIDS["small"])
        times.append(time.perf_counter())
        aligned.append(placed.shares)
        centered.append(place(cleaned.maps, GRIDS["small"], align=False).shares)
        read_s, clean_s, place_s = np.diff(times)
        row = {"participant": scan.participant}
        row |= {f"{t} before": v for t, v in zip(TISSUES, maps.volumes_ml, strict=True)}
        row |= {f"{t} after": v for t, v in zip(TISSUES, cleaned.maps.volumes_ml, strict=True)}
        row |= {
            "removed": sum(cleaned.removed_ml),
            "pitch deg": placed.alignment["rotation_deg"][0],
        }
        row |= {"change mL": max(abs(c) for c in placed.volume_change_ml)}
        row |= {"overlap": placed.alignment["overlap"]}
        row |= {"read s": read_s, "clean s": clean_s, "align s": place_s}
        rows.append(row)
    table = pd.DataFrame(rows).set_index("participant")
    table.loc["mean"], table.loc["max"] = table.mean(), table.max()
    write = sys.stdout.write
    write(table.round(3).to_string() + "\n\n")
    dice = {
        "soft Dice, center of mass": between(centered, soft_dice),
        "soft Dice, aligned": between(aligned, soft_dice),
        "hard Dice, center of mass": between(centered, hard_dice),
        "hard Dice, aligned": between(aligned, hard_dice),
    }
    write(pd.DataFrame(dice, index=TISSUES).T.round(3).to_string() + "\n\n")
    again = read_subject(scans[0])
    first, second = (fit_rigid(clean_labels(again).maps) for _ in range(2))
    write(f"repeated fit differs by {np.abs(first.rotation - second.rotation).max():.1e}\n")
    before_gb = peak_gb()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        prepare(source, Path(folder) / "out", progress=False)
        seconds = (time.perf_counter() - began) / len(scans)
    write(
        f"prepare(): {seconds:.1f} s per map on {torch.get_num_threads()} threads; peak memory "
        f"{peak_gb():.2f} GB ({before_gb:.2f} GB before, {start_gb:.2f} GB after the imports)\n"
    )


if __name__ == "__main__":
    main()
