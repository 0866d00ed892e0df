"""Typing the columns of a table, and deciding which of them may serve as features."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.tables import (
    ACQUISITION,
    ORDERED_WORDS,
    SCAN_DERIVED,
    SENSITIVE,
    KnownTable,
)
from csegsynth_kit.errors import TableError

Kind = Literal["continuous", "ordinal", "categorical", "text"]
#: A named answer with more levels than this is text, not a category.
MOST_LEVELS = 30
SEX_WORDS = {
    **dict.fromkeys(("m", "male", "man", "boy", "männlich"), "male"),
    **dict.fromkeys(("f", "female", "woman", "girl", "w", "weiblich"), "female"),
}
#: Questions whose numbers are names: codes of places and groups have no order.
NOMINAL = re.compile(
    r"^(sex|gender|site|cent(er|re)|cohort|group|diagnosis|dx|marital|occupation|batch)"
    r"(_?(id|code|status))?$",
    re.IGNORECASE,
)
#: From so many answers on, one that nobody shares with another is no category.
_ENOUGH = 5


@dataclass(frozen=True)
class Column:
    """One question of the table.

    Args:
        name: Column name.
        kind: ``continuous`` and ``ordinal`` answers have an order, ``categorical`` ones do
            not, ``text`` cannot be encoded.
        levels: The possible answers of an ordinal or categorical column, in order; empty for
            numbers.
        units: Unit of a continuous column.
        description: What was asked.
        left_out: Why this column is no feature by default; empty if it is one.
    """

    name: str
    kind: Kind
    levels: tuple[str, ...] = ()
    units: str = ""
    description: str = ""
    left_out: str = ""

    @property
    def numeric(self) -> bool:
        """Whether answers are numbers rather than names."""
        return self.kind in ("continuous", "ordinal") and not self.levels

    def to_bids(self) -> dict:
        """Return the column's entry in ``participants.json``."""
        entry = {"Kind": self.kind, "Description": self.description, "Units": self.units}
        entry["Levels"] = {level: level for level in self.levels}
        entry["LeftOut"] = self.left_out
        return {key: value for key, value in entry.items() if value}


def type_column(
    answers: pd.Series, known: KnownTable | None, described: Mapping, kinds: Mapping[str, Kind]
) -> tuple[Column, pd.Series]:
    """Settle what kind of question a column is, and convert its answers.

    The user's ``kinds`` come first, then the table's own description (``Kind`` and ``Levels`` of
    its .json), then what is known of the table, then what the answers look like.

    Args:
        answers: Text, NaN where unanswered; named as the column.
        known: The published table it comes from, if any.
        described: The column's entry in the .json.
        kinds: Column to kind, from the user.

    Returns:
        The column and its answers: float64 for numbers, text otherwise.
    """
    name = str(answers.name)
    known_kind, known_levels = (known.kinds if known else {}).get(name, ("", ()))
    numbers = pd.to_numeric(answers, errors="coerce")
    numeric = bool(answers.notna().any() and numbers[answers.notna()].notna().all())
    if name == "sex" and not numeric:
        answers = answers.map(lambda a: SEX_WORDS.get(str(a).lower(), a), na_action="ignore")
    stated = tuple(map(str, described.get("Levels") or ()))
    if name == "sex" and isinstance(described.get("Levels"), Mapping) and not numeric:
        meanings = described["Levels"].items()  # Codes that the .json names were decoded already.
        stated = tuple(SEX_WORDS.get(str(v).strip().lower(), str(k)) for k, v in meanings)
    levels = tuple(known_levels) or stated
    if known_levels and known_kind == "categorical" and name not in known.recode:
        # A newer release may offer an answer that was not there when the table became known.
        levels += tuple(level for level in stated if level not in levels)
    if name == "sex" and not numeric:  # "F" and "M" are read as "female" and "male", in that order
        levels = tuple(sorted({SEX_WORDS.get(level.lower(), level) for level in levels}))
    observed = sorted(answers.dropna().unique())
    kind = kinds.get(name) or described.get("Kind") or known_kind or None
    if kind is None:
        kind, levels = _infer(answers.dropna(), numeric, levels)
    elif kind in ("ordinal", "categorical") and not levels and not (kind == "ordinal" and numeric):
        levels = tuple(observed)
    if kind == "continuous" or (kind == "ordinal" and numeric and not known_levels):
        levels = ()
    column = Column(
        name,
        kind,
        levels,
        units=str(described.get("Units") or (known.units.get(name, "") if known else "")),
        description=str(described.get("Description") or described.get("LongName") or ""),
        left_out=str(described.get("LeftOut") or ""),
    )
    if column.numeric:
        return column, numbers.astype(float).replace([np.inf, -np.inf], np.nan)
    return column, answers.astype(object)


