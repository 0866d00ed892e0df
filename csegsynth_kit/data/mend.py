"""Answers that are no answers: codes for missing ones, single odd cells, ages nobody has."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.schema import MOST_LEVELS, NOMINAL, SEX_WORDS
from csegsynth_kit.data.unanswered import (
    CODES,
    NOT_ANSWERED,
    set_missing,
    without_codes,
    without_words,
)
from csegsynth_kit.errors import TableError

#: A column of which so many answers are numbers is numeric; the others are doubted.
_MOSTLY = 0.9
_FEWEST = 10
#: Words among numbers are no accident unless the numbers have more values than codes would.
_MOST_CODES = 20
_DECIMAL_COMMA = re.compile(r"^-?\d+,\d+$")
#: Commas that separate thousands, or several choices in one cell.
_OTHER_COMMA = re.compile(r"^-?\d{1,3},\d{3}$|^\d,\d$")
#: Where answers are known to be numbers, choices are out.
_THOUSANDS = re.compile(r"^-?\d{1,3},\d{3}$")
_BOUND = re.compile(r"^[<>≤≥]=?\s*(\d+(?:\.\d+)?)$|^(\d+(?:\.\d+)?)\s*\+$")
_POSSIBLE_AGE_YEARS = (0.0, 120.0)
#: How many units make a year.
_PER_YEAR = {"month": 12.0, "week": 365.25 / 7, "day": 365.25}
#: Codes of sex beside 0, 1 and 2.
_NO_SEX = ("9", "99", "-9")


def mend_answers(
    answers: pd.Series, described: Mapping, kind: str | None, path: Path, seen: tuple = ()
) -> tuple[pd.Series, Mapping, list[Finding]]:
    """Set what is no answer missing, and say so.

    Args:
        answers: Text, NaN where unanswered; named as the column.
        described: The column's entry in the .json.
        kind: The kind the user or the table states, if any.
        path: The table, for messages.
        seen: What other people are known to answer: the smallest and largest number, or every
            named answer. A table of few rows does not tell by itself what is no answer.

    Returns:
        The answers, the entry without levels that mean "not answered", and what was changed.

    Raises:
        TableError: if ages are not between 0 and 120 years.
    """
    findings: list[Finding] = []
    answers = answers.map(_plain, na_action="ignore").astype(object)
    levels = _levels(described)
    if levels:
        answers = _as_levels(answers, levels)
    unanswered = [k for k, v in levels.items() if k != v and NOT_ANSWERED.fullmatch(v.strip())]
    if unanswered:
        where = answers.isin(unanswered)
        answers = set_missing(answers, where, "according to its .json", "note", findings)
        levels = {k: v for k, v in levels.items() if k not in unanswered}
        described = {**described, "Levels": levels}
    if kind is None:
        findings += _order(str(answers.name), levels)
    named = [answer for answer in seen if isinstance(answer, str)]
    answers = without_words(answers, {*levels, *named}, findings, numeric=bool(seen) and not named)
    if answers.name == "sex":
        answers = _named_sex(answers, levels, findings)
    if kind in (None, "continuous") and not levels and not named:
        answers = _odd_cells(answers, findings, numeric=bool(seen))
    if named:
        answers = _odd_names(answers, named, findings)
    else:
        if kind in (None, "continuous", "ordinal"):
            written = tuple(number * _per_year(answers.name, described) for number in seen)
            answers = without_codes(answers, levels, written, findings)
        if kind in (None, "categorical") and not levels:
            answers = _one_spelling(answers, findings)
    if answers.name == "age":
        answers, described = _in_years(answers, described, findings)
        _check_age(answers, path)
        findings += _named_ages(answers, levels)
    return answers, described, findings


def _levels(described: Mapping) -> dict[str, str]:
    levels = described.get("Levels") or {}
    return (
        {str(k): str(v) for k, v in levels.items()}
        if isinstance(levels, Mapping)
        else {str(level): str(level) for level in levels}
    )


def _plain(answer: str) -> str:
    """Write 1.0, as spreadsheets do, as 1."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", answer)


def _as_levels(answers: pd.Series, levels: Mapping[str, str]) -> pd.Series:
    """Write answers as the .json writes them, which may be in other case or as meanings."""
    known = {v.lower(): k for k, v in levels.items()} | {k.lower(): k for k in levels}
    if len({k.lower() for k in levels}) < len(levels) or len(set(levels.values())) < len(levels):
        known = {k: k for k in levels}  # Case tells them apart.
    return answers.map(lambda a: a if a in levels else known.get(a.lower(), a), na_action="ignore")


def _order(name: str, levels: Mapping[str, str]) -> list[Finding]:
    """Say that codes are taken as ordered: a .json cannot tell."""
    codes = pd.to_numeric(pd.Series(list(levels), dtype=object), errors="coerce")
    if len(codes) <= 2 or codes.isna().any() or NOMINAL.search(name):
        return []
    low, high = (list(levels)[i] for i in (codes.idxmin(), codes.idxmax()))
    text = f"Taken as ordered, from {low} ({levels[low]}) to {high} ({levels[high]})."
    text += " State its kind as categorical if it has no order."
    return [Finding("note", f"column {name}", "ordered", text)]


def _named_sex(answers: pd.Series, levels: Mapping[str, str], findings: list) -> pd.Series:
    """Decode numbers that the .json names, and set codes beside two others missing."""
    names = {k: SEX_WORDS.get(v.strip().lower()) for k, v in levels.items()}
    names = {code: name for code, name in names.items() if name}
    if not names and set(answers.dropna()) <= {"0", "1", "2", *_NO_SEX}:
        where = answers.isin(_NO_SEX)
        answers = set_missing(answers, where, "beside 0, 1 and 2", "doubt", findings)
    return answers.map(lambda a: names.get(a, a), na_action="ignore")


