"""Which layout a folder holds, and what stands in the way."""

import pytest

from csegsynth_kit.data.readers.base import natural
from csegsynth_kit.data.readers.detect import discover
from csegsynth_kit.errors import CohortError, ConfigError
from tests.data.heads import write_aseg, write_dseg, write_fast, write_synthseg

WRITERS = {
    "fast": write_fast,
    "fmriprep": write_dseg,
    "freesurfer": write_aseg,
}


@pytest.mark.parametrize("layout", WRITERS)
def test_one_layout_is_found_alone_and_when_named(tmp_path, layout):
    WRITERS[layout](tmp_path / "deep" / "er", "sub-01")
    assert discover(tmp_path).layout == layout
    assert discover(tmp_path, layout).scans == discover(tmp_path).scans


def test_several_layouts_are_listed_with_counts(tmp_path):
    for layout, write in WRITERS.items():
        write(tmp_path / layout, "sub-01")
    write_dseg(tmp_path / "fmriprep", "sub-02")
    with pytest.raises(CohortError) as caught:
        discover(tmp_path)
    text = str(caught.value)
    assert "fmriprep: 2 participants (2 dseg" in text
    assert "fast: 1 participant (1 FAST pve" in text
    assert "--layout fast or --layout fmriprep or --layout freesurfer" in text
    assert discover(tmp_path, "fmriprep").layout == "fmriprep"


def test_a_layout_that_is_not_there_names_the_one_that_is(tmp_path):
    write_synthseg(tmp_path, "sub-01")
    with pytest.raises(CohortError, match=r"no map of layout fast, but freesurfer: 1 participant"):
        discover(tmp_path, "fast")


def test_participants_come_in_the_order_of_their_numbers(tmp_path):
    for i in (10, 9, 1):
        write_synthseg(tmp_path, f"sub-{i}")
    assert [s.participant for s in discover(tmp_path).scans] == ["sub-1", "sub-9", "sub-10"]
    assert natural(["run-2"]) < natural(["run-10"])


def test_hidden_folders_and_sourcedata_are_not_searched(tmp_path):
    write_dseg(tmp_path, "sub-01")
    write_aseg(tmp_path / "sourcedata" / "freesurfer", "sub-01")
    write_fast(tmp_path / ".work", "sub-01")
    assert discover(tmp_path).layout == "fmriprep"
    assert discover(tmp_path / "sourcedata" / "freesurfer").layout == "freesurfer"


def test_a_link_back_up_does_not_go_round_in_circles(tmp_path):
    write_dseg(tmp_path, "sub-01")
    (tmp_path / "sub-01" / "again").symlink_to(tmp_path)
    assert len(discover(tmp_path).scans) == 1


def test_links_to_folders_elsewhere_are_followed(tmp_path):
    write_dseg(tmp_path / "store", "sub-01")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "sub-01").symlink_to(tmp_path / "store" / "sub-01")
    assert len(discover(tmp_path / "source").scans) == 1


def test_a_prepared_cohort_is_no_source(tmp_path):
    (tmp_path / "maps.npy").write_bytes(b"")
    with pytest.raises(CohortError, match="prepared cohort already"):
        discover(tmp_path)


def test_unknown_layouts_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="Choose auto, fast, fmriprep, freesurfer"):
        discover(tmp_path, "spm")


@pytest.mark.real
def test_real_derivatives_of_two_tools_are_refused(real_data):
    with pytest.raises(CohortError) as caught:
        discover(real_data / "aomic_piop2" / "derivatives")
    text = str(caught.value)
    assert "fmriprep: 1 participant (1 dseg" in text
    assert "freesurfer: 1 participant (1 aseg" in text
    assert "--layout fmriprep or --layout freesurfer" in text


@pytest.mark.real
@pytest.mark.parametrize(("layout", "kind"), [("fmriprep", "dseg"), ("freesurfer", "aseg")])
def test_a_chosen_layout_excludes_who_has_warped_maps_only(real_data, layout, kind):
    found = discover(real_data / "aomic_piop2" / "derivatives", layout)
    assert [(s.participant, s.kind) for s in found.scans] == [("sub-0001", kind)]
    excluded = {(f.subject, f.code) for f in found.findings if f.severity == "excluded"}
    assert excluded == {("sub-0002", "modulated"), ("sub-0002", "warped-unmodulated")}
