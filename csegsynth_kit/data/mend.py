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
_CODES = tuple(
    sign * float(digit * times)
    for digit in "789"
    for times in (1, 2, 3, 4)
    for sign in (-1, 1)
    if sign < 0 or times > 2
)
#: A positive code is taken for one only if it is so many times the largest other number.
_FAR = 5.0
#: Zeros are doubted where all other numbers are at least this: a weight of 0, a BMI of 0.
_FAR_FROM_ZERO = 10.0
_NOT_ANSWERED = re.compile(
    r"(missing|unknown|refused|no (answer|response|data)|don'?t know|(declined|refused) to answer"
    r"|missing (data|value|answer)|n/?a"
    r"|(not|un)[ -]?(administered|answered|available|applicable|assessed|recorded))( *\(.*\))?",
    re.IGNORECASE,
)
#: A column of which so many answers are numbers is numeric; the others are doubted.
_MOSTLY = 0.9
_FEWEST = 10
#: Words among numbers are no accident unless the numbers have more values than codes would.
_MOST_CODES = 20
_DECIMAL_COMMA = re.compile(r"^-?\d+,\d+$")
#: Commas that separate thousands, or several choices in one cell.
_OTHER_COMMA = re.compile(r"^-?\d{1,3},\d{3}$|^\d,\d$")
_BOUND = re.compile(r"^[<>≤≥]=?\s*(\d+(?:\.\d+)?)$|^(\d+(?:\.\d+)?)\s*\+$")
_POSSIBLE_AGE_YEARS = (0.0, 120.0)


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
    levels = _levels(described)
    unanswered = [k for k, v in levels.items() if k != v and _NOT_ANSWERED.fullmatch(v.strip())]
    if unanswered:
        where = answers.map(_plain, na_action="ignore").isin(unanswered)
        answers = _missing(answers, where, "according to its .json", "note", findings)
        kept = {k: v for k, v in levels.items() if k not in unanswered}
        described = {**described, "Levels": kept}
    if answers.name == "sex":
        answers = _named_sex(answers, levels)
    named = [answer for answer in seen if isinstance(answer, str)]
    if kind in (None, "continuous") and not described.get("Levels") and not named:
        answers = _odd_cells(answers, findings, numeric=bool(seen))
    if named:
        answers = _odd_names(answers, named, findings)
    elif kind in (None, "continuous", "ordinal"):
        answers = _numeric_codes(answers, levels, seen, findings)
    if answers.name == "age":
        _check_age(answers, path)
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


def _named_sex(answers: pd.Series, levels: Mapping[str, str]) -> pd.Series:
    """Decode numbers that the .json names."""
    names = {k: SEX_WORDS.get(v.strip().lower()) for k, v in levels.items()}
    names = {code: name for code, name in names.items() if name}
    return answers.map(lambda a: names.get(_plain(a), a), na_action="ignore")


def _odd_cells(answers: pd.Series, findings: list, *, numeric: bool) -> pd.Series:
    """Read decimal commas and bounds such as 89+ as numbers; set what remains odd missing.

    A column of few answers is left alone, and one of which many are no numbers, unless it is
    known to be ``numeric``: then all but what is no number is mended.
    """
    answered = answers.dropna()
    if answered.empty or (not numeric and len(answered) < _FEWEST):
        return answers
    commas = answered.str.match(_DECIMAL_COMMA)
    unclear = answered.str.match(_OTHER_COMMA)
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
    coded = words.any() and numbers.nunique() <= _MOST_CODES
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
    return _missing(mended, where, "among numbers", "doubt", findings)


def _bound(answer: str) -> str:
    match = _BOUND.match(answer)
    return (match[1] or match[2]) if match else answer


def _odd_names(answers: pd.Series, named: list[str], findings: list) -> pd.Series:
    """Set codes for missing answers missing, and single answers that are none of those known."""
    codes = [f"{code:g}" for code in _CODES if f"{code:g}" not in named]
    coded = answers.map(_plain, na_action="ignore").isin(codes)
    answers = _missing(answers, coded, "which no known answer is", "doubt", findings)
    answered = answers.dropna()
    words = answered.map(_plain).str.lower()
    if answers.name == "sex":
        words = words.replace(SEX_WORDS)
    odd = ~words.isin([answer.lower() for answer in named])
    if len(answered) < _FEWEST or odd.mean() > 1 - _MOSTLY:
        return answers
    where = answers.index.isin(answered.index[odd])
    return _missing(answers, where, f"for only {', '.join(named)} are known", "doubt", findings)


def _numeric_codes(
    answers: pd.Series, levels: Mapping[str, str], seen: tuple[float, ...], findings: list
) -> pd.Series:
    numbers = pd.to_numeric(answers, errors="coerce")
    if not seen and numbers.notna().sum() < answers.notna().sum():
        return answers
    suspects = numbers.isin([c for c in _CODES if f"{c:g}" not in levels])
    own = numbers[~suspects].dropna()
    others = pd.concat([own, pd.Series(seen, dtype=float)])
    if not len(others):
        return answers
    negative = suspects & (numbers < 0) & (others.min() >= 0)
    positive = suspects & (numbers > _FAR * max(others.max(), 1))
    least = pd.concat([own[own != 0], pd.Series(seen, dtype=float)]).min()
    if (own == 0).any() and least >= _FAR_FROM_ZERO:
        text = (
            f"{int((own == 0).sum())} answers are 0, and all others at least {least:g}. "
            "Write n/a if 0 means not answered."
        )
        findings.append(Finding("doubt", f"column {answers.name}", "far-zeros", text))
    why = "which no other answer comes near"
    return _missing(answers, negative | positive, why, "doubt", findings)


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
