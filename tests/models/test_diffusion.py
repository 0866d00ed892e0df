import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

from csegsynth_kit.models import diffusion
from csegsynth_kit.models.diffusion import TIMES

SCHEDULE = {
    "schedule": "scaled_linear_beta",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "clip_sample": False,
}


def latents(n: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))


def perfect(clean: torch.Tensor, sampler: str):
    """The guess of a denoiser that knows there is only one thing to find."""

    def guess(x, times):
        if sampler == "rflow":
            noise_share = times[:, None, None, None, None] / TIMES
            return (clean - x) / noise_share
        kept = DDPMScheduler(TIMES, **SCHEDULE).alphas_cumprod[times.long()]
        kept = kept[:, None, None, None, None]
        return (x - kept.sqrt() * clean) / (1 - kept).sqrt()

    return guess


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "rflow"])
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_a_perfect_denoiser_finds_the_latents(sampler, steps):
    clean = latents(seed=1)
    found = diffusion.sample(perfect(clean, sampler), latents(), sampler=sampler, steps=steps)
    torch.testing.assert_close(found, clean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "rflow"])
def test_what_a_denoiser_should_guess_leads_back(sampler):
    clean, noise = latents(seed=1), latents(seed=2)
    share = torch.tensor([0.1, 0.5, 0.9])
    noisy, times, target = diffusion.corrupt(clean, noise, share, sampler)
    torch.testing.assert_close(perfect(clean, sampler)(noisy, times), target, rtol=1e-3, atol=1e-3)
    if sampler == "rflow":
        torch.testing.assert_close(noisy + times[:, None, None, None, None] / TIMES * target, clean)


def test_gaussian_data_is_sampled_with_its_spread():
    """Of data N(2, 0.5^2) the best guess is known; samples must have that law."""
    mean, sd = 2.0, 0.5

    def guess(x, times):
        kept = DDPMScheduler(TIMES, **SCHEDULE).alphas_cumprod[times[0]]
        total = kept * sd**2 + 1 - kept
        return (1 - kept).sqrt() * (x - kept.sqrt() * mean) / total

    def velocity(x, times):
        t = times[0] / TIMES
        total = (1 - t) ** 2 * sd**2 + t**2
        off = (x - (1 - t) * mean) / total
        return mean + (1 - t) * sd**2 * off - t * off

    noise = torch.randn(40, 100, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    for sampler, rule, steps in (
        ("ddpm", guess, 200),
        ("ddim", guess, 200),
        ("rflow", velocity, 200),
    ):
        found = diffusion.sample(rule, noise, sampler=sampler, steps=steps)
        assert float(found.mean()) == pytest.approx(mean, abs=0.05), sampler
        assert float(found.std()) == pytest.approx(sd, rel=0.06), sampler


@pytest.mark.parametrize("time", [1, 500, 999])
def test_steps_equal_those_of_monai(time):
    x, guess = latents(), latents(seed=1)
    ancestral, ddim = DDPMScheduler(TIMES, **SCHEDULE), DDIMScheduler(TIMES, **SCHEDULE)
    kept = ancestral.alphas_cumprod
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    expected, _ = ancestral.step(guess, time, x, generator=torch.Generator().manual_seed(5))
    ours = diffusion.denoise(x, guess, kept[time], kept[time - 1], noise)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    expected, _ = ddim.step(guess, time, x)
    ours = diffusion.denoise(x, guess, kept[time], kept[time - 1], None)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_noise_of_the_steps_depends_on_the_own_latent_alone():
    z = latents()
    together = diffusion.step_noise(z)
    alone = diffusion.step_noise(z[1:2])
    first, second = next(together), next(together)
    torch.testing.assert_close(next(alone), first[1:2], rtol=0, atol=0)
    torch.testing.assert_close(next(alone), second[1:2], rtol=0, atol=0)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
