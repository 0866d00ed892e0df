"""Which segmentations a folder holds, and one way to read them."""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.readers import fast, fmriprep, freesurfer, refused
from csegsynth_kit.data.readers.base import IMAGE, Found, Layout, Scan, SubjectMaps, natural
from csegsynth_kit.data.readers.refused import Refused
from csegsynth_kit.errors import CohortError, ConfigError

logger = logging.getLogger(__name__)

READERS: dict[str, ModuleType] = {"fast": fast, "fmriprep": fmriprep, "freesurfer": freesurfer}
#: In BIDS, what a data set was made from; searching it would find everything twice.
_NOT_SEARCHED = "sourcedata"


@dataclass(frozen=True)
class Discovery:
    """The segmentations of a folder.

    Args:
        source: The folder.
        layout: The reader they belong to.
        scans: One per participant, in the order of their ids.
        findings: What was left out, and why.
    """

    source: Path
    layout: Layout
    scans: tuple[Scan, ...]
    findings: tuple[Finding, ...]


def discover(source: Path | str, layout: Layout | Literal["auto"] = "auto") -> Discovery:
    """Find the segmentations below a folder by their names; no image is opened.

    Args:
        source: Folder to search, with all folders below it.
        layout: Use only this reader; ``auto`` accepts whichever one layout there is.

    Raises:
        ConfigError: for an unknown layout.
        CohortError: if the folder is absent or holds no usable map, if it holds several layouts
            and none was chosen, or if two maps claim to be the same scan of one participant.
    """
    if layout != "auto" and layout not in READERS:
        raise ConfigError(
            f"there is no layout '{layout}'", f"Choose auto, {', '.join(get_args(Layout))}."
        )
    source = Path(source)
    paths = _images(source)
    found = {name: reader.find(paths, source) for name, reader in READERS.items()}
    claimed = {f for item in found.values() for scan in item.scans for f in scan.files}
    unusable = refused.find([path for path in paths if path not in claimed], source)
    if layout == "auto":
        present = [name for name in READERS if _counts(name, found)]
        if len(present) > 1:
            raise _several(source, present, found, unusable)
        layout = present[0] if present else _with_findings(found)
    if layout is None or not (found[layout].scans or found[layout].findings):
        raise _nothing(source, layout, paths, found, unusable)
    scans, notes = _one_each(found[layout].scans, source)
    findings = [*found[layout].findings, *notes, *_explained(unusable, scans)]
    findings = _without_served(findings, scans)
    if not scans:
        reasons = [f"{f.subject}: {f.message}" for f in findings if f.severity == "excluded"]
        raise CohortError(
            f"holds no map that can be used: {' / '.join(reasons[:3])}"
            + (f" / and {len(reasons) - 3} more like these" if len(reasons) > 3 else "").rstrip(
                "."
            ),
            "Nothing was written.",
            source,
        )
    return Discovery(source, layout, tuple(scans), tuple(findings))


def read_subject(scan: Scan) -> SubjectMaps:
    """Read the maps of one participant.

    Raises:
        MapError: if they cannot be used; says why and what to do.
    """
    return READERS[scan.layout].read(scan)


def csf_definition(scan: Scan) -> str:
    """Tell what the maps of one participant count as CSF, as cheaply as that can be told.

    Raises:
        MapError: if that takes opening the map and it cannot be read.
    """
    return READERS[scan.layout].csf_definition(scan)


def _images(source: Path) -> list[Path]:
    if not source.exists():
        raise CohortError("the folder does not exist", "Check the path.", source)
    if not source.is_dir():
        raise CohortError("is a file", "Give the folder that holds the segmentations.", source)
    images, seen = [], set()
    for folder, below, names in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # A link back up the tree.
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(b for b in below if not b.startswith(".") and b != _NOT_SEARCHED)
        images += [Path(folder, n) for n in names if IMAGE.search(n) and not n.startswith(".")]
    if not images:
        prepared = (source / "maps.npy").exists()
        raise CohortError(
            "is a prepared cohort already" if prepared else "holds no image (.nii, .nii.gz, .mgz)",
            "Open it with load_cohort." if prepared else "Give the folder of the segmentations.",
            source,
        )
    return sorted(images)


