"""Time and memory of one training step: the published networks, as published and as here, and ours.

    python benchmarks/training_step.py --grid small --family csegsynth

Every case runs in a process of its own. *naive* takes the published networks literally:
grouped and transposed convolutions as such, channels first. *paper* computes the same numbers
our way. *ours* is our preset for the grid. A step is one update of every group of parameters,
with random maps; seconds are the median over steps, per map.
"""

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from csegsynth_kit.maps import GRIDS
from csegsynth_kit.models import Batch, Rng, build
from csegsynth_kit.models.blocks import ConvNeXtBlock, GroupedConv
from csegsynth_kit.models.memory import kept_memory
from csegsynth_kit.models.presets import preset
from csegsynth_kit.models.published import PublishedGenerator
from csegsynth_kit.training.trainer import default_device

NAIVE, PAPER, OURS = "naive", "paper", "ours"
#: Grids by name; the published one, too, with voxels of 4 mm.
GRID = {**GRIDS, "paper-4mm": GRIDS["paper"].pooled(2, "paper-4mm")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="csegsynth")
    parser.add_argument("--grid", default="small", choices=list(GRID))
    parser.add_argument("--cases", nargs="+", default=[NAIVE, PAPER, OURS])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, help="maps per step; default 1, our preset's for ours")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options)))
        return
    shape = " x ".join(map(str, GRID[options.grid].shape))
    print(f"{options.family}, unconditional, grid {shape}, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, {default_device()}\n")
    print("| case | parameters | maps per step | s per map | times as fast | peak memory (GB) |")
    print("|---|---|---|---|---|---|")
    first = None
    for case in options.cases:
        command = [sys.executable, __file__, *sys.argv[1:], "--case", case]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        row = json.loads(done.stdout.splitlines()[-1])
        first = first or row["seconds"]
        cells = [case, f"{row['parameters']:,}", row["batch"], f"{row['seconds']:.3g}"]
        cells += [f"{first / row['seconds']:.1f}", f"{row['memory_gb']:.1f}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def measure(options: argparse.Namespace) -> dict:
    """Time steps of one case."""
    if options.case == NAIVE:
        take_literally()
    device = default_device()
    known = preset(options.family, options.grid if options.case == OURS else "paper")
    config = replace(known.model, grid=GRID[options.grid])
    n = options.batch or (known.pretrain.batch_size if options.case == OURS else 1)
    model = build(config, None, seed=0).to(device).train()
    if options.case == NAIVE:
        model = model.to(memory_format=torch.contiguous_format)
    optimizers = {
        group: torch.optim.Adam([p for m in parts.values() for p in m.parameters()], fused=True)
        for group, parts in model.groups().items()
    }
    maps = torch.rand(n, 4, *config.grid.shape, device=device)
    batch = Batch(maps / maps.sum(1, keepdim=True), torch.ones(n, 3, device=device))
    # Beyond the warm-up, in a step in which it is every critic's turn.
    first, seconds = 1200 * 154, []
    # The published loop leaves memory to the C library.
    with contextlib.nullcontext() if options.case == NAIVE else kept_memory():
        for i in range(1 + options.steps):
            began = time.perf_counter()
            step(model, optimizers, batch, Rng(0, i, total=n, device=device), first)
            seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    return {
        "seconds": sorted(seconds[1:])[options.steps // 2] / n,
        "batch": n,
        "memory_gb": peak,
        "parameters": sum(p.numel() for p in model.parameters()),
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


def step(model, optimizers, batch: Batch, rng: Rng, at: int) -> None:
    """Update every group once, as the trainer does."""
    for group, terms in model.losses(batch, rng, at):
        parameters = [p for g in optimizers[group].param_groups for p in g["params"]]
        optimizers[group].zero_grad(set_to_none=True)
        sum(term.float() for term in terms.values()).backward(inputs=parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizers[group].step()
    if batch.maps.device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
