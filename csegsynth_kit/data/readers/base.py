"""What every reader returns, and how participants are named in file names."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from csegsynth_kit.constants import CSF_DEFINITIONS
from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.nifti import Image, read_image, voxel_ml
from csegsynth_kit.data.participants import participant_id
from csegsynth_kit.errors import MapError, TableError

Layout = Literal["fast", "fmriprep", "freesurfer"]
IMAGE = re.compile(r"\.(nii|nii\.gz|mgz)$")
#: Values of the ``space`` entity that mean the participant's own T1-weighted image.
OWN_SPACES = ("T1w", "individual", "orig", "scanner", "native", "ACPC")
#: Entities that tell several scans of one participant apart, in the order they are sorted by.
_VARIANTS = ("ses", "acq", "ce", "rec", "run", "echo", "space", "desc", "res")
_ENTITY = re.compile(r"(?:^|[_/])([a-z]+)-([A-Za-z0-9+]+)")
#: Folder and file names that say nothing about who was scanned.
_GENERIC = re.compile(
    r"^(anat|mri|t1w?|fast|segmentations?|structural|(ses|run)-\w+|mprage|brain|t1w?_(fast|brain))$"
    r"|^$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Scan:
    """One participant's segmentation on disk, not opened yet.

    Args:
        participant: ``sub-LABEL``.
        layout: The reader it belongs to.
        kind: Name of the kind of file, as shown in reports.
        files: WM, GM and CSF maps in this order, or one label map.
        variant: What tells it from other scans of the participant, such as ``ses-1``.
    """

    participant: str
    layout: Layout
    kind: str
    files: tuple[Path, ...]
    variant: tuple[str, ...] = ()


class Found(NamedTuple):
    """What one reader recognized in a folder."""

    scans: list[Scan]
    findings: list[Finding]


@dataclass(frozen=True)
class SubjectMaps:
    """One participant's tissues at source resolution, cropped to where there is tissue.

    Args:
        scan: The files they were read from.
        tissues: (3, X, Y, Z) float32 shares of WM, GM and CSF, right-anterior-superior axes.
        affine: (4, 4) from indices of ``tissues`` to world positions (mm).
        field_shape: (3,) voxels of the image before cropping.
        field_affine: (4, 4) of the image before cropping.
        csf_definition: See ``constants.CSF_DEFINITIONS``.
        labels: (X, Y, Z) int32 label map they come from, cropped alike, or None.
        whole_head: Whether they come from a label map that may reach beyond the brain.
        sidecar: The .json beside the file, if there is one.
        findings: What was noticed while reading.
    """

    scan: Scan
    tissues: np.ndarray
    affine: np.ndarray
    field_shape: tuple[int, int, int]
    field_affine: np.ndarray
    csf_definition: str
    labels: np.ndarray | None = None
    whole_head: bool = False
    sidecar: Mapping = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel (mL)."""
        return voxel_ml(self.affine)

    @property
    def volumes_ml(self) -> np.ndarray:
        """(3,) volumes of WM, GM and CSF (mL), accumulated in float64."""
        return self.tissues.sum(axis=(1, 2, 3), dtype=np.float64) * self.voxel_ml


def entities(name: str) -> dict[str, str]:
    """Return the BIDS entities of a file name or path; deeper folders win."""
    return dict(_ENTITY.findall(name))


def in_own_space(path: Path) -> bool:
    """Tell whether a file's name says nothing of a template it was warped to."""
    return entities(path.name).get("space", OWN_SPACES[0]) in OWN_SPACES


def variant_of(path: Path, root: Path) -> tuple[str, ...]:
    """Return what tells several scans of one participant apart, such as ``("ses-1",)``."""
    found = entities(path.relative_to(root).as_posix())
    return tuple(f"{key}-{found[key]}" for key in _VARIANTS if key in found)


def participant_of(path: Path, root: Path, stem: str) -> str:
    """Tell whose map a file is: by ``sub-`` in its name or folders, else by the plain name.

    Args:
        path: The file.
        root: The folder that was searched.
        stem: The file name without what marks the tissue.

    Raises:
        MapError: if no name can be made out.
    """
    parents = [part.name for part in path.parents if part.is_relative_to(root)]
    for name in (path.name, *parents):
        match = re.search(r"(?:^|[_.])sub-([A-Za-z0-9]+)", name)
        if match:
            return f"sub-{match[1]}"
    stem = re.sub(r"(_T1w?|_brain|_fast)+$", "", re.sub(r"^fast_", "", stem), flags=re.IGNORECASE)
    names = [stem, *(re.sub(r"\.anat$", "", name) for name in parents)]
    name = next((n for n in names if not _GENERIC.match(n)), stem)
    try:
        return participant_id(name)
    except TableError as error:
        raise MapError(
            f"no participant can be made out ({error.finding})",
            "Name files or folders by participant, as in sub-0001.",
            path,
        ) from error


