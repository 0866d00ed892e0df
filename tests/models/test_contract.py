"""What every family must do, asserted once over all of them."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError, RunError
from csegsynth_kit.maps import volumes_ml
from csegsynth_kit.models import FAMILIES, Batch, Rng, TrainingSet, build
from csegsynth_kit.models.config import from_dict, to_dict
from csegsynth_kit.models.gan import GANObjective
from csegsynth_kit.models.ldm import LDMObjective
from csegsynth_kit.models.presets import PRESETS, preset
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
#: What fine-tuning adds to the pre-trained tensors: the start of their names.
ADDED = {
    "cvae": ("encoder_shift.", "prior.", "decoder_shift."),
    "cgan": ("transform.",),
    "cldm": ("transform.",),
    "csegsynth": ("transform.",),
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


def first_of(training, n=4):
    inputs = None if training.features is None else training.features[:n]
    return Batch(next(iter(training.maps()))[:n], training.volumes[:n], inputs)


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
def test_gradients_reach_all_parameters_of_the_group_and_nobody_else(config, conditional):
    """A loss that leaked into another group, or missed its own, would fail here."""
    features, training = training_set(config, conditional)
    model, batch = build(config, features), first_of(training)
    model.fit_statistics(training)
    perturbed(model)
    groups = model.groups()
    owner = {
        id(p): name for name, mods in groups.items() for m in mods.values() for p in m.parameters()
    }
    assert len(owner) == sum(len(list(m.parameters())) for g in groups.values() for m in g.values())
    seen = set()
    for group, terms in _two_steps(model, training, batch):
        seen.add(group)
        own = [p for m in groups[group].values() for p in m.parameters()]
        for p in model.parameters():
            p.grad = None
        sum(terms.values()).backward(inputs=own)
        reached = {id(p) for p in model.parameters() if p.grad is not None}
        assert {owner.get(i) for i in reached} == {group}
        dead = [n for n, p in model.named_parameters() if id(p) in map(id, own) and p.grad is None]
        assert dead == []
        assert all(torch.isfinite(p.grad).all() for p in own)
    assert seen == set(groups)


def _two_steps(model, training, batch):
    """Two steps as the trainer takes them.

    Critics have their turn in one of the two; the autoencoder of a diffusion model is done after
    the first.
    """
    for step in (4, 5):
        model.begin_epoch(training, step)
        yield from model.losses(batch, Rng(0, total=4), step)


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


@pytest.mark.parametrize("config", SMALL.values(), ids=[f"{f}-{v}" for f, v in SMALL])
def test_fine_tuning_starts_from_the_pre_trained_weights(config):
    base, _ = model_and_batch(config, conditional=False)
    perturbed(base)
    model, _ = model_and_batch(config, conditional=True)
    report = model.start_from(base.state_dict())
    stored, own = base.state_dict(), model.state_dict()
    new, unused = report["new"], report["unused"]
    if config.family == "cldm" and not config.token:
        # Pre-training has no token, and so attention layers of another form.
        assert all(".attention" in name for name in [*new, *unused])
    else:
        assert unused == []
        assert all(name.startswith(ADDED[config.family]) for name in new)
    assert new
    assert all(torch.equal(own[name], stored[name]) for name in stored.keys() - set(unused))
    assert model.warm_started


def test_warm_start_from_another_size_is_refused():
    config = SMALL["csegsynth", "compact"]
    other = build(replace(config, latent=10))
    with pytest.raises(RunError, match="has shape"):
        build(config).start_from(other.state_dict())


@pytest.mark.parametrize("config", SMALL.values(), ids=[f"{f}-{v}" for f, v in SMALL])
def test_config_survives_json(config):
    assert from_dict(type(config), to_dict(config)) == config
    with pytest.raises(ConfigError, match="no option 'nonsense'"):
        from_dict(type(config), {**to_dict(config), "nonsense": 1})


@pytest.mark.parametrize("config", SMALL.values(), ids=[f"{f}-{v}" for f, v in SMALL])
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
        goal = replace(goal, cadence=cadence)
    model, batch = model_and_batch(replace(config, unconditional=goal), conditional=False)
    counts = Counter(
        group for step in range(12) for group, _ in model.losses(batch, Rng(step, total=4), step)
    )
    rounds = 12 // every if cadence == "every" else 12 - 12 // every
    expected = {"generator": 12, "critic": rounds * steps}
    if family == "csegsynth":
        expected["code_critic"] = rounds
    assert counts == expected
