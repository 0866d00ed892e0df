"""The checks notice what they should, and leave good maps alone."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.data import doctor
from csegsynth_kit.data.place import Placed, place
from csegsynth_kit.data.readers.detect import discover, read_subject
from csegsynth_kit.maps import GRIDS
from tests.data.heads import write_aseg, write_dseg, write_fast, write_synthseg


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fast")
    write_fast(folder, "sub-01")
    return read_subject(discover(folder).scans[0])


def codes(findings):
    return [(f.severity, f.code) for f in findings]


def every_check(maps):
    checks = (
        doctor.check_values,
        doctor.check_order,
        doctor.check_volumes,
        doctor.check_field_of_view,
    )
    return [finding for check in checks for finding in check(maps)]


@pytest.mark.parametrize("write", [write_fast, write_dseg, write_synthseg, write_aseg])
def test_good_maps_of_every_layout_pass(tmp_path, write):
    write(tmp_path, "sub-01")
    assert every_check(read_subject(discover(tmp_path).scans[0])) == []


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_every_wrong_order_of_tissues_is_noticed(maps, order):
    swapped = replace(maps, tissues=maps.tissues[list(order)])
    (finding,) = doctor.check_order(swapped)
    assert (finding.severity, finding.code) == ("excluded", "swapped-tissues")
    names = [("WM", "GM", "CSF")[t] for t in order]
    assert f"look like {', '.join(names)}" in finding.message


def test_ventricles_say_nothing_about_the_order(tmp_path):
    write_aseg(tmp_path, "sub-01")
    aseg = read_subject(discover(tmp_path).scans[0])
    assert doctor.check_order(aseg) == []
    (finding,) = doctor.check_order(replace(aseg, tissues=aseg.tissues[[1, 0, 2]]))
    assert "look like GM, WM" in finding.message


def test_the_order_is_seen_at_8_mm_too(maps):
    grid = GRIDS["tiny"]
    coarse = replace(maps, tissues=place(maps, grid).shares.numpy(), affine=grid.affine)
    assert doctor.check_order(coarse) == []
    assert doctor.check_order(replace(coarse, tissues=coarse.tissues[[1, 0, 2]])) != []


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1.0, []),
        (0.85, [("doubt", "implausible-volume")]),
        (1.4, [("excluded", "implausible-volume")]),
    ],
)
def test_volumes_follow_the_voxel_size(maps, length, expected):
    scaled = replace(maps, affine=maps.affine @ np.diag([length] * 3 + [1.0]))
    assert codes(doctor.check_volumes(scaled)) == expected


def test_round_off_is_clipped_and_more_is_not(maps):
    noisy = replace(maps, tissues=maps.tissues * np.float32(1.004) - np.float32(0.002))
    assert doctor.check_values(noisy) == []
    clean = doctor.clipped(noisy)
    assert clean.tissues.min() >= 0
    assert clean.tissues.sum(axis=0).max() <= 1 + 1e-6
    np.testing.assert_allclose(clean.volumes_ml, noisy.volumes_ml, rtol=0.03)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.97, []), (0.94, ["doubt"]), (0.91, ["doubt"]), (0.85, ["excluded"])],
)
@pytest.mark.parametrize("pooled", [False, True])
def test_scaled_shares_are_noticed_on_every_grid(maps, share, expected, pooled):
    tissues = place(maps, GRIDS["tiny"]).shares.numpy() if pooled else maps.tissues
    scaled = replace(maps, tissues=tissues * np.float32(share))
    findings = doctor.check_values(scaled)
    assert codes(findings) == [(severity, "sum-below-1") for severity in expected]
    assert all(f"{share:.2f} deep" in f.message for f in findings if f.severity == "doubt")


def test_voxel_size(maps):
    def check(edges, sidecar=()):
        scaled = replace(maps, affine=np.diag([*edges, 1.0]), sidecar=dict(sidecar))
        return codes(doctor.check_voxels(scaled))

    assert check((1, 1, 1)) == check((2, 2, 2)) == check((0.7, 1, 1.2)) == []
    assert check((2.5, 1, 1)) == [("doubt", "coarse-voxels")]
    assert check((0.8, 0.8, 1.8)) == [("doubt", "uneven-voxels")]
    # Exports say that their voxels are coarse on purpose.
    assert check((8, 8, 8), {"Grid": {}}.items()) == []


def test_a_brain_at_the_edge_of_the_image_is_doubted(maps):
    field = np.linalg.inv(maps.field_affine) @ maps.affine
    start = np.rint(field[:3, 3]).astype(int)
    top = start[2] + 40
    shape = (*maps.field_shape[:2], int(top))
    cut = replace(maps, tissues=maps.tissues[..., :40], field_shape=shape)
    assert codes(doctor.check_field_of_view(cut)) == [("doubt", "cut-off")]
    assert doctor.check_field_of_view(maps) == []


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [(0.85, []), (0.75, [("doubt", "poor-alignment")]), (0.5, [("excluded", "poor-alignment")])],
)
def test_a_poor_fit_is_noticed(maps, overlap, expected):
    alignment = {"overlap": overlap, "rotation_deg": [3.0, 0.0, 1.0]}
    assert codes(doctor.check_placement(maps, Placed(None, "aligned", (0, 0, 0), alignment))) == (
        expected
    )


def test_far_rotations_and_changed_volumes_are_doubted(maps):
    alignment = {"overlap": 0.85, "rotation_deg": [-170.0, 0.0, 1.0]}
    findings = doctor.check_placement(maps, Placed(None, "aligned", (0, -3.0, 0), alignment))
    assert codes(findings) == [("doubt", "far-rotation"), ("doubt", "volume-change")]


def test_one_map_under_two_names_is_doubted():
    records = {
        "sub-1": {"volumes_ml": [1.0, 2.0, 3.0]},
        "sub-2": {"volumes_ml": [1.0, 2.0, 3.1]},
        "sub-3": {"volumes_ml": [1.0, 2.0, 3.0]},
        "sub-4": {},
    }
    (finding,) = doctor.check_repeats(records)
    assert finding.subject == "sub-1"
    assert "sub-1, sub-3" in finding.message


def test_one_person_under_two_ids_is_doubted():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((5, 9)), index=[f"sub-{i}" for i in range(5)])
    frame.iloc[3] = frame.iloc[1]
    (finding,) = doctor.check_answers(frame)
    assert finding.message.startswith("sub-1, sub-3 gave")
    # Few answers agree by chance.
    assert doctor.check_answers(frame[frame.columns[:3]]) == []


def test_rows_and_maps_are_compared_both_ways():
    findings = doctor.check_rows(["sub-1", "sub-2"], ["sub-2", "sub-3"], "t.tsv")
    assert [(f.subject, f.code) for f in findings] == [
        ("sub-3", "no-answers"),
        ("cohort", "no-map"),
    ]
    assert "1 of 2 rows of t.tsv have no map (sub-1)" in findings[1].message


@pytest.mark.real
def test_real_maps_of_three_tools_pass(real_data):
    derivatives = real_data / "aomic_piop2" / "derivatives"
    scans = [
        discover(derivatives, "fmriprep").scans[0],
        discover(derivatives, "freesurfer").scans[0],
        discover(real_data / "synthseg").scans[8],
    ]
    for scan in scans:
        real = read_subject(scan)
        assert [*real.findings, *doctor.check_voxels(real), *every_check(real)] == []
        share = doctor.outer_shares(real)
        assert share[0] < 0.7 * share[1]