def natural(text: Iterable[str]) -> list:
    """Sort key under which run-2 comes before run-10."""
    parts = re.split(r"(\d+)", "/".join(text))
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts if p]


def read_sidecar(path: Path) -> dict:
    """Return the .json beside an image, with ``Synthetic`` taken from its data set too.

    Raises:
        MapError: if a .json is unreadable, or names an unknown definition of CSF.
    """
    found = _json(path.with_name(IMAGE.sub(".json", path.name)))
    if "Synthetic" not in found:
        found["Synthetic"] = bool(data_set_of(path.parent).get("Synthetic", False))
    definition = found.get("CsfDefinition")
    if definition is not None and definition not in CSF_DEFINITIONS:
        raise MapError(
            f"its .json says CsfDefinition {definition!r}",
            f"Known definitions are {', '.join(CSF_DEFINITIONS)}.",
            path,
        )
    return found


def data_set_of(folder: Path) -> dict:
    """Return the nearest ``dataset_description.json``, in a folder or up to three above it."""
    # As the user names it first: a linked folder belongs to the data set that links it.
    named, real = ([p, *list(p.parents)[:3]] for p in (folder.absolute(), folder.resolve()))
    places = [*named, *real]
    described = (place / "dataset_description.json" for place in places)
    return _json(next((path for path in described if path.exists()), folder / "none.json"))


def _json(path: Path) -> dict:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise MapError(f"is not valid JSON ({error})", "Mend it or remove it.", path) from error
    return dict(content) if isinstance(content, dict) else {}


def crop(arrays: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple]:
    """Crop (T, X, Y, Z) maps to where any is above 0, with a margin of one voxel.

    Returns:
        The cropped maps, their affine, and the slices along x, y and z.

    Raises:
        MapError: (without a path) if all are 0.
    """
    inside = arrays.max(axis=0) > 0
    slices = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        where = np.flatnonzero(inside.any(axis=others))
        if not len(where):
            raise MapError("all tissues are 0 everywhere", "Repeat the segmentation.")
        slices.append(slice(max(int(where[0]) - 1, 0), int(where[-1]) + 2))
    shifted = affine.copy()
    shifted[:3, 3] = affine[:3, :3] @ [s.start for s in slices] + affine[:3, 3]
    return np.ascontiguousarray(arrays[:, *slices]), shifted, tuple(slices)


def remarks_as_findings(scan: Scan, images: Iterable[Image]) -> tuple[Finding, ...]:
    """Turn what is odd about headers into doubts, one per kind."""
    seen = {code: f"{image.path.name}: {text}." for image in images for code, text in image.remarks}
    return tuple(Finding("doubt", scan.participant, code, text) for code, text in seen.items())


def read_shares(scan: Scan, csf_definition: str) -> SubjectMaps:
    """Read three maps of shares (WM, GM, CSF) that must agree in shape and position.

    Raises:
        MapError: if one cannot be read, they disagree, or all are 0.
    """
    images = [read_image(path) for path in scan.files]
    first = images[0]
    for other in images[1:]:
        _same_box(first, other)
    tissues = np.stack([image.data for image in images])
    try:
        tissues, affine, _ = crop(tissues, first.affine)
    except MapError as error:
        raise MapError(error.finding, error.remedy, first.path) from error
    return SubjectMaps(
        scan,
        tissues,
        affine,
        first.data.shape,
        first.affine,
        csf_definition,
        sidecar=read_sidecar(scan.files[-1]),
        findings=remarks_as_findings(scan, images),
    )


def _same_box(a: Image, b: Image) -> None:
    if a.data.shape != b.data.shape:
        raise MapError(
            f"has shape {b.data.shape}, but {a.path.name} has {a.data.shape}",
            "Use the maps of one and the same segmentation.",
            b.path,
        )
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= a.data.shape
    apart = np.abs(corners @ (a.affine - b.affine).T).max()
    if apart > 0.05 * a.spacing_mm.min():
        raise MapError(
            f"lies up to {apart:.2f} mm away from {a.path.name} (their affines differ)",
            "Use the maps of one and the same segmentation, or repair the headers.",
            b.path,
        )
