"""Time and memory of one training step: the published networks, as published and as here, and ours.

    python benchmarks/training_step.py --grid small --family csegsynth

Every case runs in a process of its own. *naive* takes the published networks and their loop
literally: grouped and transposed convolutions as such, channels first, maps generated anew for
the image critic, gradients of all networks in every backward pass. *paper* takes the same steps
our way. *ours* is our preset for the grid. A step is one update of every group of parameters,
with random maps; seconds are the median over steps, per map, after a few that do not count.
*Floor*: the least time of the calls that are made, see ``machine.Counted``.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import torch
import torch.nn.functional as F
from machine import Counted, describe, peak_gb, rates, synchronize
from studies import markdown
from torch import nn

from csegsynth_kit.maps import GRIDS
from csegsynth_kit.models import Batch, Family, Rng, build, terms
from csegsynth_kit.models.blocks import ConvNeXtBlock, GroupedConv
from csegsynth_kit.models.memory import kept_memory
from csegsynth_kit.models.presets import preset
from csegsynth_kit.models.published import PublishedGenerator
from csegsynth_kit.training.trainer import default_device

CASES = NAIVE, PAPER, OURS = "naive", "paper", "ours"
#: Grids by name; the published one, too, with voxels of 4 mm.
GRID = {**GRIDS, "paper-4mm": GRIDS["paper"].pooled(2, "paper-4mm")}
#: Steps until memory that is kept suffices for the next one.
_FIRST = 4
#: Beyond every warm-up, in a step in which it is every critic's turn.
_STEP = 1200 * 154


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="csegsynth")
    parser.add_argument("--grid", default="small", choices=list(GRID))
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, help="maps per step; default 1, our preset's for ours")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options)))
        return
    print(f"{describe(default_device())}\n\n{markdown(compare(options))}")


def compare(options: argparse.Namespace) -> pd.DataFrame:
    """Measure cases one after the other; a case that fails is left empty."""
    rows = []
    for case in options.cases:
        named = {key: getattr(options, key) for key in ("family", "grid", "steps", "precision")}
        named |= {"batch": options.batch} if options.batch else {}
        words = [word for key, value in named.items() for word in (f"--{key}", str(value))]
        command = [sys.executable, __file__, *words, "--case", case]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            print(f"{case}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            continue
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        if rows[0]["case"] == NAIVE:
            rows[-1]["times as fast"] = round(rows[0]["s per map"] / rows[-1]["s per map"], 1)
    return pd.DataFrame(rows)


def measure(options: argparse.Namespace) -> dict:
    """Time steps of one case, then count one."""
    naive, ours = options.case == NAIVE, options.case == OURS
    if naive:
        take_literally()
    device = default_device()
    known = preset(options.family, options.grid if ours else "paper")
    config = replace(known.model, grid=GRID[options.grid])
    n = options.batch or (known.pretrain.batch_size if ours else 1)
    model = build(config, None, seed=0).to(device).train()
    if naive:
        model = model.to(memory_format=torch.contiguous_format)
        terms.image_wasserstein = of_maps_made_anew(model)
    optimizers = {
        group: torch.optim.Adam(
            [p for m in parts.values() for p in m.parameters()], fused=not naive
        )
        for group, parts in model.groups().items()
    }
    maps = torch.rand(n, 4, *config.grid.shape, device=device)
    batch = Batch(maps / maps.sum(1, keepdim=True), torch.ones(n, 3, device=device))
    low, seconds = options.precision == "bf16", []
    # The published loop leaves memory to the C library.
    with contextlib.nullcontext() if naive else kept_memory():
        for i in range(_FIRST + options.steps):
            began = time.perf_counter()
            rng = Rng(0, i, total=n, device=device)
            step(model, optimizers, batch, rng, low=low, literally=naive)
            seconds.append(time.perf_counter() - began)
        peak = peak_gb(device)
        # Only now: what rates are measured with must not count as the step's memory.
        with Counted(*rates(device)) as counted:
            rng = Rng(0, 0, total=n, device=device)
            step(model, optimizers, batch, rng, low=low, literally=naive)
    # PyTorch counts gradients of grouped convolutions as if they were dense.
    ours_here = device.type == "cpu" and not low
    dense = naive or (options.case == PAPER and not ours_here)
    median = sorted(seconds[_FIRST:])[options.steps // 2]
    return {
        "family": options.family,
        "grid": options.grid,
        "case": options.case,
        "million parameters": round(sum(p.numel() for p in model.parameters()) / 1e6, 1),
        "maps per step": n,
        "s per map": float(f"{median / n:.3g}"),
        "peak GB": round(peak, 1),
        "GFLOP per map": None if dense else float(f"{counted.operations / n / 1e9:.3g}"),
        "GB per map": float(f"{counted.bytes / n / 1e9:.3g}"),
        "share of floor": None if dense else round(counted.seconds / median, 2),
    }


def take_literally() -> None:
    """Compute the published layers with the PyTorch layers that they are."""

    def generator(self, code):
        x = self.seed(code[:, :, None, None, None])
        for level in self.levels:
            x = level(x)
        return x

    def block(self, x):
        y = self.norm(self.depthwise(x).movedim(1, -1))
        return x + (self.scale * self.reduce(F.gelu(self.expand(y)))).movedim(-1, 1)

    GroupedConv.forward = nn.Conv3d.forward
    ConvNeXtBlock.forward = block
    PublishedGenerator.forward = generator


def of_maps_made_anew(model: Family):
    """Judge maps that are generated for the image critic, as the published scripts do."""

    def judged(critic, real, fakes, rng, **options):
        codes = [rng.normal(*model.latent_shape)]
        with torch.no_grad():
            if len(fakes) > 1:
                codes.append(model.encode(real))
            fakes = [model.generator(code).float().softmax(1) for code in codes]
        return terms.wasserstein(critic, real, fakes, rng, **options)

    return judged


def step(
    model, optimizers, batch: Batch, rng: Rng, *, low: bool = False, literally: bool = False
) -> None:
    """Update every group once, as the trainer does, or with gradients of all groups."""
    losses = model.losses(batch, rng, _STEP)
    while True:
        with torch.autocast(batch.maps.device.type, dtype=torch.bfloat16, enabled=low):
            item = next(losses, None)
        if item is None:
            break
        group, losses_of_group = item
        parameters = [p for g in optimizers[group].param_groups for p in g["params"]]
        optimizers[group].zero_grad(set_to_none=True)
        loss = sum(term.float() for term in losses_of_group.values())
        loss.backward(inputs=None if literally else parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizers[group].step()
    synchronize()


if __name__ == "__main__":
    main()
