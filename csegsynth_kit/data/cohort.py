"""A prepared cohort on disk, and its splits.

A folder with ``participants.tsv`` and ``.json``, ``volumes.tsv`` (mL at source resolution),
``maps.npy`` (uint8, N x 3 x X x Y x Z; background is what remains), ``grid.json`` and
``provenance.json``. Maps stay on disk until they are asked for.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from csegsynth_kit.constants import VOLUME_COLUMNS
from csegsynth_kit.data.files import fingerprint, write_json
from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.raw_table import MISSING
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import CohortError, ConfigError
from csegsynth_kit.maps import Grid, SegmentationMaps, dequantize

#: So many maps, evenly spread, stand for all: another alignment changes every one of them.
_MAPS_IN_FINGERPRINT = 8
FILES = ("participants.tsv", "participants.json", "volumes.tsv", "grid.json", "provenance.json")


@dataclass(frozen=True)
class Cohort:
    """A prepared cohort, or some of its participants.

    Args:
        path: Its folder.
        table: Answers, indexed by ``participant_id``.
        columns: What each column of ``table`` is.
        volumes: ``wm_ml``, ``gm_ml``, ``csf_ml`` at source resolution, indexed alike.
        grid: Voxels of the maps.
        provenance: Source, reader, versions, exclusions.
        rows: (N,) row of each participant in ``maps.npy``.
    """

    path: Path
    table: pd.DataFrame
    columns: tuple[Column, ...]
    volumes: pd.DataFrame
    grid: Grid
    provenance: dict
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> tuple[str, ...]:
        """Participant ids."""
        return tuple(self.table.index)

    @property
    def feature_columns(self) -> tuple[Column, ...]:
        """The columns that serve as features."""
        return tuple(column for column in self.columns if not column.left_out)

    @property
    def csf_definition(self) -> str:
        """What these maps count as CSF; see ``constants.CSF_DEFINITIONS``."""
        return self.provenance["csf_definition"]

    @property
    def simulated(self) -> bool:
        """Whether any part of these maps or answers is simulated."""
        return bool(self.provenance.get("simulated"))

    @property
    def statement(self) -> str:
        """What must be said wherever this cohort is shown."""
        source = self.provenance.get("source", "unknown source")
        return self.provenance.get("statement") or f"Segmentations of {source}."

    @cached_property
    def persons(self) -> pd.Series:
        """The person each row belongs to; retest rows share one."""
        stored = self.provenance.get("persons", {})
        return pd.Series({i: stored.get(i, i) for i in self.ids}, name="person_id", dtype=object)

    def one_scan_each(self) -> "Cohort":
        """Keep the first row of every person, where each must count once."""
        return self.subset(self.persons.drop_duplicates().index)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve digits that change with the participants, their answers, volumes, maps or grid."""
        stored = np.load(self.path / "maps.npy", mmap_mode="r")
        every = max(1, len(self) // _MAPS_IN_FINGERPRINT)
        content = {
            "maps": [zlib.crc32(stored[row].tobytes()) for row in self.rows[::every]],
            "table": self.table.to_csv(),
            "volumes": self.volumes.round(6).to_csv(),
            "features": [column.name for column in self.feature_columns],
            "grid": self.grid.to_dict(),
            "csf_definition": self.csf_definition,
        }
        return fingerprint(content)

    @property
    def scans(self) -> set[str]:
        """Digests of the volumes: the same segmentation has the same, whatever it is called."""
        rows = self.volumes.round(3).itertuples(index=False)
        return {fingerprint([float(volume) for volume in row]) for row in rows}

    def quantized(self) -> np.ndarray:
        """Return (N, 3, X, Y, Z) uint8 maps in steps of 1/255, read from disk."""
        maps = np.load(self.path / "maps.npy", mmap_mode="r")
        return np.ascontiguousarray(maps[self.rows])

    def maps(self, ids: Sequence[str] | None = None) -> SegmentationMaps:
        """Read the maps of some participants (of all, without ``ids``)."""
        chosen = self if ids is None else self.subset(ids)
        return SegmentationMaps(
            dequantize(torch.from_numpy(chosen.quantized())), self.grid, tuple(chosen.ids)
        )

    def findings(self) -> list[Finding]:
        """What was noticed when the cohort was prepared."""
        path = self.path / "findings.json"
        return [Finding(**f) for f in _json(path)["findings"]] if path.exists() else []

    def preparation(self) -> pd.DataFrame:
        """One row per participant: what was read, removed, turned and changed."""
        path = self.path / "preparation.tsv"
        if not path.exists():
            return pd.DataFrame(index=self.table.index)
        steps = _tsv(path).reindex(self.table.index)
        return steps.apply(lambda column: pd.to_numeric(column, errors="coerce").fillna(column))

    def subset(self, ids: Sequence[str]) -> "Cohort":
        """Return these participants only, in this order."""
        position = pd.Series(np.arange(len(self)), index=self.table.index)
        unknown = [i for i in ids if i not in position.index]
        if unknown:
            raise CohortError(
                f"has no participant {unknown[0]!r}", "See its participants.tsv.", self.path
            )
        chosen = position[list(ids)].to_numpy(dtype=int)
        return replace(
            self,
            table=self.table.iloc[chosen],
            volumes=self.volumes.iloc[chosen],
            rows=self.rows[chosen],
        )

    def split(
        self, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int = 0
    ) -> tuple["Cohort", "Cohort", "Cohort"]:
        """Split by person into training, validation and test participants.

        The split depends on the ids, the fractions and the seed alone, and is kept in the
        cohort's ``splits`` folder. Rows of one person stay together.

        Raises:
            ConfigError: if the fractions are not three shares of 1, or a part gets nobody.
        """
        if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
            raise ConfigError(f"fractions {fractions} are not three shares of 1", "Correct them.")
        persons = sorted(set(self.persons))
        order = np.random.default_rng(seed).permutation(len(persons))
        cuts = np.round(np.cumsum(fractions)[:2] * len(persons)).astype(int)
        parts = [{persons[i] for i in part} for part in np.split(order, cuts)]
        if any(f > 0 and not part for f, part in zip(fractions, parts, strict=True)):
            raise ConfigError(
                f"{len(persons)} persons cannot be split by {fractions}", "Use more participants."
            )
        ids = [[i for i in self.ids if self.persons[i] in part] for part in parts]
        self._keep_split(ids, fractions, seed)
        return tuple(self.subset(part) for part in ids)

    def _keep_split(self, ids: list[list[str]], fractions: Sequence[float], seed: int) -> None:
        name = f"seed-{seed}_{'-'.join(f'{f:.3f}' for f in fractions)}_{fingerprint(self.ids)}.json"
        path = self.path / "splits" / name
        content = dict(zip(("train", "valid", "test"), ids, strict=True))
        if path.exists() or not self.path.exists():
            return
        try:
            write_json(path, content)
        except OSError:  # A read-only cohort: the run folder keeps the split as well.
            return


def require_disjoint(train: Cohort, held_out: Cohort) -> None:
    """Raise CohortError if a segmentation is in both, under whatever name."""
    shared = train.scans & held_out.scans
    if shared:
        raise CohortError(
            f"holds out {len(shared)} segmentations that {train.path} trains on",
            "Give cohorts without common participants, or the same folder for both stages.",
            held_out.path,
        )


def load_cohort(path: Path | str) -> Cohort:
    """Open a prepared cohort; maps stay on disk.

    Raises:
        CohortError: if the folder is not a prepared cohort, a file is damaged, or files disagree.
    """
    path = Path(path)
    missing = [name for name in (*FILES, "maps.npy") if not (path / name).exists()]
    if missing:
        raise CohortError(
            f"is not a prepared cohort (no {missing[0]})",
            "Make one with 'csegsynth prepare' or 'csegsynth simulate'.",
            path,
        )
    with _undamaged(path / "participants.json") as file:
        columns = tuple(_column(name, entry) for name, entry in _json(file).items())
    with _undamaged(path / "participants.tsv") as file:
        table = _tsv(file)
        typed = {c.name: _typed(table[c.name], c) for c in columns if c.name in table}
        table = pd.DataFrame(typed, index=table.index)
    with _undamaged(path / "volumes.tsv") as file:
        volumes = _tsv(file)[list(VOLUME_COLUMNS)].astype(float)
    with _undamaged(path / "grid.json") as file:
        grid = Grid(**_json(file))
    with _undamaged(path / "maps.npy") as file:
        shape = np.load(file, mmap_mode="r").shape
    if not list(table.index) == list(volumes.index) or shape != (len(table), 3, *grid.shape):
        raise CohortError(
            f"its files disagree: {len(table)} rows in participants.tsv, {len(volumes)} in "
            f"volumes.tsv, maps of shape {shape}, grid {grid.shape}",
            "Prepare it again.",
            path,
        )
    provenance = _json(path / "provenance.json")
    return Cohort(path, table, columns, volumes, grid, provenance, np.arange(len(table)))


@contextmanager
def _undamaged(path: Path) -> Iterator[Path]:
    """Turn whatever a half-copied or edited file raises into a CohortError about it."""
    try:
        yield path
    except (AttributeError, ConfigError, EOFError, KeyError, TypeError, ValueError) as error:
        raise CohortError(f"is damaged ({error})", "Prepare it again.", path) from error


def _json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CohortError(f"is not valid JSON ({error})", "Prepare it again.", path) from error
    if not isinstance(content, dict):
        raise CohortError(
            f"holds a {type(content).__name__} where names and values should be",
            "Prepare it again.",
            path,
        )
    return content


def _tsv(path: Path) -> pd.DataFrame:
    return pd.read_csv(
        path,
        sep="\t",
        dtype=str,
        keep_default_na=False,
        na_values=list(MISSING),
        index_col="participant_id",
    )


def _column(name: str, entry: dict) -> Column:
    return Column(
        name,
        entry.get("Kind", "text"),
        tuple(entry.get("Levels", ())),
        entry.get("Units", ""),
        entry.get("Description", ""),
        entry.get("LeftOut", ""),
    )


def _typed(answers: pd.Series, column: Column) -> pd.Series:
    if column.numeric:
        return answers.astype(float)
    return answers.astype(object)
