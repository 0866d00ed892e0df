"""Who predicts volumes best: predictors compared on the same people, resample by resample.

Shapes: N people, 3 tissues; volumes in mL.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from csegsynth_kit.metrics.resampling import FEWEST_PERSONS
from csegsynth_kit.metrics.volumes import SCORED, resamples, shares_of, with_brain

_RATIO = ["ratio", "ratio_low", "ratio_high"]


def mae_ratios(
    predictions: Mapping[str, np.ndarray],
    truth: np.ndarray,
    *,
    of: Sequence[str],
    persons: np.ndarray | None = None,
    times: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare some predictors with every other one.

    Args:
        predictions: Name to (N, 3) predicted volumes.
        truth: (N, 3).
        of: Names of those to compare; the others are only references.
        persons: (N,) person of each row, where rows may share one.
        times: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        One row per ``model`` of ``of``, per ``reference`` among all others, and per tissue
        (and the brain): ``ratio`` of their mean absolute errors, below 1 where the model errs
        less, its 95 % interval ``ratio_low`` and ``ratio_high``, ``n``, and a ``verdict``:
        ``better``, ``worse``, ``tie`` if the interval holds 1, or ``too few`` with less than
        five persons, whose resamples are too alike for an interval.
    """
    rows = resamples(len(truth), times=times, seed=seed, persons=persons)
    errors = _resampled_errors(predictions, truth, rows)
    n = len(truth if persons is None else np.unique(persons))
    compared = [
        _compared(errors[model], errors[reference], n).assign(model=model, reference=reference)
        for model in of
        for reference in predictions
        if reference != model
    ]
    table = pd.concat(compared, ignore_index=True).assign(n=len(truth))
    return table[["model", "reference", "tissue", *_RATIO, "n", "verdict"]]


def winners(
    predictions: Mapping[str, np.ndarray],
    truth: np.ndarray,
    *,
    persons: np.ndarray | None = None,
    times: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Tell which predictor errs least, and which cannot be told from it.

    The intervals do not allow for the winner having been picked for its low error, so that
    with many predictors close to one another ``ties`` may lack some.

    Args:
        predictions: Name to (N, 3) predicted volumes.
        truth: (N, 3).
        persons: (N,) person of each row, where rows may share one.
        times: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        One row per tissue (and the brain): ``winner``, its ``mae_ml``, ``ties``, the predictors
        whose ratio of errors to the winner's has a 95 % interval that holds 1 (separated by
        semicolons; empty if there are none), and ``n``.
    """
    rows = resamples(len(truth), times=times, seed=seed, persons=persons)
    errors = _resampled_errors(predictions, truth, rows)
    n = len(truth if persons is None else np.unique(persons))
    table = []
    for i, tissue in enumerate(SCORED):
        mae = {name: error[0, i] for name, error in errors.items()}
        winner = min(mae, key=mae.__getitem__)
        others = {name: error for name, error in errors.items() if name != winner}
        verdicts = {
            name: _compared(e, errors[winner], n)["verdict"][i] for name, e in others.items()
        }
        ties = "; ".join(name for name, verdict in verdicts.items() if verdict != "worse")
        row = {"tissue": tissue, "winner": winner, "mae_ml": mae[winner], "ties": ties}
        table.append({**row, "n": len(truth)})
    return pd.DataFrame(table)


def _resampled_errors(
    predictions: Mapping[str, np.ndarray], truth: np.ndarray, rows: np.ndarray
) -> dict[str, np.ndarray]:
    """Name to (1 + times, 4) mean absolute errors: of everybody, then of each resample."""
    shares = shares_of(np.vstack([np.arange(len(truth)), rows]))
    return {
        name: shares @ np.abs(with_brain(volumes) - with_brain(truth))
        for name, volumes in predictions.items()
    }


def _compared(errors: np.ndarray, others: np.ndarray, persons: int) -> pd.DataFrame:
    """Compare two predictors by what :func:`_resampled_errors` of so many persons tells."""
    with np.errstate(divide="ignore", invalid="ignore"):  # A perfect predictor errs by 0.
        ratios = errors / others
    # Without interpolation, the interval of the inverse ratio is the inverse interval.
    low, high = np.percentile(ratios[1:], [2.5, 97.5], axis=0, method="nearest")
    verdict = np.where(high < 1, "better", np.where(low > 1, "worse", "tie"))
    if persons < FEWEST_PERSONS:
        low, high, verdict = np.nan, np.nan, "too few"
    columns = dict(zip(_RATIO, (ratios[0], low, high), strict=True))
    return pd.DataFrame({"tissue": list(SCORED), **columns, "verdict": verdict})
