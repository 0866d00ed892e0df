"""Writing a prepared cohort one participant at a time: atomic, resumable, flat in memory."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from csegsynth_kit.constants import VOLUME_COLUMNS
from csegsynth_kit.data.files import write_json, write_tsv
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import CohortError
from csegsynth_kit.maps import Grid


class CohortWriter:
    """Collects a cohort in a hidden folder beside ``out`` and renames it when complete.

    If a previous attempt with the same plan was cut off, what it had finished is kept and listed
    in ``records``.

    Args:
        out: Folder of the finished cohort; must not exist yet.
        grid: Voxels of the maps.
        capacity: The most participants there can be.
        plan: JSON-ready description of everything that determines the result.

    Raises:
        CohortError: if ``out`` exists, or a half-finished attempt followed another plan.
    """

    def __init__(self, out: Path | str, grid: Grid, capacity: int, plan: Mapping):
        self.out = Path(out)
        self.grid = grid
        self.partial = self.out.with_name(f".{self.out.name}.partial")
        if self.out.exists():
            raise CohortError(
                "already exists", "Choose another folder, or remove this one first.", self.out
            )
        plan = json.loads(json.dumps(dict(plan)))
        if (self.partial / "plan.json").exists():
            if json.loads((self.partial / "plan.json").read_text(encoding="utf-8")) != plan:
                raise CohortError(
                    "holds a half-finished cohort made from another source or with other options, "
                    "or files of its source have changed since",
                    f"Repeat the command that began it, or remove it: rm -r '{self.partial}'.",
                    self.partial,
                )
        else:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)
            np.lib.format.open_memmap(
                self._maps, mode="w+", dtype=np.uint8, shape=(capacity, 3, *grid.shape)
            )
            write_json(self.partial / "plan.json", plan)
        self.records: dict[str, dict] = self._read_journal()
        self._free = sum(1 for record in self.records.values() if "row" in record)

    @property
    def _maps(self) -> Path:
        return self.partial / "maps.npy"

    @property
    def _journal(self) -> Path:
        return self.partial / "journal.jsonl"

    def add(self, participant: str, quantized: np.ndarray, record: Mapping) -> None:
        """Keep one participant's (3, X, Y, Z) uint8 map; ``record`` needs ``volumes_ml``."""
        maps = np.lib.format.open_memmap(self._maps, mode="r+")
        maps[self._free] = quantized
        maps.flush()
        self._write({**record, "participant_id": participant, "row": self._free})
        self._free += 1

    def skip(self, participant: str, record: Mapping, *, retry: bool = False) -> None:
        """Note a participant that is left out; a restart tries it again only with ``retry``."""
        record = {**record, "participant_id": participant}
        if retry:
            self.records[participant] = record
        else:
            self._write(record)

    def finish(self, table: pd.DataFrame, columns: tuple[Column, ...], provenance: Mapping) -> Path:
        """Write the tables, drop unused rows of ``maps.npy``, and make the cohort visible.

        Args:
            table: Answers of at least all participants that were added.
            columns: What each column of ``table`` is.
            provenance: Needs ``csf_definition``.

        Raises:
            CohortError: if nobody was added.
        """
        kept = sorted((r for r in self.records.values() if "row" in r), key=lambda r: r["row"])
        if not kept:
            shutil.rmtree(self.partial)
            raise CohortError(
                f"none of the {len(self.records)} participants could be used",
                "See the messages above; nothing was written.",
                self.out,
            )
        ids = pd.Index([record["participant_id"] for record in kept], name="participant_id")
        volumes = pd.DataFrame(
            [record["volumes_ml"] for record in kept], index=ids, columns=list(VOLUME_COLUMNS)
        )
        write_tsv(self.partial / "participants.tsv", table.reindex(ids))
        write_json(self.partial / "participants.json", {c.name: c.to_bids() for c in columns})
        write_tsv(self.partial / "volumes.tsv", volumes)
        write_json(self.partial / "grid.json", self.grid.to_dict())
        write_json(self.partial / "provenance.json", dict(provenance))
        _truncate(self._maps, len(kept))
        for name in ("plan.json", "journal.jsonl"):
            (self.partial / name).unlink(missing_ok=True)
        self.partial.rename(self.out)
        return self.out

    def _write(self, record: dict) -> None:
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(record, ensure_ascii=False) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        self.records[record["participant_id"]] = record

    def _read_journal(self) -> dict[str, dict]:
        if not self._journal.exists():
            return {}
        records, whole = {}, []
        for line in self._journal.read_text(encoding="utf-8").split("\n"):
            if not line:
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                break  # Cut off in the middle of this line: that participant is done again.
            records[record["participant_id"]] = record
            whole.append(f"{line}\n")
        self._journal.write_text("".join(whole), encoding="utf-8")
        return records


def _truncate(path: Path, rows: int) -> None:
    """Keep the first ``rows`` rows of an .npy file without reading the others."""
    maps = np.lib.format.open_memmap(path, mode="r")
    if len(maps) == rows:
        return
    header = {"descr": maps.dtype.str, "fortran_order": False, "shape": (rows, *maps.shape[1:])}
    offset, size = maps.offset, maps[:1].nbytes
    del maps
    with path.open("r+b") as file:
        np.lib.format.write_array_header_1_0(file, header)
        if file.tell() != offset:
            raise CohortError("has an unexpected .npy header", "Report this as a bug.", path)
        file.truncate(offset + rows * size)
