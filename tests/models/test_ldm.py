from dataclasses import replace

import pytest
import torch
from monai.networks.blocks import crossattention, selfattention

from csegsynth_kit.models import Rng, build, diffusion
from csegsynth_kit.models.blocks import crop_to, pad_to
from csegsynth_kit.models.latents import Denoiser, FeatureToken, _Rearrange
from csegsynth_kit.models.ldm import LDM
from csegsynth_kit.models.start import ridge, ridge_left_over
from tests.models.test_contract import SMALL, first_of, model_and_batch, perturbed, training_set
from tests.training.jobs import toy_preset

CONFIG = replace(toy_preset("cldm").model, match_volumes=False)


def small_denoiser(**options) -> Denoiser:
    torch.manual_seed(0)
    given = {"channels": (4, 8), "attention": (False, True), "head_channels": 4, "norm_groups": 2}
    return Denoiser((3, 5, 7, 6), **{**given, "places": 2, "token": 5, "concat": False, **options})


def test_padding_is_undone_by_cropping():
    x = torch.randn(2, 3, 6, 7, 5)
    padded = pad_to(x, 4)
    assert padded.shape == (2, 3, 8, 8, 8)
    torch.testing.assert_close(padded.sum(), x.sum())
    assert torch.equal(crop_to(padded, x.shape[-3:]), x)


def test_denoiser_takes_grids_its_levels_do_not_divide():
    x, times = torch.randn(2, 3, 5, 7, 6), torch.tensor([3.0, 900.0])
    assert small_denoiser()(x, times, None).shape == x.shape


@pytest.mark.parametrize("concat", [False, True])
def test_fine_tuning_begins_at_the_pre_trained_denoiser(concat):
    """Whatever the token says, it has no effect before fine-tuning's first step."""
    model = small_denoiser(concat=concat)
    x, times = torch.randn(2, 3, 5, 7, 6), torch.tensor([3.0, 900.0])
    for module in model.modules():  # what pre-training would change
        if isinstance(module, torch.nn.GroupNorm | torch.nn.LayerNorm):
            torch.nn.init.normal_(module.weight)
    torch.nn.init.normal_(model.net.out[-1].conv.weight)
    token = torch.randn(2, 5)
    torch.testing.assert_close(model(x, times, token), model(x, times, None))


@pytest.mark.parametrize("conditional", [False, True])
def test_pre_training_leaves_what_tokens_pass_through_at_zero(conditional):
    config = SMALL["cldm", "concatenation, guidance, ddim, volume"]
    model, batch = model_and_batch(config, conditional)
    model.latents_measured.fill_(True)
    own = list(model.denoiser.parameters())
    optimizer = torch.optim.Adam(own, lr=1e-2)
    for step in range(4):
        for _, terms in model.losses(batch, Rng(step, total=4), step):
            optimizer.zero_grad()
            sum(terms.values()).backward(inputs=own)
            optimizer.step()
    net = model.denoiser.net
    passages = [net.conv_in.conv.weight[:, config.latent_channels + config.places :]] + [
        m.out_proj.weight for m in net.modules() if hasattr(m, "context_input_size")
    ]
    assert len(passages) > 2
    assert all(bool(p.abs().max() > 0) == conditional for p in passages)


