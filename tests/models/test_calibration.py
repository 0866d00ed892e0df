"""A calibrated start has the volumes that regression expects, and their spread."""

import pytest
import torch

from csegsynth_kit.models import calibration
from csegsynth_kit.models.calibration import calibrate, volume_target
from csegsynth_kit.models.compact import CompactTransform

N, F, L = 300, 5, 12
NOISE = torch.tensor([[0.5, 0.0, 0.0], [0.2, 0.4, 0.0], [-0.2, -0.1, 0.3]])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture
def people():
    """Features, of which one is the same for everybody, and volumes that depend on two."""
    g = generator()
    features = torch.randn(N, F, generator=g)
    features[:, -1] = 1.0
    effects = torch.zeros(F, 3)
    effects[0], effects[1] = torch.tensor([0.6, -0.5, 0.7]), torch.tensor([-0.3, 0.4, 0.0])
    return features, features @ effects + torch.randn(N, 3, generator=g) @ NOISE.T


@pytest.fixture
def volumes_of():
    """Saturating, as shares are; the last four entries of a code do not matter."""
    weights = 0.5 * torch.randn(3, L, generator=generator())
    weights[:, -4:] = 0
    return lambda code: 2 * torch.tanh(0.5 * code @ weights.T) + 0.3


def fresh_draws(transform, volumes_of, features, n=400):
    noise = torch.randn(n, 1, L, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        return torch.stack(
            [volumes_of(transform(z.expand(len(features), L), features)) for z in noise]
        )


def test_draws_center_on_the_regression_and_spread_as_what_it_leaves_over(people, volumes_of):
    features, volumes = people
    transform = CompactTransform(F, L, 8)
    target = volume_target(features, volumes)
    before = fresh_draws(transform, volumes_of, features)
    calibrate(transform, volumes_of, features, volumes)
    draws = fresh_draws(transform, volumes_of, features)
    gap = (draws.mean(0) - target.mean).square().mean(0).sqrt()
    assert (gap < 0.1).all()
    assert ((before.mean(0) - target.mean).square().mean(0).sqrt() > 0.25).all()
    spread = (draws - draws.mean(0)).flatten(0, 1)
    covariance = spread.T @ spread / len(spread)
    torch.testing.assert_close(covariance, target.covariance, atol=0.03, rtol=0.1)


def test_what_is_left_over_is_measured_in_unseen_people():
    g = generator()
    features, volumes = torch.randn(60, 30, generator=g), torch.randn(60, 3, generator=g)
    volumes = volumes + 1.5 * features[:, :3] + features[:, 3:6] - features[:, 6:9]
    target = volume_target(features, volumes)
    seen = (volumes - target.mean).square().mean(0)
    assert (target.covariance.diag() > 1.15 * seen).all()


def test_retests_of_a_person_are_left_out_together():
    """Three nearly equal rows a person tell nothing of unseen persons."""
    g = generator()
    answers, noise = torch.randn(100, 40, generator=g), torch.randn(100, 3, generator=g)
    person = torch.arange(100).repeat(3)
    features = answers[person] + 0.01 * torch.randn(300, 40, generator=g)
    volumes = (answers[:, :3] + noise)[person]
    names = [f"p{i}" for i in person.tolist()]
    grouped = volume_target(features, volumes, names).covariance.diag().mean()
    parted = volume_target(features, volumes).covariance.diag().mean()
    assert grouped > 0.95
    assert parted < 0.9 * grouped


def test_known_noise_is_found(people):
    target = volume_target(*people)
    torch.testing.assert_close(target.covariance, NOISE @ NOISE.T, atol=0.05, rtol=0.15)


def test_entries_that_have_nothing_to_do_with_volumes_stay(people, volumes_of):
    features, volumes = people
    transform = CompactTransform(F, L, 8)
    calibrate(transform, volumes_of, features, volumes)
    assert (transform.linear.weight[-4:] == 0).all()
    assert (transform.linear.weight[:-4] != 0).any()
    torch.testing.assert_close(transform.mix.weight[-4:], torch.eye(L)[-4:])


def test_calibration_is_the_same_every_time(people, volumes_of):
    features, volumes = people
    first, second = CompactTransform(F, L, 8), CompactTransform(F, L, 8)
    second.load_state_dict(first.state_dict())
    calibrate(first, volumes_of, features, volumes)
    calibrate(second, volumes_of, features, volumes)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_slopes_are_the_same_however_many_codes_are_taken_at_a_time(people, monkeypatch):
    bending = torch.randn(3, L, generator=generator())
    transform = CompactTransform(F, L, 8)
    torch.nn.init.normal_(transform.linear.weight, generator=generator())
    found = []
    for at_a_time in (3, 64):
        monkeypatch.setattr(calibration, "_WITH_GRADIENTS", at_a_time)
        slope = calibration._slope(lambda c: (c @ bending.T).sin(), transform, people[0], 0)
        found.append(slope)
    assert found[0].abs().max() > 0.01
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-5)


def test_volumes_that_move_together_do_no_harm(people, volumes_of):
    features, volumes = people
    alike = volumes[:, :1].expand(-1, 3)
    transform = CompactTransform(F, L, 8)
    calibrate(transform, lambda code: volumes_of(code)[:, :1].expand(-1, 3), features, alike)
    assert transform.mix.weight.abs().max() < 5
    assert transform.linear.weight.abs().max() < 5


def test_curved_features_are_not_shrunk():
    """What is left over has nothing to do with age or its square, unless they are penalized."""
    g = generator()
    features = torch.randn(80, 6, generator=g)
    age = features[:, :1]
    volumes = 0.5 * age + 0.3 * age**2 + torch.randn(80, 3, generator=g)
    expanded = torch.cat([features, age**2], dim=1)
    free = volume_target(features, volumes, curved=[0])
    shrunk = volume_target(expanded, volumes)
    assert free.slopes.shape == shrunk.slopes.shape == (7, 3)
    assert (free.slopes[1:6] == 0).any()
    both = torch.cat([age, age**2], dim=1)
    left = {k: (both.T @ (volumes - one.mean) / 80) for k, one in (("free", free), ("no", shrunk))}
    assert left["free"].abs().max() < 0.0101  # the largest penalty, over what frees from it
    assert (left["no"] > 0.04).all()


def test_volumes_that_bend_with_age_follow_the_regression(people):
    """Where maps bend what is straight in the code, cubes of age straighten it."""
    features, volumes = people
    bending = 0.5 * torch.randn(3, L, generator=generator())

    def bent(code):
        return 2 * torch.tanh(code @ bending.T)

    ages = features[:, :1]
    design = torch.cat([ages**power for power in range(4)], dim=1)
    cubic = {}
    for name, curved in (("cubed", [0]), ("plain", [])):
        transform = CompactTransform(F, L, 8, curved=curved)
        calibrate(transform, bent, features, volumes)
        gap = fresh_draws(transform, bent, features).mean(0)
        gap = gap - volume_target(features, volumes, curved=curved).mean
        cubic[name] = torch.linalg.lstsq(design, gap).solution[3].norm()
    assert cubic["cubed"] < 0.4 * cubic["plain"]
