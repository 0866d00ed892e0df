"""The model families."""

import torch

from csegsynth_kit.data.features import Features
from csegsynth_kit.models.alpha_gan import AlphaGAN, AlphaGANConfig
from csegsynth_kit.models.base import Batch, Config, Family, Rng, TrainingSet
from csegsynth_kit.models.gan import GAN, GANConfig
from csegsynth_kit.models.ldm_config import LDMConfig
from csegsynth_kit.models.vae import VAE, VAEConfig

#: Family name to its config.
FAMILIES: dict[str, type] = {
    "cvae": VAEConfig,
    "cgan": GANConfig,
    "cldm": LDMConfig,
    "csegsynth": AlphaGANConfig,
}


def family_class(name: str) -> type[Family]:
    """Return the class of the models of a family."""
    if name == "cldm":
        # Its networks are MONAI's, which take a second to load and which no other family needs.
        from csegsynth_kit.models.ldm import LDM

        return LDM
    return {"cvae": VAE, "cgan": GAN, "csegsynth": AlphaGAN}[name]


def build(config: Config, features: Features | None = None, *, seed: int = 0) -> Family:
    """Build a freshly initialized model.

    Args:
        config: A family's config, such as ``preset.model``.
        features: The questions of a conditional model; None for the unconditional ancestor.
        seed: Of the initial weights. The global random state is left as it was.
    """
    family = family_class(config.family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = family(config, features)
    return model.to(memory_format=torch.channels_last_3d)


__all__ = ["FAMILIES", "Batch", "Config", "Family", "Rng", "TrainingSet", "build", "family_class"]
