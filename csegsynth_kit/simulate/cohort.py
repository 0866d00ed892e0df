"""Simulated cohorts: answers, volumes and maps joined and written like any prepared cohort."""

import logging
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from csegsynth_kit.constants import VOLUME_COLUMNS
from csegsynth_kit.data.cohort import Cohort, load_cohort
from csegsynth_kit.data.writer import CohortWriter
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import grid_named
from csegsynth_kit.simulate.average import template_base
from csegsynth_kit.simulate.pool import Task, Workshop, draw_all, one_thread
from csegsynth_kit.simulate.questionnaire import COLUMNS, STREAMS, draw_participants
from csegsynth_kit.simulate.structural import TRUTH_VERSION, draw_volumes

log = logging.getLogger(__name__)

#: Voxels (mm) at which heads are drawn for voxels of a grid. Maps drawn at 4 mm are crisper
#: than real ones, maps pooled from 2 mm are not; at 8 mm speed matters more.
_DRAWN_AT_MM = {2.0: 2.0, 4.0: 2.0, 8.0: 4.0}
#: Below this many heads per process, starting processes costs more than it saves.
_LEAST_PER_JOB = 16
NOT_REAL = (
    "These participants do not exist: answers, volumes and maps were drawn by csegsynth_kit from "
    "a model with known effects. They are for testing software and are no evidence about people."
)


def simulate_cohort(
    out: Path | str,
    *,
    n: int = 400,
    age: str = "lifespan",
    effects: float = 1.0,
    grid: str = "small",
    seed: int = 0,
    missing: float = 0.0,
    jobs: int | None = None,
    progress: bool = True,
) -> Cohort:
    """Simulate participants and write them as a prepared cohort.

    The result depends on everything but ``jobs`` and ``progress``, bit for bit, also when it
    was cut off and begun again; participant i depends on the seed and i alone.

    Args:
        out: Folder of the cohort; must not exist yet.
        n: Participants.
        age: ``lifespan`` (18 to 88 years) or ``young`` (19 to 26).
        effects: Multiplies all effects but those of age and sex; 2 is strong.
        grid: Name of the grid, see ``maps.GRIDS``.
        seed: 0 or above.
        missing: Share of answers left out at random; age and sex are always answered.
        jobs: Processes; by default as many as there are processors.
        progress: Show a progress bar.

    Raises:
        ConfigError: for impossible options.
        CohortError: if ``out`` exists, or holds a half-finished cohort with other options.
    """
    voxels = grid_named(grid)
    plan = {
        "simulated": True,
        "source": "csegsynth_kit structural model and MNI152 template of nilearn",
        "statement": NOT_REAL,
        "csf_definition": "intracranial",
        "structural_truth": TRUTH_VERSION,
        "n": n,
        "age": age,
        "effects": effects,
        "missing": missing,
        "seed": seed,
        "grid": grid,
        "versions": versions(),
    }
    with one_thread():
        complete = draw_participants(n, age=age, seed=seed)
        volumes = draw_volumes(complete, effects=effects, seed=seed)
        workshop = Workshop(voxels, (template_base(_DRAWN_AT_MM[voxels.spacing_mm[0]]),))
    writer = CohortWriter(out, voxels, n, plan)
    tasks = [
        Task(participant, targets(row), (seed, STREAMS["anatomy"], i))
        for i, (participant, row) in enumerate(volumes.iterrows())
    ]
    _write_heads(writer, workshop, tasks, _jobs(jobs, n), progress)
    table = draw_participants(n, age=age, seed=seed, missing=missing)
    writer.finish(table, COLUMNS, plan)
    log.info("%s: %d simulated participants", out, n)
    return load_cohort(out)


def targets(volumes: pd.Series) -> tuple[float, float, float, float]:
    """Return WM, GM, sulcal CSF and lateral ventricles (mL) of one row of volumes."""
    return (
        float(volumes["wm_ml"]),
        float(volumes["gm_ml"]),
        float(volumes["csf_ml"] - volumes["lv_ml"]),
        float(volumes["lv_ml"]),
    )


def versions() -> dict[str, str]:
    """Return the versions of what determines a simulated map."""
    found = {}
    for name in ("csegsynth_kit", "torch", "numpy", "scipy", "nilearn"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _jobs(jobs: int | None, n: int) -> int:
    if jobs is None:
        return max(1, min(os.cpu_count() or 1, n // _LEAST_PER_JOB))
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}", "Give 1 or more processes.")
    return jobs


def _write_heads(
    writer: CohortWriter, workshop: Workshop, tasks: Sequence[Task], jobs: int, progress: bool
) -> None:
    """Draw and keep the heads that an earlier, cut off attempt has not kept already."""
    missing = [task for task in tasks if task.participant not in writer.records]
    if not missing:
        return
    bar = tqdm(
        total=len(tasks),
        initial=len(tasks) - len(missing),
        desc="Simulating",
        unit="head",
        disable=not progress,
    )
    with bar:
        for head in draw_all(workshop, missing, jobs):
            volumes = dict(zip(VOLUME_COLUMNS, head.volumes_ml, strict=True))
            writer.add(head.participant, head.steps, {"volumes_ml": volumes})
            bar.update()
