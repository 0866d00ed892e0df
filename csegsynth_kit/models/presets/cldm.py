"""Presets of LDM and C-LDM."""

from dataclasses import replace

from csegsynth_kit.maps import GRIDS
from csegsynth_kit.models.ldm_config import LDMConfig, LDMObjective
from csegsynth_kit.models.presets.training import Preset, TrainConfig, longer

#: The published scripts hold no LDM; their log names the values of MONAI's 3D tutorial, which
#: these are: 200 epochs each for autoencoder and denoiser, on 928 participants in batches of 6.
#: The tutorial sums the divergence over its 61,440 latents, here it is per entry. Its
#: perceptual term needs downloaded weights and three channels; it is left out.
_PAPER = Preset(
    "paper",
    LDMConfig(
        GRIDS["paper"],
        mean_start=False,
        component_start=False,
        places=0,
        center=False,
        regression_start=False,
        modes=0,
        norm_groups=16,
        denoiser_norm_groups=32,
        token=0,
        answer_flags=False,
        reconstruction_loss="l1",
        sampler="ddpm",
        sampling_steps=1000,
        drop_features=0.0,
        unconditional=LDMObjective(
            autoencoder_steps=200 * 154, kl=61_440 * 1e-6, adversarial=0.01, warmup_steps=5 * 154
        ),
    ),
    pretrain=TrainConfig(epochs=400, batch_size=6, learning_rate=1e-4),
    finetune=TrainConfig(epochs=200, batch_size=6, learning_rate=2e-5, selection="mae"),
)

_TINY = Preset(
    "tiny",
    LDMConfig(
        GRIDS["tiny"],
        patch=8,
        channels=(16,),
        latent_channels=16,
        spare=4,
        attention=False,
        denoiser_channels=(32,),
        denoiser_attention=(True,),
        head_channels=32,
        sampling_steps=2,
        noises=2,
        unconditional=LDMObjective(autoencoder_steps=60, reconstruction=300.0, kl=0.01, volume=2.0),
        conditional=LDMObjective(autoencoder_steps=40, reconstruction=300.0, kl=0.01, volume=2.0),
    ),
    # Validation samples hundreds of maps, which takes longer than several epochs.
    pretrain=TrainConfig(steps=160, learning_rate=2e-3, ema=0.99, validate_every=50),
    finetune=TrainConfig(
        steps=125,
        learning_rate=2e-3,
        # From a start this good, longer strides only learn the training participants by heart.
        learning_rates=(("denoiser", 3e-4), ("transform", 3e-4)),
        schedule="cosine",
        ema=0.99,
        hide_answers=0.2,
        validate_every=1,
        selection="energy_score",
    ),
)

#: On finer grids there are more places to denoise, and a larger cohort to learn it from.
_TIMES = 8
#: Steps of a denoiser add up over its places, and finer grids have more of them.
_FINER_PRETRAIN = replace(longer(_TINY.pretrain, _TIMES), learning_rates=(("denoiser", 3e-4),))
_FINER_FINETUNE = longer(_TINY.finetune, _TIMES)


def _with_longer_start(objective: LDMObjective) -> LDMObjective:
    return replace(objective, autoencoder_steps=_TIMES * objective.autoencoder_steps)


_FINER = replace(
    _TINY.model,
    unconditional=_with_longer_start(_TINY.model.unconditional),
    conditional=_with_longer_start(_TINY.model.conditional),
)

_SMALL = Preset(
    "small",
    replace(
        _FINER,
        grid=GRIDS["small"],
        denoiser_channels=(32, 64),
        denoiser_attention=(False, True),
    ),
    pretrain=_FINER_PRETRAIN,
    finetune=_FINER_FINETUNE,
)

_FULL = Preset(
    "full",
    replace(
        _FINER,
        grid=GRIDS["full"],
        component_start=False,  # 2016 patches with components of their own are too many
        denoiser_channels=(32, 64, 64),
        denoiser_attention=(False, False, True),
    ),
    pretrain=_FINER_PRETRAIN,
    finetune=_FINER_FINETUNE,
)

CLDM = (_PAPER, _TINY, _SMALL, _FULL)
