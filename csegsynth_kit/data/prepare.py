"""From a folder of segmentations and a table to a prepared cohort."""

import importlib.metadata
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data import doctor
from csegsynth_kit.data.cohort import Cohort, load_cohort
from csegsynth_kit.data.files import require_folder, write_json, write_text, write_tsv
from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.job import (
    Job,
    Tables,
    find_tables,
    read_answers,
    reasons,
    settle,
)
from csegsynth_kit.data.parallel import check_jobs, default_jobs, map_in_order
from csegsynth_kit.data.readers.base import Layout, data_set_of
from csegsynth_kit.data.readers.detect import discover
from csegsynth_kit.data.report import report
from csegsynth_kit.data.subject import Outcome, Preparer
from csegsynth_kit.data.writer import CohortWriter
from csegsynth_kit.errors import CohortError
from csegsynth_kit.maps import grid_named

logger = logging.getLogger(__name__)

_PACKAGES = ("torch", "numpy", "scipy", "pandas", "nibabel", "nilearn")
#: The most memory (GB) that a process needs for one participant at 1 mm.
_MEMORY_GB = 1.5


def prepare(
    source: Path | str,
    out: Path | str,
    *,
    layout: Layout | Literal["auto"] = "auto",
    participants: Tables | None = None,
    grid: str = "small",
    features: Sequence[str] | None = None,
    id_column: str | None = None,
    align: bool = True,
    clean: bool = True,
    jobs: int | None = None,
    progress: bool = True,
) -> Cohort:
    """Read, check, clean, align and pool every participant's maps, and write a cohort.

    Memory does not grow with the number of participants. If it is cut off, the same call
    continues where it stopped. The result is the same for any ``jobs``, bit for bit. A participant
    whose maps cannot be used is left out with a reason; ``report.md`` in the cohort's folder
    tells all of them.

    Args:
        source: Folder with the segmentations, searched with all folders below it.
        out: Folder of the cohort; must not exist yet.
        layout: ``fast``, ``fmriprep``, ``freesurfer``, or ``auto`` if there is only one.
        participants: Table of answers, or several that share their ids. Without it,
            ``participants.tsv`` is looked for in the source and up to two folders above; if
            there is none, or the list is empty, the cohort has no features.
        grid: Name of the grid: ``full``, ``small``, ``tiny`` or ``paper``.
        features: Columns to use as features instead of the default ones.
        id_column: Column of the table that holds the ids, if it has an unusual name.
        align: Rotate and shift every head to the template (not on the ``paper`` grid).
        clean: Take spinal CSF and fragments off label maps of whole heads.
        jobs: Processes; by default as many as there are processors, or fewer if there are few
            maps or less than 1.5 GB of memory for each.
        progress: Show progress bars.

    Raises:
        ConfigError: for an unknown grid or layout, features without a table, if ``out`` is no
            place for a folder, or if processes cannot be started.
        TableError: if a table cannot be used.
        CohortError: if ``out`` exists, the source holds no usable map or several layouts,
            maps and table share no id, maps count CSF in different ways, or nobody is left.
    """
    source, out = Path(source), Path(out)
    target = grid_named(grid)
    check_jobs(jobs)
    require_folder(out)
    if out.exists():
        raise CohortError("already exists", "Choose another folder, or remove this one first.", out)
    discovery = discover(source, layout)
    tables = find_tables(source, participants)
    answers = read_answers(tables, features, id_column)
    job = settle(discovery, answers, tables, target, align=align, clean=clean, progress=progress)
    writer = CohortWriter(out, job.grid, len(job.scans), job.plan(features))
    _write_maps(job, writer, jobs, progress)
    return _finish(job, writer)


def _write_maps(job: Job, writer: CohortWriter, jobs: int | None, progress: bool) -> None:
    """Prepare and keep whom an earlier, cut off attempt has not kept already."""
    todo = [scan for scan in job.scans if scan.participant not in writer.records]
    jobs = jobs or default_jobs(len(todo), memory_gb=_MEMORY_GB)
    preparer = Preparer(job.discovery.source, job.grid, job.align, job.clean)
    bar = tqdm(total=len(todo), desc="preparing", unit="map", disable=not progress)
    with bar, closing(map_in_order(preparer.outcome, todo, jobs)) as outcomes:
        for outcome in outcomes:
            _write(outcome, writer)
            bar.update()


def _write(outcome: Outcome, writer: CohortWriter) -> None:
    if outcome.failure:
        logger.error("%s failed\n%s", outcome.participant, outcome.failure)
    if outcome.quantized is None:
        writer.skip(outcome.participant, outcome.record, retry=bool(outcome.failure))
    else:
        writer.add(outcome.participant, outcome.quantized, outcome.record)


