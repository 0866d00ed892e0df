"""Every hyper-parameter, stated once.

``paper`` is the published architecture and schedule with its defects mended,
``paper-reference`` the same with the defects put back; ``tiny``, ``small`` and ``full`` are
ours, for the 8, 4 and 2 mm grids.
"""

from dataclasses import dataclass, replace
from typing import Literal

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import GRIDS
from csegsynth_kit.models.alpha_gan import AlphaGANConfig, Objective
from csegsynth_kit.models.base import Config


@dataclass(frozen=True)
class TrainConfig:
    """How one stage is trained.

    Args:
        epochs: Passes over the training participants; 0 if ``steps`` is given.
        steps: Batches in all, rounded up to whole epochs; 0 if ``epochs`` is given.
        batch_size: Participants per batch, over all processes together.
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
        validation_draws: Maps per validation participant, from latents that never change.
        selection: Which checkpoint is kept as best: the smallest validation ``energy_score``
            or ``mae`` (both in training standard deviations), or the ``last``.
    """

    epochs: int = 0
    steps: int = 0
    batch_size: int = 16
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

    def __post_init__(self):
        if (self.epochs > 0) == (self.steps > 0):
            raise ConfigError(
                f"training for {self.epochs} epochs and {self.steps} steps",
                "Give either epochs or steps.",
            )


@dataclass(frozen=True)
class Preset:
    """Everything that defines a training, but for the data and the seed."""

    name: str
    model: Config
    pretrain: TrainConfig
    finetune: TrainConfig


_CSEGSYNTH_PAPER = Preset(
    "paper",
    AlphaGANConfig(
        GRIDS["paper"],
        architecture="published",
        answer_flags=False,
        code_term="gaussian",
        unconditional=Objective(reconstruction=100.0, warmup_steps=3000, critic_every=4),
        conditional=Objective(volume=10.0, reconstructed_volume=10.0, triplet=1.0, critic_every=4),
    ),
    pretrain=TrainConfig(epochs=3000, batch_size=12, learning_rate=2e-5),
    finetune=TrainConfig(
        epochs=200,
        batch_size=8,
        learning_rate=1e-6,
        learning_rates=(("transform", 1e-4),),
        selection="mae",
    ),
)


def _as_published(preset: Preset) -> Preset:
    """Restore what the published scripts do and the ``paper`` preset mends."""
    literal = {"cadence": "reference", "warmup": "whole"}
    model = replace(
        preset.model,
        reconstruction_loss="bce",
        penalty_norm="reference",
        volume_loss="absolute",
        volume_unit="mm3",
        triplet_negative="reference",
        unconditional=replace(preset.model.unconditional, cadence="reference"),
        conditional=replace(
            preset.model.conditional,
            volume=100.0,
            reconstructed_volume=100.0,
            triplet=100.0,
            penalty=1.0,
            train_image_critic=False,
            **literal,
        ),
    )
    clipped = {"clip": "value", "clip_at": 1.0}
    return Preset(
        "paper-reference",
        model,
        replace(preset.pretrain, **clipped),
        replace(preset.finetune, **clipped),
    )


# A code critic that lags behind lets the codes' mean run away, and with it all volumes.
_COMPACT_GOAL = Objective(reconstruction=300.0, code_critic_steps=3, warmup_steps=50)

_CSEGSYNTH_TINY = Preset(
    "tiny",
    AlphaGANConfig(
        GRIDS["tiny"],
        latent=128,
        spare=32,
        unconditional=_COMPACT_GOAL,
        conditional=replace(_COMPACT_GOAL, volume=1.0),
    ),
    pretrain=TrainConfig(steps=150, learning_rate=3e-4, betas=(0.5, 0.9), ema=0.99),
    # A few hundred participants are soon learned by heart: small steps from the good start.
    finetune=TrainConfig(
        steps=150,
        learning_rate=1e-4,
        betas=(0.5, 0.9),
        schedule="cosine",
        ema=0.99,
        hide_answers=0.2,
        selection="energy_score",
    ),
)

_CSEGSYNTH_SMALL = replace(
    _CSEGSYNTH_TINY,
    name="small",
    model=replace(_CSEGSYNTH_TINY.model, grid=GRIDS["small"], doublings=1, reader_widths=(32, 64)),
)

_CSEGSYNTH_FULL = replace(
    _CSEGSYNTH_SMALL,
    name="full",
    model=replace(
        _CSEGSYNTH_SMALL.model,
        grid=GRIDS["full"],
        doublings=2,
        reader_widths=(24, 48, 64),
    ),
)

PRESETS = {
    "csegsynth": {
        preset.name: preset
        for preset in (
            _CSEGSYNTH_PAPER,
            _as_published(_CSEGSYNTH_PAPER),
            _CSEGSYNTH_TINY,
            _CSEGSYNTH_SMALL,
            _CSEGSYNTH_FULL,
        )
    },
}


def preset(family: str, name: str) -> Preset:
    """Return a family's preset, or raise ConfigError that lists what there is."""
    if family not in PRESETS:
        raise ConfigError(
            f"there is no model family '{family}'", f"Choose one of {', '.join(PRESETS)}."
        )
    if name not in PRESETS[family]:
        raise ConfigError(
            f"family '{family}' has no preset '{name}'",
            f"Choose one of {', '.join(PRESETS[family])}.",
        )
    return PRESETS[family][name]
