"""Delimited files of answers as text: separators, headers, and what stands for a missing answer."""

import codecs
import csv
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd

from csegsynth_kit.data.findings import Finding
from csegsynth_kit.errors import TableError

#: What stands for a missing answer; the last ones are those of R, SAS, pandas and spreadsheets.
MISSING = (
    *("n/a", "N/A", "NA", "n.a.", "N.A.", "NaN", "nan", "", "NULL", "null", "."),
    *("<NA>", "NaT", "#N/A", "#NULL!", "#VALUE!", "#DIV/0!"),
)
#: How a text begins that Excel has saved as "Unicode".
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DECIMAL_COMMA = re.compile(r"^-?\d+,\d+$")
#: What nothing but a decimal comma makes.
_CERTAIN_COMMA = re.compile(r"^-?\d{2,},\d{1,2}$")
#: If so many answers of a column become numbers by it, its commas are decimal commas.
_MOSTLY = 0.9


def read_table(path: Path) -> tuple[pd.DataFrame, list[Finding]]:
    """Read a delimited table with every answer as text and missing answers as NaN.

    Tabs, commas and semicolons are told apart by the header. In a table with semicolons, commas
    in numbers are decimal commas; with tabs, too, if one column cannot be read otherwise.

    Returns:
        The table, and which commas were taken for decimal ones.

    Raises:
        TableError: if the file is absent, empty or no text in UTF-8 or UTF-16, if a row has more
            answers or fewer than there are columns, or if columns have no name or share one.
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
    raw = raw.mask(raw.isin(MISSING), np.nan)
    return _with_points(raw, expected=separator == ";") if separator != "," else (raw, [])


def _with_points(raw: pd.DataFrame, *, expected: bool) -> tuple[pd.DataFrame, list[Finding]]:
    """Write decimal commas as points.

    Unless they are ``expected``, one column must show that they are used, and every other one
    must hold a number that is no pair of choices and no thousands.
    """
    mended = {name: _points(raw[name]) for name in raw.columns}
    changed = {name: raw[name][mended[name] != raw[name]].dropna() for name in raw.columns}
    changed = {name: answers for name, answers in changed.items() if len(answers)}
    if not expected:
        used = any(answers.str.match(_CERTAIN_COMMA).any() for answers in changed.values())
        changed = {n: a for n, a in changed.items() if used and a.map(_no_choice).any()}
    findings = [
        Finding(
            "note",
            f"column {name}",
            "decimal-comma",
            f"{len(answers)} numbers with a decimal comma are read as numbers.",
        )
        for name, answers in changed.items()
    ]
    return raw.assign(**{name: mended[name] for name in changed}), findings


def _points(answers: pd.Series) -> pd.Series:
    """Write decimal commas as points, where most of what has digits becomes numbers by it.

    A cell without digits, such as - or k.A., is what stands for no answer as often as not.
    """
    commas = answers.str.match(_DECIMAL_COMMA, na=False)
    mended = answers.where(~commas, answers.str.replace(",", "."))
    told = mended.dropna()
    numbers = pd.to_numeric(told[told.str.contains(r"\d")], errors="coerce")
    return mended if commas.any() and numbers.notna().mean() >= _MOSTLY else answers


def _no_choice(answer: str) -> bool:
    """Whether a comma neither separates thousands nor two choices, in their order."""
    before, after = answer.removeprefix("-").split(",")
    thousands = len(before) <= 3 and len(after) == 3
    choices = len(answer) == 3 and before <= after
    return not (thousands or choices)


def _rows(path: Path) -> tuple[str, list[tuple[int, list[str]]]]:
    """Return the separator, and every line that is not blank with its number."""
    usual = "\t" if path.suffix in (".tsv", ".txt") else ","
    try:
        content = path.read_bytes()
        text = content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")
        text = re.sub(r'^"?sep=.?"?\r?\n', "", text.lstrip("\r\n"))  # Written by Excel.
        header = text.split("\n", 1)[0]
        separator = max((usual, "\t", ";", ","), key=header.count)
        try:
            rows = _split(text, separator)
        except csv.Error:
            if separator != "\t":
                raise
            rows = _split(text, separator, quoting=csv.QUOTE_NONE)  # BIDS knows no quotes.
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise TableError(
            f"cannot be read as a table ({error})",
            "Save it as UTF-8 text with tabs or commas between columns and one row per "
            "participant.",
            path,
        ) from error
    return separator, [(line, row) for line, row in rows if any(row)]


def _split(text: str, separator: str, **how) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, **how)
    return [(reader.line_num, [cell.strip() for cell in row]) for row in reader]


def _named(raw: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Drop a first column that only counts rows; refuse columns without a name of their own."""
    names = list(raw.columns)
    by_pandas = names[0].startswith("Unnamed: ") and raw.iloc[:, 0].str.fullmatch(r"\d+").all()
    if by_pandas or (not names[0] and _counts_rows(raw.iloc[:, 0])):
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