def _infer(answers: pd.Series, numeric: bool, levels: tuple[str, ...]):
    observed = sorted(answers.unique())
    names_only = NOMINAL.search(str(answers.name))
    if levels:
        if numeric and set(observed) - set(levels):
            return "continuous", ()  # Levels may name only special values of a number.
        if numeric and len(levels) > 2 and not names_only:
            return "ordinal", ()
        ordered = any(set(levels) <= set(words) for words in ORDERED_WORDS)
        return ("ordinal" if ordered and len(levels) > 2 else "categorical"), levels
    if numeric and answers.name == "age":
        return "continuous", ()
    if numeric:
        numbers = pd.to_numeric(answers)
        whole = (numbers % 1 == 0).all()
        codes = len(observed) == 2 and numbers.isin(range(-1, 10)).all()
        if codes or (whole and names_only and 1 < len(observed) <= MOST_LEVELS):
            return "categorical", tuple(sorted(observed, key=float))  # Codes, not amounts.
        return ("ordinal" if whole and len(observed) <= 7 else "continuous"), ()
    for words in ORDERED_WORDS:
        if set(map(str.lower, observed)) <= set(words) and len(observed) > 1:
            written = {answer.lower(): answer for answer in observed}
            return "ordinal", tuple(written.get(word, word) for word in words)
    shared = len(observed) < len(answers) or len(answers) < _ENOUGH
    if not shared or len(observed) > MOST_LEVELS or len(observed) > max(12, len(answers) / 4):
        return "text", ()
    return "categorical", tuple(observed)


def decide_features(
    frame: pd.DataFrame,
    columns: Sequence[Column],
    known: KnownTable | None,
    features: Sequence[str] | None,
    path: Path,
) -> tuple[list[Column], list[Finding]]:
    """Settle which columns are features, and say why the others are not.

    Raises:
        TableError: if a chosen feature does not exist or cannot be one, or an answer is not
            among its column's levels.
    """
    if features is not None:
        unknown = [name for name in features if name not in frame]
        if unknown:
            raise TableError(
                f"has no column {unknown[0]!r}",
                f"Its columns are {', '.join(map(str, frame.columns[:40]))}.",
                path,
            )
    reasons = _reasons(frame, columns, known)
    decided, findings = [], []
    for column in columns:
        reason = reasons.get(column.name, "")
        if features is not None:
            unusable = _unusable(frame[column.name], column)
            if column.name in features and unusable:
                raise TableError(
                    f"column {column.name!r} was asked for as a feature but {unusable}",
                    "Choose other features.",
                    path,
                )
            reason = "" if column.name in features else "not among the chosen features"
        decided.append(replace(column, left_out=reason))
        if reason and features is None:
            findings.append(
                Finding("note", f"column {column.name}", "left-out", f"Left out: {reason}.")
            )
        odd = sorted(set(frame[column.name].dropna()) - set(column.levels)) if column.levels else []
        if odd:
            raise TableError(
                f"column {column.name!r} has answers {odd[:5]} that are not among its levels "
                f"{list(column.levels)}",
                "Correct the table, or describe all levels in its .json.",
                path,
            )
    return decided, findings


def _unusable(answers: pd.Series, column: Column) -> str:
    if answers.notna().sum() == 0:
        return "nobody answered it"
    if answers.nunique() == 1:
        return f"all {answers.notna().sum()} who answered gave the same answer"
    if column.kind == "text":
        return "it is free text"
    return ""


def _reasons(frame: pd.DataFrame, columns: list[Column], known: KnownTable | None):
    reasons: dict[str, str] = {}
    chosen = set(known.default_features) if known else set()
    for column in columns:
        name = column.name
        reason = column.left_out or (known.left_out.get(name, "") if known else "")
        if not reason and SENSITIVE.search(name):
            reason = "sensitive"
        if not reason and SCAN_DERIVED.search(name):
            reason = "measured on the scan: it would give the answer away"
        if not reason and ACQUISITION.search(name):
            reason = "a setting of the scanner"
        if not reason:
            reason = _unusable(frame[name], column)
        if not reason and chosen and name not in chosen:
            reason = f"not among the default features of {known.name}"
        if reason:
            reasons[name] = reason
    return reasons | _duplicates(frame, [c for c in columns if c.name not in reasons])


def _duplicates(frame: pd.DataFrame, columns: list[Column]) -> dict[str, str]:
    """Find columns that repeat age, sex or an earlier one (identical, or correlated > 0.9999)."""
    reasons: dict[str, str] = {}
    columns = sorted(columns, key=lambda c: c.name not in ("age", "sex"))  # models ask for these
    codes = {
        c.name: (
            frame[c.name] if c.numeric else pd.Series(pd.factorize(frame[c.name])[0])
        ).to_numpy(float, copy=True)
        for c in columns
    }
    for later in range(len(columns)):
        for earlier in range(later):
            a, b = columns[earlier].name, columns[later].name
            if a in reasons or columns[earlier].numeric != columns[later].numeric:
                continue
            if _same(codes[a], codes[b], correlated=columns[later].numeric):
                reasons[b] = f"it repeats {a}"
                break
    return reasons


def _same(a: np.ndarray, b: np.ndarray, *, correlated: bool) -> bool:
    if not (np.isnan(a) == np.isnan(b)).all():
        return False
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if not correlated:
        return bool((a == b).all())
    return len(a) > 2 and abs(np.corrcoef(a, b)[0, 1]) > 0.9999
