"""Writing maps as a BIDS derivative, one participant at a time."""

import importlib.metadata
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from csegsynth_kit.constants import CSF_DEFINITIONS, LABELS, MEASURED, TISSUES
from csegsynth_kit.data.derivative import VOLUMES, append, read_description, require_new, rows_of
from csegsynth_kit.data.files import require_folder, write_json, write_tsv
from csegsynth_kit.data.nifti import write_nifti
from csegsynth_kit.data.participants import participant_id
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import CohortError, ConfigError
from csegsynth_kit.maps import SegmentationMaps, quantize

_BIDS_VERSION = "1.10.0"
_NAME = "csegsynth_kit"
#: Keys of the sidecars that this module writes itself.
_OWN_KEYS = ("Synthetic", "CsfDefinition", "Grid", "Space", "Description")
_SPACES = {
    "template": "Axes and position of the MNI152 template of nilearn: heads are rotated and "
    "shifted to it, but neither scaled nor warped",
    "native": "Axes of the scan, the brain centered: not rotated, scaled or warped",
}


@dataclass(frozen=True)
class _Export:
    out: Path
    synthetic: bool
    csf_definition: str
    extra: Mapping
    each: Sequence[Mapping]
    dtype: str


def export_bids(
    maps: SegmentationMaps,
    out: Path | str,
    *,
    synthetic: bool,
    csf_definition: str,
    description: Mapping | None = None,
    extra: Mapping | None = None,
    each: Sequence[Mapping] = (),
    participants: pd.DataFrame | None = None,
    columns: tuple[Column, ...] = (),
    volumes: pd.DataFrame | None = None,
    dtype: Literal["uint8", "float32"] = "uint8",
) -> Path:
    """Write each map as ``sub-X/anat/sub-X_label-{WM,GM,CSF}_probseg.nii.gz`` and ``_dseg``.

    ``dseg`` numbers are those of BIDS: 1 GM, 2 WM, 3 CSF, the most probable one at every
    voxel. A participant appears only when complete. The ``fmriprep`` reader reads the result;
    preparing it on the same grid gives the same maps back: exactly if they are a prepared
    cohort's, else within 2/255 of a voxel, because cohorts keep steps of 1/255.

    Args:
        maps: What to write; the labels become participant ids.
        out: Folder of the data set. It may hold other participants of the same kind already.
        synthetic: Whether any of it was generated or simulated.
        csf_definition: What the maps count as CSF; see ``constants.CSF_DEFINITIONS``.
        description: Further entries of ``dataset_description.json``.
        extra: Further entries of every sidecar, such as the features that were asked for.
        each: Further entries of the sidecars of every map by itself, one per map, or none.
        participants: Answers, indexed by the same labels or by ``sub-`` ids.
        columns: What the columns of ``participants`` are.
        volumes: A row for ``volumes.tsv`` of every map, indexed likewise.
        dtype: ``uint8`` keeps steps of 1/255 (scaled in the header), ``float32`` every digit.

    Returns:
        ``out``.

    Raises:
        ConfigError: for an unknown CSF definition or dtype, sidecar entries that clash or are not
            one per map, or a place where no folder can be written.
        CohortError: if ids repeat, a participant exists already, or the data set in ``out``
            is of another kind.
        TableError: if a label cannot be a participant id, or a participant has no row.
    """
    export = _Export(
        Path(out), synthetic, csf_definition, dict(extra or {}), each or [{}] * len(maps), dtype
    )
    _check_options(export, len(maps))
    require_folder(export.out)
    ids = _ids(maps, export.out)
    existing = _existing(export)
    empty = pd.DataFrame(index=pd.Index(ids, name="participant_id"))
    rows = empty if participants is None else rows_of(participants, ids)
    measured = None if volumes is None else rows_of(volumes, ids)
    export.out.mkdir(parents=True, exist_ok=True)
    if existing is None:
        write_json(
            export.out / "dataset_description.json", _described(export, dict(description or {}))
        )
        write_tsv(export.out / "dseg.tsv", _lookup())
    done: list[str] = []
    try:
        for i, participant in enumerate(ids):
            _write(maps, i, participant, export)
            done.append(participant)
    finally:  # Cut off or not, the tables name everyone who is complete.
        append(export.out, "participants", rows.loc[done], columns)
        if measured is not None:
            append(export.out, "volumes", measured.loc[done], VOLUMES)
    return export.out


