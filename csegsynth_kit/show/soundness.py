"""Tables of scores with their intervals in one cell, for reading."""

from collections.abc import Mapping

import pandas as pd

from csegsynth_kit.show.tables import interval_cell

#: Columns that say what a row is of.
_ABOUT = ("model", "predictor", "score", "scenario", "tissue")
#: Columns that stand as they are.
_PLAIN = ("n", "note")


def with_intervals(table: pd.DataFrame, digits: Mapping[str, int]) -> pd.DataFrame:
    """Write each score and its 95 % interval into one cell, ``value [low, high]``.

    Args:
        table: With columns ``x``, ``x_low`` and ``x_high`` for every score x.
        digits: Score to digits after the decimal point.

    Returns:
        What each row is of, the scores as text (empty where there is none), ``n`` and ``note``.
    """
    short = table[[name for name in _ABOUT if name in table]].copy()
    for name, places in digits.items():
        ends = table[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False, name=None)
        short[name] = [interval_cell(*row, digits=places) for row in ends]
    for name in _PLAIN:
        if name in table:
            short[name] = table[name]
    if "n" in short:
        short["n"] = ["" if pd.isna(n) else int(n) for n in short["n"]]
    if "note" in short and not short["note"].any():
        short = short.drop(columns="note")
    return short