def _finish(job: Job, writer: CohortWriter) -> Cohort:
    """Write tables, report and provenance, and make the cohort visible."""
    records = writer.records
    stored = [Finding(**f) for r in records.values() for f in r["findings"]]
    kept = [p for p, record in records.items() if "row" in record]
    synthetic = sum(records[p]["synthetic"] for p in kept)
    mixed = doctor.check_origin(synthetic, len(kept))
    findings = [*job.findings, *stored, *doctor.check_repeats(records), *mixed]
    if not kept:
        shutil.rmtree(writer.partial)
        raise CohortError(
            f"none of its {len(job.scans)} maps can be used ({reasons(findings)})",
            "Mend the files and try again; nothing was written.",
            job.discovery.source,
        )
    answers = job.participants
    frame = answers.frame if answers else pd.DataFrame(index=pd.Index(kept, name="participant_id"))
    write_tsv(writer.partial / "preparation.tsv", _preparation(kept, records))
    write_json(writer.partial / "findings.json", {"findings": [asdict(f) for f in findings]})
    text = report(writer.out.name, _facts(job, kept, records), findings, len(kept))
    write_text(writer.partial / "report.md", text)
    provenance = _provenance(job, kept, records, findings)
    return load_cohort(writer.finish(frame, answers.columns if answers else (), provenance))


def _preparation(kept: Sequence[str], records: Mapping[str, Mapping]) -> pd.DataFrame:
    """One row per participant: what was read, removed, turned and changed."""
    rows = {}
    for participant in kept:
        record = records[participant]
        row = {"files": " ".join(record["files"]), "placed": record["placed"]}
        changes = {"removed": record["removed_ml"], "placing_changed": record["volume_change_ml"]}
        stored = np.subtract(record["stored_ml"], record["volumes_ml"])
        for what, values in {**changes, "stored_minus_source": stored}.items():
            row |= {
                f"{what}_{t.lower()}_ml": round(float(v), 4)
                for t, v in zip(MEASURED, values, strict=True)
            }
        alignment = record["alignment"]
        for what, unit in (("rotation", "deg"), ("shift", "mm")):
            values = alignment.get(f"{what}_{unit}", [np.nan] * 3)
            row |= {f"{what}_{a}_{unit}": v for a, v in zip("xyz", values, strict=True)}
        row |= {what: alignment.get(what, np.nan) for what in ("scale", "overlap")}
        rows[participant] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("participant_id")


def _facts(job: Job, kept: Sequence[str], records: Mapping) -> list[tuple[str, str]]:
    removed = [sum(records[p]["removed_ml"]) for p in kept if records[p]["cleaned"]]
    cleaned = f"took off {np.mean(removed):.1f} mL on average" if removed else "none"
    features = job.participants.feature_columns if job.participants else ()
    return [
        ("source", f"`{job.discovery.source}`"),
        ("layout", job.discovery.layout),
        ("CSF means", job.csf_definition),
        ("grid", f"{job.grid.name}, {job.grid.shape} voxels of {job.grid.spacing_mm[0]:g} mm"),
        ("label clean-up", cleaned if job.clean else "switched off"),
        ("alignment to the template", "yes" if job.align else "no"),
        ("tables", ", ".join(f"`{t.name}`" for t in job.tables) or "none"),
        ("features", ", ".join(f"`{c.name}`" for c in features) or "none"),
    ]


def _provenance(
    job: Job, kept: Sequence[str], records: Mapping, findings: Sequence[Finding]
) -> dict:
    answers = job.participants
    persons = answers.persons.to_dict() if answers else {}
    excluded = [f for f in findings if f.severity == "excluded"]
    folders = {scan.files[0].parent for scan in job.scans if scan.participant in set(kept)}
    statements = {data_set_of(folder).get("Statement", "") for folder in folders} - {""}
    return {
        **({"statement": " ".join(sorted(statements))} if statements else {}),
        "source": str(job.discovery.source.resolve()),
        "layout": job.discovery.layout,
        "tables": [str(table) for table in job.tables],
        "known_table": answers.known if answers else "",
        "csf_definition": job.csf_definition,
        "simulated": any(records[p]["synthetic"] for p in kept),
        "steps": {"clean": job.clean, "align": job.align, "quantized_to": "1/255"},
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "excluded": [{k: v for k, v in asdict(f).items() if k != "severity"} for f in excluded],
        "persons": {i: persons[i] for i in kept if persons.get(i, i) != i},
    }
