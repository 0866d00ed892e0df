from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import dequantize, quantize
from csegsynth_kit.metrics.morphometry import Morphometry
from csegsynth_kit.metrics.neighbors import authentic, closeness, twins
from csegsynth_kit.metrics.perturb import perturb
from csegsynth_kit.metrics.privacy import attack_scores, copy_machine, distances, membership
from csegsynth_kit.metrics.release import audit_features, release_audit
from tests.metrics.people import people

D = 10


def world(n, m, draws, seed, *, answers=1.0):
    """Features of people, and of draws that share their answers and nothing else."""
    rng = np.random.default_rng(seed)
    shared = answers * rng.normal(size=(1, n + m, D))
    real = shared + rng.normal(size=(1, n + m, D))
    made = shared.repeat(draws, axis=1) + rng.normal(size=(1, (n + m) * draws, D))
    return real[:, :n], real[:, n:], made[:, : n * draws], made[:, n * draws :]


def quick(*parts):
    return audit_features(*parts, times=400)


def near_copies(parts, *, distance):
    """Draws that are training people, moved by noise of this size."""
    train, held_out, *made = parts
    rng = np.random.default_rng(9)
    copies = copy_machine(train, made, share=1.0, seed=1)
    return train, held_out, *(c + distance * rng.normal(size=c.shape) for c in copies)


@pytest.fixture(scope="module")
def honest():
    return world(150, 60, 4, 1)


def test_auc_is_that_of_sklearn_with_ties():
    rng = np.random.default_rng(0)
    scores, member = rng.integers(0, 6, 70).astype(float), rng.random(70) < 0.6
    attack = membership(scores, member, np.arange(70))
    assert attack.value == pytest.approx(roc_auc_score(member, scores))
    assert (attack.n_members, attack.n_others) == (member.sum(), (~member).sum())


def test_found_share_at_a_low_rate_is_exact():
    """5 of 50 others score above 44; 3 of 10 members do."""
    scores = np.concatenate([np.r_[44.5, 60, 70, np.zeros(7)], np.arange(50)])
    attack = membership(scores, np.arange(60) < 10, np.arange(60))
    assert attack.found == 0.3
    fewer = membership(scores[:59], np.arange(59) < 10, np.arange(59))
    assert np.isnan(fewer.found)


def test_intervals_hold_chance_in_honest_draws():
    """With strong common answers, too: everybody is asked for alike."""
    held = {"anybody": 0, "own answers": 0, "nearest": 0}
    for seed in range(40):
        d = distances(*world(50, 25, 2, seed, answers=1.5))
        signs = {
            name: membership(scores, d.member, d.person, times=200, seed=seed)
            for name, scores in attack_scores(d).items()
        }
        signs["nearest"] = closeness(d, times=20, seed=seed).nearest
        for name in held:
            held[name] += signs[name].low <= 0.5 <= signs[name].high
    assert all(34 <= count <= 40 for count in held.values()), held


def test_retests_are_not_more_people():
    d = distances(*world(40, 30, 2, 0))
    scores = attack_scores(d)["anybody"]
    once = membership(scores, d.member, d.person)
    doubled = membership(*(np.tile(x, 2) for x in (scores, d.member, d.person)))
    assert (doubled.value, doubled.low, doubled.high) == pytest.approx(
        (once.value, once.low, once.high)
    )
    strangers = membership(np.tile(scores, 2), np.tile(d.member, 2), np.arange(140))
    assert strangers.se < 0.85 * once.se


def test_own_retests_are_nobodys_neighbor():
    train, held_out, of_train, of_held_out = world(30, 20, 1, 0)
    twice = [np.concatenate([x, x[:, -1:]], axis=1) for x in (held_out, of_held_out)]
    persons = [*range(50), 49]
    d = distances(train, twice[0], of_train, twice[1], persons=persons)
    assert d.to_others().min() > 0.1
    assert len(d.first_rows()) == 50
    assert closeness(d, times=5).nearest.n_others == 20


def test_equal_reference_sizes_are_fair():
    """Among 200 people the nearest is nearer than among 25, whoever they are."""
    d = distances(*world(200, 25, 2, 3))
    near = closeness(d, times=20)
    train, held_out = near.table["synthetic", "train"], near.table["synthetic", "held out"]
    assert near.reference == 25
    assert train[0] == pytest.approx(held_out[0], rel=0.04)
    assert np.median(d.made[d.member].min(0)) < 0.85 * held_out[0]
    assert near.table["train", "train"][0] == pytest.approx(
        near.table["held out", "train"][0], rel=0.1
    )


def test_honest_maps_pass_and_the_control_alarms(honest):
    audit = quick(*honest)
    assert audit.verdict == "no sign of copying"
    alarmed = {control.share: control.alarmed for control in audit.controls}
    assert alarmed[0.2]
    assert alarmed[1.0]
    assert audit.draws == 4
    assert all("150" in reason for reason in audit.reasons[:3])


@pytest.mark.parametrize("distance", [0.0, 0.02, 0.5])
def test_copies_and_near_copies_are_not_released(honest, distance):
    audit = quick(*near_copies(honest, distance=distance))
    assert audit.verdict == "do not release"
    assert audit.attacks["anybody"].low > 0.8
    assert audit.closeness.nearest.low > 0.6
    assert audit.authenticity.floor.too_good(audit.authenticity.value)
    assert (audit.twins.members > 100) == (distance < 0.1)
    assert audit.twins.others == 0