def test_guidance_moves_away_from_the_unconditional_guess():
    model, batch = model_and_batch(CONFIG, conditional=True)
    perturbed(model)
    token = model.transform(batch.features)
    noisy, times = Rng(0, total=4).normal(*model.latent_shape), torch.full((4,), 300.0)
    guesses = {}
    for scale in (0.0, 1.0, 1.0 + 1e-6, 2.0):
        model.config = replace(CONFIG, guidance=scale)
        guesses[scale] = model.guess(noisy, times, token)
    start = diffusion.gaussian_guess(noisy, times, CONFIG.sampler)
    with_features = start + model.denoiser(noisy, times, token)
    without = start + model.denoiser(noisy, times, torch.zeros_like(token))
    assert (with_features - without).abs().max() > 1e-3
    torch.testing.assert_close(guesses[0.0], without)
    torch.testing.assert_close(guesses[1.0], with_features)
    torch.testing.assert_close(guesses[1.0 + 1e-6], with_features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(guesses[2.0], 2 * with_features - without)


def test_guided_generation_at_scale_one_is_conditional_generation():
    model, batch = model_and_batch(CONFIG, conditional=True)
    perturbed(model)
    latents = Rng(0, total=4).normal(*model.latent_shape)
    maps = []
    for scale in (1.0, 1.0 + 1e-6):
        model.config = replace(CONFIG, guidance=scale)
        maps.append(model.generate(latents, batch.features))
    torch.testing.assert_close(*maps, rtol=1e-3, atol=1e-4)


def test_latents_are_measured_when_the_autoencoder_has_learned():
    """Then training maps have latents with mean 0 at each place, white over all places."""
    _, training = training_set(CONFIG, conditional=False)
    model = narrow_posteriors(build(CONFIG))
    model.fit_statistics(training)
    steps = CONFIG.unconditional.autoencoder_steps
    assert not model.begin_epoch(training, 0)
    assert not model.begin_epoch(training, steps - 1)
    assert model.whitening.rest_sd == 1
    assert model.begin_epoch(training, steps)
    assert not model.begin_epoch(training, steps + 1)
    with torch.no_grad():
        means = torch.cat([model.autoencoder.encode(maps)[0] for maps in training.maps()])
    white = model.whitening.whiten(means - model.latent_mean)
    torch.testing.assert_close(white.mean(0), torch.zeros(model.latent_shape), rtol=0, atol=1e-3)
    variances = torch.linalg.svdvals(white.flatten(1))[: len(white) - 1].square()
    torch.testing.assert_close(
        variances / (len(white) - 1), torch.ones(len(white) - 1), rtol=0, atol=1e-2
    )


def narrow_posteriors(model):
    """Make the posteriors of latents as narrow as learning makes them."""
    with torch.no_grad():
        model.autoencoder.net.quant_conv_log_sigma.conv.bias.fill_(-20)
    return model


def test_denoiser_learns_on_the_measured_scale():
    """A guess of nothing leaves the variances of noise and scaled latents: together 2."""
    _, training = training_set(CONFIG, conditional=False)
    model = narrow_posteriors(build(replace(CONFIG, modes=0)))
    model.fit_statistics(training)
    model.begin_epoch(training, CONFIG.unconditional.autoencoder_steps)
    batch = first_of(training, 10)
    losses = [
        next(model.losses(batch, Rng(i, total=10), 99))[1]["denoising"].item() for i in range(30)
    ]
    assert sum(losses) / len(losses) == pytest.approx(2, rel=0.15)


def test_stages_follow_each_other():
    _, training = training_set(CONFIG, conditional=False)
    model, batch = build(CONFIG), first_of(training)
    seen = []
    for step in range(8):
        model.begin_epoch(training, step)
        seen += [group for group, _ in model.losses(batch, Rng(step, total=4), step)]
    assert seen == ["autoencoder"] * 5 + ["denoiser"] * 3


@pytest.mark.parametrize("steps", [0, 2])
def test_fine_tuning_adapts_the_autoencoder_as_long_as_it_says(steps):
    base, _ = model_and_batch(CONFIG, conditional=False)
    base.latents_measured.fill_(True)
    features, training = training_set(CONFIG, conditional=True)
    goal = replace(CONFIG.conditional, autoencoder_steps=steps)
    model = build(replace(CONFIG, conditional=goal), features)
    model.start_from(base.state_dict())
    assert ("autoencoder" in model.groups()) == (steps > 0)
    assert model.begin_epoch(training, 0) == (steps == 0)  # the regression is measured at once
    group, _ = next(model.losses(first_of(training), Rng(0, total=4), 0))
    assert group == ("autoencoder" if steps else "denoiser")


def test_expected_latents_are_those_of_the_regression():
    """Latents that follow the answers exactly leave nothing over for the denoiser."""
    torch.manual_seed(0)
    features = torch.randn(200, 3)
    token = FeatureToken(3, 8, 4, (2, 3, 2, 2), curved=(1,))
    rule = torch.randn(24, 4)
    expanded = torch.cat([features, features[:, [1]] ** 2], dim=1)
    latents = (expanded @ rule.T + 5).unflatten(1, (2, 3, 2, 2))
    constant = token.measure(features, latents)
    torch.testing.assert_close(token.expected(features) + constant, latents, rtol=0.01, atol=0.05)


def noisy_answers(n, rng, width=20):
    """Features of which one tells something, and two targets with the variance 1 besides."""
    features = torch.randn(n, width, generator=rng)
    return features, features[:, :1] + torch.randn(n, 2, generator=rng)


def test_what_regression_leaves_over_is_as_large_in_new_people():
    rng = torch.Generator().manual_seed(5)
    of_seen, left_over, of_new = [], [], []
    for _ in range(40):
        features, targets = noisy_answers(100, rng)
        slopes, constant = ridge(features, targets)
        of_seen.append((targets - features @ slopes.T - constant).square().mean())
        left_over.append(ridge_left_over(features, targets).square().mean())
        features, targets = noisy_answers(1000, rng)
        of_new.append((targets - features @ slopes.T - constant).square().mean())
    of_seen, left_over, of_new = (
        float(torch.stack(errors).mean()) for errors in (of_seen, left_over, of_new)
    )
    assert left_over == pytest.approx(of_new, rel=0.04)
    assert of_seen < 0.9 * of_new


def test_a_second_scan_does_not_explain_the_first():
    features, targets = noisy_answers(30, torch.Generator().manual_seed(5))
    twice = [torch.cat([part, part]) for part in (features, targets)]
    persons = [str(i) for i in range(30)] * 2
    left_over = float(ridge_left_over(*twice, persons).square().mean())
    assert left_over > 1.5 * float(ridge_left_over(*twice).square().mean())


def test_denoiser_learns_what_the_features_leave_over():
    features, training = training_set(CONFIG, conditional=True)
    model = narrow_posteriors(build(CONFIG, features))
    model.fit_statistics(training)
    model.begin_epoch(training, CONFIG.unconditional.autoencoder_steps)
    with torch.no_grad():
        means = torch.cat([model.autoencoder.encode(maps)[0] for maps in training.maps()])
        expected = model.latent_mean + model.transform.expected(training.features)
    expanded = model.transform.expanded(training.features)
    in_new = ridge_left_over(expanded, means.flatten(1)).square().sum()
    seen = (means - expected).square().sum()
    assert seen < 0.95 * in_new
    rest = model.whitening.whiten(means - expected)
    variance = float(torch.linalg.svdvals(rest.flatten(1))[0].square()) / (len(rest) - 1)
    assert variance == pytest.approx(float(seen / in_new), rel=1e-2)  # 1 in new people
    torch.testing.assert_close(rest.mean(0), torch.zeros(model.latent_shape), rtol=0, atol=1e-3)


def test_more_noises_are_more_rows_of_the_same_participants():
    model, batch = model_and_batch(replace(CONFIG, noises=3), conditional=True)
    model.latents_measured.fill_(True)
    seen = []
    model.denoiser.register_forward_hook(lambda _, inputs, __: seen.append(inputs))
    next(model.losses(batch, Rng(0, total=4), 0))
    noisy, times, token = seen[0]
    assert len(noisy) == len(times) == len(token) == 12
    assert torch.equal(token[0], token[2])
    assert not torch.equal(token[2], token[3])


def test_stand_in_for_einops_rearranges_heads():
    x = torch.randn(2, 7, 12)
    apart = _Rearrange("b h (l d) -> b l h d", l=3)(x)
    assert apart.shape == (2, 3, 7, 4)
    torch.testing.assert_close(apart[1, 2, 5], x[1, 5, 8:12])
    assert torch.equal(_Rearrange("b l h d -> b h (l d)")(apart), x)


def test_monai_is_left_as_it_was():
    before = selfattention.Rearrange, crossattention.Rearrange
    small_denoiser()
    assert before == (selfattention.Rearrange, crossattention.Rearrange)


class Owned(LDM):
    """What must not happen: the denoiser's optimizer steps the autoencoder as well."""

    def groups(self):
        groups = super().groups()
        groups["denoiser"]["autoencoder"] = self.autoencoder
        return groups


class Leaking(LDM):
    """What must not happen either: denoising is a function of what the encoder learns."""

    def losses(self, batch, rng, step):
        for group, found in super().losses(batch, rng, step):
            latents = self.autoencoder.encode(batch.maps)[0]
            yield group, {**found, "denoising": found["denoising"] * latents.square().mean()}


def fine_tuned(kind, config):
    """Parts that denoising has gradients for, and parts that one step of fine-tuning changes."""
    base, _ = model_and_batch(config, conditional=False)
    base.latents_measured.fill_(True)
    features, training = training_set(config, conditional=True)
    model = kind(config, features)
    model.start_from(base.state_dict())
    model.begin_epoch(training, 0)
    perturbed(model)
    names, parameters = zip(*model.named_parameters(), strict=True)
    before = [p.detach().clone() for p in parameters]
    owned = [p for parts in model.groups().values() for m in parts.values() for p in m.parameters()]
    [(group, found)] = model.losses(first_of(training), Rng(0, total=4), 0)
    assert group == "denoiser"
    reached = torch.autograd.grad(
        found["denoising"], parameters, retain_graph=True, allow_unused=True
    )
    sum(found.values()).backward(inputs=owned)  # as the trainer does
    torch.optim.Adam(owned, lr=0.1).step()
    parts = [name.split(".")[0] for name in names]
    changed = [not torch.equal(*pair) for pair in zip(parameters, before, strict=True)]
    return (
        {part for part, gradient in zip(parts, reached, strict=True) if gradient is not None},
        {part for part, other in zip(parts, changed, strict=True) if other},
    )


@pytest.mark.parametrize(
    ("kind", "wrong"), [(LDM, (False, False)), (Leaking, (True, False)), (Owned, (False, True))]
)
@pytest.mark.parametrize("variant", ["one token", "published"])
def test_fine_tuning_leaves_a_frozen_autoencoder_as_it_was(variant, kind, wrong):
    """Denoising has no gradient for it and no optimizer owns it; the other kinds are caught."""
    config = SMALL["cldm", variant]
    goal = replace(config.conditional, autoencoder_steps=0, volume=1.0)  # looks through it
    found = fine_tuned(kind, replace(config, conditional=goal))
    assert all("denoiser" in parts for parts in found)
    assert tuple("autoencoder" in parts for parts in found) == wrong
