"""Presets of VAE and C-VAE."""

from csegsynth_kit.maps import GRIDS
from csegsynth_kit.models.presets.training import Preset, TrainConfig, with_finer_grids
from csegsynth_kit.models.vae import VAEConfig, VAEObjective

#: The published scripts weigh the divergence by 5e-4, but sum it over the 1024 entries of the
#: code in pre-training and average it in fine-tuning. Here both are per entry. Volumes are those
#: of maps from the posterior alone: the published C-VAE draws none from its prior in training.
_PAPER = Preset(
    "paper",
    VAEConfig(
        GRIDS["paper"],
        architecture="published",
        answer_flags=False,
        unconditional=VAEObjective(kl=1024 * 5e-4),
        conditional=VAEObjective(kl=5e-4, reconstructed_volume=10.0),
    ),
    pretrain=TrainConfig(
        epochs=500, batch_size=7, learning_rate=1e-5, optimizer="adamw", weight_decay=0.01
    ),
    finetune=TrainConfig(
        epochs=2000,
        batch_size=16,
        learning_rate=1e-6,
        learning_rates=(("encoder_shift", 1e-4), ("prior", 1e-4), ("decoder_shift", 1e-4)),
        selection="mae",
    ),
)

_TINY = Preset(
    "tiny",
    VAEConfig(
        GRIDS["tiny"],
        latent=192,
        spare=96,
        unconditional=VAEObjective(reconstruction=300.0, kl=1.0),
        conditional=VAEObjective(reconstruction=300.0, kl=1.0, volume=1.0),
    ),
    pretrain=TrainConfig(steps=150, learning_rate=3e-4, ema=0.99),
    finetune=TrainConfig(
        steps=60,
        learning_rate=1e-5,
        learning_rates=(("encoder_shift", 1e-4), ("prior", 1e-4), ("decoder_shift", 1e-4)),
        schedule="cosine",
        ema=0.99,
        hide_answers=0.2,
        validate_every=2,
        selection="energy_score",
    ),
)

CVAE = (_PAPER, *with_finer_grids(_TINY, times=2))
