"""Folds for cross-validation that never part the rows of one person."""

from collections.abc import Sequence

import numpy as np


def folds_of(persons: Sequence, folds: int, *, seed: int) -> np.ndarray:
    """Return the (N,) fold of each row, from 0; rows of one person share a fold.

    Args:
        persons: (N,) person of each row.
        folds: As many, or as many as there are persons.
        seed: Of the order of persons.
    """
    names, person = np.unique(np.asarray(persons).astype(str), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return (order % min(folds, len(names)))[person]
