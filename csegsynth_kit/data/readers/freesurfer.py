"""Label maps with FreeSurfer's codes: FreeSurfer, FastSurfer, SynthSeg, copies named for BIDS.

Whether such a map counts CSF around the brain is not in its name: it is decided from how much
of the one label for it (24) there is.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from csegsynth_kit.constants import ASEG_EXTRACEREBRAL_FROM, ASEG_LABELS, ASEG_OUTER_CSF, MEASURED
from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.nifti import Image, read_image
from csegsynth_kit.data.readers.base import (
    Found,
    Scan,
    SubjectMaps,
    crop,
    in_own_space,
    participant_of,
    read_sidecar,
    remarks_as_findings,
    variant_of,
)
from csegsynth_kit.errors import MapError

#: Kinds of file, from the preferred one to the one that is used only for want of others.
_KINDS = tuple(
    (kind, re.compile(rf"^{name}\.(mgz|nii|nii\.gz)$"))
    for kind, name in (
        ("aseg", r"((?P<stem>.+)_)?aseg"),
        ("aparc+aseg", r"((?P<stem>.+)_)?aparc(\.\w+)?\+aseg(\.deep(\.withCC)?|\.mapped)?"),
        ("synthseg", r"(?P<stem>.*?)_?(?i:synthseg)"),
        ("desc-synthseg dseg", r"(?P<stem>.+)_(desc|seg)-synthseg_dseg"),
        ("desc-aseg dseg", r"(?P<stem>.+)_(desc|seg)-aseg_dseg"),
        ("desc-aparcaseg dseg", r"(?P<stem>.+)_(desc|seg)-aparcaseg_dseg"),
    )
)
#: What fMRIPrep copies from FreeSurfer: of use where a person has no other label map.
COPIES = ("desc-aseg dseg", "desc-aparcaseg dseg")
#: FreeSurfer's template and longitudinal bases are nobody's own scan.
_NOBODY = re.compile(r"^fsaverage|\.long\.|^[lr]h\.EC_average$")
#: Parcellations number the cortex and the white matter below it from 1000 on.
_PARCELLATION = {
    "GM": ((1000, 3000), (11100, 13000)),
    "WM": ((3000, 5000), (5001, 5003), (13100, 15000)),
}
#: Codes below 500 that mean neither tissue nor CSF: exterior, undetermined, skull, skin, eyes.
_OUTSIDE = (0, 1, 6, 29, 40, 45, 61, 165, 258, 259)
_UNKNOWN = 255
#: Volume of label 24 relative to WM + GM: below the first there is none around the brain, above
#: the second there is. FreeSurfer's aseg has about 0.001; SynthSeg maps 0.2 to 0.5.
_OUTER_CSF_SHARE = (0.02, 0.06)
#: Share of the brain in unknown labels above which a map is not read.
_MOST_UNKNOWN = 0.01
#: A few labels of both sides that sit well apart.
_LEFT, _RIGHT = (2, 3, 7, 8, 10, 12, 17), (41, 42, 46, 47, 49, 51, 53)


def find(paths: Sequence[Path], root: Path) -> Found:
    """Recognize label maps, one per participant and folder."""
    best: dict[tuple[Path, str], tuple[int, Path, str]] = {}
    copies: dict[tuple[Path, str], tuple[int, Path, str]] = {}
    findings: list[Finding] = []
    for path in sorted(paths):
        rank, stem = _kind(path)
        folder = path.parent.parent if path.parent.name == "mri" else path.parent
        if rank is None or _nobody(folder) or not in_own_space(path):
            continue
        kind = _KINDS[rank][0]
        chosen = copies if kind in COPIES else best
        whose = path.name if "synthseg" in kind else stem  # Each SynthSeg map is a scan.
        key = (path.parent, whose) if whose else (folder, "")
        if key not in chosen or rank < chosen[key][0]:
            chosen[key] = (rank, path, stem or folder.name)
    _drop_second_choice(best)
    scans = _scans(best.values(), root, findings)
    served = {scan.participant for scan in scans}
    spare = _scans(copies.values(), root, findings)
    return Found(scans + [s for s in spare if s.participant not in served], findings)


def _nobody(folder: Path) -> bool:
    return bool(_NOBODY.search(folder.name)) or (folder / "base-tps").exists()


def _kind(path: Path) -> tuple[int | None, str]:
    for rank, (_, pattern) in enumerate(_KINDS):
        match = pattern.match(path.name)
        if match:
            return rank, match.groupdict().get("stem") or ""
    return None, ""


def _drop_second_choice(best: dict[tuple[Path, str], tuple[int, Path, str]]) -> None:
    """Prefer aseg.mgz to a SynthSeg map that lies beside it in the same mri folder.

    Elsewhere a SynthSeg map is preferred, which counts all CSF.
    """
    flat = {
        (folder, stem)
        for (folder, _), (rank, _, stem) in best.items()
        if "synthseg" in _KINDS[rank][0]
    }
    for folder, whose in list(best):
        in_mri = whose and folder.name == "mri" and (folder.parent, "") in best
        if in_mri or (folder, whose) in flat:
            del best[folder, whose]


def _scans(
    chosen: Iterable[tuple[int, Path, str]], root: Path, findings: list[Finding]
) -> list[Scan]:
    scans = []
    for rank, path, stem in chosen:
        kind = _KINDS[rank][0]
        try:
            participant = participant_of(path, root, stem)
        except MapError as error:
            findings.append(Finding("excluded", path.name, "bad-id", str(error)))
            continue
        scans.append(Scan(participant, "freesurfer", kind, (path,), variant_of(path, root)))
    return scans


def read(scan: Scan) -> SubjectMaps:
    """Read one participant's label map.

    Raises:
        MapError: if the file cannot be read or is no label map, if a tissue is absent, if
            more than 1 % of the brain has unknown labels, or if it cannot be decided whether
            CSF around the brain is counted.
    """
    image = read_image(scan.files[0], labels=True)
    volumes = _volumes(image)
    findings = [*remarks_as_findings(scan, [image]), *_unknown(scan, image, volumes)]
    definition = _definition(image, volumes)
    classes = _table()[image.data]
    tissues = np.stack([classes == i for i in range(1, len(MEASURED) + 1)])
    tissues, affine, box = crop(tissues, image.affine)
    labels = np.ascontiguousarray(image.data[box])
    findings += _mirrored(scan, labels, affine)
    return SubjectMaps(
        scan,
        tissues.astype(np.float32),
        affine,
        image.data.shape,
        image.affine,
        definition,
        labels=labels,
        whole_head=True,
        sidecar=read_sidecar(image.path),
        findings=tuple(findings),
    )


def csf_definition(scan: Scan) -> str:
    """Decide what the map counts as CSF; this opens it, but does nothing else with it."""
    image = read_image(scan.files[0], labels=True)
    return _definition(image, _volumes(image))


@cache
def _table() -> np.ndarray:
    """Class of every code: 1 WM, 2 GM, 3 CSF, 0 neither, 255 unknown."""
    table = np.zeros(100_000, np.uint8)
    table[:ASEG_EXTRACEREBRAL_FROM] = _UNKNOWN
    table[list(_OUTSIDE)] = 0
    for i, tissue in enumerate(MEASURED, start=1):
        table[list(ASEG_LABELS[tissue])] = i
        for start, stop in _PARCELLATION.get(tissue, ()):
            table[start:stop] = i
    table.setflags(write=False)
    return table


def _volumes(image: Image) -> np.ndarray:
    """Return the volume (mL) of every code of a label image, or raise if a tissue is absent."""
    volumes = np.bincount(image.data.ravel(order="K")) * image.voxel_ml
    table = _table()[: len(volumes)]
    absent = [t for i, t in enumerate(MEASURED, start=1) if volumes[table == i].sum() == 0]
    if absent:
        found = np.flatnonzero(volumes).tolist()
        raise MapError(
            f"has no label of {' and '.join(absent)} (labels {found[:12]}"
            f"{'…' if len(found) > 12 else ''})",
            "FreeSurfer codes are expected; see constants.ASEG_LABELS.",
            image.path,
        )
    return volumes


def _unknown(scan: Scan, image: Image, volumes: np.ndarray) -> list[Finding]:
    table = _table()[: len(volumes)]
    codes = np.flatnonzero((table == _UNKNOWN) & (volumes > 0))
    if not len(codes):
        return []
    listed = ", ".join(f"{code} ({volumes[code]:.1f} mL)" for code in codes[:8])
    total, brain = volumes[codes].sum(), volumes[(table == 1) | (table == 2)].sum()
    if total > _MOST_UNKNOWN * brain:
        raise MapError(
            f"has labels that are not known: {listed}",
            "If they are tissue, add them to constants.ASEG_LABELS; else set them to 0.",
            image.path,
        )
    severity = "doubt" if total > 1 else "note"
    message = f"{image.path.name}: labels that are not known count as background: {listed}."
    return [Finding(severity, scan.participant, "unknown-labels", message)]


def _definition(image: Image, volumes: np.ndarray) -> str:
    stated = read_sidecar(image.path).get("CsfDefinition")
    if stated:
        return stated
    table = _table()[: len(volumes)]
    outer = volumes[ASEG_OUTER_CSF] if len(volumes) > ASEG_OUTER_CSF else 0.0
    share = outer / volumes[(table == 1) | (table == 2)].sum()
    low, high = _OUTER_CSF_SHARE
    if low <= share <= high:
        raise MapError(
            f"has {outer:.0f} mL of label {ASEG_OUTER_CSF} (CSF), too much for ventricles only and "
            "too little for all CSF around the brain",
            "Look at the map; state CsfDefinition in a .json beside it.",
            image.path,
        )
    return "intracranial" if share > high else "ventricular"


def _mirrored(scan: Scan, labels: np.ndarray, affine: np.ndarray) -> list[Finding]:
    """Compare where labels of the left and of the right side lie."""
    middle = []
    for side in (_LEFT, _RIGHT):
        where = np.argwhere(np.isin(labels[::2, ::2, ::2], side))
        if not len(where):
            return []
        middle.append(float(affine[0, :3] @ (2 * where.mean(axis=0))))
    if middle[0] < middle[1]:
        return []
    message = (
        f"{scan.files[0].name}: labels of the left hemisphere lie on the right, so the image is "
        "mirrored or its header wrong. Volumes are not affected; repair the header if sides matter."
    )
    return [Finding("doubt", scan.participant, "mirrored", message)]
