"""Trainings that tests start in processes of their own."""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from csegsynth_kit.data.cohort import load_cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.models import build
from csegsynth_kit.models.presets import Preset, preset
from csegsynth_kit.training.feed import Feed
from csegsynth_kit.training.runs import Run
from csegsynth_kit.training.trainer import Trainer
from tests.toy import TOY_GRID


def toy_preset(**training) -> Preset:
    tiny = preset("csegsynth", "tiny")
    compact = {"latent": 12, "spare": 4, "doublings": 1, "width": 4, "reader_widths": (8,)}
    model = replace(tiny.model, grid=TOY_GRID, hidden=16, **compact)
    short = {"steps": 0, "epochs": 4, "batch_size": 6, **training}
    return replace(
        tiny,
        name="toy",
        model=model,
        pretrain=replace(tiny.pretrain, **short),
        finetune=replace(tiny.finetune, **short),
    )


def triplet_preset() -> Preset:
    """Every term on, and plain descent: what Adam and clipping would hide, shows."""
    chosen = toy_preset(clip="off", epochs=1)
    goal = replace(chosen.model.conditional, triplet=1.0)
    return replace(chosen, model=replace(chosen.model, conditional=goal))


def train(cohort_path: Path, runs: Path, chosen: Preset | None = None, stage="finetune") -> Run:
    chosen = chosen or toy_preset()
    cohort = load_cohort(cohort_path)
    training, valid, _ = cohort.split((0.5, 0.25, 0.25))
    features = None
    if stage == "finetune":
        features = Features.fit(training.table, cohort.feature_columns)
    run = Run.open(runs, family="csegsynth", stage=stage, preset=chosen)
    model = build(chosen.model, features)
    trainer = Trainer(model, getattr(chosen, stage), run, device="cpu", progress=False)
    trainer.fit(training, valid)
    return run


def kill_in_the_middle(epoch: int, step: int) -> None:
    """Make this process kill itself when it reaches a batch."""
    original = Feed.epoch

    def dying(self, current):
        for i, batch in enumerate(original(self, current)):
            if (current, i) == (epoch, step):
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    Feed.epoch = dying


def first_gradient_norms(cohort_path: Path, runs: Path) -> dict[str, float]:
    """Gradient norm of every group in the first step, before any weight has moved."""
    norms: dict[str, float] = {}
    original = Trainer._step

    def recording(self, group, terms, weight):
        norm = original(self, group, terms, weight)
        norms.setdefault(group, norm)
        return norm

    Trainer._step = recording
    try:
        train(cohort_path, runs, triplet_preset())
    finally:
        Trainer._step = original
    return norms


def train_as_one_of_two(rank: int, cohort: Path, runs: Path, meeting: Path, norms: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    train(cohort, runs)
    found = first_gradient_norms(cohort, norms)
    if rank == 0:
        (norms / "norms.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[3:] == ["die"]:
        kill_in_the_middle(epoch=2, step=1)
    train(Path(sys.argv[1]), Path(sys.argv[2]))
