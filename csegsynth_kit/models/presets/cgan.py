"""Presets of GAN and C-GAN."""

from csegsynth_kit.maps import GRIDS
from csegsynth_kit.models.gan import GANConfig, GANObjective
from csegsynth_kit.models.presets.training import Preset, TrainConfig, with_finer_grids

#: The published pre-training is a chain of three runs with falling learning rate (2e-5, 2e-6,
#: 5e-7) and 10, 4 and 2 generator steps per critic step; this is the first, at full length.
_PAPER = Preset(
    "paper",
    GANConfig(
        GRIDS["paper"],
        architecture="published",
        answer_flags=False,
        volume_loss="absolute",
        unconditional=GANObjective(warmup_steps=3000, critic_every=10),
        conditional=GANObjective(volume=10.0, triplet=1.0, critic_every=4),
    ),
    pretrain=TrainConfig(epochs=10400, batch_size=32, learning_rate=2e-5),
    finetune=TrainConfig(
        epochs=5000,
        batch_size=8,
        learning_rate=1e-6,
        learning_rates=(("transform", 1e-4),),
        selection="mae",
    ),
)

_TINY = Preset(
    "tiny",
    GANConfig(
        GRIDS["tiny"],
        latent=192,
        spare=96,
        unconditional=GANObjective(critic_steps=2),
        conditional=GANObjective(volume=1.0),
    ),
    # Nothing but the critic holds a GAN to its good start: the critic must be ahead of it.
    pretrain=TrainConfig(
        steps=120,
        learning_rate=3e-4,
        learning_rates=(("generator", 5e-5),),
        betas=(0.5, 0.9),
        ema=0.99,
    ),
    finetune=TrainConfig(
        steps=120,
        learning_rate=3e-4,
        betas=(0.5, 0.9),
        schedule="cosine",
        ema=0.99,
        hide_answers=0.2,
        selection="energy_score",
    ),
)

CGAN = (_PAPER, *with_finer_grids(_TINY, times=2))
