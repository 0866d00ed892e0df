"""Checks of one participant's maps, and of a cohort's; each returns findings.

What makes a map useless excludes it; what a person should look at is a doubt.
"""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.ndimage import binary_erosion, binary_fill_holes, distance_transform_edt

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.align import pool_to
from csegsynth_kit.data.findings import Finding, first_of
from csegsynth_kit.data.nifti import spacing_mm
from csegsynth_kit.data.place import Placed
from csegsynth_kit.data.readers.base import Scan, SubjectMaps

#: Volumes (mL) that healthy and diseased people of 5 to 100 years have; outside is a doubt.
PLAUSIBLE_ML = {
    "WM": (250.0, 800.0),
    "GM": (350.0, 1050.0),
    "WM + GM": (700.0, 1750.0),
    "CSF (brain-mask)": (50.0, 800.0),
    "CSF (intracranial)": (70.0, 900.0),
    "CSF (ventricular)": (3.0, 250.0),
    "WM + GM + CSF": (900.0, 2300.0),
}
#: Half of the lower and one and a half times the upper limit: beyond, it is no such tissue.
_IMPOSSIBLE = (0.5, 1.5)
#: Round-off of interpolation and of integer storage that is clipped without a word.
_ROUND_OFF = 0.02
#: Inside of where all tissues sum to more than the first, their mean and median must reach these.
_SOME_TISSUE, _FILLED = 0.05, (0.8, 0.9)
#: There, a tenth of the voxels lies so deep in tissue that it is full, at 8 mm too.
_DEEPEST, _FULL = 0.9, 0.95
_COARSE_MM = 2.0
_UNEVEN = 2.0
#: Depth (mm) below the surface of brain and CSF that counts as the outer shell.
_SHELL_MM = 5.0
#: Factor by which a deeper tissue may have more of itself in the shell before it is excluded.
_ORDER_MARGIN = 1.1
#: Brain cut by the edge of the image (cm^2) above which the field of view is doubted.
_CUT_CM2 = 1.0
#: Smoothed overlap with the template: upright heads have 0.80 to 0.88, turned ones below 0.70.
_POOR_OVERLAP, _NO_OVERLAP = 0.77, 0.7
_FAR_ROTATION_DEG = 45.0
_VOLUME_CHANGE_ML = 1.0
_MANY_ANSWERS = 8


def check_values(maps: SubjectMaps) -> list[Finding]:
    """Check that shares lie in 0 to 1, sum to 1 inside the head, and that no tissue is empty."""
    for t, values in enumerate(maps.tissues):
        low, high = float(values.min()), float(values.max())
        if low < -_ROUND_OFF or high > 1 + _ROUND_OFF:
            text = (
                f"shares of {MEASURED[t]} run from {low:.3g} to {high:.3g} instead of 0 to 1. "
                "Divide by 100 or 255 if they are coded so; else repeat the segmentation."
            )
            return [_excluded(maps, "out-of-range", text, tissue=t)]
    for t, volume in enumerate(maps.volumes_ml):
        if volume <= 0:
            text = f"{MEASURED[t]} is 0 everywhere. Repeat the segmentation."
            return [_excluded(maps, "empty-tissue", text, tissue=t)]
    total = float(maps.tissues.sum(axis=0).max())
    if total > 1 + _ROUND_OFF:
        text = (
            f"WM, GM and CSF sum to {total:.3f} somewhere, more than a whole voxel. Use the "
            "unmodified output of one segmentation."
        )
        return [_excluded(maps, "sum-above-1", text)]
    return _check_inside(maps)


def _check_inside(maps: SubjectMaps) -> list[Finding]:
    """Check that shares fill the voxels that are surrounded by tissue: scaled maps do not."""
    if maps.labels is not None:
        return []
    total = maps.tissues.sum(axis=0)
    inside = total[binary_erosion(total > _SOME_TISSUE)]
    mean, middle, deep = 0.0, 0.0, 0.0
    if len(inside):
        mean, middle, deep = inside.mean(), np.median(inside), np.quantile(inside, _DEEPEST)
    filled = mean >= _FILLED[0] and middle >= _FILLED[1]  # Of one scaled tissue; of all of them.
    if filled and deep >= _FULL:
        return []
    found = f"{deep:.2f} deep" if filled else f"{mean:.2f} on average"
    text = (
        f"WM, GM and CSF sum to {found} inside the head, not to 1, so volumes would be too small. "
        "Use the unmodified output of one segmentation, with all three tissues."
    )
    return [(_doubt if filled else _excluded)(maps, "sum-below-1", text)]


def clipped(maps: SubjectMaps) -> SubjectMaps:
    """Return maps whose round-off outside the simplex is taken away."""
    tissues = np.clip(maps.tissues, 0, 1)
    return replace(maps, tissues=tissues / np.maximum(tissues.sum(axis=0), 1))


