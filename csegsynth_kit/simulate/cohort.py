"""Simulated cohorts: answers, volumes and maps joined and written like any prepared cohort."""

import logging
import shutil
from collections.abc import Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from csegsynth_kit.constants import VOLUME_COLUMNS
from csegsynth_kit.data.cohort import Cohort, load_cohort
from csegsynth_kit.data.export import export_bids
from csegsynth_kit.data.files import require_folder, write_text
from csegsynth_kit.data.parallel import check_jobs, default_jobs, map_in_order, one_thread
from csegsynth_kit.data.writer import CohortWriter
from csegsynth_kit.errors import CohortError, ConfigError
from csegsynth_kit.maps import Grid, SegmentationMaps, dequantize, grid_named
from csegsynth_kit.simulate.bases import Base
from csegsynth_kit.simulate.candidates import (
    Candidates,
    choose_bases,
    cohort_candidates,
    template_candidates,
)
from csegsynth_kit.simulate.people import People, real_people, simulated_people
from csegsynth_kit.simulate.pool import Task, Workshop
from csegsynth_kit.simulate.questionnaire import STREAMS
from csegsynth_kit.simulate.targets import Targets

log = logging.getLogger(__name__)

#: Voxels (mm) at which heads are drawn for voxels of a grid. Maps drawn at 4 mm are crisper
#: than real ones, maps pooled from 2 mm are not; at 8 mm speed matters more.
_DRAWN_AT_MM = {2.0: 2.0, 4.0: 2.0, 8.0: 4.0}
_DEFAULT_N = 400
_EXPORTED_AT_ONCE = 8


