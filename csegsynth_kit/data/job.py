"""What is to be prepared: everything that can be settled, or refused, before the long work."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm.auto import tqdm

from csegsynth_kit.data import doctor
from csegsynth_kit.data.files import fingerprint
from csegsynth_kit.data.findings import Finding, first_of
from csegsynth_kit.data.participants import Participants, read_participants
from csegsynth_kit.data.place import lies_on
from csegsynth_kit.data.readers.base import IMAGE, Scan, read_sidecar
from csegsynth_kit.data.readers.detect import Discovery, csf_definition
from csegsynth_kit.data.tables import table_named
from csegsynth_kit.errors import CohortError, ConfigError, MapError
from csegsynth_kit.maps import Grid

Tables = Path | str | Sequence[Path | str]


@dataclass(frozen=True)
class Job:
    """Everything that decides what a cohort will hold.

    Args:
        discovery: The segmentations that were found.
        scans: Those to prepare, one per participant.
        participants: Their answers, if there is a table.
        tables: The files the answers come from.
        grid: Voxels of the cohort; its space is native where nothing is aligned.
        align: Whether maps are aligned to the template.
        clean: Whether label maps of whole heads are cleaned.
        csf_definition: What all of the maps count as CSF.
        findings: What was noticed so far.
    """

    discovery: Discovery
    scans: tuple[Scan, ...]
    participants: Participants | None
    tables: tuple[Path, ...]
    grid: Grid
    align: bool
    clean: bool
    csf_definition: str
    findings: tuple[Finding, ...]

    def plan(self, features: Sequence[str] | None) -> Mapping:
        """Describe what determines the result, to recognize a half-finished one."""
        answers = self.participants
        files = [_state(f) for s in self.scans for f in s.files]
        return {
            "source": str(self.discovery.source.resolve()),
            "layout": self.discovery.layout,
            "files": fingerprint(files),
            "answers": fingerprint(answers.frame.to_csv() if answers else ""),
            "features": None if features is None else list(features),
            "grid": self.grid.to_dict(),
            "align": self.align,
            "clean": self.clean,
        }


def _state(file: Path) -> list:
    """Return what changes when a file or its sidecar is written anew."""
    found = [
        path for path in (file, file.with_name(IMAGE.sub(".json", file.name))) if path.exists()
    ]
    return [str(file), *((path.stat().st_size, path.stat().st_mtime_ns) for path in found)]


def find_tables(source: Path, participants: Tables | None) -> tuple[Path, ...]:
    """Return the tables that were given, else the nearest ``participants.tsv``, else none.

    Looked for in the source, up to two folders above it, and beside a ``derivatives`` folder.
    """
    if participants is not None:
        single = isinstance(participants, Path | str)
        paths = [Path(p) for p in ([participants] if single else participants)]
        return tuple(p / "participants.tsv" if p.is_dir() else p for p in paths)
    source = source.resolve()
    places = [source, *list(source.parents)[:2]]
    places += [folder.parent for folder in source.parents if folder.name == "derivatives"]
    found = (folder / "participants.tsv" for folder in places)
    return tuple([path for path in found if path.exists()][:1])


def read_answers(
    tables: tuple[Path, ...], features: Sequence[str] | None, id_column: str | None = None
) -> Participants | None:
    """Read the tables; sensitive columns that were not asked for are not copied.

    Raises:
        TableError: if a table cannot be used.
        ConfigError: if features are chosen, but there is no table.
    """
    if tables:
        return read_participants(
            *tables, features=features, id_column=id_column
        ).without_sensitive()
    if features is not None:
        raise ConfigError(
            "features are chosen, but there is no table of participants",
            "Pass participants='…/participants.tsv' (--participants).",
        )
    return None


def settle(
    discovery: Discovery,
    answers: Participants | None,
    tables: tuple[Path, ...],
    grid: Grid,
    *,
    align: bool,
    clean: bool,
    progress: bool,
) -> Job:
    """Settle everything that can be settled before the long work."""
    scans = list(discovery.scans)
    findings = list(discovery.findings)
    if answers is None:
        text = "there is no table of participants, so the cohort has no features."
        findings.append(Finding("note", "cohort", "no-table", text))
    else:
        answers, restored = _with_ids_of_maps(answers, [scan.participant for scan in scans])
        findings += [*answers.findings, *restored]
        scans, noted = _with_answers(scans, answers, tables[0])
        findings += [
            *noted,
            *doctor.check_answers(answers.frame.loc[[s.participant for s in scans]]),
        ]
    scans, definition, noted = _one_definition(scans, discovery, progress)
    findings += [*noted, *doctor.check_kinds(scans)]
    align = align and grid.space == "template"
    if not align and not all(lies_on(read_sidecar(s.files[-1]), grid) for s in scans):
        grid = replace(grid, space="native")
    return Job(
        discovery,
        tuple(scans),
        answers,
        tables,
        grid,
        align,
        clean,
        definition,
        tuple(findings),
    )


def _with_ids_of_maps(
    answers: Participants, ids: Sequence[str]
) -> tuple[Participants, list[Finding]]:
    """Match ids that are numbers (1) with those of maps (0001, or as a known table means them)."""
    known = table_named(answers.known)
    numbered = known.numbered if known else ""

    def bare(i: str) -> str:
        if numbered and (found := re.fullmatch(numbered, i)):
            return f"sub-{found[1]}"
        return re.sub(r"^sub-0+(?=\d+$)", "sub-", i)

    rows = answers.frame.index
    of_maps, of_rows = Counter(map(bare, ids)), Counter(map(bare, rows))
    theirs = {bare(i): i for i in ids if of_maps[bare(i)] == 1}
    lost = {
        i: theirs[bare(i)]
        for i in rows
        if i not in ids and bare(i) in theirs and of_rows[bare(i)] == 1
    }
    if not lost:
        return answers, []
    first = next(iter(lost))
    text = f"{len(lost)} ids are taken for those of maps, such as {first} for {lost[first]}."
    persons = answers.persons.rename(lost).replace(lost)
    frame = answers.frame.rename(index=lost)
    finding = Finding("doubt", "cohort", "other-ids", text)
    return replace(answers, frame=frame, persons=persons), [finding]


def _with_answers(
    scans: list[Scan], answers: Participants, table: Path
) -> tuple[list[Scan], list[Finding]]:
    rows = list(answers.frame.index)
    ids = [scan.participant for scan in scans]
    findings = doctor.check_rows(rows, ids, table.name)
    kept = [scan for scan in scans if scan.participant in answers.frame.index]
    if not kept:
        raise CohortError(
            f"none of its {len(rows)} ids has a map: rows are like {rows[0]}, maps like {ids[0]}",
            "Give the table of these participants, with ids as in the names of the maps, or none.",
            table,
        )
    return kept, findings


def _one_definition(
    scans: list[Scan], discovery: Discovery, progress: bool
) -> tuple[list[Scan], str, list[Finding]]:
    """Make sure that all maps count the same as CSF; leave out those that cannot be opened."""
    kept, counted, findings = [], defaultdict(list), []
    for scan in tqdm(scans, desc="checking", unit="map", disable=not progress):
        try:
            counted[csf_definition(scan)].append(scan.participant)
            kept.append(scan)
        except MapError as error:
            findings.append(unreadable(scan, error))
    if not kept:
        raise CohortError(
            f"none of its {len(scans)} maps can be used ({reasons(findings)})",
            "Mend the files and try again; nothing was written.",
            discovery.source,
        )
    if len(counted) > 1:
        listed = "; ".join(f"{len(i)} maps '{name}': {first_of(i)}" for name, i in counted.items())
        raise CohortError(
            f"its maps count CSF in different ways ({listed}), so volumes cannot be compared",
            "Prepare them apart: give the folder of one kind, choose one with --layout, or leave "
            "out the few.",
            discovery.source,
        )
    return kept, next(iter(counted)), findings


def unreadable(scan: Scan, error: MapError) -> Finding:
    """Turn an error about one participant's files into an exclusion."""
    text = str(error) if error.path else f"{scan.files[0]}: {error}"
    return Finding("excluded", scan.participant, "unreadable", text)


def reasons(findings: Sequence[Finding]) -> str:
    """Quote the first exclusions, for an error message."""
    told = [f"{f.subject}: {f.message}" for f in findings if f.severity == "excluded"]
    more = f" And {len(told) - 3} more." if len(told) > 3 else ""
    return " ".join(told[:3]) + more