def _counts(name: str, found: dict[str, Found]) -> bool:
    """Tell whether a layout is there; a copy of the aseg, or labels beside tissues, is none."""
    scans = found[name].scans
    if name == "freesurfer":
        tissues = {scan.files[0].parent for scan in found["fmriprep"].scans}
        scans = [scan for scan in scans if scan.kind not in freesurfer.COPIES]
        scans = [s for s in scans if "dseg" not in s.kind or s.files[0].parent not in tissues]
    return bool(scans)


def _with_findings(found: dict[str, Found]) -> str | None:
    return next((name for name in ("fast", "fmriprep") if found[name].findings), None)


def _describe(scans: Sequence[Scan], source: Path) -> str:
    kinds = Counter(scan.kind for scan in scans)
    people = len({scan.participant for scan in scans})
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    example = scans[0].files[0].relative_to(source)
    return f"{people} participant{'s' * (people > 1)} ({listed}, as in {example})"


def _several(
    source: Path, present: list[str], found: dict[str, Found], unusable: list[Refused]
) -> CohortError:
    listed = "; ".join(f"{name}: {_describe(found[name].scans, source)}" for name in present)
    also = ""
    if unusable:
        also = f"; also {len(unusable)} maps that cannot be used, as in {unusable[0].path.name}"
    return CohortError(
        f"holds segmentations of several layouts, whose volumes must not be mixed: {listed}{also}",
        f"Choose one with {' or '.join(f'--layout {name}' for name in present)}, or give the "
        "folder of one of them.",
        source,
    )


def _nothing(
    source: Path,
    layout: str | None,
    paths: list[Path],
    found: dict[str, Found],
    unusable: list[Refused],
) -> CohortError:
    others = [name for name in READERS if found[name].scans]
    if others:
        listed = "; ".join(f"{name}: {_describe(found[name].scans, source)}" for name in others)
        return CohortError(
            f"holds no map of layout {layout or 'fast or fmriprep'}, but {listed}",
            f"Use --layout {others[0]}.",
            source,
        )
    if unusable:
        reasons = refused.explain(unusable)
        listed = "; ".join({item.code: item.reason for item in reasons}.values())
        return CohortError(
            f"holds no map that can be used, but {len(unusable)} that cannot: {listed}",
            reasons[0].remedy,
            source,
        )
    return CohortError(
        f"holds {len(paths)} images (as in {paths[0].relative_to(source)}), but no segmentation "
        "that is known by its name",
        "Known are *_pve_0/1/2 (FAST), *_label-WM/GM/CSF_probseg and *_dseg (fMRIPrep, BIDS), "
        "aseg.mgz, aparc+aseg.mgz, *_aseg, *_synthseg and *_desc-synthseg_dseg (FreeSurfer).",
        source,
    )


def _one_each(scans: Sequence[Scan], source: Path) -> tuple[list[Scan], list[Finding]]:
    """Keep the first session or run of every participant, and say which were left."""
    groups: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        groups[scan.participant].append(scan)
    kept, findings = [], []
    for participant in sorted(groups, key=lambda p: natural([p])):
        mine = sorted(groups[participant], key=lambda s: natural(s.variant))
        repeated = [v for v, n in Counter(s.variant for s in mine).items() if n > 1]
        if repeated:
            same = [s.files[0].relative_to(source) for s in mine if s.variant == repeated[0]]
            raise CohortError(
                f"two maps claim to be {participant}: {same[0]} and {same[1]}",
                "Remove one, or give each an id, session or run of its own.",
                source,
            )
        kept.append(mine[0])
        if len(mine) > 1:
            used, *left = (" ".join(s.variant) or "no session or run" for s in mine)
            message = f"several scans: {used} is used; {', '.join(left)} not."
            findings.append(Finding("note", participant, "several-scans", message))
    return kept, findings


def _explained(unusable: list[Refused], scans: Sequence[Scan]) -> list[Finding]:
    """Refused files exclude a participant, unless there is a usable map as well."""
    served = {scan.participant for scan in scans}
    return [
        Finding(
            "note" if item.participant in served else "excluded",
            item.participant,
            item.code,
            f"{item.reason}. {item.remedy}",
        )
        for item in refused.explain(unusable)
    ]


def _without_served(findings: list[Finding], scans: Sequence[Scan]) -> list[Finding]:
    """An incomplete set excludes nobody who has a complete one."""
    served = {scan.participant for scan in scans}
    return [
        Finding("note", f.subject, f.code, f.message)
        if f.severity == "excluded" and f.subject in served
        else f
        for f in findings
    ]
