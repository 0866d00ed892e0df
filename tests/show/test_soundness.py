import numpy as np
import pandas as pd

from csegsynth_kit.show.soundness import with_intervals


def test_value_and_interval_share_a_cell_and_reasons_are_kept():
    table = pd.DataFrame(
        {
            "model": ["a", "b"],
            "r": [0.912, np.nan],
            "r_low": [0.85, np.nan],
            "r_high": [0.957, np.nan],
            "n": [50, np.nan],
            "note": ["", "nothing encodes maps"],
        }
    )
    shown = with_intervals(table, {"r": 2})
    assert list(shown["r"]) == ["0.91 [0.85, 0.96]", ""]
    assert list(shown["n"]) == [50, ""]
    assert shown.loc[1, "note"] == "nothing encodes maps"
    assert "note" not in with_intervals(table.iloc[:1], {"r": 2})
