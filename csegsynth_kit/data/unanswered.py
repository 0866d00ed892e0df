"""Words and numbers by which tables say that nobody has answered."""

import re
from collections.abc import Collection

import numpy as np
import pandas as pd

from csegsynth_kit.data.findings import Finding

#: Numbers that tables use for "not answered": 99, 888, -7.
CODES = (
    *(float(digit * times) for digit in "789" for times in (2, 3, 4)),
    *(-float(digit * times) for digit in "789" for times in (1, 2, 3, 4)),
)
#: Those that are names of places and plates as well.
_NAMES = (77.0, 88.0)
#: Likewise, but more often answers.
_SMALL_CODES = tuple(-float(digit) for digit in range(1, 7))
#: At most so many different ones are codes.
_MOST_SMALL_CODES = 2
#: Fewer different numbers than this are no scale on which -1 would be a code: -1 and 1 are two.
_SCALE = 3
#: A code near which there might be answers is one only if it is so many times as large as any.
_FAR = 5.0
#: Likewise, where several people have it.
_FAR_REPEATED = 3.0
#: Zeros are doubted where all other numbers are at least this: a weight of 0, a BMI of 0. There,
#: small negative numbers are codes.
_FAR_FROM_ZERO = 10.0
_ONE = (
    r"(missing|unknown|refused|no (answer|response|data)|don'?t know|(declined|refused) to answer"
    r"|prefer(s|red)? not to (answer|say|disclose)|missing (data|value|answer)|n/?a"
    r"|k\. ?a\.|keine angabe|unbekannt|non renseigné|inconnu|desconocido"
    r"|(not|un)[ -]?(administered|answered|available|applicable|assessed|recorded|reported"
    r"|specified|disclosed))( *\(.*\))?"
)
NOT_ANSWERED = re.compile(rf"{_ONE}( *(/|,|;|\bor\b) *{_ONE})*", re.IGNORECASE)
#: Likewise, among numbers.
_NO_NUMBER = ("none", "-", "--", "?")


def without_words(
    answers: pd.Series, kept: Collection[str], findings: list, *, numeric: bool = False
) -> pd.Series:
    """Set words missing that say so, unless they are answers that are known.

    Args:
        answers: Text.
        kept: Known answers.
        findings: Takes what was changed.
        numeric: Whether answers are known to be numbers; else these answers tell.
    """
    answered = answers.dropna().astype(str)
    answered = answered[~answered.str.lower().isin([name.lower() for name in kept])]
    words = answered.str.fullmatch(NOT_ANSWERED)
    # Beside "available", "not available" is an answer.
    opposites = answered.str.lower().str.replace(r"^(not|un)[ -]?", "", regex=True)
    words &= ~opposites.isin(set(answered.str.lower())) | (opposites == answered.str.lower())
    no_number = answered.str.lower().isin(_NO_NUMBER)
    numbers = pd.to_numeric(answered, errors="coerce")
    rest = numbers[~words & ~no_number]
    unlikely = numbers.isin(CODES) & ~numbers.isin(_NAMES)
    if numeric or (rest.notna().any() and rest.notna().all()):
        words |= no_number
    elif rest.isna()[~unlikely].all():  # only words but for codes
        words |= unlikely | (answered == "?")
    where = answers.index.isin(answered.index[words])
    return set_missing(answers, where, "by what they say", "doubt", findings)


def without_codes(
    answers: pd.Series, levels: Collection[str], seen: tuple[float, ...], findings: list
) -> pd.Series:
    """Set numbers missing that mean "not answered", and doubt those that may.

    Args:
        answers: Text; nothing is done unless all are numbers, or ``seen`` is given.
        levels: Numbers that the .json names are answers.
        seen: The smallest and largest number that other people are known to answer.
        findings: Takes what was changed.
    """
    numbers = pd.to_numeric(answers, errors="coerce")
    if not seen and numbers.notna().sum() < answers.notna().sum():
        return answers
    codes = {code for code in (*CODES, *_SMALL_CODES) if f"{code:g}" not in levels}
    own = numbers[~numbers.isin(codes)].dropna()
    others = pd.concat([own, pd.Series(seen, dtype=float)])
    if not len(others):
        return answers
    present = codes & set(numbers)
    small = present & set(_SMALL_CODES) if answers.name != "age" else set()
    many = set() if seen else {code for code in present if (numbers == code).sum() > 1}
    odd = {code for code in present & set(CODES) if _far(code, others, repeated=code in many)}
    if small and others.min() >= 0:
        unlikely, doubtful = _small_codes(small, others, alone=bool(seen))
        odd |= unlikely
        _doubt(answers, numbers.isin(doubtful), "negative", "not below 0", findings)
    least = pd.concat([own[own != 0], pd.Series(seen, dtype=float)]).min()
    if least >= _FAR_FROM_ZERO:
        _doubt(answers, numbers == 0, "far-zeros", f"at least {least:g}", findings)
    why = "which no other answer comes near"
    return set_missing(answers, numbers.isin(odd), why, "doubt", findings)


def _small_codes(
    small: set[float], others: pd.Series, *, alone: bool
) -> tuple[set[float], set[float]]:
    """Tell which of -1 to -6 mean "not answered" beside numbers none of which is negative.

    Args:
        small: Those that occur.
        others: All other numbers.
        alone: Whether ``others`` are known, so that one answer must not decide on another.

    Returns:
        Those that do, and those that may.
    """
    scale = alone or others.nunique() >= _SCALE
    if not alone and len(small) > _MOST_SMALL_CODES:
        return set(), set()
    if others.min() >= _FAR_FROM_ZERO:
        return small, set()
    ranks = scale and others.min() >= 1 and (others % 1 == 0).all()
    if ranks and (alone or small == {-1.0}):
        return small & {-1.0}, set()
    return set(), small if scale else set()


def _doubt(answers: pd.Series, where: pd.Series, code: str, rest: str, findings: list) -> None:
    if where.any():
        written = " or ".join(sorted(set(answers[where])))
        text = f"{int(where.sum())} answers are {written}, and all others {rest}."
        text += f" Write n/a if {written} means not answered."
        findings.append(Finding("doubt", f"column {answers.name}", code, text))


def _far(code: float, others: pd.Series, *, repeated: bool) -> bool:
    """Whether a usual code is far from all other numbers."""
    if code < 0:
        return others.min() >= 0 or -code > _FAR * others.abs().max()
    return code > (_FAR_REPEATED if repeated else _FAR) * max(others.max(), 1)


def set_missing(
    answers: pd.Series, where: np.ndarray | pd.Series, why: str, severity: str, findings: list
) -> pd.Series:
    """Return the answers with some of them missing, and say which and why."""
    where = np.asarray(where, dtype=bool)
    if not where.any():
        return answers
    values = ", ".join(sorted({str(a) for a in answers[where]})[:5])
    text = f"{int(where.sum())} answers ({values}) are taken as missing, {why}."
    findings.append(Finding(severity, f"column {answers.name}", "taken-as-missing", text))
    return answers.mask(where, np.nan)
