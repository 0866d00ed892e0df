"""Answers that are no answers: codes for missing ones, single odd cells, ages nobody has."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.schema import SEX_WORDS
from csegsynth_kit.errors import TableError

#: Numbers that tables use for "not answered".
_CODES = (-9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0)
#: A positive code is taken for one only if it is so many times the largest other number.
_FAR = 3.0
_NOT_ANSWERED = re.compile(
    r"(missing|unknown|refused|no (answer|response|data)|don'?t know|(declined|refused) to answer"
    r"|missing (data|value|answer)|n/?a"
    r"|(not|un)[ -]?(administered|answered|available|applicable|assessed|recorded))( *\(.*\))?",
    re.IGNORECASE,
)
#: A column of which so many answers are numbers is numeric; the others are doubted.
_MOSTLY = 0.9
_FEWEST = 10
_DECIMAL_COMMA = re.compile(r"^-?\d+,\d+$")
_POSSIBLE_AGE_YEARS = (0.0, 120.0)


def mend_answers(
    answers: pd.Series, described: Mapping, kind: str | None, path: Path
) -> tuple[pd.Series, list[Finding]]:
    """Set what is no answer missing, and say so.

    Args:
        answers: Text, NaN where unanswered; named as the column.
        described: The column's entry in the .json.
        kind: The kind the user or the table states, if any.
        path: The table, for messages.

    Raises:
        TableError: if ages are not between 0 and 120 years.
    """
    findings: list[Finding] = []
    answers = _described_codes(answers, described, findings)
    if answers.name == "sex":
        answers = _named_sex(answers, described)
    if kind in (None, "continuous"):
        answers = _odd_cells(answers, described, findings)
        answers = _numeric_codes(answers, described, findings)
    if answers.name == "age":
        _check_age(answers, path)
    return answers, findings


def _levels(described: Mapping) -> dict[str, str]:
    levels = described.get("Levels") or {}
    return (
        {str(k): str(v) for k, v in levels.items()}
        if isinstance(levels, Mapping)
        else {str(level): str(level) for level in levels}
    )


def _described_codes(answers: pd.Series, described: Mapping, findings: list) -> pd.Series:
    """Apply the .json: a level that means "not administered" is no answer."""
    codes = [
        level
        for level, meaning in _levels(described).items()
        if level != meaning and _NOT_ANSWERED.fullmatch(meaning.strip())
    ]
    return _missing(answers, answers.isin(codes), "according to its .json", "doubt", findings)


def _named_sex(answers: pd.Series, described: Mapping) -> pd.Series:
    """Decode numbers that the .json names."""
    names = {k: SEX_WORDS.get(v.strip().lower()) for k, v in _levels(described).items()}
    names = {code: name for code, name in names.items() if name}
    return answers.map(lambda a: names.get(a, a), na_action="ignore")


def _odd_cells(answers: pd.Series, described: Mapping, findings: list) -> pd.Series:
    answered = answers.dropna()
    commas = answered.str.match(_DECIMAL_COMMA)
    if commas.any() and not _decimal(answered, commas):
        return answers  # Thousands, or several choices in one cell: no guess is safe.
    numbers = pd.to_numeric(answered.where(~commas, answered.str.replace(",", ".")), "coerce")
    odd = numbers.isna()
    if (
        described.get("Levels")
        or not (odd.any() or commas.any())
        or len(answered) < _FEWEST
        or odd.mean() > 1 - _MOSTLY
    ):
        return answers
    mended = answers.copy()
    mended[answered.index[commas]] = answered[commas].str.replace(",", ".")
    if commas.any():
        text = f"{int(commas.sum())} numbers with a decimal comma are read as numbers."
        findings.append(Finding("note", f"column {answers.name}", "decimal-comma", text))
    where = answers.index.isin(answered.index[odd])
    return _missing(mended, where, "among numbers", "doubt", findings)


def _decimal(answered: pd.Series, commas: pd.Series) -> bool:
    """Tell whether commas can only be decimal: not 1,050, and few beside plain numbers."""
    thousands = answered[commas].str.match(r"^-?\d{1,3},\d{3}$").any()
    return not thousands and commas.mean() <= 1 - _MOSTLY


def _numeric_codes(answers: pd.Series, described: Mapping, findings: list) -> pd.Series:
    numbers = pd.to_numeric(answers, errors="coerce")
    if numbers.notna().sum() < answers.notna().sum():
        return answers
    suspects = numbers.isin([c for c in _CODES if f"{c:g}" not in _levels(described)])
    others = numbers[~suspects].dropna()
    if not suspects.any() or not len(others) or others.min() < 0:
        return answers
    far = suspects & ((numbers < 0) | (numbers > _FAR * others.max()))
    return _missing(answers, far, "which no other answer comes near", "doubt", findings)


def _missing(
    answers: pd.Series, where: np.ndarray | pd.Series, why: str, severity: str, findings: list
) -> pd.Series:
    where = np.asarray(where, dtype=bool)
    if not where.any():
        return answers
    values = ", ".join(sorted({str(a) for a in answers[where]})[:5])
    text = f"{int(where.sum())} answers ({values}) are taken as missing, {why}."
    findings.append(Finding(severity, f"column {answers.name}", "taken-as-missing", text))
    return answers.mask(where, np.nan)


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
