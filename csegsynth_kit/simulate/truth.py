"""The truth of the structural model in closed form.

Because volumes are additive in the features and noise is Gaussian, the best possible
prediction, its error, the importance of every feature and every what-if have a formula.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.simulate.questionnaire import COLUMNS, FEATURES, TRAITS
from csegsynth_kit.simulate.structural import (
    ACTIVE,
    ICV_REFERENCE_ML,
    TERMS,
    TO_TISSUES,
    expected_components,
    noise_covariance,
    require_answers,
)

#: Mean absolute value of a standard normal variable.
_MEAN_ABSOLUTE = np.sqrt(2 / np.pi)
#: Age (years) from which changes are counted.
REFERENCE_AGE_YEARS = 30.0
#: Points per trait at which marginal means are integrated: off by less than 0.01 mL.
_QUADRATURE = 2001
#: Up to so many different answers, all pairs are compared in permutation importance; beyond,
#: so many pairs of people, and each person with 10 others at least.
_MOST_VALUES, _PAIRS, _FEWEST_OTHERS = 500, 3_000_000, 10


@dataclass(frozen=True)
class Noise:
    """What no model can predict.

    Args:
        sd: (3,) SD of WM, GM, CSF (mL).
        correlation: (3, 3) their correlation.
    """

    sd: np.ndarray
    correlation: np.ndarray

    @property
    def mae(self) -> np.ndarray:
        """(3,) mean absolute error of the best possible prediction (mL)."""
        return _MEAN_ABSOLUTE * self.sd

    def to_frame(self) -> pd.DataFrame:
        """Return ``sd_ml`` and ``mae_ml`` indexed by tissue."""
        return pd.DataFrame({"sd_ml": self.sd, "mae_ml": self.mae}, index=list(MEASURED))


def noise(*, given_icv: bool = False) -> Noise:
    """Return the noise given all features, and given the intracranial volume too if asked.

    It depends on neither the age range nor ``effects``. (Repeating impossible draws changes it
    by less than 0.1 %, which is neglected.)
    """
    components = noise_covariance()
    if given_icv:
        components[0, 0] = 0.0
    covariance = TO_TISSUES @ components @ TO_TISSUES.T
    sd = np.sqrt(np.diag(covariance))
    return Noise(sd, covariance / np.outer(sd, sd))


#: Noise given all features.
NOISE = noise()
#: Noise given all features and the intracranial volume.
NOISE_GIVEN_ICV = noise(given_icv=True)


def conditional_means(
    table: pd.DataFrame, effects: float = 1.0, *, icv_ml: np.ndarray | None = None
) -> np.ndarray:
    """Best possible prediction of the volumes, for real, edited or invented answers.

    Args:
        table: Complete answers to the questions in ``structural.ACTIVE``.
        effects: As given to the simulation.
        icv_ml: (N,) intracranial volumes (mL), if they are known too.

    Returns:
        (N, 3) expected WM, GM, CSF (mL).

    Raises:
        TableError: for missing answers.
    """
    components = expected_components(table, effects)
    if icv_ml is not None:
        components[:, 0] = icv_ml
    components[:, 0] -= ICV_REFERENCE_ML
    means = components @ TO_TISSUES.T
    means[:, 2] += ICV_REFERENCE_ML
    return means


def contributions(table: pd.DataFrame, effects: float = 1.0) -> dict[str, np.ndarray]:
    """Return, for each of FEATURES, the (N, 3) mL it adds to WM, GM, CSF; nulls add exactly 0."""
    require_answers(table)
    parts = {name: np.zeros((len(table), len(MEASURED))) for name in FEATURES}
    for term in TERMS:
        parts[term.feature] += term.value(table)[:, None] * (TO_TISSUES @ term.slopes(effects))
    return parts


def permutation_importance(table: pd.DataFrame, effects: float = 1.0) -> pd.DataFrame:
    """Loss of the best possible model when one feature is shuffled among these people.

    With f the feature's contribution, shuffling adds f(other) - f(own) to an error
    N(0, noise SD). The squared error grows by 2 Var(f), the absolute error by the mean of the
    folded normal over pairs of people, minus the floor.

    Returns:
        Columns ``feature``, ``tissue``, ``sd_ml`` (of the contribution), ``mse_increase_ml2``
        and ``mae_increase_ml``; exactly 0 for features without effect.
    """
    rows = []
    for name, part in contributions(table, effects).items():
        for t, tissue in enumerate(MEASURED):
            sd = float(part[:, t].std()) if name in ACTIVE else 0.0
            increase = _folded_increase(part[:, t], NOISE.sd[t]) if sd > 0 else 0.0
            rows.append((name, tissue, sd, 2 * sd**2, increase))
    return pd.DataFrame(
        rows, columns=["feature", "tissue", "sd_ml", "mse_increase_ml2", "mae_increase_ml"]
    )


def _folded_increase(part: np.ndarray, sd: float) -> float:
    """Mean of |e + d| minus mean of |e| for e ~ N(0, sd) and d the differences of all pairs."""
    values, counts = np.unique(part, return_counts=True)
    if len(values) <= _MOST_VALUES:  # Answers in steps: every pair of different answers, exactly.
        shares = counts / counts.sum()
        return float(shares @ _folded(values[:, None] - values, sd) @ shares)
    # Otherwise each person with others at evenly spread distances in the table, and with
    # themselves as often as a shuffle would put them in their own place.
    others = max(_FEWEST_OTHERS, _PAIRS // len(part))
    shifts = np.unique(np.linspace(1, len(part) - 1, others).astype(int))
    mean = np.mean([_folded(np.roll(part, shift) - part, sd).mean() for shift in shifts])
    return float(mean * (1 - 1 / len(part)))


def _folded(d: np.ndarray, sd: float) -> np.ndarray:
    """Return by how much the mean of |e + d| exceeds that of |e|, for e ~ N(0, sd)."""
    x = np.abs(d) / sd
    return sd * (_MEAN_ABSOLUTE * (np.exp(-(x**2) / 2) - 1) + x * (2 * ndtr(x) - 1))


def gradients(
    table: pd.DataFrame, effects: float = 1.0, *, sd: pd.Series | None = None
) -> np.ndarray:
    """Change of every volume per SD of every feature, at these people.

    The derivative of the best possible prediction. For named answers, coded 0, 1, 2 in the
    order of their levels, it is the mean of the steps to the neighboring levels.

    Args:
        table: Complete answers.
        effects: As given to the simulation.
        sd: SD of each coded feature; by default that of ``table`` (n - 1).

    Returns:
        (N, F, 3) mL per SD, in the order of FEATURES and (WM, GM, CSF).
    """
    require_answers(table, FEATURES)
    sd = coded(table).std() if sd is None else sd
    result = np.zeros((len(table), len(FEATURES), len(MEASURED)))
    for f, column in enumerate(COLUMNS):
        if column.name not in ACTIVE:
            continue
        low, high, width = _neighbors(table, column.name, column.levels)
        change = (
            contributions(high, effects)[column.name] - contributions(low, effects)[column.name]
        )
        result[:, f] = change / width[:, None] * sd[column.name]
    return result


def coded(table: pd.DataFrame) -> pd.DataFrame:
    """Return FEATURES as numbers: named answers become 0, 1, 2 in the order of their levels."""
    return pd.DataFrame(
        {
            c.name: (
                table[c.name].map({level: i for i, level in enumerate(c.levels)}).astype(float)
                if c.levels
                else table[c.name].astype(float)
            )
            for c in COLUMNS
        }
    )


def _neighbors(table: pd.DataFrame, name: str, levels: tuple[str, ...]):
    """Return the table a small step below and above in one feature, and the (N,) step widths."""
    if not levels:
        step = 1e-3
        low, high = (table.assign(**{name: table[name] + s}) for s in (-step, step))
        return low, high, np.full(len(table), 2 * step)
    rank = coded(table)[name].to_numpy(int)
    below, above = np.maximum(rank - 1, 0), np.minimum(rank + 1, len(levels) - 1)
    names = np.array(levels, dtype=object)
    low, high = (table.assign(**{name: names[ranks]}) for ranks in (below, above))
    return low, high, (above - below).astype(float)


def ageing_curve(ages_years: np.ndarray) -> pd.DataFrame:
    """Change of the volumes from age 30, everything else about the person unchanged.

    It is the same for everybody and for every ``effects``.

    Returns:
        ``age_years`` and the changes ``WM``, ``GM``, ``CSF`` (mL).
    """
    ages = np.asarray(ages_years, dtype=float)
    changes = _age_effect(ages) - _age_effect(np.array([REFERENCE_AGE_YEARS]))
    return pd.DataFrame(changes, columns=list(MEASURED)).assign(age_years=ages)[
        ["age_years", *MEASURED]
    ]


def marginal_means(
    ages_years: np.ndarray, *, sex: str | None = None, effects: float = 1.0
) -> pd.DataFrame:
    """Mean volumes of all people of an age: education, cognition and weight drift with it.

    This is what a cross-sectional regression on age estimates; compare :func:`ageing_curve`.

    Args:
        ages_years: (N,) ages.
        sex: ``female`` or ``male``; without it, half of each.
        effects: As given to the simulation.

    Returns:
        ``age_years`` and the means ``WM``, ``GM``, ``CSF`` (mL).
    """
    ages = np.asarray(ages_years, dtype=float)
    if sex is None:
        parts = [marginal_means(ages, sex=s, effects=effects) for s in ("female", "male")]
        return (parts[0] + parts[1]) / 2
    if sex not in ("female", "male"):
        raise ConfigError(f"sex is {sex!r}", "Give 'female', 'male' or nothing.")
    male = float(sex == "male")
    x = ndtri((np.arange(_QUADRATURE) + 0.5) / _QUADRATURE)
    means = []
    for age in ages:
        # Additive effects need each trait's own distribution only, not their correlation.
        table = pd.DataFrame({t.name: t.answer(x + t.shift(age, male)) for t in TRAITS})
        table = table.assign(age=age, sex=sex, handedness="right")
        means.append(conditional_means(table, effects).mean(0))
    return pd.DataFrame(means, columns=list(MEASURED)).assign(age_years=ages)[
        ["age_years", *MEASURED]
    ]


def _age_effect(ages: np.ndarray) -> np.ndarray:
    table = pd.DataFrame({"age": ages})
    terms = [term for term in TERMS if term.feature == "age"]
    return sum(term.value(table)[:, None] * (TO_TISSUES @ term.slopes(1.0)) for term in terms)
