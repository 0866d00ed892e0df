"""Latents over all places: that people's volumes vary as they should is decided here."""

from dataclasses import replace

import pytest
import torch

from csegsynth_kit.data.features import Features
from csegsynth_kit.models import Rng, TrainingSet, build, diffusion
from csegsynth_kit.models.diffusion import TIMES
from csegsynth_kit.models.whitening import Whitening
from tests.models.test_contract import SMALL, model_and_batch
from tests.toy import TOY_COLUMNS, toy_table
from tests.training.jobs import toy_preset

CONFIG = toy_preset("cldm").model
SHAPE = (3, 2, 4, 3)
N = 4000


def people(n: int = N, *, shape=SHAPE, seed: int = 0) -> torch.Tensor:
    """Centered latents: two modes of whole heads, small noise of each entry's own."""
    rng = torch.Generator().manual_seed(seed)
    modes = torch.randn(2, *shape, generator=rng) + 0.5
    amounts = torch.randn(n, 2, generator=rng) * torch.tensor([0.7, 0.3])
    own = torch.rand(shape, generator=rng).add(0.7) * torch.randn(n, *shape, generator=rng)
    return torch.einsum("nm,mcxyz->ncxyz", amounts, modes) + 0.3 * own


def gaussian_model(sampler: str, features=None, **options):
    """A model whose maps are latents, so that only the diffusion is tried."""
    steps = 10
    model = build(replace(CONFIG, sampler=sampler, sampling_steps=steps, **options), features)
    model.autoencoder.encode = lambda maps: (maps, torch.full_like(maps, -20.0))
    model.autoencoder.decode = lambda latents: latents
    return model


def test_white_numbers_are_uncorrelated_over_all_places():
    latents, whitening = people(), Whitening(SHAPE, modes=200)
    whitening.measure(latents, torch.zeros(SHAPE))
    white = whitening.whiten(latents)
    covariance = white.flatten(1).T.cov()
    torch.testing.assert_close(covariance, torch.eye(len(covariance)), rtol=0, atol=0.1)
    torch.testing.assert_close(whitening.color(white), latents, rtol=1e-3, atol=1e-4)


def test_few_modes_keep_the_variance_of_sums_and_of_all_entries_together():
    """What is left over beside the modes is pooled, and never lost."""
    latents, whitening = people(), Whitening(SHAPE, modes=2)
    whitening.measure(latents, torch.zeros(SHAPE))
    drawn = whitening.color(people_of_nothing_in_common())
    totals = [float(x.var(0).sum()) for x in (drawn, latents)]
    assert totals[0] == pytest.approx(totals[1], rel=0.05)
    assert float(whitening.rest_sd) > 0.2
    sums = [float(x.flatten(1).sum(1).std()) for x in (drawn, latents)]
    assert sums[0] == pytest.approx(sums[1], rel=0.05)


def people_of_nothing_in_common(n: int = N) -> torch.Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(9))


def test_variance_of_posteriors_counts():
    """White numbers of latents drawn from posteriors have variance 1, those of means have not."""
    latents, whitening = people(), Whitening(SHAPE, modes=200)
    variance = torch.full(SHAPE, 0.5)
    whitening.measure(latents, variance)
    drawn = latents + variance.sqrt() * people_of_nothing_in_common()
    assert float(whitening.whiten(drawn).var(0).mean()) == pytest.approx(1, abs=0.05)
    assert float(whitening.whiten(latents).var(0).mean()) < 0.7


def test_fewer_people_than_entries_leave_no_direction_without_variance():
    latents, whitening = people(12), Whitening(SHAPE, modes=200)
    whitening.measure(latents, torch.zeros(SHAPE))
    assert float(whitening.rest_sd) > 0.05
    assert torch.isfinite(whitening.whiten(people(50, seed=3))).all()
    torch.testing.assert_close(
        whitening.color(whitening.whiten(latents)), latents, atol=1e-4, rtol=0
    )


def test_entries_that_are_the_same_in_everybody_stay_so():
    latents, whitening = people(), Whitening(SHAPE, modes=200)
    latents[:, 1] = 0
    whitening.measure(latents, torch.zeros(SHAPE))
    drawn = whitening.color(people_of_nothing_in_common())
    assert float(drawn[:, 1].std()) < 0.01 * float(latents[:, 0].std())
    assert torch.isfinite(whitening.whiten(latents)).all()


