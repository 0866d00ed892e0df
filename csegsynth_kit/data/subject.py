"""One participant, from files to a map on the grid; writes nothing, so any process can do it."""

import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from csegsynth_kit.data import doctor
from csegsynth_kit.data.cleanup import clean_labels
from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.job import unreadable
from csegsynth_kit.data.place import place
from csegsynth_kit.data.readers.base import Scan, SubjectMaps
from csegsynth_kit.data.readers.detect import read_subject
from csegsynth_kit.errors import MapError
from csegsynth_kit.maps import Grid, quantize


@dataclass(frozen=True)
class Outcome:
    """What became of one participant.

    Args:
        participant: Its id.
        record: JSON-ready; for ``CohortWriter``.
        quantized: (3, X, Y, Z) uint8 in steps of 1/255; None if the participant is left out.
        failure: Traceback of an error that no check foresees; a restart tries again.
    """

    participant: str
    record: dict
    quantized: np.ndarray | None = None
    failure: str = ""


@dataclass(frozen=True)
class Preparer:
    """Prepares one participant, in any process: reads files, writes none.

    Args:
        source: The folder that was searched.
        grid: Voxels of the cohort.
        align: Whether maps are aligned to the template.
        clean: Whether label maps of whole heads are cleaned.
    """

    source: Path
    grid: Grid
    align: bool
    clean: bool

    def outcome(self, scan: Scan) -> Outcome:
        """Prepare; a failure leaves this participant out and nobody else."""
        try:
            return self._prepared(scan)
        except MapError as error:
            return _left_out(scan, [unreadable(scan, error)])
        except Exception as error:  # Of whatever kind: others can still be prepared.
            text = f"{scan.files[0].name}: {type(error).__name__}: {error}"
            finding = Finding("excluded", scan.participant, "failed", text)
            return _left_out(scan, [finding], failure=traceback.format_exc())

    def _prepared(self, scan: Scan) -> Outcome:
        maps, removed, findings = _checked(scan, clean=self.clean)
        if _bars(findings):
            return _left_out(scan, findings)
        placed = place(maps, self.grid, align=self.align)
        findings += doctor.check_placement(maps, placed)
        if _bars(findings):
            return _left_out(scan, findings)
        quantized = quantize(placed.shares)
        stored = quantized.sum(dim=(1, 2, 3)).numpy() / 255 * self.grid.voxel_ml
        record = {
            "volumes_ml": [float(v) for v in maps.volumes_ml],
            "stored_ml": [float(v) for v in stored],
            "cleaned": self.clean and maps.whole_head,
            "removed_ml": removed,
            "placed": placed.how,
            "volume_change_ml": list(placed.volume_change_ml),
            "alignment": placed.alignment,
            "files": [f.relative_to(self.source).as_posix() for f in scan.files],
            "synthetic": bool(maps.sidecar.get("Synthetic")),
            "findings": [asdict(finding) for finding in findings],
        }
        return Outcome(scan.participant, record, quantized.numpy())


def _left_out(scan: Scan, findings: Sequence[Finding], failure: str = "") -> Outcome:
    record = {"findings": [asdict(finding) for finding in findings]}
    return Outcome(scan.participant, record, failure=failure)


def _checked(scan: Scan, *, clean: bool) -> tuple[SubjectMaps, list[float], list[Finding]]:
    """Read, check and clean; checks that exclude come before the ones that take them for granted.

    Returns:
        The maps, mL of each tissue that clean-up removed, and the findings.
    """
    maps = read_subject(scan)
    findings = [*maps.findings, *doctor.check_voxels(maps)]
    findings += doctor.check_values(maps)
    if _bars(findings):
        return maps, [0.0] * 3, findings
    maps = doctor.clipped(maps)
    removed = [0.0] * 3
    if clean and maps.whole_head:
        cleaned = clean_labels(maps)
        maps, removed = cleaned.maps, list(cleaned.removed_ml)
    findings += doctor.check_order(maps)
    findings += doctor.check_volumes(maps)
    findings += doctor.check_field_of_view(maps)
    return maps, removed, findings


def _bars(findings: Sequence[Finding]) -> bool:
    return any(finding.severity == "excluded" for finding in findings)
