"""What a preset consists of."""

from dataclasses import dataclass, replace
from typing import Literal

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import GRIDS
from csegsynth_kit.models.base import Config
from csegsynth_kit.models.config import to_dict

#: They come in antithetic pairs, and an energy score needs two that are independent.
_LEAST_VALIDATION_DRAWS = 3


@dataclass(frozen=True)
class TrainConfig:
    """How one stage is trained.

    Args:
        epochs: Passes over the training participants; 0 if ``steps`` is given.
        steps: Batches in all, rounded up to whole epochs; 0 if ``epochs`` is given.
        batch_size: Participants per batch, over all processes together.
        accumulate: Parts in which each process computes its share of a batch, one after another,
            for machines whose memory does not hold it at once. Their gradients are summed
            before each step, so that, like the number of processes, it changes no result.
        learning_rate: For every module not named in ``learning_rates``.
        learning_rates: (module, learning rate) pairs.
        optimizer: ``adam`` or ``adamw``.
        betas: Of the optimizer.
        weight_decay: Of the optimizer.
        schedule: ``constant``, or ``cosine`` to a hundredth of the learning rate.
        clip: Clip gradients by global ``norm``, each element by ``value`` (as published), or
            not (``off``).
        clip_at: Where.
        ema: Decay per step of the averaged weights used for sampling; 0 samples with the raw
            weights.
        precision: ``fp32`` or ``bf16``.
        hide_answers: Share of participants of each batch from whom a random part of the
            answers is hidden, so that the model learns to do without them.
        validate_every: Epochs between validations.
        validation_draws: Maps per validation participant, from latents that never change; at
            least 3, of which 2 are independent.
        selection: Which checkpoint is kept as best: the smallest validation ``energy_score``
            or ``mae`` (both in training standard deviations), or the ``last``.
        selection_tolerance: A later checkpoint is kept as well if its score is above the smallest
            by no more than this share: volumes say little about how real maps look.
    """

    epochs: int = 0
    steps: int = 0
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 2e-4
    learning_rates: tuple[tuple[str, float], ...] = ()
    optimizer: Literal["adam", "adamw"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    clip: Literal["norm", "value", "off"] = "norm"
    clip_at: float = 1.0
    ema: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    hide_answers: float = 0.0
    validate_every: int = 1
    validation_draws: int = 8
    selection: Literal["energy_score", "mae", "last"] = "last"
    selection_tolerance: float = 0.0

    def __post_init__(self):
        if (self.epochs > 0) == (self.steps > 0):
            raise ConfigError(
                f"training for {self.epochs} epochs and {self.steps} steps",
                "Give either epochs or steps.",
            )
        if self.accumulate < 1:
            raise ConfigError(f"a batch in {self.accumulate} parts", "Give 1 or more.")
        if self.validation_draws < _LEAST_VALIDATION_DRAWS:
            raise ConfigError(
                f"{self.validation_draws} draws per validation participant have no energy score",
                f"Set validation_draws to {_LEAST_VALIDATION_DRAWS} or more.",
            )

    def to_dict(self) -> dict:
        """Return a JSON-ready dictionary of what decides the result."""
        return {k: v for k, v in to_dict(self).items() if k != "accumulate"}


@dataclass(frozen=True)
class Preset:
    """Everything that defines a training, but for the data and the seed."""

    name: str
    model: Config
    pretrain: TrainConfig
    finetune: TrainConfig


def longer(config: TrainConfig, times: int) -> TrainConfig:
    """Return a training of so many times as many steps."""
    return replace(config, steps=times * config.steps)


def with_finer_grids(tiny: Preset, *, times: int) -> tuple[Preset, Preset, Preset]:
    """Return ``tiny`` and wider networks on finer grids, ``small`` and ``full``.

    On finer grids there is detail to learn, and a larger cohort to learn it from. What detail
    there is beyond that, texture stands for.

    Args:
        tiny: The preset of the coarse grid.
        times: How many times as many steps the finer ones take.
    """
    finer = {"width": 32, "waves": 128}
    small = finer | {"grid": GRIDS["small"], "doublings": 1, "reader_widths": (32, 32)}
    full = finer | {"grid": GRIDS["full"], "doublings": 2, "reader_widths": (24, 48, 64)}
    stages = {
        "pretrain": longer(tiny.pretrain, times),
        "finetune": longer(tiny.finetune, times),
    }
    # A whole batch of 2 mm takes more memory than most laptops have; halves give the same result.
    halved = {stage: replace(config, accumulate=2) for stage, config in stages.items()}
    return (
        tiny,
        replace(tiny, name="small", model=replace(tiny.model, **small), **stages),
        replace(tiny, name="full", model=replace(tiny.model, **full), **halved),
    )
