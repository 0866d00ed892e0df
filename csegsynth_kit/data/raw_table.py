"""Delimited files of answers as text: separators, headers, and what stands for a missing answer."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd

from csegsynth_kit.errors import TableError

#: What stands for a missing answer; the last ones are those of R, SAS and spreadsheets.
MISSING = ("n/a", "N/A", "NA", "NaN", "nan", "", "NULL", "null", ".", "#N/A", "#NULL!")
_DECIMAL_COMMA = re.compile(r"^-?\d+,\d+$")


def read_table(path: Path) -> pd.DataFrame:
    """Read a delimited table with every answer as text and missing answers as NaN.

    Tabs, commas and semicolons are told apart by the header. In a table with semicolons, commas
    in numbers are decimal commas.

    Raises:
        TableError: if the file is absent, no text in UTF-8 or empty, if a row has more answers
            or fewer than there are columns, or if columns have no name or share one.
    """
    if not path.exists():
        raise TableError("the file does not exist", "Check the path.", path)
    separator, rows = _rows(path)
    if not rows:
        raise TableError(
            "cannot be read as a table (it is empty)",
            "Save it as text with one row per participant.",
            path,
        )
    (_, header), *body = rows
    while header and not header[-1]:  # A delimiter at the end of the line.
        header.pop()
    for line, row in body:
        while len(row) > len(header) and not row[-1]:
            row.pop()
        if len(row) != len(header):  # Too short is no better: which answer is it that lacks?
            raise TableError(
                f"line {line} has {len(row)} answers, but there are {len(header)} columns",
                "Quote answers that hold the separator, and write n/a where one is missing.",
                path,
            )
    if not body:
        raise TableError("has no rows", "Give a table with one row per participant.", path)
    raw = pd.DataFrame([row for _, row in body], columns=header, dtype=object)
    raw = _named(raw, path)
    if separator == ";":
        for name in raw.columns:  # Only where the whole column becomes numbers by it.
            mended = raw[name].where(
                ~raw[name].str.match(_DECIMAL_COMMA), raw[name].str.replace(",", ".")
            )
            answered = mended[~mended.isin(MISSING)]
            if pd.to_numeric(answered, errors="coerce").notna().all():
                raw[name] = mended
    return raw.mask(raw.isin(MISSING), np.nan)


def _rows(path: Path) -> tuple[str, list[tuple[int, list[str]]]]:
    """Return the separator, and every line that is not blank with its number."""
    usual = "\t" if path.suffix in (".tsv", ".txt") else ","
    try:
        text = path.read_text(encoding="utf-8-sig")
        text = re.sub(r'^"?sep=.?"?\r?\n', "", text.lstrip("\r\n"))  # Written by Excel.
        header = text.split("\n", 1)[0]
        separator = max((usual, "\t", ";", ","), key=header.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise TableError(
            f"cannot be read as a table ({error})",
            "Save it as UTF-8 text with tabs or commas between columns and one row per "
            "participant.",
            path,
        ) from error
    return separator, [(line, row) for line, row in rows if any(row)]


def _named(raw: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Drop a first column that only counts rows; refuse columns without a name of their own."""
    names = list(raw.columns)
    if not names[0] and _counts_rows(raw.iloc[:, 0]):
        raw, names = raw.iloc[:, 1:], names[1:]
    if not all(names):
        position = names.index("") + 1
        raise TableError(f"column {position} has no name", "Name it in the first line.", path)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise TableError(
            f"column names occur twice: {repeated}", "Rename or remove the repeated columns.", path
        )
    return raw


def _counts_rows(answers: pd.Series) -> bool:
    return any(
        list(answers) == [str(i) for i in range(start, start + len(answers))] for start in (0, 1)
    )
