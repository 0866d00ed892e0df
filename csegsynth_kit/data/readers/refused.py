"""Files that are recognized, and why they cannot serve as this person's segmentation."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from csegsynth_kit.data.readers.base import entities, in_own_space, participant_of
from csegsynth_kit.errors import MapError

_TISSUE = r"label-(?:WM|GM|CSF)"
_NATIVE_REMEDY = "Use the maps in the participant's own space (no 'space-' in the name)."


@dataclass(frozen=True)
class Refused:
    """A recognized file that is not read.

    Args:
        participant: ``sub-LABEL``, or the file's name where none can be made out.
        path: The file.
        code: A short, stable name of the reason.
        reason: Why it is refused, without a final period.
        remedy: What to do instead, as a sentence.
    """

    participant: str
    path: Path
    code: str
    reason: str
    remedy: str


#: (code, file name, reason, remedy); the first match decides.
_RULES = (
    (
        "modulated",
        rf"_{_TISSUE}_mod\.nii|_{_TISSUE}_desc-mod(ulated)?_|_desc-mod(ulated)?_{_TISSUE}_probseg\.nii",
        "is a modulated map in template space: its sum is right, but its values are no shares "
        "of a voxel and its shape is the template's",
        _NATIVE_REMEDY,
    ),
    (
        "warped-unmodulated",
        rf"_space-[A-Za-z0-9+]+(_[a-z]+-[A-Za-z0-9+]+)*_"
        rf"({_TISSUE}(_[a-z]+-[A-Za-z0-9+]+)*_probseg|dseg|aseg|synthseg|pve_[0-9])\.nii",
        "is warped to a template and not modulated, so its sum is not this person's volume",
        _NATIVE_REMEDY,
    ),
    (
        "spm-modulated",
        r"^s?(mwmw|mw|m0w)r?[cp](?P<number>[1-6])r?.*\.nii",
        "is a modulated map of SPM or CAT12 in template space: its sum is right, but its values "
        "are no shares of a voxel and its shape is the template's",
        "Use the native maps (c1, c2, c3 or p1, p2, p3) under BIDS names: "
        "sub-ID_label-GM_probseg, _label-WM_probseg, _label-CSF_probseg.",
    ),
    (
        "spm-warped",
        r"^s?r?w[cp](?P<number>[0-6]).*\.nii",
        "is a warped, unmodulated map of SPM or CAT12, so its sum is not this person's volume",
        "Use the native maps (c1, c2, c3 or p1, p2, p3) under BIDS names: "
        "sub-ID_label-GM_probseg, _label-WM_probseg, _label-CSF_probseg.",
    ),
    (
        "spm-native",
        r"^r?[cp](?P<number>[1-6])(?!\d).*\.nii",
        "looks like a native map of SPM or CAT12, whose names are not read",
        "Rename: c1 or p1 to sub-ID_label-GM_probseg, c2 or p2 to sub-ID_label-WM_probseg, "
        "c3 or p3 to sub-ID_label-CSF_probseg.",
    ),
    (
        "cat12-labels",
        r"^p0.*\.nii",
        "looks like a label image of CAT12 (p0), which mixes partial volumes into its numbers",
        "Use the maps p1, p2, p3 under BIDS names: sub-ID_label-GM_probseg, _label-WM_probseg, "
        "_label-CSF_probseg.",
    ),
    (
        "vbm",
        r"_desc-VBM_\w*GMvolume\.nii",
        "is a gray-matter map of a VBM analysis in template space; WM and CSF are not there",
        _NATIVE_REMEDY,
    ),
)
_COMPILED = tuple((code, re.compile(p), reason, remedy) for code, p, reason, remedy in _RULES)
_SPM_TISSUE = {"1": "GM", "2": "WM", "3": "CSF"}


def find(paths: Sequence[Path], root: Path) -> list[Refused]:
    """List files that are recognized but cannot be used."""
    found = []
    for path in paths:
        for code, pattern, reason, remedy in _COMPILED:
            if not pattern.search(path.name):
                continue
            if code == "warped-unmodulated" and in_own_space(path):
                break
            found.append(Refused(_whose(path, root), path, code, reason, remedy))
            break
    return found


def explain(refused: Iterable[Refused]) -> list[Refused]:
    """Say once per participant and reason what is refused.

    Returns:
        One entry for each, whose reason names the first file, how many there are, and which
        tissues are missing besides.
    """
    groups: dict[tuple[str, str], list[Refused]] = defaultdict(list)
    for item in refused:
        groups[item.participant, item.code].append(item)
    explained = []
    for _, items in sorted(groups.items()):
        first = items[0]
        more = f" (and {len(items) - 1} more)" if len(items) > 1 else ""
        missing = _missing(items)
        lack = f"; there is no map of {' and '.join(missing)}" if missing else ""
        explained.append(replace(first, reason=f"{first.path.name}{more} {first.reason}{lack}"))
    return explained


def _missing(items: list[Refused]) -> list[str]:
    """Tissues that a set of refused maps of single tissues lacks; empty for label maps."""
    present = {_tissue(item.path.name) for item in items}
    if not present & {"WM", "GM", "CSF"}:
        return []
    return [tissue for tissue in ("WM", "GM", "CSF") if tissue not in present]


def _tissue(name: str) -> str:
    """Tissue that a refused map of one tissue shows; empty if it is not of one tissue."""
    match = next((m for _, pattern, *_ in _COMPILED if (m := pattern.search(name))), None)
    parts = match.groupdict() if match else {}
    return entities(name).get("label") or _SPM_TISSUE.get(parts.get("number") or "", "")


def _whose(path: Path, root: Path) -> str:
    stem = re.sub(r"\.(nii|nii\.gz)$", "", path.name)
    stem = re.sub(r"^s?r?(?:mwmw|mw|m0w|w)?r?[cp][0-6]r?_?", "", stem)
    try:
        return participant_of(path, root, stem)
    except MapError:
        return path.name
