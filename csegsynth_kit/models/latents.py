"""The networks of the latent diffusion model, on MONAI's.

An autoencoder maps maps to a small grid of latents and back; a U-Net tells noise in latents
from what was there before, given a person's features as one token.
"""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import crossattention, selfattention
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from torch import Tensor, nn

from csegsynth_kit.constants import TISSUES
from csegsynth_kit.maps import Grid
from csegsynth_kit.models.blocks import crop_to, mlp, pad_to, shuffle_down, shuffle_up
from csegsynth_kit.models.compact import log_shares, with_powers
from csegsynth_kit.models.patches import PatchComponents
from csegsynth_kit.models.start import ridge
from csegsynth_kit.models.variational import FIRST_LOG_VARIANCE, LOG_VARIANCES

_T = len(TISSUES)


class LatentAutoencoder(nn.Module):
    """Maps to a Gaussian over a grid of latents, and latents to tissue logits.

    Args:
        grid: Voxels of the maps; any, they are padded to what patches and levels need.
        patch: Edge of the patches that become channels first (voxels); 1 for none.
        channels: Per level, fine to coarse; each level after the first halves the grid.
        latent_channels: Channels of the latents.
        norm_groups: Groups of the group norms, which must divide all ``channels``.
        attention: Attend over the coarsest level, as MONAI's tutorial does.
        mean_start: Add a map of logits that starts at the mean of the training maps.
        component_start: Add the principal components of patches, to latents and to logits, and
            let the net begin without effect; needs ``mean_start``.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        patch: int,
        channels: Sequence[int],
        latent_channels: int,
        norm_groups: int,
        attention: bool,
        mean_start: bool,
        component_start: bool,
    ):
        super().__init__()
        self.patch, self.size = patch, grid.shape
        self.divisor = patch * 2 ** (len(channels) - 1)
        self.latent_shape = (latent_channels, *(-(-n // self.divisor) for n in grid.shape))
        with _attention_without_einops():
            self.net = AutoencoderKL(
                spatial_dims=3,
                in_channels=_T * patch**3,
                out_channels=_T * patch**3,
                channels=channels,
                latent_channels=latent_channels,
                num_res_blocks=1,
                norm_num_groups=norm_groups,
                attention_levels=[False] * (len(channels) - 1) + [attention],
                with_encoder_nonlocal_attn=attention,
                with_decoder_nonlocal_attn=attention,
            )
        self.mean = nn.Parameter(torch.zeros(1, _T, *grid.shape)) if mean_start else None
        self.components = None
        if component_start:
            self.components = PatchComponents(grid, self.divisor, latent_channels)
            self.register_buffer("start", torch.zeros(1, _T, *grid.shape))
            for layer in (self.net.quant_conv_mu.conv, self.net.decoder.blocks[-1].conv):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
            nn.init.zeros_(self.net.quant_conv_log_sigma.conv.weight)
            nn.init.constant_(self.net.quant_conv_log_sigma.conv.bias, FIRST_LOG_VARIANCE)

    def encode(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, T, X, Y, Z) to mean and log-variance (N, *latent_shape)."""
        h = self.net.encoder(shuffle_down(pad_to(maps, self.divisor), self.patch))
        log_variance = self.net.quant_conv_log_sigma(h).clamp(*LOG_VARIANCES)
        mean = self.net.quant_conv_mu(h)
        if self.components is not None:
            mean = mean + self.components.amounts(log_shares(maps) - self.start)
        return mean, log_variance

    def decode(self, latents: Tensor) -> Tensor:
        """Map (N, *latent_shape) to (N, T, X, Y, Z) logits."""
        logits = crop_to(shuffle_up(self.net.decode(latents), self.patch), self.size)
        if self.components is not None:
            logits = logits + self.components.render(latents)
        return logits if self.mean is None else logits + self.mean

    @torch.no_grad()
    def start_from_mean(self, chunks: Iterable[Tensor]) -> None:
        """Let the added logits be the mean log shares of (n, T, X, Y, Z) training maps."""
        total, count = 0.0, 0
        for maps in chunks:
            total, count = total + log_shares(maps).double().sum(0), count + len(maps)
        self.mean.copy_(total[None] / count)
        if self.components is not None:
            self.start.copy_(self.mean)

    def start_from_components(self, chunks: Iterable[Tensor], *, first: int, last: int) -> None:
        """Let components ``first`` to ``last`` be the principal ones of the training maps."""
        self.components.fit(chunks, self.start, first=first, last=last)


