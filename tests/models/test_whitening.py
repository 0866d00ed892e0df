"""Latents over all places: that people's volumes vary as they should is decided here."""

from dataclasses import replace

import pytest
import torch

from csegsynth_kit.data.features import Features
from csegsynth_kit.maps import volumes_ml
from csegsynth_kit.models import Rng, TrainingSet, build, diffusion
from csegsynth_kit.models.diffusion import TIMES
from csegsynth_kit.models.start import ridge, ridge_left_over
from csegsynth_kit.models.whitening import Whitening
from tests.models.test_contract import SMALL, model_and_batch, training_set
from tests.toy import TOY_COLUMNS, toy_table
from tests.training.jobs import toy_preset

CONFIG = replace(toy_preset("cldm").model, match_volumes=False)
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


@pytest.mark.parametrize("conditional", [False, True])
def test_volumes_of_colored_noise_vary_and_covary_as_those_of_people(conditional):
    """Also where volumes are more widely spread than latents say, and their mean is another."""
    config = replace(toy_preset("cldm").model, spare=0)
    features, training = training_set(config, conditional, n=80)
    rng = torch.Generator().manual_seed(3)
    amounts = 0.4 * torch.randn(80, 4, 1, 1, 1, generator=rng)
    maps = (torch.randn(1, 4, *config.grid.shape, generator=rng) + amounts).softmax(1)
    training = replace(training, maps=lambda: maps.split(10))
    stretch = torch.tensor([[1.3, 0.2, 0.0], [0.0, 1.2, -0.3], [0.3, 0.0, 0.9]])
    own = torch.cat([volumes_ml(m[:, :3], config.grid.voxel_ml) for m in training.maps()])
    mean = own.mean(0)
    wanted = mean + 0.5 * own.std(0) + (own - mean) @ stretch.T
    if conditional:
        wanted = wanted + 2 * own.std(0) * training.features[:, :1]
    training = replace(training, volumes=wanted)
    found = []
    for match in (True, False):
        model = build(replace(config, match_volumes=match), features)
        model.fit_statistics(training)
        model.begin_epoch(training, 99)
        with torch.no_grad():
            noise = Rng(5, total=80).normal(20, *model.latent_shape)
            drawn = [
                model.standardized_volumes(model.generate(z, training.features))
                for z in noise.unbind(1)
            ]
        drawn = torch.stack(drawn)
        found.append((drawn.mean((0, 1)), (drawn - drawn.mean(0)).flatten(0, 1).T.cov()))
    rest = (wanted - wanted.mean(0)) / wanted.std(0)
    if conditional:
        expanded = model.transform.expanded(training.features[:, : model.n_inputs])
        rest = ridge_left_over(expanded, rest)
    (mean, covariance), (plain_mean, plain_covariance) = found
    assert float(mean.abs().max()) < 0.1 < float(plain_mean.abs().max())
    scale = float(rest.T.cov().diagonal().mean())
    torch.testing.assert_close(covariance, rest.T.cov(), rtol=0, atol=0.3 * scale)
    assert float((plain_covariance - rest.T.cov()).abs().max()) > 0.3 * scale


def test_volumes_are_matched_to_what_people_not_yet_seen_leave_over(monkeypatch):
    """In those that it was fitted to, a regression leaves over too little."""
    config = toy_preset("cldm").model
    features, training = training_set(config, conditional=True, n=40)
    model = build(config, features)
    model.fit_statistics(training)
    wanted = []
    monkeypatch.setattr(model.whitening, "match", lambda *given: wanted.append(given[-1]))
    model.begin_epoch(training, 99)
    truth = (training.volumes - training.volumes.mean(0)) / training.volumes.std(0)
    expanded = model.transform.expanded(training.features[:, : model.n_inputs])
    left = ridge_left_over(expanded, truth)
    torch.testing.assert_close(wanted[0], left.T @ left / 39)
    slopes, constant = ridge(expanded, truth)
    seen = truth - expanded @ slopes.T - constant
    assert float(seen.T.cov().trace()) < 0.95 * float(wanted[0].trace())


def test_matching_can_be_undone():
    latents, whitening = people(), Whitening(SHAPE, modes=20)
    whitening.measure(latents, torch.zeros(SHAPE))
    plain = whitening.color(latents)
    rng = torch.Generator().manual_seed(2)
    gain = torch.randn(3, 72, generator=rng)
    whitening.match(gain, torch.eye(3), 2 * torch.eye(3))
    assert (whitening.color(latents) - plain).abs().max() > 0.01
    torch.testing.assert_close(
        whitening.color(whitening.whiten(latents)), latents, rtol=1e-3, atol=1e-3
    )


def test_matching_leaves_volumes_alone_that_latents_do_not_move():
    """Three volumes that are one and the same sum of entries, but for next to nothing."""
    latents, whitening = people(), Whitening(SHAPE, modes=20)
    whitening.measure(latents, torch.zeros(SHAPE))
    rng = torch.Generator().manual_seed(2)
    gain = torch.randn(1, 72, generator=rng) + 1e-4 * torch.randn(3, 72, generator=rng)
    noise = people_of_nothing_in_common()
    drawn = whitening.color(noise).flatten(1) @ gain.T
    whitening.match(gain, drawn.T.cov(), 2 * drawn.T.cov() + torch.eye(3))
    assert float(whitening.lift.abs().max()) < 10
    doubled = whitening.color(noise).flatten(1) @ gain.T
    torch.testing.assert_close(doubled.var(0), 2 * drawn.var(0), rtol=0.1, atol=0)