def simulate_cohort(
    out: Path | str,
    *,
    n: int | None = None,
    age: str = "lifespan",
    effects: float = 1.0,
    grid: str = "small",
    seed: int = 0,
    missing: float = 0.0,
    participants: Targets | Path | str | None = None,
    bases: Cohort | Path | str | None = None,
    bids: Path | str | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Cohort:
    """Simulate participants and write them as a prepared cohort.

    The result depends on everything but ``jobs`` and ``progress``, bit for bit, also when it
    was cut off and begun again. Participant i depends on the seed and i alone.

    With a table of real people as ``participants``, or real maps as ``bases``, the cohort is
    semi-real; its provenance says what is real and what is drawn.

    Args:
        out: Folder of the cohort; must not exist yet.
        n: Participants; by default 400, or everybody in the table.
        age: ``lifespan`` (18 to 88 years) or ``young`` (19 to 26).
        effects: Multiplies all effects but those of age and sex; 2 is strong.
        grid: Name of the grid, see ``maps.GRIDS``.
        seed: 0 or above.
        missing: Share of answers left out at random; age and sex are always answered.
        participants: A table with volumes of real people, see ``targets.targets_from_table``.
        bases: A prepared cohort of real maps, aligned to the template at 2 or 4 mm, to bend
            instead of the MNI152 average.
        bids: Folder for a copy of the maps as a BIDS derivative; must not exist yet.
        jobs: Processes; by default as many as there are processors.
        progress: Show a progress bar.

    Raises:
        ConfigError: for impossible options, or if ``out`` or ``bids`` is no place for a folder.
        CohortError: if ``out`` exists, or holds a half-finished cohort with other options.
        TableError: if the table cannot be used.
    """
    voxels = grid_named(grid)
    check_jobs(jobs)
    require_folder(Path(out))
    if bids is not None:
        _check_apart(Path(bids), Path(out))
    people = _people(participants, n, age, effects, seed, missing)
    candidates = _candidates(bases, voxels, seed)
    plan = {
        "simulated": True,
        **people.provenance,
        **candidates.provenance,
        "csf_definition": "intracranial",
        "seed": seed,
        "grid": grid,
        "versions": _versions(),
    }
    writer = CohortWriter(out, voxels, len(people.table), plan)
    with one_thread():
        made = candidates.make()
    tasks = _tasks(people, made, seed)
    _write_heads(writer, Workshop(voxels, made), tasks, jobs or default_jobs(len(tasks)), progress)
    write_text(writer.partial / "report.md", _report(plan, len(tasks)))
    if bids is not None:  # Before the cohort becomes visible, so that a restart repeats it.
        _export(writer, people, Path(bids), plan)
    writer.finish(people.table, people.columns, plan)
    log.info("%s: %d participants", out, len(tasks))
    return load_cohort(out)


def _check_apart(bids: Path, out: Path) -> None:
    require_folder(bids)
    if bids.exists():
        raise CohortError(
            "already exists", "Choose another folder, or remove this one first.", bids
        )
    inner, outer = bids.resolve(), out.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise CohortError(
            f"the derivative and the cohort {out} lie in one another",
            "Choose two folders side by side.",
            bids,
        )


def _people(
    table: Targets | Path | str | None,
    n: int | None,
    age: str,
    effects: float,
    seed: int,
    missing: float,
) -> People:
    if table is None:
        n = _DEFAULT_N if n is None else n
        return simulated_people(n, age=age, effects=effects, seed=seed, missing=missing)
    if (age, effects, missing) != ("lifespan", 1.0, 0.0):
        raise ConfigError(
            "age, effects and missing describe simulated people, but participants are given",
            "Leave them at their defaults.",
        )
    return real_people(table, n, seed)


def _candidates(bases: Cohort | Path | str | None, grid: Grid, seed: int) -> Candidates:
    spacing = _DRAWN_AT_MM[grid.spacing_mm[0]]
    if bases is None:
        return template_candidates(spacing)
    cohort = bases if isinstance(bases, Cohort) else load_cohort(bases)
    return cohort_candidates(cohort, grid, spacing, seed)


def individual(seed: int, row: int) -> tuple[int, ...]:
    """Return the seed of ``Anatomy.draw`` for a participant of a simulated cohort.

    With it and other volumes, the same head can be drawn at another age.

    Args:
        seed: Of the cohort.
        row: Place of the participant in the cohort, from 0.
    """
    return (seed, STREAMS["anatomy"], row)


def _tasks(people: People, bases: Sequence[Base], seed: int) -> list[Task]:
    """Plan every head; retest rows share their person's shape and base anatomy."""
    targets = people.targets_ml()
    chosen = choose_bases(targets[people.individuals], people.individuals, bases, seed)
    return [
        Task(participant, tuple(row), individual(seed, int(person)), base)
        for participant, row, person, base in zip(
            people.table.index, targets.tolist(), people.individuals, chosen, strict=True
        )
    ]


def _versions() -> dict[str, str]:
    """Return the versions of what determines a simulated map."""
    found = {}
    for name in ("csegsynth_kit", "torch", "numpy", "scipy", "nilearn"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


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
    with bar, closing(map_in_order(workshop.draw, missing, jobs)) as heads:
        for head in heads:
            volumes = dict(zip(VOLUME_COLUMNS, head.volumes_ml, strict=True))
            writer.add(head.participant, head.quantized, {"volumes_ml": volumes})
            bar.update()


def _export(writer: CohortWriter, people: People, out: Path, plan: dict) -> None:
    """Write the maps as a BIDS derivative, a few at a time, visible when complete."""
    hidden = out.with_name(f".{out.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    maps = np.load(writer.partial / "maps.npy", mmap_mode="r")
    persons = plan.get("persons", {})
    table = people.table
    if persons:  # Retests must keep their person, or a split could part them.
        table = table.assign(person_id=[persons.get(i, i) for i in table.index])
    for start in range(0, len(people.table), _EXPORTED_AT_ONCE):
        batch = tuple(people.table.index[start : start + _EXPORTED_AT_ONCE])
        rows = [writer.records[participant]["row"] for participant in batch]
        export_bids(
            SegmentationMaps(dequantize(torch.from_numpy(maps[rows])), writer.grid, batch),
            hidden,
            synthetic=True,
            csf_definition=plan["csf_definition"],
            description={"Name": "Simulated participants", "Statement": plan["statement"]},
            participants=table,
            columns=people.columns,
        )
    hidden.rename(out)


def _report(provenance: dict, n: int) -> str:
    """Describe the cohort for people, in Markdown."""
    lines = ["# Simulated cohort", "", f"**{provenance['statement']}**", ""]
    lines += [f"- Participants: {n}"]
    named = ("source", "real", "drawn", "anatomies", "age", "effects", "missing", "seed", "grid")
    lines += [f"- {k.capitalize()}: {provenance[k]}" for k in named if k in provenance]
    excluded = provenance.get("excluded", [])
    lines += [f"- Rows of the table left out: {len(excluded)}", ""]
    lines += [f"  - {e['subject']}: {e['message']}" for e in excluded]
    return "\n".join(lines).rstrip() + "\n"
