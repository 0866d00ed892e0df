import numpy as np
import pytest

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics import coverage as c


def distances(a, b):
    return np.sqrt(((a[:, None] - b) ** 2).sum(-1))


def balls(points, neighbors=c.NEIGHBORS):
    return c.ball_radii(distances(points, points), neighbors=neighbors)


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 2)), rng.normal(0.8, 0.7, size=(20, 2))


def radius(points, i, k):
    return sorted(np.linalg.norm(points[i] - p) for j, p in enumerate(points) if j != i)[k - 1]


def test_scores_equal_loops(sets):
    real, fake = sets
    rf = distances(real, fake)
    for k in (1, 3, 5):
        rr, ff = balls(real, k), balls(fake, k)
        hits = np.array(
            [[np.linalg.norm(r - f) < radius(real, i, k) for f in fake] for i, r in enumerate(real)]
        )
        back = np.array(
            [[np.linalg.norm(r - f) < radius(fake, j, k) for j, f in enumerate(fake)] for r in real]
        )
        assert c.precision(rr, rf) == pytest.approx(hits.any(0).mean())
        assert c.recall(ff, rf) == pytest.approx(back.any(1).mean())
        assert c.density(rr, rf, neighbors=k) == pytest.approx(hits.sum() / (k * len(fake)))
        assert c.coverage(rr, rf) == pytest.approx(hits.any(1).mean())


def test_authenticity_equals_loops(sets):
    real, fake = sets
    authentic = []
    for f in fake:
        apart = [np.linalg.norm(f - r) for r in real]
        nearest = int(np.argmin(apart))
        authentic.append(apart[nearest] > radius(real, nearest, 1))
    found = c.authenticity(balls(real, 1), distances(real, fake))
    assert found == pytest.approx(np.mean(authentic))


def test_copies_are_precise_but_not_authentic(sets):
    real, _ = sets
    copies = real[:12]
    rr, rf = balls(real), distances(real, copies)
    assert c.precision(rr, rf) == 1
    assert c.authenticity(balls(real, 1), rf) == 0
    assert c.coverage(rr, distances(real, real)) == 1


def test_far_sets_score_zero(sets):
    real, fake = sets
    rr, rf = balls(real), distances(real, fake + 100)
    assert c.precision(rr, rf) == c.density(rr, rf) == c.coverage(rr, rf) == 0
    assert c.authenticity(balls(real, 1), rf) == 1


def test_one_repeated_person_covers_little(sets):
    real, _ = sets
    rf = distances(real, np.repeat(real[:1], 20, axis=0))
    assert c.coverage(balls(real), rf) < 0.5
    assert c.precision(balls(real), rf) == 1


def test_more_neighbors_than_maps_are_refused(sets):
    real, _ = sets
    with pytest.raises(ConfigError, match="at least 6 maps"):
        c.ball_radii(distances(real[:5], real[:5]), neighbors=5)
