"""What every family must do, asserted once over all of them."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError, RunError
from csegsynth_kit.maps import volumes_ml
from csegsynth_kit.models import FAMILIES, Batch, Rng, TrainingSet, build, losses
from csegsynth_kit.models.config import from_dict, to_dict
from csegsynth_kit.models.gan import GANObjective
from csegsynth_kit.models.ldm_config import LDMObjective
from csegsynth_kit.models.presets import PRESETS, preset
from csegsynth_kit.training import checkpoint
from csegsynth_kit.training.runs import load_model
from tests.toy import TOY_COLUMNS, TOY_GRID, toy_table
from tests.training.jobs import toy_preset

PUBLISHED = {"grid": replace(TOY_GRID, shape=(8, 16, 24)), "base": 8}
#: Each family at a size that runs in a moment: (family, variant) to its config.
SMALL = {
    ("cvae", "compact"): toy_preset("cvae").model,
    ("cvae", "published"): replace(preset("cvae", "paper").model, **PUBLISHED),
    ("cgan", "compact"): toy_preset("cgan").model,
    ("cgan", "published"): replace(
        preset("cgan", "paper").model,
        unconditional=GANObjective(critic_every=4),
        **PUBLISHED,
    ),
    ("cldm", "one token"): toy_preset("cldm").model,
    ("cldm", "concatenation, guidance, ddim, volume"): replace(
        toy_preset("cldm").model,
        concat=True,
        guidance=1.5,
        sampler="ddim",
        conditional=LDMObjective(autoencoder_steps=2, reconstruction=300.0, volume=1.0),
    ),
    ("cldm", "published"): replace(
        preset("cldm", "paper").model,
        grid=replace(TOY_GRID, shape=(16, 20, 24)),
        channels=(4, 8),
        norm_groups=2,
        denoiser_channels=(4, 8),
        denoiser_attention=(False, True),
        denoiser_norm_groups=2,
        head_channels=4,
        critic_layers=1,
        critic_channels=4,
        sampling_steps=5,
        unconditional=LDMObjective(autoencoder_steps=5, adversarial=0.01),
    ),
    ("csegsynth", "compact"): toy_preset().model,
    ("csegsynth", "compact, one choice as published"): replace(
        toy_preset().model, volume_loss="absolute"
    ),
    ("csegsynth", "published"): replace(preset("csegsynth", "paper").model, **PUBLISHED),
    ("csegsynth", "published, parity"): replace(
        preset("csegsynth", "paper-reference").model, **PUBLISHED
    ),
}
CASES = [(config, conditional) for config in SMALL.values() for conditional in (False, True)]
IDS = [
    f"{family}-{variant}-{'conditional' if conditional else 'unconditional'}"
    for family, variant in SMALL
    for conditional in (False, True)
]
VARIANTS = {"argvalues": SMALL.items(), "ids": [f"{f}-{v}" for f, v in SMALL]}
#: One variant of each family, for what does not depend on it.
FIRST = {family: config for (family, _), config in reversed(SMALL.items())}
#: Modules of a warm-started conditional model that nobody optimizes.
FROZEN = {
    ("cldm", "published"): {"autoencoder", "patch_critic"},
    ("csegsynth", "compact"): {"code_critic"},
    ("csegsynth", "compact, one choice as published"): {"code_critic"},
    ("csegsynth", "published, parity"): {"critic"},
}
#: Modules that a term looks through by design; critics look at detached maps and codes.
LOOKS_THROUGH = {
    ("generator", "adversarial"): {"critic"},
    ("generator", "code"): {"code_critic"},
    ("autoencoder", "adversarial"): {"patch_critic"},
    ("denoiser", "volume"): {"autoencoder"},
}
#: What steps must lower, by family: a group and its terms; and what is switched off for it.
FALLING = {
    "cvae": ("generator", ["reconstruction"]),
    "cgan": ("critic", ["distance", "penalty"]),
    "cldm": ("autoencoder", ["reconstruction"]),
    "csegsynth": ("generator", ["reconstruction"]),
}
OFF = {
    "adversarial": 0.0,
    "volume": 0.0,
    "reconstructed_volume": 0.0,
    "triplet": 0.0,
    "kl": 0.0,
    "warmup": "adversarial",
}


def training_set(config, conditional, n=24):
    table = toy_table(n)
    features = Features.fit(table, TOY_COLUMNS) if conditional else None
    rng = torch.Generator().manual_seed(1)
    maps = torch.rand(n, 4, *config.grid.shape, generator=rng).mul(3).softmax(1)
    inputs = None
    if conditional:
        inputs = torch.from_numpy(features.inputs(features.encode(table)))
    volumes = volumes_ml(maps[:, :3], config.grid.voxel_ml) + torch.randn(n, 3, generator=rng)
    return features, TrainingSet(lambda: maps.split(10), volumes, inputs)


def fitted(config):
    """An unconditional model after its start, and what it was started on."""
    _, training = training_set(config, False)
    model = build(config, None)
    model.fit_statistics(training)
    return model, training


def first_of(training, n=4):
    chosen = [None if x is None else x[:n] for x in (training.volumes, training.features)]
    others = [None if x is None else torch.roll(x, 1, 0) for x in chosen]
    return Batch(next(iter(training.maps()))[:n], *chosen, *others)


def model_and_batch(config, conditional):
    features, training = training_set(config, conditional)
    model = build(config, features)
    model.fit_statistics(training)
    return model, first_of(training)


def perturbed(model):
    """Move all weights off their start, where some gradients are zero by design."""
    torch.manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    return model


def test_every_family_is_covered():
    assert {family for family, _ in SMALL} == set(FAMILIES) == set(PRESETS)


@pytest.mark.parametrize(("config", "conditional"), CASES, ids=IDS)
def test_generated_maps_are_shares_and_follow_the_latent(config, conditional):
    model, batch = model_and_batch(config, conditional)
    model = perturbed(model)
    latents = Rng(0, total=4).normal(*model.latent_shape)
    maps = model.generate(latents, batch.features)
    assert maps.shape == batch.maps.shape
    torch.testing.assert_close(maps.sum(1), torch.ones_like(maps[:, 0]))
    assert (maps >= 0).all()
    torch.testing.assert_close(maps, model.generate(latents, batch.features))
    assert (maps - model.generate(-latents, batch.features)).abs().max() > 1e-6


@pytest.mark.parametrize(("config", "conditional"), CASES, ids=IDS)
def test_gradients_reach_all_parameters_of_the_group_and_nobody_elses(config, conditional):
    """The gradient of a term must stay within its group, but for what it looks through."""
    features, training = training_set(config, conditional)
    model, batch = build(config, features), first_of(training)
    model.fit_statistics(training)
    perturbed(model)
    groups = model.groups()
    members = [module for modules in groups.values() for module in modules.values()]
    assert len(members) == len(set(members))
    names, parameters = zip(*model.named_parameters(), strict=True)
    seen = set()
    for group, terms in _two_steps(model, training, batch):
        seen.add(group)
        alive = set()
        for term, value in terms.items():
            found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            reached = {n: g for n, g in zip(names, found, strict=True) if g is not None}
            assert all(torch.isfinite(gradient).all() for gradient in reached.values())
            leaked = {name.split(".")[0] for name in reached} - set(groups[group])
            assert leaked <= LOOKS_THROUGH.get((group, term), set()), term
            alive |= reached.keys()
        own = {name for name in names if name.split(".")[0] in groups[group]}
        assert own - alive == set()
    assert seen == set(groups)


def _two_steps(model, training, batch):
    """Two steps as the trainer takes them.

    Critics have their turn in one of the two; the autoencoder of a diffusion model is done after
    the first.
    """
    for step in (4, 5):
        model.begin_epoch(training, step)
        yield from model.losses(batch, Rng(0, total=4), step)


@pytest.mark.parametrize("restart", [False, True])
def test_a_settled_transform_forgets_what_it_learned_and_follows_the_codes(restart):
    config = replace(SMALL["csegsynth", "compact"], regression_restart=restart)
    features, training = training_set(config, True)
    model = build(config, features)
    model.fit_statistics(training)
    fresh = {n: p.clone() for n, p in model.transform.state_dict().items()}
    with torch.no_grad():
        for parameter in model.transform.parameters():
            parameter.add_(1.0)
    learned = {n: p.clone() for n, p in model.transform.state_dict().items()}
    model.settle(training)
    expected = fresh if restart else learned
    for name, value in model.transform.state_dict().items():
        if not name.startswith("nonlinear.0"):  # the hidden layer of a network whose end is 0
            torch.testing.assert_close(value, expected[name])
    with torch.no_grad():
        model.encoder.offset.add_(0.5)
    model.settle(training)
    moved = model.transform.linear.bias - expected["linear.bias"]
    assert bool((moved.abs() > 0.1).any()) is restart


def test_a_settled_prior_generates_from_the_codes_of_training_maps():
    config = replace(SMALL["csegsynth", "compact"], prior_restart=True)
    model, training = fitted(config)
    with torch.no_grad():
        model.encoder.axes.mul_(1.5)
        model.encoder.offset.add_(0.5)
    _, batch = model_and_batch(config, conditional=False)
    before = list(model.losses(batch, Rng(0, total=4), 5))
    model.settle(training)
    codes = torch.cat([model.encode(maps) for maps in training.maps()])
    drawn = model.code(torch.randn(20_000, *model.latent_shape), None)
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.std(0), codes.std(0), atol=0.05, rtol=0)
    after = list(model.losses(batch, Rng(0, total=4), 5))
    code_critic = [[t for g, t in each if g == "code_critic"] for each in (before, after)]
    assert code_critic[0] == code_critic[1]  # K asks for standard normal codes all the same
    assert code_critic[0]


def test_a_conditional_model_starts_from_one_with_a_prior_of_its_own():
    config = replace(SMALL["csegsynth", "compact"], prior_restart=True)
    base, _ = fitted(config)
    features, _ = training_set(config, True)
    model = build(config, features)
    new = model.start_from(base.state_dict())
    assert all(name.startswith("transform.") for name in new)
    assert not any(name.startswith("prior_") for name in model.state_dict())


def test_settling_fits_the_texture_to_the_present_reconstructions():
    model, training = fitted(SMALL["csegsynth", "compact"])
    before = model.texture.size.clone()
    model.settle(training)
    assert torch.equal(model.texture.size, before)
    with torch.no_grad():
        model.generator.fine_mean.mul_(0.5)  # reconstructions of another contrast
    model.settle(training)
    assert not torch.equal(model.texture.size, before)


def test_the_score_of_codes_moves_the_transform_and_not_the_encoder():
    model, batch = model_and_batch(SMALL["csegsynth", "compact"], conditional=True)
    perturbed(model)
    _, terms = next(model.losses(batch, Rng(0, total=4), step=0))
    reached = torch.autograd.grad(terms["code"], list(model.parameters()), allow_unused=True)
    names = {
        n for (n, _), g in zip(model.named_parameters(), reached, strict=True) if g is not None
    }
    assert names == {f"transform.{n}" for n, _ in model.transform.named_parameters()}


@pytest.mark.parametrize("family", ["cgan", "csegsynth"])
def test_triplet_compares_with_the_other_participant_of_the_batch(family):
    goal = replace(FIRST[family].conditional, triplet=1.0)
    model, batch = model_and_batch(replace(FIRST[family], conditional=goal), conditional=True)
    batch = replace(batch, other_volumes=batch.volumes.flip(0), other_features=-batch.features)
    _, loss = next(model.losses(batch, Rng(0, total=4), 0))
    latents = Rng(0, total=4).normal(*model.latent_shape)
    truth, other_truth = (
        (v - model.volume_mean_ml) / model.volume_sd_ml
        for v in (batch.volumes, batch.other_volumes)
    )
    own, other = (
        model.standardized_volumes(model.generate(latents, features))
        for features in (batch.features, batch.other_features)
    )
    margin = (truth - other_truth).abs().sum(1)
    torch.testing.assert_close(loss["triplet"], losses.triplet(truth, own, other, margin))


@pytest.mark.parametrize("family", ["cgan", "csegsynth"])
def test_published_volume_loss_is_the_absolute_error_of_one_draw(family):
    config = SMALL[family, "published"]
    model, batch = model_and_batch(config, conditional=True)
    perturbed(model)
    assert model.draws_per_person == 1
    _, loss = next(model.losses(batch, Rng(0, total=4), 0))
    drawn = model.generate(Rng(0, total=4).normal(*model.latent_shape), batch.features)
    truth = (batch.volumes - model.volume_mean_ml) / model.volume_sd_ml
    error = (model.standardized_volumes(drawn) - truth).abs().mean()
    torch.testing.assert_close(loss["volume"], config.conditional.volume * error)


def test_published_variational_model_takes_volumes_from_the_posterior_alone():
    config = SMALL["cvae", "published"]
    model, batch = model_and_batch(config, conditional=True)
    perturbed(model)
    rendered = []
    model.generator.register_forward_hook(lambda *call: rendered.append(call[-1].softmax(1)))
    [(_, loss)] = model.losses(batch, Rng(0, total=4), 0)
    assert set(loss) == {"reconstruction", "kl", "reconstructed_volume"}
    truth = (batch.volumes - model.volume_mean_ml) / model.volume_sd_ml
    error = (model.standardized_volumes(rendered[0]) - truth).abs().mean()
    expected = config.conditional.reconstructed_volume * error
    torch.testing.assert_close(loss["reconstructed_volume"], expected)


@pytest.mark.parametrize(
    ("key", "critic"),
    [(("csegsynth", "published, parity"), "code_critic"), (("cgan", "compact"), "critic")],
)
def test_whole_warmup_scales_every_term_of_every_group(key, critic):
    config = SMALL[key]
    goal = replace(config.conditional, warmup="whole", warmup_steps=10, critic_every=1)
    if hasattr(goal, "cadence"):
        goal = replace(goal, cadence="every")
    model, batch = model_and_batch(replace(config, conditional=goal), conditional=True)
    early, late = (
        {(g, n): float(t.detach()) for g, ts in model.losses(batch, Rng(0, total=4), step)
         for n, t in ts.items()}
        for step in (0, 9)
    )  # fmt: skip
    assert {group for group, _ in early} == {"generator", critic}
    for name, value in late.items():
        assert early[name] == pytest.approx(0.1 * value, rel=1e-4), name


@pytest.mark.parametrize(("config", "conditional"), CASES, ids=IDS)
def test_steps_lower_the_loss(config, conditional):
    """Of rendering given maps, or, where nothing does, of telling real from generated ones."""
    group, falling = FALLING[config.family]
    stages = {}
    for stage in ("unconditional", "conditional"):
        goal = getattr(config, stage)
        off = {name: value for name, value in OFF.items() if hasattr(goal, name)}
        stages[stage] = replace(goal, **off)
    model, batch = model_and_batch(replace(config, **stages), conditional)
    own = [p for module in model.groups()[group].values() for p in module.parameters()]
    optimizer = torch.optim.Adam(own, lr=2e-3)
    record = []
    for _ in range(12):
        for name, terms in model.losses(batch, Rng(0, 0, total=4), 0):
            if name == group:
                record.append(sum(float(terms[term].detach()) for term in falling))
                optimizer.zero_grad()
                sum(terms.values()).backward(inputs=own)
                optimizer.step()
    assert record[-1] < record[0]


@pytest.mark.parametrize(("key", "config"), **VARIANTS)
def test_fine_tuning_starts_from_the_pre_trained_weights(key, config):
    base, _ = model_and_batch(config, conditional=False)
    stored = perturbed(base).state_dict()
    model, _ = model_and_batch(config, conditional=True)
    new = model.start_from(stored)
    own = model.state_dict()
    assert new
    assert set(new) == own.keys() - stored.keys()
    assert all(name.startswith(model.conditional_parts + model.rebuilt_parts) for name in new)
    assert all(name.startswith(model.rebuilt_parts) for name in stored.keys() - own.keys())
    assert all(torch.equal(own[name], stored[name]) for name in own.keys() & stored.keys())
    assert model.warm_started
    optimized = {module for modules in model.groups().values() for module in modules}
    frozen = {name.split(".")[0] for name, _ in model.named_parameters()} - optimized
    assert frozen == FROZEN.get(key, set())


@pytest.mark.parametrize("family", FAMILIES)
def test_warm_start_from_incomplete_or_foreign_weights_is_refused(family):
    weights = build(FIRST[family]).state_dict()
    model, _ = model_and_batch(FIRST[family], conditional=True)
    module = next(name.split(".")[0] for name in weights if "." in name)
    lacking = {n: w for n, w in weights.items() if not n.startswith(f"{module}.")}
    for wrong in (lacking, {**weights, "foreign": torch.zeros(1)}):
        with pytest.raises(RunError, match="only in one of model and weights"):
            model.start_from(wrong)
    assert not model.warm_started


@pytest.mark.parametrize("family", FAMILIES)
def test_warm_start_from_another_size_is_refused(family):
    config = FIRST[family]
    size = "latent_channels" if family == "cldm" else "latent"
    other = build(replace(config, **{size: getattr(config, size) + 2}))
    with pytest.raises(RunError, match="has shape"):
        build(config).start_from(other.state_dict())


@pytest.mark.parametrize(("config", "conditional"), CASES, ids=IDS)
def test_stored_models_generate_the_same_maps(config, conditional, tmp_path):
    model, batch = model_and_batch(config, conditional)
    perturbed(model).eval()
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    meta = {
        "family": config.family,
        "model": to_dict(config),
        "features": model.features.to_dict() if conditional else None,
        **dict.fromkeys(("epoch", "csf_definition", "simulated")),
        "data": {"train": None},
    }
    checkpoint.write(tmp_path / "best.safetensors", tensors, meta)
    loaded = load_model(tmp_path / "best.safetensors")
    latents = Rng(0, total=4).normal(*model.latent_shape)
    with torch.no_grad():
        maps = [m.generate(latents, batch.features) for m in (model, loaded)]
    torch.testing.assert_close(*maps, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("key", "config"), **VARIANTS)
def test_config_survives_json(key, config):
    assert from_dict(type(config), to_dict(config)) == config
    assert key[0] == config.family
    with pytest.raises(ConfigError, match="no option 'nonsense'"):
        from_dict(type(config), {**to_dict(config), "nonsense": 1})
    with pytest.raises(ConfigError, match="have no energy score"):
        replace(config, volume_draws=1)


@pytest.mark.parametrize("config", FIRST.values(), ids=FIRST)
def test_same_seed_same_weights_and_global_state_untouched(config):
    before = torch.random.get_rng_state()
    first, second = build(config, seed=3), build(config, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_numbers_do_not_depend_on_who_draws_them():
    whole = Rng(1, 2, 3, total=7)
    parts = [Rng(1, 2, 3, total=7, rows=slice(0, 3)), Rng(1, 2, 3, total=7, rows=slice(3, 7))]
    for shape in ((5,), (2, 3)):
        expected = whole.normal(*shape)
        torch.testing.assert_close(torch.cat([p.normal(*shape) for p in parts]), expected)


@pytest.mark.parametrize(
    ("family", "every", "steps", "cadence"),
    [
        ("csegsynth", 1, 1, "every"),
        ("csegsynth", 3, 2, "every"),
        ("csegsynth", 4, 1, "reference"),
        ("cgan", 1, 1, "every"),
        ("cgan", 3, 2, "every"),
        ("cgan", 1, 5, "every"),
    ],
)
def test_critics_step_as_often_as_they_should(family, every, steps, cadence):
    config = SMALL[family, "compact"]
    goal = replace(config.unconditional, critic_every=every, critic_steps=steps)
    if family == "csegsynth":
        goal = replace(goal, cadence=cadence, code_critic_steps=2)
    model, batch = model_and_batch(replace(config, unconditional=goal), conditional=False)
    counts = Counter(
        group for step in range(12) for group, _ in model.losses(batch, Rng(step, total=4), step)
    )
    rounds = 12 // every if cadence == "every" else 12 - 12 // every
    expected = {"generator": 12, "critic": rounds * steps}
    if family == "csegsynth":
        expected["code_critic"] = rounds * 2
    assert counts == expected