def _one_spelling(answers: pd.Series, findings: list) -> pd.Series:
    """Write named answers that differ in case alone as most people do."""
    counts = answers.value_counts()  # the most frequent first
    usual: dict[str, str] = {}
    for answer in counts.index:
        usual.setdefault(answer.lower(), answer)
    if len(usual) == len(counts) or len(usual) > MOST_LEVELS:
        return answers
    others = sorted(set(counts.index) - set(usual.values()))
    text = f"Spellings that differ in case alone are one answer ({', '.join(others[:5])})."
    findings.append(Finding("note", f"column {answers.name}", "spelling", text))
    return answers.map(lambda a: usual[a.lower()], na_action="ignore")


def _per_year(name: str, described: Mapping) -> float:
    """How many of the units in which ages are written make a year."""
    units = str(described.get("Units") or "").strip().lower()
    found = (n for unit, n in _PER_YEAR.items() if re.match(rf"{unit}s?\b", units))
    return next(found, 1.0) if name == "age" else 1.0


def _in_years(answers: pd.Series, described: Mapping, findings: list) -> tuple[pd.Series, Mapping]:
    """Convert ages of which the .json says that they are in months, weeks or days."""
    per_year = _per_year("age", described)
    ages = pd.to_numeric(answers, errors="coerce")
    if per_year == 1 or ages.notna().sum() < answers.notna().sum():
        return answers, described
    text = f"Ages are converted from {described['Units']} to years."
    findings.append(Finding("note", "column age", "units", text))
    years = (ages / per_year).map(lambda age: f"{age:.6g}", na_action="ignore")
    return years.where(ages.notna(), np.nan).astype(object), {**described, "Units": "years"}


def _odd_cells(answers: pd.Series, findings: list, *, numeric: bool) -> pd.Series:
    """Read decimal commas and bounds such as 89+ as numbers; set what remains odd missing.

    A column of few answers is left alone, and one of which many are no numbers, unless it is
    known to be ``numeric``: then all but what is no number is mended.
    """
    answered = answers.dropna()
    if answered.empty or (not numeric and len(answered) < _FEWEST):
        return answers
    commas = answered.str.match(_DECIMAL_COMMA)
    unclear = answered.str.match(_THOUSANDS if numeric else _OTHER_COMMA)
    if unclear.any():
        if not numeric:
            return answers  # No guess is safe.
        commas &= ~unclear
    bounds = answered.str.match(_BOUND)
    text = answered.mask(commas, answered.str.replace(",", "."))
    text = text.mask(bounds, answered.map(_bound))
    numbers = pd.to_numeric(text, "coerce")
    odd = numbers.isna()
    words = odd & answered.str.contains(r"[^\W\d_]")
    changed = int((odd | commas | bounds).sum())
    codes = numbers.nunique() <= _MOST_CODES and (numbers.dropna() % 1 == 0).all()
    coded = words.any() and codes and answers.name != "age"
    accidents = odd.mean() <= 1 - _MOSTLY and not coded
    if not changed or not (accidents or numeric):
        return answers
    mended = answers.copy()
    mended[text.index] = text
    subject = f"column {answers.name}"
    if commas.any():
        told = f"{int(commas.sum())} numbers with a decimal comma are read as numbers."
        findings.append(Finding("note", subject, "decimal-comma", told))
    if bounds.any():
        told = f"{int(bounds.sum())} bounds ({answered[bounds].iloc[0]}) count as their number."
        findings.append(Finding("doubt", subject, "bounds", told))
    if not accidents:
        return mended
    where = answers.index.isin(answered.index[odd])
    return set_missing(mended, where, "among numbers", "doubt", findings)


def _bound(answer: str) -> str:
    match = _BOUND.match(answer)
    return (match[1] or match[2]) if match else answer


def _odd_names(answers: pd.Series, named: list[str], findings: list) -> pd.Series:
    """Set codes for missing answers missing, and single answers that are none of those known."""
    codes = [f"{code:g}" for code in CODES if f"{code:g}" not in named]
    answers = set_missing(
        answers, answers.isin(codes), "which no known answer is", "doubt", findings
    )
    answered = answers.dropna()
    words = answered.astype(str).str.lower()
    if answers.name == "sex":
        words = words.replace(SEX_WORDS)
    odd = ~words.isin([answer.lower() for answer in named])
    if len(answered) < _FEWEST or odd.mean() > 1 - _MOSTLY:
        return answers
    where = answers.index.isin(answered.index[odd])
    return set_missing(answers, where, f"for only {', '.join(named)} are known", "doubt", findings)


def _named_ages(answers: pd.Series, levels: Mapping[str, str]) -> list[Finding]:
    """Doubt ages that are no numbers and that no .json describes: most often, few cells are odd."""
    answered = answers.dropna().astype(str)
    odd = answered[pd.to_numeric(answered, errors="coerce").isna()]
    if levels or odd.empty:
        return []
    text = (
        f"{len(odd)} of {len(answered)} ages are no numbers ({odd.iloc[0]!r} of {odd.index[0]}), "
        "so that age is no number here. Correct them, or write n/a."
    )
    return [Finding("doubt", "column age", "no-numbers", text)]


def _check_age(answers: pd.Series, path: Path) -> None:
    ages = pd.to_numeric(answers, errors="coerce").dropna()
    low, high = _POSSIBLE_AGE_YEARS
    odd = ages[(ages < low) | (ages > high)]
    if len(odd):
        raise TableError(
            f"says that {odd.index[0]} is {odd.iloc[0]:g} years old",
            "Ages are in years, 0 to 120; write n/a where one is unknown.",
            path,
        )
