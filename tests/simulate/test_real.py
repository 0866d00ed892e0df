import numpy as np
import pandas as pd
import pytest
import torch

from csegsynth_kit.data.cohort import Cohort, load_cohort
from csegsynth_kit.data.prepare import prepare
from csegsynth_kit.data.schema import Column
from csegsynth_kit.data.writer import CohortWriter
from csegsynth_kit.errors import ConfigError, MapError
from csegsynth_kit.maps import GRIDS, Grid, quantize, volumes_ml
from csegsynth_kit.simulate.anatomy import Anatomy
from csegsynth_kit.simulate.candidates import choose_bases, cohort_candidates
from csegsynth_kit.simulate.cohort import simulate_cohort
from csegsynth_kit.simulate.real import real_base
from tests.simulate.conftest import QUICK_GRID, synthetic_head


def heads(
    folder, grid: Grid, sizes_mm: tuple[float, ...], csf_definition: str = "intracranial"
) -> Cohort:
    """A prepared cohort of ellipsoid heads with ventricles of these sizes."""
    writer = CohortWriter(folder, grid, len(sizes_mm), {})
    ids = [f"sub-{i}" for i in range(len(sizes_mm))]
    for name, size in zip(ids, sizes_mm, strict=True):
        maps = synthetic_head(grid, ventricle_mm=size)
        writer.add(
            name, quantize(maps).numpy(), {"volumes_ml": volumes_ml(maps, grid.voxel_ml).tolist()}
        )
    table = pd.DataFrame({"age": 50.0}, index=pd.Index(ids, name="participant_id"))
    writer.finish(table, (Column("age", "continuous"),), {"csf_definition": csf_definition})
    return load_cohort(folder)


def test_a_base_keeps_the_head_it_is_made_of():
    maps = synthetic_head(QUICK_GRID)
    base = real_base(maps, QUICK_GRID, "sub-x")
    own = volumes_ml(maps, QUICK_GRID.voxel_ml).numpy()
    np.testing.assert_allclose(base.volumes_ml[:2], own[:2], rtol=0.08)
    np.testing.assert_allclose(base.volumes_ml[2:].sum(), own[2], rtol=0.15)
    side = 14.0
    ellipsoids = 2 * 4 / 3 * np.pi * (side / 2) * (2 * side) * side / 1000
    assert base.volumes_ml[3] == pytest.approx(ellipsoids, rel=0.25)


def test_boundaries_of_a_base_move_to_the_volumes_asked_for():
    anatomy = Anatomy(QUICK_GRID, real_base(synthetic_head(QUICK_GRID), QUICK_GRID, "sub-x"))
    for wanted in ((520.0, 650.0, 240.0, 15.0), (450.0, 520.0, 430.0, 60.0)):
        head = anatomy.draw(wanted, 3)
        expected = (wanted[0], wanted[1], wanted[2] + wanted[3])
        np.testing.assert_allclose(head.volumes_ml, expected, atol=1e-3)
        assert head.iterations <= 12
        certain = (head.maps.amax(0) > 0.5).float().sum() / (head.maps.sum(0) > 0.5).sum()
        assert certain > 0.85


def test_a_map_without_ventricles_is_refused():
    maps = synthetic_head(QUICK_GRID)
    with pytest.raises(MapError, match="sub-x has no CSF where lateral ventricles are"):
        real_base(maps * torch.tensor([1.0, 1.0, 0.0]).view(3, 1, 1, 1), QUICK_GRID, "sub-x")


def test_people_get_bases_that_fit(tmp_path):
    cohort = heads(tmp_path / "heads", QUICK_GRID, (8.0, 12.0, 16.0, 20.0))
    bases = cohort_candidates(cohort, GRIDS["tiny"], 4.0, 0).make()
    assert [base.name for base in bases] == list(cohort.ids)
    young = np.tile([515.0, 665.0, 310.0, 12.0], (20, 1))
    old = np.tile([470.0, 560.0, 380.0, 80.0], (20, 1))
    targets, numbers = np.concatenate([young, old]), np.arange(40)
    chosen = choose_bases(targets, numbers, bases, 1)
    assert np.mean(chosen[:20]) < np.mean(chosen[20:]) - 1
    assert chosen[5:9] == choose_bases(targets, numbers, bases, 1)[5:9]


def test_a_semi_real_cohort_says_what_it_is(tmp_path):
    cohort = heads(tmp_path / "heads", QUICK_GRID, (9.0, 15.0))
    made = simulate_cohort(
        tmp_path / "made", n=3, grid="tiny", bases=cohort, jobs=1, progress=False
    )
    assert made.simulated
    assert "2 real segmentations" in made.provenance["anatomies"]
    assert made.provenance["bases"]["participants"] == list(cohort.ids)
    with pytest.raises(ConfigError, match="coarser than grid 'full'"):
        simulate_cohort(tmp_path / "fine", n=3, grid="full", bases=cohort, progress=False)
    ventricular = heads(tmp_path / "aseg", QUICK_GRID, (12.0,), "ventricular")
    with pytest.raises(ConfigError, match="CSF around the brain"):
        simulate_cohort(tmp_path / "none", n=3, grid="tiny", bases=ventricular, progress=False)
    coarse = heads(tmp_path / "coarse", GRIDS["tiny"], (20.0,))
    with pytest.raises(ConfigError, match="cannot be bent"):
        simulate_cohort(tmp_path / "none", n=3, grid="tiny", bases=coarse, progress=False)


@pytest.mark.real
def test_a_real_head_serves_as_base(real_data, tmp_path):
    (tmp_path / "source").mkdir()
    name = "sub-18_synthseg.nii.gz"
    (tmp_path / "source" / name).symlink_to(real_data / "synthseg" / name)
    cohort = prepare(tmp_path / "source", tmp_path / "real", grid="small", progress=False)
    base = cohort_candidates(cohort, GRIDS["small"], 2.0, 0).make()[0]
    assert base.volumes_ml[3] == pytest.approx(84, abs=12)  # 90 mL by its labels, horns included.
    own = volumes_ml(cohort.maps().probabilities[0, :3], cohort.grid.voxel_ml).numpy()
    np.testing.assert_allclose(base.volumes_ml[:2], own[:2], rtol=0.05)
    head = Anatomy(GRIDS["small"], base).draw((470.0, 560.0, 380.0, 50.0), 1)
    np.testing.assert_allclose(head.volumes_ml, (470.0, 560.0, 430.0), atol=1e-3)
