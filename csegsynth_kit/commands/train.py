"""Train one stage of a model, also as one of several processes."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from csegsynth_kit.data.cohort import load_cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.files import require_folder
from csegsynth_kit.errors import ConfigError, RunError
from csegsynth_kit.models import build
from csegsynth_kit.models.presets import preset
from csegsynth_kit.training.runs import Run, warm_start
from csegsynth_kit.training.trainer import Trainer

#: What torchrun tells each process, besides how many there are.
_TOLD = ("RANK", "MASTER_ADDR", "MASTER_PORT")


def run(options: argparse.Namespace) -> None:
    """Run ``csegsynth train``."""
    distributed = _one_of_several()
    if distributed:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        trained = _train_stage(options)
    finally:
        if distributed:
            dist.destroy_process_group()
    print(trained.path)


def _one_of_several() -> bool:
    """Whether torchrun started this process and others; cluster jobs may set the world to 1."""
    world = int(os.environ.get("WORLD_SIZE") or 1)
    if world <= 1:
        return False
    unset = [name for name in _TOLD if name not in os.environ]
    if unset:
        raise ConfigError(
            f"WORLD_SIZE is {world}, but what tells which of these processes this is, and where "
            f"the others are, is not set: {', '.join(unset)}",
            "Start several with torchrun --nproc-per-node N -m csegsynth_kit.cli train …, or unset "
            "WORLD_SIZE to train in one.",
        )
    return True


def _train_stage(options: argparse.Namespace) -> Run:
    require_folder(Path(options.out))
    chosen = preset(options.family, options.preset)
    finetune = options.stage == "finetune"
    if finetune and not options.parent and not options.from_scratch:
        raise ConfigError(
            "fine-tuning starts from a pre-training, and none is given",
            "Give its run folder with --parent, or say --from-scratch.",
        )
    parent = _pretrained(options.parent) if options.parent else None
    fractions = options.fractions or ((0.8, 0.1, 0.1) if finetune else (0.9, 0.1, 0.0))
    train, valid, test = load_cohort(options.cohort).split(tuple(fractions), seed=options.seed)
    features = Features.fit(train.table, train.feature_columns) if finetune else None
    model = build(chosen.model, features, seed=options.seed)
    if parent:
        parent.require_unseen(test)
        print(f"new: {', '.join(warm_start(model, parent.best()))}")
    run = Run.open(
        options.out,
        family=options.family,
        stage=options.stage,
        preset=chosen,
        seed=options.seed,
        parent=parent,
    )
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    training = getattr(chosen, options.stage)
    if options.accumulate is not None:
        training = replace(training, accumulate=options.accumulate)
    Trainer(model, training, run, device=device).fit(train, valid)
    return run


def _pretrained(path: str) -> Run:
    run = Run.load(path)
    if not run.finished:
        raise RunError(
            "is not trained to its end yet, so nothing can start from it",
            "Repeat the command that began it, csegsynth train or run: it continues.",
            run.path,
        )
    return run
