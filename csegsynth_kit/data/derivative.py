"""What a BIDS derivative holds already, and its tables, which grow as participants join."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from csegsynth_kit.constants import VOLUME_COLUMNS
from csegsynth_kit.data.files import write_json, write_tsv
from csegsynth_kit.data.participants import participant_id
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import CohortError, TableError

#: What the columns of ``volumes.tsv`` are, those that there are.
VOLUMES = (
    Column("answers_of", "text", description="Participant whose answers the map is drawn from"),
    Column("draw", "ordinal", description="Number of the draw from these answers, from 1"),
    *(
        Column(name, "continuous", units="mL", description=f"Volume of {tissue} in the map")
        for name, tissue in zip(
            VOLUME_COLUMNS, ("white matter", "gray matter", "cerebrospinal fluid"), strict=True
        )
    ),
)
_ID = "participant_id"


def require_new(out: Path, ids: Sequence[str]) -> None:
    """Refuse participants whose folders, or rows in a table, are there already.

    Raises:
        CohortError: names the first of them, or a table or description that cannot be read.
    """
    there = [i for i in ids if (out / i).exists()]
    if there:
        raise CohortError(
            f"holds {there[0]} already", "Choose another folder, or another --name or ids.", out
        )
    for name in ("participants", "volumes"):
        read_description(out / f"{name}.json")
        named = _table(out / f"{name}.tsv")
        there = [] if named is None else [i for i in ids if i in named.index]
        if there:
            raise CohortError(
                f"has a row of {there[0]} already, though there is no folder of it",
                "Remove the row, or choose another folder, or another --name or ids.",
                out / f"{name}.tsv",
            )


def rows_of(table: pd.DataFrame, ids: Sequence[str]) -> pd.DataFrame:
    """Return the rows of these participants, in their order.

    Args:
        table: Indexed by ids, with or without ``sub-``.
        ids: ``sub-`` ids.

    Raises:
        TableError: if one has no row.
    """
    table = table.copy()
    table.index = pd.Index([participant_id(str(i)) for i in table.index], name=_ID)
    absent = [i for i in ids if i not in table.index]
    if absent:
        raise TableError(f"the table has no row for {absent[0]}", "Add it, or leave out the table.")
    return table.loc[list(ids)]


def append(out: Path, name: str, rows: pd.DataFrame, columns: tuple[Column, ...]) -> None:
    """Add rows to ``NAME.tsv`` and describe its columns in ``NAME.json``."""
    path = out / f"{name}.tsv"
    old = _table(path)
    if old is not None:
        # As objects: a whole number would become a fraction beside rows without one.
        rows = pd.concat([old.replace("n/a", np.nan), rows.astype(object)])
    write_tsv(path, rows)
    described = {c.name: c.to_bids() for c in columns if c.name in rows}
    if described:
        write_json(out / f"{name}.json", read_description(out / f"{name}.json") | described)


def _table(path: Path) -> pd.DataFrame | None:
    """Read a table as text, or return None if there is none."""
    if not path.exists():
        return None
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError as error:
        raise CohortError("is empty", "Remove it, or choose another folder.", path) from error
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise CohortError(
            f"is not a table in UTF-8 ({str(error).strip()})",
            "Mend it, or choose another folder.",
            path,
        ) from error
    if _ID not in table:
        raise CohortError(
            f"has no column {_ID}", "Rename the file, or choose another folder.", path
        )
    return table.set_index(_ID)


def read_description(path: Path) -> dict:
    """Read a JSON object; empty if there is no file.

    Raises:
        CohortError: if it is something else.
    """
    if not path.exists():
        return {}
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CohortError(
            f"is not valid JSON in UTF-8 ({error})", "Mend it or remove it.", path
        ) from error
    if not isinstance(described, dict):
        raise CohortError(
            f"holds {json.dumps(described)[:40]}, which is no JSON object",
            "Mend it or remove it.",
            path,
        )
    return described
