"""Hyper-parameters of the latent diffusion model."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from csegsynth_kit.constants import TISSUES
from csegsynth_kit.maps import Grid
from csegsynth_kit.models import terms

#: How noise becomes latents; see :func:`csegsynth_kit.models.diffusion.sample`.
Sampler = Literal["ddpm", "ddim", "rflow"]


@dataclass(frozen=True)
class LDMObjective:
    """Weights and schedule of one stage.

    Args:
        autoencoder_steps: Steps that the autoencoder learns before the denoiser begins, rounded
            up to whole epochs. A fine-tuning that starts from scratch takes as many as
            pre-training.
        reconstruction: Weight of the autoencoder rendering a given map.
        kl: Weight of the divergence of latents from a standard normal law, per entry: the loss
            holds this times the mean over entries (and persons), not the sum.
        adversarial: Weight of the patch critic's opinion; 0 for no patch critic.
        warmup_steps: Steps over which the adversarial term phases in.
        volume: Weight of the energy score of generated volumes. Denoising learns how latents
            are distributed at each place; volumes are curved sums over all of them, of which
            this term gets right what is left. It is differentiated through the whole sampler,
            and affordable only for few ``sampling_steps``.
    """

    autoencoder_steps: int = 0
    reconstruction: float = 1.0
    kl: float = 1e-3
    adversarial: float = 0.0
    warmup_steps: int = 200
    volume: float = 0.0


@dataclass(frozen=True)
class LDMConfig:
    """Hyper-parameters of LDM and C-LDM.

    Args:
        grid: Voxels of the maps.
        patch: Edge of the patches that become channels before the autoencoder (voxels).
        channels: Of the autoencoder, per level, fine to coarse; each level halves the grid.
        latent_channels: Channels of the latents.
        attention: Attention at the autoencoder's coarsest level.
        mean_start: Start the autoencoder at the mean of the training maps.
        component_start: Start it at the principal components of their patches as well, one per
            latent channel; needs ``mean_start``.
        spare: Latent channels that get components only at fine-tuning: of what its cohort shows
            and the pre-training cohort did not, such as old age.
        center: Subtract the latents' mean at each place, so that the denoiser need not learn
            what all heads have in common.
        regression_start: Subtract also what a regression on the features lets expect, so that
            the denoiser learns how people with the same answers differ, and only corrects the
            regression. Needs ``center`` and a ``token``.
        modes: Whiten latents over all places, by this many principal modes of whole heads (see
            ``Whitening``), and let the denoiser begin with the best guess at latents that are
            Gaussian, which has their covariance; it learns how they are not. 0: divide latents
            by their standard deviation, and let the denoiser learn all of it, as published.
        match_volumes: With ``modes``, let the volumes of Gaussian latents have the mean and
            covariance of people's volumes, given their features (see ``Whitening.match``).
        places: Learned channels that tell the U-Net where it is.
        denoiser_channels: Of the U-Net, per level, fine to coarse.
        denoiser_attention: Whether each level has attention.
        head_channels: Channels per attention head.
        norm_groups: Groups of the autoencoder's group norms.
        denoiser_norm_groups: Groups of the U-Net's group norms.
        token: Width of the token into which a network turns the features. 0: the features
            themselves are the token, as in Pinaya et al.; pre-training then has a net without
            tokens, whose attention layers have another form and begin anew at fine-tuning.
        concat: Append the token to the latents as constant channels, besides cross-attention.
        hidden: Width of the network that makes the token.
        answer_flags: Tell the model which questions are unanswered.
        reconstruction_loss: ``cross_entropy``, or ``l1`` on shares, as MONAI's tutorial.
        critic_layers: Strided layers of the patch critic.
        critic_channels: Channels of its first layer.
        sampler: See ``diffusion.sample``; also decides what the denoiser learns to guess, which
            is the same for ``ddpm`` and ``ddim``.
        sampling_steps: Evaluations of the denoiser per map.
        guidance: Scale of classifier-free guidance; 1 for none.
        noises: Noisy versions of each map per step of the denoiser, which steady its gradient at
            less than the cost of a larger batch.
        drop_features: Share of participants whose features are hidden while training, so that
            guidance knows the unconditional law.
        volume_draws: Draws per person in the volume loss; at least 2.
        unconditional: Objective of pre-training.
        conditional: Objective of fine-tuning.
    """

    family: ClassVar[str] = "cldm"
    grid: Grid
    patch: int = 1
    channels: tuple[int, ...] = (32, 64, 64)
    latent_channels: int = 3
    attention: bool = True
    mean_start: bool = True
    component_start: bool = True
    spare: int = 0
    center: bool = True
    regression_start: bool = True
    modes: int = 256
    match_volumes: bool = True
    places: int = 8
    denoiser_channels: tuple[int, ...] = (32, 64, 64)
    denoiser_attention: tuple[bool, ...] = (False, True, True)
    head_channels: int = 64
    norm_groups: int = 8
    denoiser_norm_groups: int = 8
    token: int = 32
    concat: bool = False
    hidden: int = 64
    answer_flags: bool = True
    reconstruction_loss: Literal["cross_entropy", "l1"] = "cross_entropy"
    critic_layers: int = 3
    critic_channels: int = 32
    sampler: Sampler = "rflow"
    sampling_steps: int = 10
    guidance: float = 1.0
    noises: int = 1
    drop_features: float = 0.1
    volume_draws: int = 2
    unconditional: LDMObjective = LDMObjective(autoencoder_steps=200)
    conditional: LDMObjective = LDMObjective()

    def __post_init__(self):
        terms.require_draws(self.volume_draws)

    def numbers_to_start(self, people: int) -> int:
        """How many numbers (of 4 bytes) a start holds of so many training participants."""
        if not self.mean_start:
            return 0
        edge = self.patch * 2 ** (len(self.channels) - 1)
        padded = math.prod(-(-n // edge) * edge for n in self.grid.shape)
        return len(TISSUES) * padded * (people if self.component_start else 1)
