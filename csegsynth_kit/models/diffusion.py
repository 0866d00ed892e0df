"""From latents to noise, and back: diffusion (DDPM, DDIM) and rectified flow.

Pure functions of tensors around MONAI's schedulers. ``predict`` is what a denoiser guesses:
the noise in diffusion, the velocity (from noise to data) in rectified flow.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Literal

import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler
from torch import Tensor

Sampler = Literal["ddpm", "ddim", "rflow"]
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


def sample(predict: Predict, latents: Tensor, *, sampler: Sampler, steps: int) -> Tensor:
    """Turn noise into latents of maps; the same noise always gives the same.

    Args:
        predict: Maps (N, C, X, Y, Z) and (N,) times to a guess.
        latents: (N, C, X, Y, Z) standard normal noise.
        sampler: ``ddpm`` adds fresh noise at each step, ``ddim`` does not, ``rflow`` follows
            the velocity.
        steps: Evaluations of ``predict``.
    """
    if sampler == "rflow":
        return _follow(predict, latents, steps)
    kept = _diffusion().alphas_cumprod.to(latents.device)
    times = torch.linspace(TIMES - 1, 0, steps).round().long().tolist()
    fresh = step_noise(latents) if sampler == "ddpm" else None
    x = latents
    for time, following in pairwise([*times, None]):
        guess = predict(x, torch.full((len(x),), time, device=x.device))
        after = kept.new_ones(()) if following is None else kept[following]
        noise = None if fresh is None or following is None else next(fresh)
        x = denoise(x, guess, kept[time], after, noise)
    return x


def denoise(x: Tensor, guess: Tensor, now: Tensor, after: Tensor, noise: Tensor | None) -> Tensor:
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
    """
    clean = (x - (1 - now).sqrt() * guess) / now.sqrt()
    if noise is None:
        return after.sqrt() * clean + (1 - after).sqrt() * guess
    variance = (1 - after) / (1 - now) * (1 - now / after)
    direction = (1 - after - variance).clamp(min=0).sqrt() * guess
    return after.sqrt() * clean + direction + variance.sqrt() * noise


def step_noise(latents: Tensor) -> Iterator[Tensor]:
    """Yield noise like (N, ...) latents, again and again, that depends on each row alone."""
    generators = []
    for row in latents.detach().cpu().float():
        digest = hashlib.blake2b(row.numpy().tobytes(), digest_size=7).digest()
        generators.append(torch.Generator().manual_seed(int.from_bytes(digest)))
    while True:
        drawn = [torch.randn(latents.shape[1:], generator=generator) for generator in generators]
        yield torch.stack(drawn).to(latents)


def _follow(predict: Predict, latents: Tensor, steps: int) -> Tensor:
    flow = _flow()
    flow.set_timesteps(steps)  # even times; only their number is used by its step
    times = (_shifted(torch.linspace(1, 0, steps + 1)) * TIMES).round().long().tolist()
    x = latents
    for time, following in pairwise(times):
        velocity = predict(x, torch.full((len(x),), float(time), device=x.device))
        x, _ = flow.step(velocity, time, x, following)
    return x


def _shifted(share: Tensor) -> Tensor:
    return _SHIFT * share / (1 + (_SHIFT - 1) * share)


@cache
def _diffusion() -> DDPMScheduler:
    return DDPMScheduler(TIMES, schedule="scaled_linear_beta", clip_sample=False, **_BETAS)


def _flow() -> RFlowScheduler:
    return RFlowScheduler(TIMES, use_discrete_timesteps=True)
