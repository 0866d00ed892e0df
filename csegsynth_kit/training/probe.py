"""What steps of a training take on this machine, measured on random maps."""

import multiprocessing
import os
import re
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from csegsynth_kit.constants import MEASURED, TISSUES
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import at_once, dequantize
from csegsynth_kit.models import Batch, Rng, TrainingSet, build
from csegsynth_kit.models.config import to_dict
from csegsynth_kit.models.memory import kept_memory
from csegsynth_kit.models.presets import Preset
from csegsynth_kit.training.feed import Share
from csegsynth_kit.training.runs import Run, Stage
from csegsynth_kit.training.trainer import Trainer, default_device

#: People of the random questionnaire; what they answer costs next to nothing.
_PEOPLE = 40
_QUESTIONS = 12


@dataclass(frozen=True)
class Measured:
    """What a batch took.

    Args:
        batch: Participants in it.
        seconds: Of a step of every group, averaged over the phases and turns of a training.
        memory: Most that the process, or on an accelerator its tensors, ever held (bytes).
        program: Of that, what was held before there was a model (bytes).
        drawing: Seconds to generate a map, without gradients.
    """

    batch: int
    seconds: float
    memory: int
    program: int
    drawing: float


def measure(
    preset: Preset, stage: Stage, *, batches: Sequence[int], steps: int, participants: int = 0
) -> list[Measured]:
    """Measure steps in a process of their own, whose memory is theirs alone.

    Args:
        preset: Model and training configuration.
        stage: Of the training.
        batches: Participants per batch, growing: of memory only the most so far is known.
        steps: Batches of the whole training, over which phases are averaged.
        participants: To start from, whose maps are held in memory; none leave the start out.

    Raises:
        ConfigError: if the process was ended for want of memory.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        threads = torch.get_num_threads()
        job = pool.submit(_measure, preset, stage, tuple(batches), steps, participants, threads)
        try:
            return job.result()
        except (BrokenProcessPool, torch.OutOfMemoryError) as error:
            raise ConfigError(
                f"steps of preset '{preset.name}' were ended, probably for want of memory",
                "Choose a smaller preset or compute batches in more parts (--accumulate).",
            ) from error


def questionnaire() -> Features:
    """Return random questions, for a conditional model that nobody will keep."""
    columns = [Column(f"question{i}", "continuous") for i in range(_QUESTIONS)]
    answers = np.random.default_rng(0).normal(size=(_PEOPLE, _QUESTIONS))
    return Features.fit(pd.DataFrame(answers, columns=[c.name for c in columns]), columns)


def _measure(
    preset: Preset,
    stage: Stage,
    batches: tuple[int, ...],
    steps: int,
    participants: int,
    threads: int,
) -> list[Measured]:
    torch.set_num_threads(threads)
    device = default_device()
    program = _held(device)
    trainer = _trainer(preset, stage, device)
    cohort = _start(trainer, participants) if participants else None
    with kept_memory():
        found = [_of_batch(trainer, n, steps, program) for n in batches]
    del cohort  # held until here
    return found


def _trainer(preset: Preset, stage: Stage, device: torch.device) -> Trainer:
    """Build a trainer whose run is nowhere on disk."""
    features = questionnaire() if stage == "finetune" else None
    training = getattr(preset, stage)
    config = {"stage": stage, "training": training.to_dict(), "model": to_dict(preset.model)}
    model = build(preset.model, features)
    return Trainer(model, training, Run(Path(), config), device=device, progress=False)


def _start(trainer: Trainer, participants: int) -> TrainingSet:
    """Start the model from random training participants, and return them."""
    model, generator = trainer.model, torch.Generator().manual_seed(0)
    shape = (participants, len(MEASURED), *model.config.grid.shape)
    most = 256 // len(MEASURED)  # so that shares sum to 1 at most
    maps = torch.randint(most, shape, dtype=torch.uint8, generator=generator).to(trainer.device)
    volumes = torch.randn(participants, len(MEASURED), generator=generator).to(trainer.device)
    inputs = None
    if model.conditional:
        inputs = torch.randn(participants, model.features.n_inputs, generator=generator)
        inputs = inputs.to(trainer.device)
    training = TrainingSet(
        lambda: (dequantize(p) for p in maps.split(at_once(model.config.grid))), volumes, inputs
    )
    model.fit_statistics(training)
    trainer.average.restart()
    return training


def _of_batch(trainer: Trainer, n: int, steps: int, program: int) -> Measured:
    model, device = trainer.model, trainer.device
    batch, seconds = _random_batch(trainer, n), 0.0
    everybody = _random_batch(trainer, max(n, 4))
    training = TrainingSet(lambda: [everybody.maps], everybody.volumes, everybody.features)
    every = getattr(model.objective, "critic_every", 1)
    phases = model.phases(steps)
    for first, last in phases:
        model.begin_epoch(training, first)
        model.train()
        _time(trainer, batch, first)  # optimizers get their moments, libraries make up their minds
        turn = _time(trainer, batch, first - first % every)
        other = _time(trainer, batch, first - first % every + 1)
        turns = 1 / every if every > 1 else 0.5  # without turns, both steps are alike
        seconds += (turns * turn + (1 - turns) * other) * (last - first) / steps
    model.eval()
    began = time.perf_counter()
    with torch.no_grad():
        latents = torch.randn(n, *model.latent_shape, device=device)
        float(model.generate(latents, batch.features).sum())
    drawing = (time.perf_counter() - began) / n
    return Measured(n, seconds, _most(device), program, drawing)


def _time(trainer: Trainer, batch: Batch, step: int) -> float:
    n, device = len(batch.maps), trainer.device
    rows = [share.rows(n) for share in Share().cut(min(n, trainer.config.accumulate))]
    began = time.perf_counter()
    parts = [(_rows(batch, r), Rng(0, step, total=n, rows=r, device=device)) for r in rows]
    for _ in trainer.stepper.batch(parts, step, n):
        pass
    trainer.average.update()
    return time.perf_counter() - began


def _rows(batch: Batch, rows: slice) -> Batch:
    return replace(batch, **{k: v[rows] for k, v in vars(batch).items() if v is not None})


def _random_batch(trainer: Trainer, n: int) -> Batch:
    model, generator = trainer.model, torch.Generator().manual_seed(n)
    maps = torch.rand(n, len(TISSUES), *model.config.grid.shape, generator=generator)
    maps /= maps.sum(1, keepdim=True)

    def others(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.roll(1, 0).to(trainer.device)

    volumes = torch.randn(n, len(MEASURED), generator=generator)
    inputs = None
    if model.conditional:
        inputs = torch.randn(n, model.features.n_inputs, generator=generator)
    own = [None if x is None else x.to(trainer.device) for x in (maps, volumes, inputs)]
    return Batch(*own, others(volumes), others(inputs))


def _held(device: torch.device) -> int:
    """Bytes in use now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated()
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return _most(device)
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _most(device: torch.device) -> int:
    """Most bytes ever in use."""
    return torch.cuda.max_memory_reserved() if device.type == "cuda" else peak_memory()


def peak_memory() -> int:
    """Most bytes of main memory that this process ever held."""
    status = Path("/proc/self/status")  # Linux, where getrusage counts what the parent held, too
    told = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if told:
        return int(told[1]) * 1024
    if find_spec("resource") is None:
        raise ConfigError(
            "this system does not tell how much memory a process has had",
            "Plan on Linux, macOS, or with a graphics card.",
        )
    resource = import_module("resource")  # only there; the command line must load without
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
