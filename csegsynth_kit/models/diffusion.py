"""From latents to noise, and back: diffusion (DDPM, DDIM) and rectified flow.

Pure functions of tensors around MONAI's schedulers. ``predict`` is what a denoiser guesses:
the noise in diffusion, the velocity (from noise to data) in rectified flow.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import TypeVar

import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler
from torch import Tensor

from csegsynth_kit.models.ldm_config import Sampler

Number = TypeVar("Number", float, Tensor)
Predict = Callable[[Tensor, Tensor], Tensor]

#: Time steps of the published schedule, and its noise at both ends.
TIMES = 1000
_BETAS = {"beta_start": 0.0015, "beta_end": 0.0195}
#: How much finer rectified flow goes near pure noise than near data (Esser et al. 2024). Heads
#: vary as wholes far more than any one latent does, and that is decided early.
_SHIFT = 4.0


def corrupt(
    clean: Tensor, noise: Tensor, share: Tensor, sampler: Sampler
) -> tuple[Tensor, Tensor, Tensor]:
    """Mix latents with noise, for training.

    Args:
        clean: (N, C, X, Y, Z) latents.
        noise: The same shape, standard normal.
        share: (N,) how far towards noise, uniform in [0, 1).
        sampler: ``rflow`` mixes along a straight line, the others keep the variance.

    Returns:
        The mixture, its times (N,), and what a denoiser should guess.
    """
    if sampler == "rflow":
        times = _shifted(share) * TIMES
        return _flow().add_noise(clean, noise, times), times, clean - noise
    times = (share * TIMES).long()
    return _diffusion().add_noise(clean, noise, times), times, noise


def gaussian_guess(noisy: Tensor, times: Tensor, sampler: Sampler) -> Tensor:
    """Best guess where latents are independent and standard normal, as noise is.

    Args:
        noisy: (N, C, X, Y, Z) mixture of latents and noise.
        times: (N,).
        sampler: As in :func:`corrupt`.
    """
    if sampler == "rflow":
        t = times / TIMES
        factor = (1 - 2 * t) / _flow_variance(t)
    else:
        factor = (1 - _diffusion().alphas_cumprod.to(times.device)[times.long()]).sqrt()
    return factor[:, None, None, None, None] * noisy


def sample(
    predict: Predict, latents: Tensor, *, sampler: Sampler, steps: int, white: bool = False
) -> Tensor:
    """Turn noise into latents of maps; the same noise always gives the same.

    Args:
        predict: Maps (N, C, X, Y, Z) and (N,) times to a guess.
        latents: (N, C, X, Y, Z) standard normal noise.
        sampler: ``ddpm`` adds fresh noise at each step, ``ddim`` does not, ``rflow`` follows
            the velocity.
        steps: Evaluations of ``predict``.
        white: Make steps exact for :func:`gaussian_guess`, from which few plain steps, exact
            where there is one thing to find, lead to too little variance.
    """
    if sampler == "rflow":
        return _follow(predict, latents, steps, white)
    kept = _diffusion().alphas_cumprod.to(latents.device)
    times = torch.linspace(TIMES - 1, 0, steps).round().long().tolist()
    fresh = step_noise(latents) if sampler == "ddpm" else None
    x = latents
    for time, following in pairwise([*times, None]):
        guess = predict(x, torch.full((len(x),), time, device=x.device))
        after = kept.new_ones(()) if following is None else kept[following]
        noise = None if fresh is None or following is None else next(fresh)
        x = denoise(x, guess, kept[time], after, noise, white=white)
    return x


def denoise(
    x: Tensor,
    guess: Tensor,
    now: Tensor,
    after: Tensor,
    noise: Tensor | None,
    *,
    white: bool = False,
) -> Tensor:
    """One step of DDIM, or, with ``noise``, of ancestral sampling (Song et al. 2021).

    MONAI's own step cannot be used: it takes the noise of a whole batch from one generator, so
    that a person would depend on who else is generated, and for DDIM it steps by whole numbers
    of time steps, which drift from the times it evaluates at.

    Args:
        x: (N, C, X, Y, Z) latents at this time.
        guess: The noise in them.
        now: Share of the variance that is signal at this time.
        after: The same at the following time.
        noise: Standard normal, as ``x``, or None.
        white: See :func:`sample`.
    """
    clean = (x - (1 - now).sqrt() * guess) / now.sqrt()
    if noise is None:
        lost = 1 - (after * now).sqrt() - ((1 - after) * (1 - now)).sqrt()
        return after.sqrt() * clean + (1 - after).sqrt() * guess + (lost * x if white else 0)
    variance = (1 - after) / (1 - now) * (1 - now / after)
    direction = (1 - after - variance).clamp(min=0).sqrt() * guess
    size = (1 - now / after if white else variance).sqrt()
    return after.sqrt() * clean + direction + size * noise


def step_noise(latents: Tensor) -> Iterator[Tensor]:
    """Yield noise like (N, ...) latents, again and again, that depends on each row alone."""
    generators = []
    for row in latents.detach().cpu().float():
        digest = hashlib.blake2b(row.numpy().tobytes(), digest_size=7).digest()
        generators.append(torch.Generator().manual_seed(int.from_bytes(digest)))
    while True:
        drawn = [torch.randn(latents.shape[1:], generator=generator) for generator in generators]
        yield torch.stack(drawn).to(latents)


def _follow(predict: Predict, latents: Tensor, steps: int, white: bool) -> Tensor:
    flow = _flow()
    flow.set_timesteps(steps)  # even times; only their number is used by its step
    times = (_shifted(torch.linspace(1, 0, steps + 1)) * TIMES).round().long().tolist()
    x = latents
    for time, following in pairwise(times):
        velocity = predict(x, torch.full((len(x),), float(time), device=x.device))
        moved, _ = flow.step(velocity, time, x, following)
        if white:
            t, s = time / TIMES, following / TIMES
            exact = math.sqrt(_flow_variance(s) / _flow_variance(t))
            moved = moved + (exact - 1 - (t - s) * (1 - 2 * t) / _flow_variance(t)) * x
        x = moved
    return x


def _flow_variance(t: Number) -> Number:
    """Variance of the mixture of white latents with noise."""
    return (1 - t) ** 2 + t**2


def _shifted(share: Tensor) -> Tensor:
    return _SHIFT * share / (1 + (_SHIFT - 1) * share)


@cache
def _diffusion() -> DDPMScheduler:
    return DDPMScheduler(TIMES, schedule="scaled_linear_beta", clip_sample=False, **_BETAS)


def _flow() -> RFlowScheduler:
    return RFlowScheduler(TIMES, use_discrete_timesteps=True)
