"""FSL FAST: ``*_pve_0``, ``_1``, ``_2`` are the shares of CSF, gray and white matter.

Reads flat folders, one folder per participant, and the published layout
``sub-0001/anat/run-1/fast_sub-0001_run-1_pve_0.nii.gz``.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.readers.base import (
    Found,
    Scan,
    SubjectMaps,
    in_own_space,
    participant_of,
    read_shares,
    read_sidecar,
    variant_of,
)
from csegsynth_kit.errors import MapError

_PVE = re.compile(r"^(?P<stem>.*?)_?pve_(?P<number>\d)(?P<end>\.nii|\.nii\.gz)$")
#: FAST numbers the tissues of a T1-weighted image from dark to bright.
_NUMBER = {"WM": "2", "GM": "1", "CSF": "0"}


def find(paths: Sequence[Path], root: Path) -> Found:
    """Recognize complete sets of partial-volume maps; report incomplete ones."""
    sets: dict[tuple, dict[str, Path]] = defaultdict(dict)
    for path in paths:
        match = _PVE.match(path.name)
        if match and in_own_space(path):
            sets[path.parent, match["stem"], match["end"]][match["number"]] = path
    scans, findings = [], []
    for (_, stem, _), members in sorted(sets.items()):
        path = next(iter(members.values()))
        try:
            participant = participant_of(path, root, stem)
        except MapError as error:
            findings.append(Finding("excluded", path.name, "bad-id", str(error)))
            continue
        problem = _problem(members)
        if problem:
            findings.append(Finding("excluded", participant, *problem))
            continue
        files = tuple(members[number] for number in _NUMBER.values())
        scans.append(Scan(participant, "fast", "FAST pve", files, variant_of(path, root)))
    return Found(scans, findings)


def _problem(members: dict[str, Path]) -> tuple[str, str] | None:
    missing = [name for name, number in _NUMBER.items() if number not in members]
    some = min(members.values())
    if missing:
        return "missing-tissue", (
            f"{some.name}: no map of {' and '.join(missing)} beside it "
            f"(there is pve_{', pve_'.join(sorted(members))}). Run FAST with three classes (-n 3)."
        )
    if len(members) > 3:
        return "too-many-classes", (
            f"{some.name}: FAST was run with {len(members)} classes, so the numbers do not mean "
            "CSF, GM and WM. Run it with three classes (-n 3)."
        )
    return None


def read(scan: Scan) -> SubjectMaps:
    """Read one participant's maps; see :func:`base.read_shares` for what can go wrong."""
    return read_shares(scan, csf_definition(scan))


def csf_definition(scan: Scan) -> str:
    """Return what the maps count as CSF, without opening them."""
    return read_sidecar(scan.files[-1]).get("CsfDefinition", "brain-mask")
