"""Presets of alpha-GAN and CSegSynth."""

from dataclasses import replace

from csegsynth_kit.maps import GRIDS
from csegsynth_kit.models.alpha_gan import AlphaGANConfig, Objective
from csegsynth_kit.models.presets.training import Preset, TrainConfig, with_finer_grids

_PAPER = Preset(
    "paper",
    AlphaGANConfig(
        GRIDS["paper"],
        architecture="published",
        answer_flags=False,
        volume_loss="absolute",
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

_TINY = Preset(
    "tiny",
    AlphaGANConfig(
        GRIDS["tiny"],
        # The young vary in fewer ways than people of all ages: as many entries again for those.
        latent=192,
        spare=96,
        unconditional=_COMPACT_GOAL,
        conditional=replace(_COMPACT_GOAL, volume=1.0),
    ),
    pretrain=TrainConfig(steps=120, learning_rate=3e-4, betas=(0.5, 0.9), ema=0.99),
    # A few hundred participants are soon learned by heart: T learns, the rest hardly moves.
    finetune=TrainConfig(
        steps=100,
        learning_rate=1e-5,
        learning_rates=(("transform", 1e-4), ("critic", 1e-4)),
        betas=(0.5, 0.9),
        schedule="cosine",
        ema=0.99,
        hide_answers=0.2,
        selection="energy_score",
    ),
)


def _following(preset: Preset) -> Preset:
    """Let generator and encoder learn more from larger cohorts, and prior and T follow them.

    Nobody's answers are hidden: T forgets what it learns from that whenever it restarts.
    """
    return replace(
        preset,
        model=replace(preset.model, prior_restart=True, regression_restart=True),
        finetune=replace(
            preset.finetune,
            steps=300,
            learning_rate=1e-4,
            learning_rates=(("transform", 1e-5), ("critic", 1e-4)),
            hide_answers=0.0,
            selection_tolerance=0.005,
        ),
    )


def _dear(preset: Preset) -> Preset:
    """Take as many steps of half as many maps, and validate every other epoch.

    Maps of 2 mm are dear, and half as many per step bring the alpha-GAN as far in an hour (error
    of reconstructions .0309 either way, Frechet distance 27 and 29). Between two validations the
    embedded cohort of 400 people gives as many steps, 100, as that of 1,600 does at 4 mm.
    """
    half = {"batch_size": 8, "validate_every": 2}
    return replace(
        preset,
        pretrain=replace(preset.pretrain, **half),
        finetune=replace(preset.finetune, **half),
    )


_TINY, _SMALL, _FULL = with_finer_grids(_TINY, times=5)
CSEGSYNTH = (_PAPER, _as_published(_PAPER), _TINY, _following(_SMALL), _dear(_following(_FULL)))
