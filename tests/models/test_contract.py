"""What every family must do, asserted once over all of them."""

from dataclasses import replace

import pytest
import torch

from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError, RunError
from csegsynth_kit.models import FAMILIES, Batch, Rng, TrainingSet, build
from csegsynth_kit.models.config import from_dict, to_dict
from csegsynth_kit.models.presets import PRESETS, preset
from tests.toy import TOY_COLUMNS, TOY_GRID, toy_table
from tests.training.jobs import toy_preset

#: Each family at a size that runs in a moment: (family, variant) to its config.
SMALL = {
    ("csegsynth", "compact"): toy_preset().model,
    ("csegsynth", "compact, one choice as published"): replace(
        toy_preset().model, volume_loss="absolute"
    ),
    ("csegsynth", "published"): replace(
        preset("csegsynth", "paper").model,
        grid=replace(TOY_GRID, shape=(8, 16, 24)),
        base=8,
    ),
    ("csegsynth", "published, parity"): replace(
        preset("csegsynth", "paper-reference").model,
        grid=replace(TOY_GRID, shape=(8, 16, 24)),
        base=8,
    ),
}
CASES = [(config, conditional) for config in SMALL.values() for conditional in (False, True)]
IDS = [
    f"{family}-{variant}-{'conditional' if conditional else 'unconditional'}"
    for family, variant in SMALL
    for conditional in (False, True)
]


def model_and_batch(config, conditional, n=4):
    table = toy_table(24)
    features = Features.fit(table, TOY_COLUMNS) if conditional else None
    rng = torch.Generator().manual_seed(1)
    maps = torch.rand(24, 4, *config.grid.shape, generator=rng).mul(3).softmax(1)
    inputs = None
    if conditional:
        inputs = torch.from_numpy(features.inputs(features.encode(table)))
    model = build(config, features)
    volumes = model.standardized_volumes(maps) + torch.randn(24, 3, generator=rng)
    model.fit_statistics(TrainingSet(lambda: maps.split(10), volumes, inputs))
    chosen = [volumes[:n], inputs[:n] if conditional else None]
    others = [None if x is None else torch.roll(x, 1, 0) for x in chosen]
    return model, Batch(maps[:n], *chosen, *others)


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
def test_gradients_reach_all_parameters_of_the_group_and_critics_nothing_else(config, conditional):
    """Critics look at detached maps and codes: a plain backward must stay within the group."""
    model, batch = model_and_batch(config, conditional)
    perturbed(model)
    groups = model.groups()
    owner = {
        id(p): name for name, mods in groups.items() for m in mods.values() for p in m.parameters()
    }
    assert len(owner) == sum(len(list(m.parameters())) for g in groups.values() for m in g.values())
    seen = set()
    for group, terms in (
        *model.losses(batch, Rng(0, total=4), step=4),
        *model.losses(batch, Rng(0, total=4), step=5),  # one of both is a critics' turn
    ):
        seen.add(group)
        own = [p for m in groups[group].values() for p in m.parameters()]
        for p in model.parameters():
            p.grad = None
        sum(terms.values()).backward()
        reached = {id(p) for p in model.parameters() if p.grad is not None}
        if group != "generator":  # which by design looks through the critics
            assert {owner.get(i) for i in reached} == {group}
        dead = [n for n, p in model.named_parameters() if id(p) in map(id, own) and p.grad is None]
        assert dead == []
        assert all(torch.isfinite(p.grad).all() for p in own)
    assert seen == set(groups)


def test_the_score_of_codes_moves_the_transform_and_not_the_encoder():
    model, batch = model_and_batch(SMALL["csegsynth", "compact"], conditional=True)
    perturbed(model)
    _, terms = next(model.losses(batch, Rng(0, total=4), step=0))
    reached = torch.autograd.grad(terms["code"], list(model.parameters()), allow_unused=True)
    names = {
        n for (n, _), g in zip(model.named_parameters(), reached, strict=True) if g is not None
    }
    assert names == {f"transform.{n}" for n, _ in model.transform.named_parameters()}


def test_whole_warmup_scales_every_term_of_every_group():
    config = SMALL["csegsynth", "published, parity"]
    goal = replace(config.conditional, warmup_steps=10, critic_every=1, cadence="every")
    model, batch = model_and_batch(replace(config, conditional=goal), conditional=True)
    early, late = (
        {(g, n): float(t.detach()) for g, ts in model.losses(batch, Rng(0, total=4), step)
         for n, t in ts.items()}
        for step in (0, 9)
    )  # fmt: skip
    assert {group for group, _ in early} == {"generator", "code_critic"}
    for name, value in late.items():
        assert early[name] == pytest.approx(0.1 * value, rel=1e-4), name


@pytest.mark.parametrize(("config", "conditional"), CASES, ids=IDS)
def test_steps_lower_the_reconstruction_loss(config, conditional):
    only = replace(
        config.conditional if conditional else config.unconditional,
        adversarial=0.0,
        volume=0.0,
        reconstructed_volume=0.0,
        triplet=0.0,
        warmup="adversarial",
    )
    config = replace(config, **{"conditional" if conditional else "unconditional": only})
    model, batch = model_and_batch(config, conditional)
    own = [p for module in model.groups()["generator"].values() for p in module.parameters()]
    optimizer = torch.optim.Adam(own, lr=2e-3)
    record = []
    for step in range(12):
        _, terms = next(model.losses(batch, Rng(0, step, total=4), step))
        record.append(float(terms["reconstruction"].detach()))
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
    assert report
    assert all(name.startswith(model.conditional_parts) for name in report)
    own = model.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in base.state_dict().items())
    assert model.warm_started


def test_warm_start_from_incomplete_or_foreign_weights_is_refused():
    config = SMALL["csegsynth", "compact"]
    weights = model_and_batch(config, conditional=False)[0].state_dict()
    model, _ = model_and_batch(config, conditional=True)
    lacking = {n: w for n, w in weights.items() if not n.startswith("encoder.")}
    for wrong in (lacking, {**weights, "foreign": torch.zeros(1)}):
        with pytest.raises(RunError, match="only in one of model and weights"):
            model.start_from(wrong)


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
    ("every", "steps", "cadence"), [(1, 1, "every"), (3, 2, "every"), (4, 1, "reference")]
)
def test_critics_step_as_often_as_they_should(every, steps, cadence):
    config = SMALL["csegsynth", "compact"]
    goal = replace(
        config.unconditional,
        critic_every=every,
        critic_steps=steps,
        code_critic_steps=2,
        cadence=cadence,
    )
    model, batch = model_and_batch(replace(config, unconditional=goal), conditional=False)
    counts = {"generator": 0, "critic": 0, "code_critic": 0}
    for step in range(12):
        for group, _ in model.losses(batch, Rng(step, total=4), step):
            counts[group] += 1
    rounds = 12 // every if cadence == "every" else 12 - 12 // every
    assert counts == {"generator": 12, "critic": rounds * steps, "code_critic": rounds * 2}