def test_a_fifth_of_copies_is_not_released_even_if_none_is_a_twin(honest):
    train, held_out, *made = honest
    copied = copy_machine(train, made, share=0.2, seed=3)
    moved = [np.where(a == b, a, a + 0.3) for a, b in zip(copied, made, strict=True)]
    audit = quick(train, held_out, *moved)
    assert audit.twins.members == 0
    assert audit.verdict == "do not release"
    assert audit.attacks["anybody"].value > 0.6


def test_a_model_that_remembers_people_by_their_answers_is_found(honest):
    """Nobody else's answers bring the person back."""
    train, held_out, of_train, of_held_out = honest
    remembered = 0.5 * of_train + 0.5 * train.repeat(4, axis=1)
    audit = quick(train, held_out, remembered, of_held_out)
    assert audit.attacks["own answers"].low > 0.6
    assert audit.verdict == "do not release"


@pytest.mark.parametrize(("n", "m"), [(12, 12), (12, 60), (150, 12)])
def test_twelve_people_are_too_few(n, m):
    audit = quick(*world(n, m, 4, 1))
    assert audit.verdict == "cannot tell"
    assert "at least 20" in audit.reasons[0]


def test_without_an_alarm_of_the_control_there_is_no_pass():
    """One weak draw each: a fifth of copies hits too few of 25 people."""
    audit = quick(*world(25, 25, 1, 5))
    assert not next(c for c in audit.controls if c.share == 0.2).alarmed
    assert audit.verdict == "cannot tell"
    assert "did not find out a machine" in audit.reasons[0]


def test_order_of_people_does_not_matter(honest):
    train, held_out, of_train, of_held_out = honest
    order = np.random.default_rng(0).permutation(150)
    draws = (order[:, None] * 4 + np.arange(4)).ravel()
    one, other = (
        distances(*parts)
        for parts in (honest, (train[:, order], held_out, of_train[:, draws], of_held_out))
    )
    for name, scores in attack_scores(one).items():
        value = membership(attack_scores(other)[name], other.member, other.person, times=10).value
        assert value == pytest.approx(membership(scores, one.member, one.person, times=10).value)
    assert twins(one) == twins(other)
    assert authentic(one, splits=2).value == authentic(other, splits=2).value


def test_units_and_copies_of_a_feature_space_do_not_matter(honest):
    one = distances(*honest)
    several = distances(*(np.concatenate([x, 7 * x]) for x in honest))
    np.testing.assert_allclose(several.made, one.made, rtol=1e-6)


def test_unequal_draws_and_people_in_both_groups_are_refused(honest):
    train, held_out, of_train, of_held_out = honest
    with pytest.raises(ConfigError, match="not equally many"):
        distances(train, held_out, of_train, of_held_out[:, ::2])
    with pytest.raises(ConfigError, match="in both groups"):
        distances(*honest, persons=[*range(209), 0])


def test_copy_machine_copies_its_share_and_leaves_the_rest(honest):
    train, _, *made = honest
    copied = copy_machine(train, made, share=0.25, seed=0)
    for before, after in zip(made, copied, strict=True):
        changed = (before != after).any(axis=(0, 2))
        assert changed.sum() == round(0.25 * before.shape[1])
        assert all((row == train[0]).all(1).any() for row in after[0, changed])


def requantized(maps):
    steps = quantize(maps.probabilities[:, :3])
    return replace(maps, probabilities=dequantize(steps))


def test_maps_that_are_disguised_copies_are_found():
    """On voxels that are neither cubic nor centered at 0."""
    train, held_out = people(30, seed=1), people(20, seed=2)
    copies = requantized(train)
    audit = release_audit(train, held_out, copies, copies[5:25], times=400)
    assert audit.verdict == "do not release"
    assert audit.twins.members == 30
    assert audit.passport["fitted_on"] == 50
    extractor = Morphometry().fit(train)
    real = [extractor.features(maps) for maps in (train, held_out)]
    for damage in ("blur", "noise"):
        features = extractor.features(perturb(train, damage))
        audit = quick(*real, features, features[:, 5:25])
        assert audit.verdict == "do not release", damage
    fresh = extractor.features(people(50, seed=3))
    assert quick(*real, fresh[:, :30], fresh[:, 30:]).verdict != "do not release"


def test_an_audit_in_parts_is_the_whole_audit():
    train, held_out = people(30, seed=1), people(20, seed=2)
    made = people(30, seed=3), people(20, seed=4)
    whole = release_audit(train, held_out, *made, times=100)
    parts = [iter([maps[:7], maps[7:]]) for maps in made]
    again = release_audit(train, held_out, *parts, times=100)
    assert again.reasons == whole.reasons
    assert again.attacks["anybody"].value == whole.attacks["anybody"].value


def test_other_grids_are_refused():
    train = people(2, seed=1)
    other = replace(train, grid=replace(train.grid, spacing_mm=(1.0, 2.0, 3.0)))
    with pytest.raises(ConfigError, match="one grid"):
        release_audit(train, other, train, train)
