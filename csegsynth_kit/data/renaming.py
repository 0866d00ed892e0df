"""Columns of raw tables under their usual names, and codes of published tables."""

import re
from collections import Counter
from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.tables import KnownTable, plain

#: Usual names of age and sex, to what they are called in letters and digits alone.
_ALIASES = {
    "age": ("age", "ageyears", "ageyrs", "ageinyears", "ageatscan", "ageatmri", "scanage"),
    "sex": ("sex", "sexatbirth", "biologicalsex", "m/f", "gender", "gendertext"),
}


def in_any_case(names: Iterable[str], wanted: Collection[str]) -> dict[str, str]:
    """Map names to wanted ones that differ in case alone, where that leaves no choice."""
    spelled: dict[str, list[str]] = {}
    for name in names:
        spelled.setdefault(name.lower(), []).append(name)
    questions = Counter(name.lower() for name in wanted)
    found = {}
    for name in wanted:
        alike = spelled.get(name.lower(), [])
        if len(alike) == 1 and alike[0] != name and questions[name.lower()] == 1:
            found[alike[0]] = name
    return found


def known_names(
    raw: pd.DataFrame, known: KnownTable | None
) -> tuple[pd.DataFrame, dict[str, str], list[Finding]]:
    """Give columns their usual names, and apply what is known of a published table.

    Args:
        raw: Answers as text.
        known: The published table it is, if any.

    Returns:
        The table, old to new names of the columns that were renamed, and what was noticed.
    """
    notes = []
    rename = known.names(raw.columns) if known else {}
    taken = set(raw.columns) | set(rename.values())
    for alias, usual in _ALIASES.items():
        order = {name: rank for rank, name in enumerate(usual)}
        ranks = {n: order.get(plain(n), order.get(str(n).lower())) for n in raw.columns}
        called = sorted((r, n) for n, r in ranks.items() if r is not None and n not in rename)
        if called and alias not in taken:
            rename[called[0][1]] = alias
    rename = {old: new for old, new in rename.items() if old != new}
    if rename:
        names = ", ".join(f"{old} → {new}" for old, new in rename.items())
        notes.append(Finding("note", "cohort", "renamed", f"Columns renamed: {names}."))
    raw = raw.rename(columns=rename)
    if known is None:
        return raw, rename, notes
    for column, codes in known.recode.items():
        if column in raw:
            named = {code.lower(): name for code, name in codes.items()}
            raw[column] = raw[column].map(
                lambda a, named=named: named.get(re.sub(r"\.0+$", "", a).lower(), a),
                na_action="ignore",
            )
    for column, codes in known.missing.items():
        if column in raw:
            unanswered = pd.to_numeric(raw[column], errors="coerce").isin(codes)
            raw.loc[unanswered, column] = np.nan
            if unanswered.any():
                notes.append(
                    Finding(
                        "note",
                        f"column {column}",
                        "missing-code",
                        f"{int(unanswered.sum())} answers equal to {codes[0]:g} mean missing in "
                        f"{known.name}.",
                    )
                )
    years = [name for name in raw.columns if str(name).endswith("_years")]
    if known.name == "CamCAN" and years and "education_years" not in raw:
        raw, note = _education_years(raw, years)
        notes.append(note)
    return raw, rename, notes


def _education_years(raw: pd.DataFrame, years: list[str]) -> tuple[pd.DataFrame, Finding]:
    """Sum CamCAN's years per school; 28 years or more are entry errors, hence missing."""
    total = raw[years].apply(pd.to_numeric, errors="coerce").sum(axis=1, min_count=1)
    impossible = total >= 28
    total = total.mask(impossible)
    raw = raw.assign(education_years=total.map(lambda t: np.nan if pd.isna(t) else f"{t:g}"))
    message = f"Sum of {', '.join(years)}; {int(impossible.sum())} sums of 28 or more set missing."
    return raw, Finding("note", "column education_years", "derived", message)