def test_without_modes_there_is_one_scale():
    latents, whitening = people(), Whitening(SHAPE, modes=0)
    whitening.measure(latents, torch.zeros(SHAPE))
    torch.testing.assert_close(whitening.whiten(latents), latents / latents.std())
    torch.testing.assert_close(whitening.color(whitening.whiten(latents)), latents)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "rflow"])
@pytest.mark.parametrize("share", [0.05, 0.4, 0.9])
def test_gaussian_guess_is_the_best_one(sampler, share):
    """It is the slope of what is to be guessed on the mixture, by least squares."""
    clean, noise = (
        torch.randn(N, *SHAPE, generator=torch.Generator().manual_seed(i)) for i in (0, 1)
    )
    noisy, times, target = diffusion.corrupt(clean, noise, torch.full((N,), share), sampler)
    slope = (noisy * target).sum() / noisy.square().sum()
    guess = diffusion.gaussian_guess(noisy, times, sampler)
    torch.testing.assert_close(guess, slope * noisy, rtol=0, atol=0.05)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "rflow"])
def test_generated_latents_have_the_mean_and_covariance_of_the_training_latents(sampler):
    """Before any step of the denoiser, and of whole heads as of single places."""
    model = gaussian_model(sampler)
    latents = people(shape=model.latent_shape) + 2
    training = TrainingSet(lambda: latents.split(500), torch.zeros(N, 3))
    model.begin_epoch(training, 99)
    with torch.no_grad():
        drawn = model.logits_from(Rng(1, total=N).normal(*model.latent_shape), None)
    torch.testing.assert_close(drawn.mean(0), latents.mean(0), rtol=0, atol=0.12)
    torch.testing.assert_close(
        drawn.flatten(1).T.cov(), latents.flatten(1).T.cov(), rtol=0.1, atol=0.06
    )
    sums = [float(x.flatten(1).sum(1).std()) for x in (drawn, latents)]
    assert sums[0] == pytest.approx(sums[1], rel=0.06)


def test_generated_latents_follow_the_features_and_vary_about_them():
    table = toy_table(600)
    features = Features.fit(table, TOY_COLUMNS)
    inputs = torch.from_numpy(features.inputs(features.encode(table)))
    model = gaussian_model("rflow", features)
    effect = torch.randn(model.latent_shape, generator=torch.Generator().manual_seed(4))
    rest = people(600, shape=model.latent_shape)
    expected = 3 + inputs[:, 0, None, None, None, None] * effect
    training = TrainingSet(lambda: (expected + rest).split(50), torch.zeros(600, 3), inputs)
    model.begin_epoch(training, 99)
    with torch.no_grad():
        noise = Rng(1, 1, total=300).normal(*model.latent_shape)
        low, high = (model.logits_from(noise, inputs[[i]].expand(300, -1)) for i in (0, 1))
    for drawn, i in ((low, 0), (high, 1)):
        # Standard errors of 300 draws and of a regression on 600 people.
        torch.testing.assert_close(drawn.mean(0), expected[i], rtol=0, atol=0.6)
        torch.testing.assert_close(drawn.std(0), rest.std(0), rtol=0.25, atol=0)
        sums = [float(x.flatten(1).sum(1).std()) for x in (drawn, rest)]
        assert sums[0] == pytest.approx(sums[1], rel=0.12)


@pytest.mark.parametrize("variant", ["one token", "published"])
def test_the_denoiser_begins_at_the_gaussian_guess_but_for_the_published_one(variant):
    config = SMALL["cldm", variant]
    model, _ = model_and_batch(config, conditional=False)
    noisy, times = Rng(0, total=4).normal(*model.latent_shape), torch.full((4,), TIMES * 0.8)
    begun = 0 * noisy
    if variant != "published":
        begun = diffusion.gaussian_guess(noisy, times, config.sampler)
        assert begun.abs().max() > 0.1
    torch.testing.assert_close(model.guess(noisy, times, None), begun)