class FeatureToken(nn.Module):
    """A person's features as one token, and the latents they let expect.

    Args:
        n_features: Length of the features.
        hidden: Width of the network that makes the token.
        width: Of the token.
        latent_shape: Of the latents.
        curved: Features that enter the expectation squared and cubed as well.
    """

    def __init__(
        self,
        n_features: int,
        hidden: int,
        width: int,
        latent_shape: tuple[int, ...],
        curved: Sequence[int],
    ):
        super().__init__()
        self.curved, self.latent_shape = list(curved), latent_shape
        self.token = mlp(n_features, hidden, width)
        #: Fixed once measured, so that the denoiser's target does not move.
        self.register_buffer(
            "slopes", torch.zeros(math.prod(latent_shape), n_features + 2 * len(self.curved))
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, F) features to (N, width) tokens."""
        return self.token(features)

    def expected(self, features: Tensor) -> Tensor:
        """Map (N, F) features to expected latents (N, *latent_shape), apart from a constant."""
        return F.linear(self.expanded(features), self.slopes).unflatten(1, self.latent_shape)

    def measure(self, features: Tensor, latents: Tensor) -> Tensor:
        """Regress latents (N, *latent_shape) on features (N, F); return the constant."""
        slopes, constant = ridge(self.expanded(features), latents.flatten(1))
        self.slopes.copy_(slopes)
        return constant.unflatten(0, self.latent_shape)

    def expanded(self, features: Tensor) -> Tensor:
        """Append squares and cubes of the curved ones to (N, F) features."""
        return with_powers(features, self.curved, 3)


class Denoiser(nn.Module):
    """Noisy latents to a guess at their noise or velocity: MONAI's U-Net, on any grid.

    Conditioned by cross-attention on one token, and optionally by the token as constant
    channels. Both start without effect, so that a net pre-trained with empty tokens is, at the
    beginning of fine-tuning, the net it was.

    Args:
        latent_shape: Of the latents.
        places: Learned channels that tell the net where it is; convolutions treat all places
            alike, but heads do not.
        channels: Per level, fine to coarse.
        attention: Whether each level has attention.
        head_channels: Channels per attention head.
        norm_groups: Groups of the group norms, which must divide all ``channels``.
        token: Width of the token; 0 builds a net that takes none.
        concat: Append the token to the latents' channels as well.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        *,
        places: int,
        channels: Sequence[int],
        attention: Sequence[bool],
        head_channels: int,
        norm_groups: int,
        token: int,
        concat: bool,
    ):
        super().__init__()
        self.divisor = 2 ** (len(channels) - 1)
        self.token = token
        self.concat = concat and token > 0
        self.places = nn.Parameter(torch.randn(1, places, *latent_shape[1:])) if places else None
        with _attention_without_einops():
            self.net = DiffusionModelUNet(
                spatial_dims=3,
                in_channels=latent_shape[0] + places + token * self.concat,
                out_channels=latent_shape[0],
                num_res_blocks=1,
                channels=channels,
                attention_levels=attention,
                num_head_channels=[head_channels if a else 0 for a in attention],
                norm_num_groups=norm_groups,
                with_conditioning=token > 0,
                cross_attention_dim=token or None,
            )
        with torch.no_grad():
            self.net.conv_in.conv.weight[:, latent_shape[0] + places :] = 0
        for module in self.net.modules():
            if isinstance(module, crossattention.CrossAttentionBlock):
                nn.init.zeros_(module.out_proj.weight)
                nn.init.zeros_(module.out_proj.bias)

    def forward(self, noisy: Tensor, times: Tensor, token: Tensor | None) -> Tensor:
        """Guess at noise or velocity.

        Args:
            noisy: (N, C, X, Y, Z) latents; any size, padded to what the levels need.
            times: (N,) time steps.
            token: (N, token), or None for empty tokens.

        Returns:
            (N, C, X, Y, Z).
        """
        x, context = noisy, None
        if self.places is not None:
            x = torch.cat([x, self.places.expand(len(x), -1, -1, -1, -1)], dim=1)
        x = pad_to(x, self.divisor)
        if self.token:
            token = noisy.new_zeros(len(noisy), self.token) if token is None else token
            context = token[:, None]
        if self.concat:
            spread = token[:, :, None, None, None].expand(-1, -1, *x.shape[-3:])
            x = torch.cat([x, spread], dim=1)
        return crop_to(self.net(x, times, context=context), noisy.shape[-3:])


class _Rearrange(nn.Module):
    """The two patterns of einops' layer that MONAI's attention blocks use."""

    def __init__(self, pattern: str, **lengths: int):
        super().__init__()
        self.heads = {
            "b h (l d) -> b l h d": lengths.get("l"),
            "b l h d -> b h (l d)": None,
        }[pattern]

    def forward(self, x: Tensor) -> Tensor:
        if self.heads is None:
            return x.transpose(1, 2).flatten(2)
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


@contextlib.contextmanager
def _attention_without_einops() -> Iterator[None]:
    """Let MONAI build attention where its optional dependency einops is not installed.

    The layer in question has no parameters: checkpoints are the same with and without einops.
    """
    modules = (selfattention, crossattention)
    kept = [module.Rearrange for module in modules]
    for module in modules:
        if not isinstance(module.Rearrange, type):  # a placeholder that raises when called
            module.Rearrange = _Rearrange
    try:
        yield
    finally:
        for module, original in zip(modules, kept, strict=True):
            module.Rearrange = original