def check_voxels(maps: SubjectMaps) -> list[Finding]:
    """Doubt coarse and strongly uneven voxels, unless a .json states that they are meant so."""
    if "Grid" in maps.sidecar:
        return []
    edges = spacing_mm(maps.affine)
    shown = " x ".join(f"{e:.3g}" for e in edges)
    if edges.max() > _COARSE_MM * 1.01:
        text = f"voxels of {shown} mm are coarse; 1 mm is usual, and thin CSF is lost above 2 mm."
        return [_doubt(maps, "coarse-voxels", text)]
    if edges.max() > _UNEVEN * edges.min():
        text = f"voxels of {shown} mm are uneven; a volume's error depends on its direction."
        return [_doubt(maps, "uneven-voxels", text)]
    return []


def check_volumes(maps: SubjectMaps) -> list[Finding]:
    """Compare volumes (mL) with what people of 5 to 100 years have."""
    wm, gm, csf = maps.volumes_ml
    measured = {"WM": wm, "GM": gm, "WM + GM": wm + gm, f"CSF ({maps.csf_definition})": csf}
    if maps.csf_definition != "ventricular":
        measured["WM + GM + CSF"] = wm + gm + csf
    outside, impossible = [], False
    for name, volume in measured.items():
        low, high = PLAUSIBLE_ML[name]
        if not low <= volume <= high:
            outside.append(f"{name} is {volume:.0f} mL (plausible: {low:.0f} to {high:.0f})")
        impossible |= not low * _IMPOSSIBLE[0] <= volume <= high * _IMPOSSIBLE[1]
    if not outside:
        return []
    text = f"{'; '.join(outside)}. Look at the segmentation, and at the voxel size in its header."
    make = _excluded if impossible else _doubt
    return [make(maps, "implausible-volume", text)]


def outer_shares(maps: SubjectMaps) -> np.ndarray:
    """Part of each tissue that lies in the outer shell of brain and CSF.

    White matter is deepest, then gray matter; CSF is mostly outside.

    Returns:
        (3,) shares of WM, GM and CSF, 0 to 1.
    """
    pooled, affine = pool_to(maps.tissues, maps.affine, 2.0)
    edges = spacing_mm(affine)
    inside = np.pad(binary_fill_holes(pooled.sum(axis=0) > 0.5), 1)
    depth = distance_transform_edt(inside, sampling=edges)[1:-1, 1:-1, 1:-1]
    shell = (depth > 0) & (depth <= max(_SHELL_MM, 1.1 * edges.max()))
    within = pooled[:, depth > 0].sum(axis=1, dtype=np.float64)
    return pooled[:, shell].sum(axis=1, dtype=np.float64) / np.maximum(within, 1e-9)


def check_order(maps: SubjectMaps) -> list[Finding]:
    """Check by depth that the maps named WM, GM and CSF are those tissues."""
    share = outer_shares(maps)
    # Ventricles are deep: where CSF means ventricles, it says nothing about the order.
    names = MEASURED[:2] if maps.csf_definition == "ventricular" else MEASURED
    share = share[: len(names)]
    if (np.diff(share) > 0).all():
        return []
    order = np.argsort(share)
    looks = ["?"] * len(names)
    for tissue, position in zip(names, order, strict=True):
        looks[position] = tissue
    percent = ", ".join(f"{n} {100 * s:.0f} %" for n, s in zip(names, share, strict=True))
    volumes = ", ".join(f"{n} {v:.0f}" for n, v in zip(MEASURED, maps.volumes_ml, strict=True))
    text = (
        f"the part in the outer {_SHELL_MM:g} mm is {percent}, but white matter should be deepest "
        f"and CSF outermost: the maps named {', '.join(names)} look like {', '.join(looks)} "
        f"(volumes {volumes} mL). Check the order of the files: FAST numbers CSF, GM, WM only for "
        "T1-weighted images, and BIDS dseg means 1 GM, 2 WM, 3 CSF."
    )
    clear = any(a > _ORDER_MARGIN * b for a, b in itertools.pairwise(share))
    return [(_excluded if clear else _doubt)(maps, "swapped-tissues", text)]


def check_field_of_view(maps: SubjectMaps) -> list[Finding]:
    """Doubt maps whose brain is cut by the edge of the image."""
    offset = np.rint((np.linalg.inv(maps.field_affine) @ maps.affine)[:3, 3]).astype(int)
    edges = spacing_mm(maps.affine)
    brain = maps.tissues[0] + maps.tissues[1]
    cut = 0.0
    for axis in range(3):
        face_cm2 = np.prod(np.delete(edges, axis)) / 100
        for index in (-offset[axis], maps.field_shape[axis] - 1 - offset[axis]):
            if 0 <= index < brain.shape[axis]:
                cut = max(cut, float(brain.take(index, axis=axis).sum()) * face_cm2)
    if cut <= _CUT_CM2:
        return []
    text = f"the edge of the image cuts {cut:.0f} cm^2 of brain, so volumes are too small."
    return [_doubt(maps, "cut-off", text)]


