"""Rows of published tables that are known to name some people more than once."""

from collections.abc import Collection

import pandas as pd

from csegsynth_kit.data.findings import Finding, first_of
from csegsynth_kit.data.tables import plain


def join_repeats(
    raw: pd.DataFrame, ignored: Collection[str] = ()
) -> tuple[pd.DataFrame, list[Finding]]:
    """Join rows of one person that agree, zeros being no answers; leave out people whose do not.

    Args:
        raw: Answers as text, indexed by participant id.
        ignored: Columns in which rows may differ, however written: they are no answers.

    Returns:
        The table with one row per id in its order, and what was done to whom.
    """
    repeated = raw.index.duplicated(keep=False)
    if not repeated.any():
        return raw, []
    given = raw[repeated].where(raw[repeated].apply(pd.to_numeric, errors="coerce") != 0)
    apart = {plain(name) for name in ignored}
    answers = [name for name in raw if plain(name) not in apart]
    differing = (given[answers].groupby(level=0).nunique() > 1).any(axis=1)
    contradicting = set(differing.index[differing])
    joined = given.groupby(level=0, sort=False).first()
    kept = raw.loc[~raw.index.duplicated()].copy()
    kept.loc[joined.index] = joined
    kept = kept[~kept.index.isin(contradicting)]
    agreeing = [i for i in joined.index if i not in contradicting]
    findings = []
    if agreeing:
        text = f"rows of {len(agreeing)} people who have several were joined: {first_of(agreeing)}."
        findings.append(Finding("doubt", "cohort", "joined-rows", text))
    if contradicting:
        text = (
            f"rows of {len(contradicting)} people contradict each other, so that they are left "
            f"out: {first_of(sorted(contradicting))}."
        )
        findings.append(Finding("doubt", "cohort", "contradicting-rows", text))
    return kept, findings
