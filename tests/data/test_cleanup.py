"""Clean-up takes off the spine and fragments, and nothing of the head."""

import numpy as np
import pytest

from csegsynth_kit.data.cleanup import clean_labels
from csegsynth_kit.data.readers.detect import discover, read_subject
from csegsynth_kit.errors import MapError
from tests.data.heads import label_head, write_synthseg


def cleaned(folder, labels, affine):
    write_synthseg(folder, "sub-01", labels, affine)
    return clean_labels(read_subject(discover(folder).scans[0]))


def test_a_clean_head_stays_as_it_is(tmp_path):
    labels, affine = label_head()
    result = cleaned(tmp_path, labels, affine)
    assert sum(result.removed_ml) < 0.05


@pytest.mark.parametrize("what", ["spine", "shell", "island", "piece of brain"])
def test_what_does_not_belong_is_removed(tmp_path, what):
    labels, affine = label_head()
    original = labels.copy()
    brain = np.argwhere(np.isin(labels, (2, 3, 41, 42)))
    x, y, _ = brain.mean(axis=0).astype(int)
    bottom = brain[:, 2].min()
    belongs = 0
    if what == "spine":  # Wide and joined to the head: only its place tells it apart.
        x, y, _ = brain[brain[:, 2].argmin()]
        column = labels[x - 4 : x + 5, y - 4 : y + 5, :bottom]
        column[column == 0] = 24
        belongs = (original[..., :bottom] != labels[..., :bottom])[..., bottom - 2 :].sum()
    elif what == "shell":  # Dura: one voxel thin, joined to the head at one end.
        top = np.flatnonzero(labels[x, y])[-1]
        labels[x, y, top + 1 : top + 6] = 24
        belongs = 2
    elif what == "island":
        labels[1:5, 1:5, 47:51] = 24
    else:
        labels[1:5, 1:5, 47:51] = 3
    voxel = abs(np.linalg.det(affine)) / 1000
    least = ((labels != original).sum() - belongs) * voxel

    result = cleaned(tmp_path, labels, affine)

    tissue = 1 if what == "piece of brain" else 2
    # A stub close to the brain may stay or go.
    assert least - 0.01 <= result.removed_ml[tissue] <= least + belongs * voxel + 0.1
    assert result.maps.labels.shape == result.maps.tissues.shape[1:]
    left = np.isin(result.maps.labels, (2, 3, 41, 42)).sum()
    assert left == len(brain)


def test_ventricles_stay(tmp_path):
    labels, affine = label_head(outer=False)
    result = cleaned(tmp_path, labels, affine)
    assert result.maps.volumes_ml[2] == pytest.approx(7.68, abs=0.05)


def test_volumes_add_up(tmp_path):
    labels, affine = label_head()
    labels[2:6, 2:6, 47:51] = 24
    write_synthseg(tmp_path, "sub-01", labels, affine)
    before = read_subject(discover(tmp_path).scans[0])
    result = clean_labels(before)
    np.testing.assert_allclose(
        result.maps.volumes_ml + result.removed_ml, before.volumes_ml, rtol=1e-6
    )


def test_without_a_brain_there_is_nothing_to_keep(tmp_path):
    write_synthseg(tmp_path, "sub-01")
    maps = read_subject(discover(tmp_path).scans[0])
    maps.tissues[:2] = 0
    with pytest.raises(MapError, match="neither white nor gray"):
        clean_labels(maps)


@pytest.mark.real
def test_a_real_head_loses_its_spinal_canal(real_data):
    scans = {s.participant: s for s in discover(real_data / "synthseg").scans}
    result = clean_labels(read_subject(scans["sub-08"]))
    assert max(result.removed_ml[:2]) < 0.01
    assert 25 < result.removed_ml[2] < 35
    brain = np.flatnonzero((result.maps.tissues[:2] > 0).any(axis=(0, 1, 2)))
    head = np.flatnonzero((result.maps.tissues > 0).any(axis=(0, 1, 2)))
    assert brain[0] - head[0] <= 4
