"""Will a training fit on this machine, and how long will it take?

Both are predicted from a few steps on small boxes of voxels: time and memory of a step are
taken to grow in proportion to participants times voxels, from what a step takes anyway.
Memory of weights, and of the start before the first step, is counted.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch

from csegsynth_kit.constants import MEASURED, TISSUES
from csegsynth_kit.data.parallel import available_bytes
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import Grid, at_once
from csegsynth_kit.models import Config, build
from csegsynth_kit.models.presets import Preset
from csegsynth_kit.training.probe import Measured, measure, questionnaire
from csegsynth_kit.training.runs import STAGES, Stage
from csegsynth_kit.training.trainer import default_device

#: What is planned for unless a preset is named, on ever finer grids.
PRESETS = ("tiny", "small", "full")
#: Share of the free memory that a training may take.
_USABLE = 0.9
#: Boxes with more voxels than this are measured at half their edges.
_FEW_VOXELS = 50_000
#: Half edges are rounded to what every preset's networks can halve.
_DIVISOR = 16
#: Validation participants per training participant.
_VALIDATION = 1 / 8
_FLOAT = 4  # bytes
#: Copies of the maps that a start goes through at a time: them, the ones before, logarithms in
#: single and double precision.
_COPIES = 5
_GB = 1e9


@dataclass(frozen=True)
class Rates:
    """What training one stage takes on this machine.

    Args:
        step: Seconds of a step whatever the batch.
        participant: Seconds that each participant of a batch adds.
        drawing: Seconds to generate a map.
        program: Memory whatever the preset (bytes).
        memory: Memory that each participant of a batch adds (bytes).
        voxels: For which this holds.
        weights: Memory of weights there (bytes).
    """

    step: float
    participant: float
    drawing: float
    program: int
    memory: float
    voxels: int
    weights: int

    @classmethod
    def of(cls, measured: Sequence[Measured], *, voxels: int, weights: int) -> "Rates":
        """Lay lines through measurements of a small and a larger batch."""
        small, large = measured
        more = large.batch - small.batch
        participant = max(0.0, (large.seconds - small.seconds) / more)
        memory = max(0.0, (large.memory - small.memory) / more)
        return cls(
            max(0.0, small.seconds - small.batch * participant),
            participant,
            large.drawing,
            max(small.program, int(small.memory - small.batch * memory) - weights),
            memory,
            voxels,
            weights,
        )


@dataclass(frozen=True)
class Cost:
    """What one stage of a preset will take.

    Args:
        preset: Its name.
        stage: Of the training.
        batch: Participants per batch.
        accumulate: Parts of a batch.
        steps: Batches in all.
        step_seconds: Of one step.
        validation_seconds: Of all validations, and of what is fitted before each.
        memory: Parts of the memory by name (bytes).
    """

    preset: str
    stage: Stage
    batch: int
    accumulate: int
    steps: int
    step_seconds: float
    validation_seconds: float
    memory: Mapping[str, int]

    @property
    def total(self) -> int:
        """Memory in all (bytes)."""
        return sum(self.memory.values())

    @property
    def seconds(self) -> float:
        """Of the whole training."""
        return self.steps * self.step_seconds + self.validation_seconds


def weight_bytes(preset: Preset, stage: Stage) -> int:
    """Memory of weights, gradients, two moments and averages, and of what is not trained."""
    trained, everything, buffers = _numbers(preset.model, stage)
    copies = 1 + (getattr(preset, stage).ema > 0)
    return _FLOAT * (everything * copies + trained * 3 + buffers)


@functools.cache
def _numbers(config: Config, stage: Stage) -> tuple[int, int, int]:
    """Count trained parameters, all parameters, and numbers in buffers."""
    with torch.device("meta"):  # counts without holding anything
        model = build(config, questionnaire() if stage == "finetune" else None)
    modules = [module for group in model.groups().values() for module in group.values()]
    return (
        sum(p.numel() for module in modules for p in module.parameters()),
        sum(p.numel() for p in model.parameters()),
        sum(b.numel() for b in model.buffers()),
    )


def measured_rates(preset: Preset, stage: Stage, *, participants: int) -> Rates:
    """Measure what steps of a preset take, on a small box.

    Args:
        preset: As it is published.
        stage: Which training.
        participants: That it will have, which tells how long each phase of it lasts.
    """
    grid = probed(preset.model.grid)
    smaller = replace(preset, model=replace(preset.model, grid=grid))
    batches = (2, 6) if grid == preset.model.grid else (1, 3)
    training = replace(getattr(preset, stage), accumulate=1)
    smaller = replace(smaller, **{stage: training})
    steps = training.steps or training.epochs * max(1, participants // training.batch_size)
    measured = measure(smaller, stage, batches=batches, steps=steps)
    return Rates.of(measured, voxels=math.prod(grid.shape), weights=weight_bytes(smaller, stage))


def probed(grid: Grid) -> Grid:
    """Return the box on which a grid's steps are measured."""
    if math.prod(grid.shape) <= _FEW_VOXELS:
        return grid
    shape = tuple(_DIVISOR * max(1, round(n / 2 / _DIVISOR)) for n in grid.shape)
    return replace(grid, name=f"part of {grid.name}", shape=shape)