def _check_options(export: _Export, n: int) -> None:
    if export.csf_definition not in CSF_DEFINITIONS:
        raise ConfigError(
            f"there is no definition of CSF {export.csf_definition!r}",
            f"Choose one of {', '.join(CSF_DEFINITIONS)}.",
        )
    if export.dtype not in ("uint8", "float32"):
        raise ConfigError(f"maps cannot be stored as {export.dtype!r}", "Use uint8 or float32.")
    if len(export.each) != n:
        raise ConfigError(
            f"there are {len(export.each)} sets of further entries for {n} maps",
            "Give one for each, or none.",
        )
    clash = sorted(set(_OWN_KEYS) & set().union(export.extra, *export.each))
    if clash:
        raise ConfigError(f"extra entries {clash} are written by the export", "Rename them.")


def _ids(maps: SegmentationMaps, out: Path) -> list[str]:
    ids = [participant_id(label) for label in maps.labels]
    repeated = sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) < len(ids) else []
    if repeated:
        raise CohortError(
            f"several maps would become {repeated[0]}", "Give every map a label of its own.", out
        )
    require_new(out, ids)
    return ids


def _existing(export: _Export) -> dict | None:
    """Return the description of the data set in ``out``, if there is one of the same kind."""
    path = export.out / "dataset_description.json"
    if not path.exists():
        if export.out.exists() and any(export.out.iterdir()):
            raise CohortError(
                "holds other files and no dataset_description.json",
                "Choose an empty or a new folder.",
                export.out,
            )
        return None
    existing = read_description(path)
    ours = {"Synthetic": export.synthetic, "CsfDefinition": export.csf_definition}
    theirs = {key: existing.get(key) for key in ours}
    if theirs != ours:
        raise CohortError(
            f"describes other data: {theirs} instead of {ours}",
            "Write to another folder; kinds of maps must not be mixed.",
            path,
        )
    return existing


def _described(export: _Export, further: Mapping) -> dict:
    try:
        version = importlib.metadata.version(_NAME)
    except importlib.metadata.PackageNotFoundError:  # Run from a checkout.
        version = "unknown"
    return {
        "Name": "Synthetic tissue maps" if export.synthetic else "Tissue maps",
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": _NAME, "Version": version}],
        **further,
        "Synthetic": export.synthetic,
        "CsfDefinition": export.csf_definition,
    }


def _lookup() -> pd.DataFrame:
    names = {"GM": "Gray Matter", "WM": "White Matter", "CSF": "Cerebrospinal Fluid"}
    numbers = dict(zip(TISSUES, LABELS["bids"], strict=True))
    names = dict(sorted(names.items(), key=lambda item: numbers[item[0]]))
    index = pd.Index([0, *(numbers[t] for t in names)], name="index")
    columns = {"name": ["Background", *names.values()], "abbreviation": ["BG", *names]}
    return pd.DataFrame(columns, index=index)


def _write(maps: SegmentationMaps, i: int, participant: str, export: _Export) -> None:
    """Write one participant to a hidden folder, then rename it into place."""
    hidden = export.out / f".{participant}.{os.getpid()}"
    shutil.rmtree(hidden, ignore_errors=True)
    sidecar = {
        "Synthetic": export.synthetic,
        "CsfDefinition": export.csf_definition,
        "Grid": maps.grid.to_dict(),
        "Space": _SPACES[maps.grid.space],
        **export.extra,
        **export.each[i],
    }
    shares = maps.probabilities[i, : len(MEASURED)]
    stored = quantize(shares) if export.dtype == "uint8" else shares.to(torch.float32)
    slope = 1 / 255 if export.dtype == "uint8" else None
    try:
        for tissue, values in zip(MEASURED, stored.numpy(), strict=True):
            name = hidden / "anat" / f"{participant}_label-{tissue}_probseg"
            about = f"Share of each voxel that is {tissue}, 0 to 1"
            _image(name, values, maps, {**sidecar, "Description": about}, slope)
        numbers = torch.tensor(LABELS["bids"], dtype=torch.uint8)
        labels = numbers[maps.probabilities[i].argmax(dim=0)].numpy()
        name = hidden / "anat" / f"{participant}_dseg"
        about = "Most probable tissue: 0 background, 1 GM, 2 WM, 3 CSF"
        _image(name, labels, maps, {**sidecar, "Description": about}, None)
        hidden.rename(export.out / participant)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _image(
    name: Path, values: np.ndarray, maps: SegmentationMaps, sidecar: Mapping, slope: float | None
) -> None:
    note = "synthetic" if sidecar["Synthetic"] else ""
    write_nifti(
        name.with_name(f"{name.name}.nii.gz"),
        np.ascontiguousarray(values),
        maps.grid.affine,
        slope=slope,
        description=f"{_NAME} {note}".strip(),
    )
    write_json(name.with_name(f"{name.name}.json"), dict(sidecar))
