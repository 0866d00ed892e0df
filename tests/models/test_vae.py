import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from csegsynth_kit.models import Rng, losses
from csegsynth_kit.models.variational import CompactPrior, PublishedPosterior, PublishedPrior
from tests.models.test_contract import SMALL, model_and_batch, perturbed

L, F = 16, 5


def priors():
    torch.manual_seed(0)
    published, compact = PublishedPrior(F, base=8), CompactPrior(F, 256, 8, curved=(1,))
    return [perturbed(published), perturbed(compact)]


def test_divergence_of_normal_laws_is_that_of_torch():
    mean, log_variance, prior_mean, prior_log_variance = torch.randn(4, 6, L)
    expected = kl_divergence(
        Normal(mean, (0.5 * log_variance).exp()),
        Normal(prior_mean, (0.5 * prior_log_variance).exp()),
    )
    ours = losses.gaussian_divergence(mean, log_variance, prior_mean, prior_log_variance)
    torch.testing.assert_close(ours, expected)


def test_divergence_from_a_correlated_prior_is_that_of_torch():
    torch.manual_seed(1)
    prior = perturbed(CompactPrior(F, L, 8, curved=(1,)))
    mean, log_variance = torch.randn(6, L), torch.randn(6, L) - 1
    features = torch.randn(6, F)
    center, log_spread = prior.moments(features)
    root = log_spread.exp()[:, :, None] * prior.mix.weight
    expected = kl_divergence(
        MultivariateNormal(mean, torch.diag_embed(log_variance.exp())),
        MultivariateNormal(center, root @ root.mT),
    )
    ours = prior.divergence(mean, log_variance, features)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("prior", priors(), ids=["published", "compact"])
def test_prior_generates_with_the_spread_it_has_learned(prior):
    """Codes drawn for one person have the mean and covariance of p(z|c)."""
    features = torch.randn(1, F, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(20_000, 256, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        codes = prior(noise, features.expand(len(noise), F))
        if isinstance(prior, PublishedPrior):
            mean, log_variance = prior._moments(features)
            covariance = torch.diag(log_variance[0].exp())
        else:
            mean, log_spread = prior.moments(features)
            root = log_spread[0].exp()[:, None] * prior.mix.weight
            covariance = root @ root.T
    sd = covariance.diag().sqrt()
    torch.testing.assert_close((codes.mean(0) - mean[0]) / sd, torch.zeros(256), rtol=0, atol=0.04)
    torch.testing.assert_close(
        codes.T.cov() / sd / sd[:, None], covariance / sd / sd[:, None], rtol=0, atol=0.05
    )


def test_divergence_is_least_where_the_prior_is_the_posterior():
    prior = priors()[0]
    features = torch.randn(3, F)
    mean, log_variance = prior._moments(features)
    torch.testing.assert_close(
        prior.divergence(mean, log_variance, features), torch.zeros(3), rtol=0, atol=1e-3
    )
    assert (prior.divergence(mean + 1, log_variance, features) > 0).all()


def test_generation_feeds_prior_draws_plus_shift_to_the_generator():
    model, batch = model_and_batch(SMALL["cvae", "compact"], conditional=True)
    perturbed(model)
    noise = Rng(0, total=4).normal(*model.latent_shape)
    z = model.prior(noise[:, : model.code_length], batch.features)
    logits = model.generator(z + model.decoder_shift(batch.features))
    fields = model.texture.fields(noise[:, model.code_length :])
    expected = model.texture.added(logits, fields).softmax(1)
    torch.testing.assert_close(model.generate(noise, batch.features), expected)


def test_posterior_follows_the_features():
    for variant in ("compact", "published"):
        model, batch = model_and_batch(SMALL["cvae", variant], conditional=True)
        perturbed(model)
        own, _ = model.posterior(batch.maps, batch.features)
        other, _ = model.posterior(batch.maps, batch.features.roll(1, 0))
        assert (own - other).abs().max() > 1e-3


def test_divergence_is_stated_per_entry_in_use():
    config = SMALL["cvae", "compact"]
    model, _ = model_and_batch(config, conditional=False)
    used = config.latent - config.spare
    mean = torch.cat([torch.ones(2, used), torch.full((2, config.spare), 7.0)], dim=1)
    divergence = model.divergence(mean, torch.zeros_like(mean), None)
    torch.testing.assert_close(divergence, torch.full((2,), 0.5))


def test_log_variance_is_clamped():
    posterior = PublishedPosterior(8)
    for value, expected in ((1e4, 10.0), (-1e4, -20.0)):
        torch.nn.init.constant_(posterior.log_variance[-1].bias, value)
        _, log_variance = posterior(torch.rand(1, 4, 8, 16, 8))
        torch.testing.assert_close(log_variance, torch.full_like(log_variance, expected))
