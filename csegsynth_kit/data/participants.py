"""Tables of participants: reading, typing, and deciding what may serve as a feature.

Follows the BIDS conventions for ``participants.tsv`` and its ``.json`` (``Levels``, ``Units``,
``Description``; missing answers are ``n/a``), and recognizes a few published tables.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import pandas as pd

from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.mend import mend_answers
from csegsynth_kit.data.raw_table import read_table
from csegsynth_kit.data.renaming import in_any_case, known_names
from csegsynth_kit.data.repeats import join_repeats
from csegsynth_kit.data.schema import Column, Kind, decide_features, type_column
from csegsynth_kit.data.tables import ID_COLUMNS, identify, is_sensitive
from csegsynth_kit.errors import TableError

#: Column that tells which person a row belongs to, where retests have rows of their own.
_PERSON = "person_id"
#: How ids without separators end that name a scan of several: of OASIS, and of a session.
_SCAN = re.compile(r"(?<=^sub-OAS[12]\d{4})MR\d+$|(?<=\d)ses\d+$")


@dataclass(frozen=True)
class Participants:
    """A typed table of participants.

    Args:
        frame: Indexed by ``participant_id`` (``sub-…``); numbers are float64, named answers
            are strings, missing answers are NaN.
        columns: One entry per column of ``frame``.
        persons: ``participant_id`` to the person it belongs to (retest rows share one).
        findings: What was noticed while reading.
        known: Name of the published table it is; empty if it is none.
        ignored: Columns that were not read, because only others were asked for; by the names
            that they have in the file.
    """

    frame: pd.DataFrame
    columns: tuple[Column, ...]
    persons: pd.Series
    findings: tuple[Finding, ...] = ()
    known: str = ""
    ignored: tuple[str, ...] = ()

    @property
    def feature_columns(self) -> tuple[Column, ...]:
        """The columns that serve as features by default."""
        return tuple(column for column in self.columns if not column.left_out)

    def without_sensitive(self) -> "Participants":
        """Return the table without sensitive columns that were not asked for as features."""
        columns = tuple(c for c in self.columns if not c.left_out or not is_sensitive(c.name))
        frame = self.frame[[column.name for column in columns]]
        return replace(self, frame=frame, columns=columns)


def read_participants(
    *paths: Path | str,
    features: Sequence[str] | None = None,
    id_column: str | None = None,
    kinds: Mapping[str, Kind] | None = None,
    asked: Mapping[str, tuple] | None = None,
) -> Participants:
    """Read and type one table, or several that share their ids.

    Args:
        paths: ``.tsv`` or ``.csv`` files. The first decides who takes part; the others add
            columns. A ``.json`` of the same name beside a table describes its columns.
        features: Use exactly these columns as features, whatever the default would be.
        id_column: Column that holds the ids, if it has an unusual name.
        kinds: Column to its kind, where inference would be wrong.
        asked: Read only these columns, in upper or lower case. Each with what other people are
            known to answer (smallest and largest number, or every named answer), by which codes
            for missing answers are told in a table of few rows, too.

    Raises:
        TableError: for unreadable files, unusable, repeated or clashing ids, and unknown
            features.
    """
    path = Path(paths[0])
    raw, known, described, findings, written = _read_all([Path(p) for p in paths], id_column)
    spelled = in_any_case(raw.columns, asked or {})
    raw = raw.rename(columns=spelled)
    described |= {new: described[old] for old, new in spelled.items() if old in described}
    persons = _persons(raw)
    if _PERSON in raw or persons.nunique() < len(raw):
        raw = raw.drop(columns=_PERSON, errors="ignore")
        text = f"{len(raw)} rows belong to {persons.nunique()} persons; splits keep them together."
        findings.append(Finding("note", "cohort", "persons", text))
    missing = set(kinds or {}) - set(raw.columns)
    if missing:
        raise TableError(
            f"kinds are given for columns it does not have: {sorted(missing)}",
            f"Its columns are {', '.join(raw.columns[:40])}.",
            path,
        )
    unasked = [] if asked is None else [name for name in raw.columns if name not in asked]
    raw = raw.drop(columns=unasked)
    columns = []
    frame = {}
    stated = known.kinds if known else {}
    for name in raw.columns:
        about = described.get(name, {})
        kind = (kinds or {}).get(name) or about.get("Kind") or stated.get(name, (None,))[0]
        answers, about, mended = mend_answers(
            raw[name], about, kind, path, (asked or {}).get(name, ())
        )
        findings += mended
        column, values = type_column(answers, known, about, kinds or {})
        columns.append(column)
        frame[name] = values
    table = pd.DataFrame(frame, index=raw.index)
    columns, decided = decide_features(table, columns, known, features, path)
    return Participants(
        table,
        tuple(columns),
        persons,
        (*findings, *decided),
        known.name if known else "",
        tuple(written[name] for name in unasked if name in written),
    )


def participant_id(raw: str, path: Path | None = None) -> str:
    """Return ``sub-LABEL`` with a label of letters and digits, or raise TableError."""
    label = re.sub(r"^sub-", "", raw.strip())
    label = re.sub(r"^(\d+)\.0$", r"\1", label)  # Ids that a spreadsheet took for numbers.
    label = re.sub(r"[_\-.]", "", label)
    if not re.fullmatch(r"[A-Za-z0-9]+", label):
        raise TableError(
            f"'{raw}' cannot be a participant id",
            "Use letters and digits only, as in sub-0001.",
            path,
        )
    return f"sub-{label}"


def participant_ids(written: Sequence[str], path: Path | None = None) -> list[str]:
    """Return ``sub-LABEL`` of every id.

    Raises:
        TableError: if one cannot be an id, or two that are written otherwise become the same;
            names both.
    """
    ids = [participant_id(raw, path) for raw in written]
    first: dict[str, str] = {}
    for raw, i in zip(written, ids, strict=True):
        other = first.setdefault(i, raw)
        if other.strip() != raw.strip():
            raise TableError(
                f"ids '{other}' and '{raw}' would both be {i} in file names",
                "Rename one of them, with letters and digits only.",
                path,
            )
    return ids


def _read_all(paths: list[Path], id_column: str | None):
    """Join the tables; also return the name in its file of every column."""
    tables, findings, described = [], [], {}
    known = None
    for path in paths:
        raw, mended = read_table(path)
        findings += mended
        known = known or identify(set(raw.columns))
        raw = raw.set_index(_ids(raw, path, id_column)).drop(columns=_id_name(raw, path, id_column))
        if known and known.repeats:
            raw, joined = join_repeats(raw, known.left_out)
            findings += joined
        _require_once(raw.index, path)
        described |= _read_description(path.with_suffix(".json"))
        tables.append(raw)
    merged = tables[0]
    for path, extra in zip(paths[1:], tables[1:], strict=True):
        clash = sorted(set(merged.columns) & set(extra.columns))
        if clash:
            raise TableError(
                f"has columns that {paths[0].name} has too: {clash[:10]}",
                "Remove them from one of the tables.",
                path,
            )
        unknown = sorted(set(extra.index) - set(merged.index))
        if unknown:
            findings.append(
                Finding(
                    "note",
                    "cohort",
                    "not-in-first-table",
                    f"{path.name}: {len(unknown)} rows have no row in {paths[0].name} and are "
                    f"not used ({', '.join(unknown[:3])}{', …' if len(unknown) > 3 else ''}).",
                )
            )
        merged = merged.join(extra, how="left")
    written = list(merged.columns)
    merged, rename, notes = known_names(merged, known)
    described |= {new: described[old] for old, new in rename.items() if old in described}
    written = {rename.get(name, name): name for name in written}
    return merged, known, described, findings + notes, written


def _id_name(raw: pd.DataFrame, path: Path, id_column: str | None) -> str:
    if id_column is not None:
        if id_column not in raw.columns:
            raise TableError(
                f"has no column '{id_column}'", f"Its columns are {list(raw.columns)[:20]}.", path
            )
        return id_column
    lower = {str(name).lower(): name for name in raw.columns}
    for name in ID_COLUMNS:
        if name in lower:
            return lower[name]
    raise TableError(
        f"has no column of participant ids (columns: {', '.join(map(str, raw.columns[:12]))})",
        "Name it participant_id, or pass its name as id_column (--id-column).",
        path,
    )


def _ids(raw: pd.DataFrame, path: Path, id_column: str | None) -> pd.Index:
    name = _id_name(raw, path, id_column)
    if raw[name].isna().any():
        row = int(raw[name].isna().to_numpy().argmax()) + 2
        raise TableError(f"line {row} has no participant id", "Fill it in or remove the row.", path)
    return pd.Index(participant_ids(list(raw[name]), path), name="participant_id")


def _require_once(ids: pd.Index, path: Path) -> None:
    repeated = sorted(set(ids[ids.duplicated()]))
    if repeated:
        raise TableError(
            f"ids occur more than once: {', '.join(repeated[:5])}",
            "Keep one row per participant; a session or retest needs an id of its own.",
            path,
        )


def _read_description(path: Path) -> dict[str, dict]:
    if not path.exists():
        return {}
    try:
        described = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TableError(
            f"is not valid JSON in UTF-8 ({error})", "Mend it or remove it.", path
        ) from error
    if not isinstance(described, dict):
        raise TableError("is not a JSON object", "See BIDS, participants.json.", path)
    entries = {name: entry for name, entry in described.items() if isinstance(entry, dict)}
    for name, entry in entries.items():
        if not isinstance(entry.get("Levels") or {}, dict | list):
            raise TableError(
                f"describes the levels of {name!r} by {entry['Levels']!r}",
                'Write an object, as in {"1": "yes", "2": "no"}.',
                path,
            )
    return {name: _described(entry) for name, entry in entries.items()}


def _described(entry: dict) -> dict:
    """Give levels that are objects (BIDS 1.8) their description, and drop what is no kind here."""
    levels = entry.get("Levels")
    if isinstance(levels, dict):
        meanings = {
            level: meaning.get("Description") or meaning.get("LongName") or level
            if isinstance(meaning, dict)
            else meaning
            for level, meaning in levels.items()
        }
        entry = {**entry, "Levels": meanings}
    kind = entry.get("Kind")
    if kind is not None and kind not in get_args(Kind):  # Other tools say something else by it.
        entry = {key: value for key, value in entry.items() if key != "Kind"}
    return entry


def _persons(raw: pd.DataFrame) -> pd.Series:
    """Who each row belongs to: as stated, else told by ids such as OAS1_0061_MR2, 01_ses-2."""
    ids = [_SCAN.sub("", i) for i in raw.index]
    own = pd.Series(ids, index=raw.index, name=_PERSON)
    if _PERSON not in raw:
        return own
    stated = raw[_PERSON].map(participant_id, na_action="ignore")
    return stated.fillna(own).astype(object)