def check_placement(maps: SubjectMaps, placed: Placed) -> list[Finding]:
    """Check the fit to the template, and that placing kept the volumes."""
    findings = []
    if placed.alignment:
        overlap = placed.alignment["overlap"]
        if overlap < _POOR_OVERLAP:
            text = (
                f"after alignment its overlap with the template is only {overlap:.2f} (usually "
                "above 0.8). Look at the map: orientation in the header, missing parts, lesions."
            )
            make = _excluded if overlap < _NO_OVERLAP else _doubt
            findings.append(make(maps, "poor-alignment", text))
        rotation = max(abs(a) for a in placed.alignment["rotation_deg"])
        if rotation > _FAR_ROTATION_DEG:
            text = f"alignment turned it by {rotation:.0f} degrees; its header is probably wrong."
            findings.append(_doubt(maps, "far-rotation", text))
    change = max(abs(c) for c in placed.volume_change_ml)
    if change > _VOLUME_CHANGE_ML:
        text = f"other voxels changed a volume by {change:.1f} mL; its own voxels are too coarse."
        findings.append(_doubt(maps, "volume-change", text))
    return findings


def check_repeats(records: Mapping[str, Mapping]) -> list[Finding]:
    """Doubt participants whose volumes are equal to the last digit: one map under two names.

    Args:
        records: Participant to record; those that were kept have ``volumes_ml``.
    """
    groups: dict[tuple, list[str]] = defaultdict(list)
    for participant, record in records.items():
        if "volumes_ml" in record:
            groups[tuple(round(v, 6) for v in record["volumes_ml"])].append(participant)
    return [
        Finding(
            "doubt",
            first,
            "repeated-map",
            f"the maps of {', '.join([first, *others])} have exactly the same volumes; they are "
            "probably copies of one map.",
        )
        for first, *others in groups.values()
        if others
    ]


def check_origin(synthetic: int, n: int) -> list[Finding]:
    """Doubt a cohort in which some maps are synthetic and others are not."""
    if synthetic in (0, n):
        return []
    text = (
        f"{synthetic} of {n} maps are synthetic and the others are not; the whole cohort counts as "
        "simulated. Prepare them apart."
    )
    return [Finding("doubt", "cohort", "mixed-origin", text)]


def check_kinds(scans: Sequence[Scan]) -> list[Finding]:
    """Doubt a cohort of labels and of shares: of one head, they have different volumes."""
    groups = {k: [s.participant for s in scans if s.kind == k] for k in ("dseg", "probseg")}
    if not all(groups.values()):
        return []
    listed = " and ".join(f"{k} of {len(i)} ({first_of(i, 3)})" for k, i in groups.items())
    text = (
        f"there are {listed}. Labels give a voxel to one tissue, shares to several, so that "
        "one head has other volumes. Prepare them apart, or give only the dseg of everybody."
    )
    return [Finding("doubt", "cohort", "mixed-kinds", text)]


def check_rows(rows: Sequence[str], ids: Sequence[str], table: str) -> list[Finding]:
    """Compare who has answers with who has a map.

    Args:
        rows: Participants of the table.
        ids: Participants that have a map.
        table: Name of the table, for messages.

    Returns:
        One exclusion for every map without a row, one note for all rows without a map.
    """
    findings = [
        Finding(
            "excluded",
            i,
            "no-answers",
            f"has a map but no row in {table}. Add one if it should take part.",
        )
        for i in sorted(set(ids) - set(rows))
    ]
    without = sorted(set(rows) - set(ids))
    if without:
        text = f"{len(without)} of {len(rows)} rows of {table} have no map ({first_of(without)})."
        findings.append(Finding("note", "cohort", "no-map", text))
    return findings


def check_answers(frame: pd.DataFrame) -> list[Finding]:
    """Doubt participants who gave the same numbers throughout: one person under two ids.

    Args:
        frame: Answers, one row per participant.
    """
    numbers = frame.select_dtypes("number")
    # With few questions, two people can well agree.
    many = numbers[numbers.notna().sum(axis=1) >= _MANY_ANSWERS]
    repeated = many[many.duplicated(keep=False)]
    groups: dict[bytes, list[str]] = defaultdict(list)
    for participant, row in zip(repeated.index, repeated.to_numpy(float), strict=True):
        groups[row.tobytes()].append(participant)
    return [
        Finding(
            "doubt",
            str(first),
            "repeated-answers",
            f"{', '.join(map(str, [first, *others]))} gave exactly the same answers; they are "
            "probably one person. Keep one, or their maps may end up in training and test.",
        )
        for first, *others in groups.values()
    ]


def _excluded(maps: SubjectMaps, code: str, text: str, *, tissue: int = 0) -> Finding:
    files = maps.scan.files
    path = files[tissue] if len(files) > 1 else files[0]
    return Finding("excluded", maps.scan.participant, code, f"{path.name}: {text}")


def _doubt(maps: SubjectMaps, code: str, text: str) -> Finding:
    return Finding("doubt", maps.scan.participant, code, f"{maps.scan.files[0].name}: {text}")
