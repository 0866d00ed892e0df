"""fMRIPrep, sMRIPrep and BIDS derivatives: ``probseg`` maps, else ``dseg`` labels.

Only maps in the participant's own space are read: a map that was warped to a template no
longer has this person's volumes. ``dseg`` numbers are those of BIDS: 1 GM, 2 WM, 3 CSF.
``desc-aseg_dseg`` and its like hold FreeSurfer's labels and are left to the freesurfer reader.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from csegsynth_kit.constants import LABELS, MEASURED
from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.nifti import read_image
from csegsynth_kit.data.readers.base import (
    Found,
    Scan,
    SubjectMaps,
    crop,
    entities,
    in_own_space,
    participant_of,
    read_shares,
    read_sidecar,
    remarks_as_findings,
    variant_of,
)
from csegsynth_kit.errors import MapError

_PROBSEG = re.compile(
    r"^(?P<stem>.*)_label-(?P<tissue>WM|GM|CSF)(?P<rest>(_[a-z]+-[A-Za-z0-9+]+)*)_probseg"
    r"(?P<end>\.nii|\.nii\.gz)$"
)
#: Entities and folders of label maps that are no tissue segmentation of the anatomy.
_OTHER_ENTITIES, _OTHER_FOLDERS = {"atlas", "seg", "task"}, {"func", "dwi", "fmap", "perf", "pet"}
#: Label maps of the anatomy with FreeSurfer's codes.
_FREESURFER = ("aseg", "aparcaseg", "synthseg")
_DSEG = re.compile(r"^(?P<stem>.*?)_dseg(?P<end>\.nii|\.nii\.gz)$")
_VALUES = dict(zip(MEASURED, LABELS["bids"], strict=False))


def find(paths: Sequence[Path], root: Path) -> Found:
    """Recognize native probseg sets and dseg maps; probseg wins where both exist."""
    sets: dict[tuple, dict[str, Path]] = defaultdict(dict)
    labels: list[tuple[tuple, Path]] = []
    for path in paths:
        named = entities(path.name)
        if not in_own_space(path) or named.get("desc") in ("mod", "modulated"):
            continue
        match = _PROBSEG.match(path.name)
        if match:
            stem = match["stem"] + match["rest"]
            sets[path.parent, stem, match["end"]][match["tissue"]] = path
            continue
        match = _DSEG.match(path.name)
        other = _OTHER_ENTITIES & set(named) or path.parent.name in _OTHER_FOLDERS
        if match and not other and named.get("desc") not in _FREESURFER:
            labels.append(((path.parent, match["stem"]), path))
    scans, findings = [], []
    complete = {key[:2] for key, members in sets.items() if len(members) == len(MEASURED)}
    for key, members in sorted(sets.items()):
        files = [members.get(tissue) for tissue in MEASURED]
        if len(members) == len(MEASURED) or key[:2] not in {stem for stem, _ in labels}:
            _add(scans, findings, "probseg", files, key[1], root)
    for key, path in sorted(labels):
        if key not in complete:
            _add(scans, findings, "dseg", [path], key[1], root)
    return Found(scans, findings)


def _add(
    scans: list[Scan],
    findings: list[Finding],
    kind: str,
    files: list[Path | None],
    stem: str,
    root: Path,
) -> None:
    """Add a scan, or the finding why these files are none."""
    some = next(path for path in files if path is not None)
    try:
        participant = participant_of(some, root, stem)
    except MapError as error:
        findings.append(Finding("excluded", some.name, "bad-id", str(error)))
        return
    missing = [t for t, path in zip(MEASURED, files, strict=False) if path is None]
    if missing:
        message = (
            f"{some.name}: no map of {' and '.join(missing)} beside it. "
            "All of WM, GM and CSF are needed."
        )
        findings.append(Finding("excluded", participant, "missing-tissue", message))
        return
    scans.append(Scan(participant, "fmriprep", kind, tuple(files), variant_of(some, root)))


def read(scan: Scan) -> SubjectMaps:
    """Read one participant's maps.

    Raises:
        MapError: if a file cannot be read, files disagree, all tissues are 0, or a dseg has
            other numbers than 0 to 3.
    """
    definition = csf_definition(scan)
    if scan.kind == "probseg":
        return read_shares(scan, definition)
    image = read_image(scan.files[0], labels=True)
    found = np.unique(image.data).tolist()
    if not set(found) <= {0, *_VALUES.values()}:
        raise MapError(
            f"has labels {found[:12]}{'…' if len(found) > 12 else ''}, not only 0 (background), "
            "1 (GM), 2 (WM) and 3 (CSF)",
            "If these are FreeSurfer labels, end the name in _aseg instead of _dseg.",
            image.path,
        )
    absent = [tissue for tissue, value in _VALUES.items() if value not in found]
    if absent and len(absent) < len(_VALUES):
        raise MapError(
            f"has no voxel of {' and '.join(absent)}", "Repeat the segmentation.", image.path
        )
    tissues = np.stack([image.data == value for value in _VALUES.values()])
    try:
        tissues, affine, box = crop(tissues, image.affine)
    except MapError as error:
        raise MapError(error.finding, error.remedy, image.path) from error
    return SubjectMaps(
        scan,
        tissues.astype(np.float32),
        affine,
        image.data.shape,
        image.affine,
        definition,
        labels=np.ascontiguousarray(image.data[box]),
        sidecar=read_sidecar(image.path),
        findings=remarks_as_findings(scan, [image]),
    )


def csf_definition(scan: Scan) -> str:
    """Return what the maps count as CSF, without opening them."""
    return read_sidecar(scan.files[-1]).get("CsfDefinition", "brain-mask")