def cost(preset: Preset, stage: Stage, rates: Rates, *, participants: int) -> Cost:
    """Predict what a stage takes with so many training participants."""
    config, grid = getattr(preset, stage), preset.model.grid
    voxels, weights = math.prod(grid.shape), weight_bytes(preset, stage)
    ratio, batch = voxels / rates.voxels, min(config.batch_size, participants)
    part = math.ceil(batch / config.accumulate)
    waiting = (batch - part) * voxels * len(TISSUES) * _FLOAT * 4  # maps given and generated
    per_epoch = participants // batch
    epochs = config.epochs or math.ceil(config.steps / per_epoch)
    step = config.accumulate * rates.step * max(1.0, weights / rates.weights)
    validations = 1 + math.ceil(epochs / config.validate_every)
    drawn = config.validation_draws * participants * _VALIDATION
    if settles := getattr(preset.model, "maps_between_epochs", None):
        drawn += settles(participants, conditional=stage == "finetune")
    return Cost(
        preset.name,
        stage,
        batch,
        config.accumulate,
        epochs * per_epoch,
        step + batch * rates.participant * ratio,
        validations * drawn * rates.drawing * ratio,
        {
            "program": rates.program,
            "weights": weights,
            "start or batch": max(
                _start_bytes(preset, participants), int(part * rates.memory * ratio) + waiting
            ),
            "cohort": participants * len(MEASURED) * voxels,
        },
    )


def _start_bytes(preset: Preset, participants: int) -> int:
    """Memory that the start takes, before there is any batch."""
    numbers = getattr(preset.model, "numbers_to_start", lambda people: 0)(participants)
    if numbers == 0:
        return 0
    grid = preset.model.grid
    chunk = min(at_once(grid), participants) * len(TISSUES) * math.prod(grid.shape)
    return _FLOAT * (numbers + _COPIES * chunk)


def fitted(
    preset: Preset, rates: Mapping[Stage, Rates], *, participants: int, free: int | None
) -> tuple[Preset, list[Cost]]:
    """Compute batches in as few parts as fit, from the preset's own on.

    Args:
        preset: As it is published.
        rates: Of each stage.
        participants: For training.
        free: Memory that is free (bytes), or None if that is not known.

    Returns:
        The preset with its parts, and the costs of both stages.
    """
    costs = []
    for stage in STAGES:
        config = getattr(preset, stage)
        most = min(config.batch_size, participants)
        for parts in range(min(config.accumulate, most), most + 1):
            preset = replace(preset, **{stage: replace(config, accumulate=parts)})
            found = cost(preset, stage, rates[stage], participants=participants)
            if fits([found], free):
                break
        costs.append(found)
    return preset, costs


def fits(costs: Sequence[Cost], free: int | None) -> bool:
    """Whether both stages fit; where nothing is known of the memory, they do."""
    return free is None or all(c.total <= _USABLE * free for c in costs)


def suggestion(
    plans: Sequence[tuple[Preset, list[Cost]]], free: int | None
) -> tuple[Preset, list[Cost]] | None:
    """Return the plan with most voxels among those that fit, or None."""
    fitting = [plan for plan in plans if fits(plan[1], free)]
    return max(fitting, key=lambda plan: math.prod(plan[0].model.grid.shape), default=None)


def plans(
    presets: Sequence[Preset], *, participants: int, free: int | None
) -> list[tuple[Preset, list[Cost]]]:
    """Measure on this machine, and predict both stages of every preset."""
    if participants < 1:
        raise ConfigError(f"training with {participants} participants", "Give 1 or more.")
    return [
        fitted(
            p,
            {s: measured_rates(p, s, participants=participants) for s in STAGES},
            participants=participants,
            free=free,
        )
        for p in presets
    ]


def check(preset: Preset, costs: Sequence[Cost], *, participants: int) -> pd.DataFrame:
    """Start each stage at full size and take its steps; one row each, predicted and measured."""
    rows = []
    for found in costs:
        (real,) = measure(
            preset,
            found.stage,
            batches=(found.batch,),
            steps=found.steps,
            participants=participants,
        )
        rows.append(
            {
                "stage": found.stage,
                "step (s)": found.step_seconds,
                "measured (s)": real.seconds,
                "memory (GB)": found.total / _GB,
                "measured (GB)": real.memory / _GB,
            }
        )
    return pd.DataFrame(rows)


def table(plans: Sequence[tuple[Preset, list[Cost]]], free: int | None) -> pd.DataFrame:
    """One row per preset and stage, in plain words."""
    rows = [
        {
            "preset": found.preset,
            "stage": found.stage,
            "batch": found.batch,
            "parts": found.accumulate,
            "memory (GB)": f"{found.total / _GB:.1f}",
            "step (s)": f"{found.step_seconds:.2g}",
            "steps": found.steps,
            "in all": spoken(found.seconds),
            "fits": "unknown" if free is None else "yes" if fits([found], free) else "no",
        }
        for _, costs in plans
        for found in costs
    ]
    return pd.DataFrame(rows)


def spoken(seconds: float) -> str:
    """A duration in the unit that suits it."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def free_memory() -> int | None:
    """Bytes that are free on the accelerator, else on this machine; None if it does not say."""
    if default_device().type == "cuda":
        return torch.cuda.mem_get_info()[0]
    free = available_bytes()
    return None if free == math.inf else int(free)
