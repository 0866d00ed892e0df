"""The structural model: from answers to tissue volumes, with known noise.

Every tissue volume is a sum of one term per feature plus Gaussian noise, so what a perfect
model can know is a closed formula (see :mod:`csegsynth_kit.simulate.truth`).

Grounding. Age terms, the law of the lateral ventricles, intercepts, total residual SDs and
the residual correlation of white and gray matter come from regressions on FreeSurfer volumes
of 1078 people (1000 Functional Connectomes). Sex differences and the signs of education,
fluid intelligence and alcohol follow the literature (PMC3969295; doi
10.1177/0956797618808470). The slopes of body mass index, smoking, alcohol, activity,
socioeconomic status and memory, the slopes on intracranial volume and the split of the noise
are invented. Handedness, personality and anxiety have no effect at all, on purpose: they are
correlated with features that do.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

from csegsynth_kit.constants import VOLUME_COLUMNS
from csegsynth_kit.errors import ConfigError, TableError
from csegsynth_kit.simulate.questionnaire import COLUMNS, STREAMS, correlate, uniforms

#: Changes whenever a constant of this file or of the questionnaire changes.
TRUTH_VERSION = "1"

#: Means (mL) at age 30, female, reference answers; ICV is the intracranial volume.
ICV_ML, GM_ML, WM_ML = 1430.0, 652.0, 517.0
#: ICV (mL) at which GM_ML and WM_ML hold, and what they gain per mL of it.
ICV_REFERENCE_ML = 1500.0
GM_PER_ICV, WM_PER_ICV = 0.36, 0.34
#: Noise: SDs (mL), and the correlation of the noise of gray and white matter.
ICV_SD_ML, GM_SD_ML, WM_SD_ML = 110.0, 20.0, 28.0
NOISE_CORRELATION = 0.10
#: Possible shares of CSF in the intracranial volume; other draws are repeated.
CSF_SHARES = (0.12, 0.45)
_MOST_REDRAWS = 100
#: Column of every volume the model draws; the first three are the measured tissues.
DRAWN_COLUMNS = (*VOLUME_COLUMNS, "lv_ml", "icv_ml")

#: Lateral ventricles: log of their volume (mL) = intercept + a decade + b decade^2 +
#: c (ICV - reference) + SD e, with e correlated with the noise of gray matter.
LV_INTERCEPT, LV_DECADE, LV_DECADE2, LV_PER_ICV = np.log(14.9), 0.0995, 0.0127, 0.00083
LV_LOG_SD, LV_GM_CORRELATION, LV_MOST_OF_CSF = 0.35, -0.2, 0.3


#: A change of (ICV, white matter at a given ICV, gray matter at a given ICV) as a change of
#: (WM, GM, CSF): the same matrix carries effects and noise to the tissues.
TO_TISSUES = np.array(
    [[WM_PER_ICV, 1.0, 0.0], [GM_PER_ICV, 0.0, 1.0], [1 - WM_PER_ICV - GM_PER_ICV, -1.0, -1.0]]
)


def decades(table: pd.DataFrame) -> np.ndarray:
    """Return (N,) age in decades from 30 years."""
    return (table["age"].to_numpy(float) - 30) / 10


def _is(name: str, level: str) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda table: (table[name] == level).to_numpy(float)


def _score(name: str, scores: dict[str, float]) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda table: table[name].map(scores).to_numpy(float)


def _number(
    name: str, center: float, scale: float = 1.0, most: float = np.inf
) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda table: (np.minimum(table[name].to_numpy(float), most) - center) / scale


@dataclass(frozen=True)
class Term:
    """What one feature adds to the volumes.

    Args:
        feature: Column of the table.
        value: Table to the (N,) number that the slopes multiply.
        icv: Slope on intracranial volume (mL).
        gm: Slope on gray matter at a given intracranial volume (mL).
        wm: Slope on white matter at a given intracranial volume (mL).
        weak: Whether ``effects`` multiplies the slopes.
    """

    feature: str
    value: Callable[[pd.DataFrame], np.ndarray]
    icv: float = 0.0
    gm: float = 0.0
    wm: float = 0.0
    weak: bool = True

    def slopes(self, effects: float) -> np.ndarray:
        """Return the (3,) slopes on ICV and, at a given ICV, on WM and GM (mL)."""
        return np.array([self.icv, self.wm, self.gm]) * (effects if self.weak else 1.0)


TERMS = (
    Term("age", decades, gm=-16.0, wm=10.0, weak=False),
    Term("age", lambda table: decades(table) ** 2, gm=-0.6, wm=-3.6, weak=False),
    Term("sex", _is("sex", "male"), icv=150.0, gm=8.0, wm=2.0, weak=False),
    Term(
        "education_level",
        _score("education_level", {"low": -1.0, "medium": 0.0, "high": 1.0}),
        icv=12.0,
    ),
    Term("background_SES", _number("background_SES", 4), icv=5.0),
    Term("IST_crystallised", _number("IST_crystallised", 38, 9), icv=18.0),
    Term("IST_fluid", _number("IST_fluid", 120, 25), gm=5.0, wm=4.0),
    Term("IST_memory", _number("IST_memory", 42, 9), gm=2.0),
    Term("BMI", _number("BMI", 25), gm=-1.2, wm=-0.3),
    Term("smoking", _is("smoking", "current"), gm=-6.0, wm=-5.0),
    Term("smoking", _is("smoking", "former"), gm=-2.0, wm=-1.5),
    Term("alcohol", _number("alcohol", 6, most=40), gm=-0.35, wm=-0.25),
    Term("activity", _number("activity", 4, most=15), gm=1.2, wm=0.8),
)
#: Features that matter; the others have exactly no effect.
ACTIVE = tuple(dict.fromkeys(term.feature for term in TERMS))


def noise_covariance() -> np.ndarray:
    """Return the (3, 3) covariance (mL^2) of the noise of ICV and, at a given ICV, WM and GM."""
    covariance = np.diag(np.square([ICV_SD_ML, WM_SD_ML, GM_SD_ML]))
    covariance[1, 2] = covariance[2, 1] = NOISE_CORRELATION * WM_SD_ML * GM_SD_ML
    return covariance


def require_answers(table: pd.DataFrame, names: tuple[str, ...] = ACTIVE) -> None:
    """Raise TableError unless every one of these questions is answered by everybody."""
    absent = [name for name in names if name not in table]
    if absent:
        raise TableError(
            f"the structural model needs {absent[0]!r}, which the table does not have",
            f"Give all of {', '.join(names)}.",
        )
    for name in names:
        levels = next(column.levels for column in COLUMNS if column.name == name)
        known = table[name].isin(levels) if levels else table[name].notna()
        if not known.all():
            row = table.index[~known][0]
            raise TableError(
                f"{row}: {name} = {table.loc[row, name]!r} is not an answer the model knows",
                f"Possible answers are {', '.join(levels) or 'numbers'}. For a simulated cohort "
                "with missing answers, draw the same participants again with missing=0.",
            )


def expected_components(table: pd.DataFrame, effects: float = 1.0) -> np.ndarray:
    """Return (N, 3) expected ICV, and WM and GM at ICV_REFERENCE_ML (mL), given the answers."""
    _require_effects(effects)
    require_answers(table)
    expected = np.tile([ICV_ML, WM_ML, GM_ML], (len(table), 1))
    for term in TERMS:
        expected += term.value(table)[:, None] * term.slopes(effects)
    return expected


def draw_volumes(table: pd.DataFrame, *, effects: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """Draw the volumes of people with these answers.

    The same seed with edited answers gives the same people under other circumstances: their
    noise stays, so that the difference is the effect of the edit.

    Draws whose share of CSF is not within CSF_SHARES are repeated; at ``effects`` = 1 this
    concerns 1 in 4000 and changes the noise by less than 0.1 %.

    Args:
        table: Complete answers to the questions in ACTIVE.
        effects: Multiplies all effects but those of age and sex; 0 to about 2 is sensible.
        seed: Row i depends on the seed, i and its answers alone.

    Returns:
        DRAWN_COLUMNS: tissue volumes, lateral ventricles (a part of CSF) and intracranial
        volume (mL), indexed as ``table``.

    Raises:
        TableError: for missing answers.
        ConfigError: if ``effects`` leaves somebody without possible volumes.
    """
    expected = expected_components(table, effects)
    age = decades(table)
    drawn = np.full((len(table), len(DRAWN_COLUMNS)), np.nan)
    waiting = np.arange(len(table))
    for attempt in range(_MOST_REDRAWS):
        z = ndtri(uniforms(len(table), 4, seed, STREAMS["volumes"], attempt))[waiting]
        drawn[waiting] = _volumes(expected[waiting], age[waiting], z)
        share = drawn[:, 2] / drawn[:, 4]
        waiting = np.flatnonzero(~((share >= CSF_SHARES[0]) & (share <= CSF_SHARES[1])))
        if not len(waiting):
            return pd.DataFrame(drawn, index=table.index, columns=list(DRAWN_COLUMNS))
    raise ConfigError(
        f"with effects={effects:g}, {len(waiting)} of {len(table)} participants have no possible "
        f"share of CSF (first: {table.index[waiting[0]]})",
        "Use weaker effects (2 is strong), or answers nearer to those of real people.",
    )


def _volumes(expected: np.ndarray, age: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Turn (N, 3) expected components, decades and (N, 4) normals into (N, 5) DRAWN_COLUMNS."""
    noise = correlate(z[:, :3], np.linalg.cholesky(noise_covariance()))
    components = expected + noise
    components[:, 0] -= ICV_REFERENCE_ML
    tissues = correlate(components, TO_TISSUES)
    tissues[:, 2] += ICV_REFERENCE_ML
    icv = components[:, 0] + ICV_REFERENCE_ML
    lv = lateral_ventricles_ml(age, icv, tissues[:, 2], noise[:, 2] / GM_SD_ML, z[:, 3])
    return np.column_stack([tissues, lv, icv])


def lateral_ventricles_ml(
    age: np.ndarray, icv: np.ndarray, csf: np.ndarray, gm_noise: np.ndarray, z: np.ndarray
) -> np.ndarray:
    """Volume of the lateral ventricles.

    Args:
        age: (N,) decades from 30.
        icv: (N,) intracranial volume (mL).
        csf: (N,) CSF volume (mL), ventricles included.
        gm_noise: (N,) noise of gray matter given features and ICV, in SDs.
        z: (N,) further independent standard normals.

    Returns:
        (N,) volumes (mL), at most LV_MOST_OF_CSF of the CSF.
    """
    e = LV_GM_CORRELATION * gm_noise + np.sqrt(1 - LV_GM_CORRELATION**2) * z
    logarithm = LV_INTERCEPT + LV_DECADE * age + LV_DECADE2 * age**2
    logarithm += LV_PER_ICV * (icv - ICV_REFERENCE_ML) + LV_LOG_SD * e
    # Volumes in the wrong unit must not overflow before they are refused.
    return np.minimum(np.exp(np.minimum(logarithm, 20.0)), LV_MOST_OF_CSF * csf)


def _require_effects(effects: float) -> None:
    if not (np.isfinite(effects) and effects >= 0):
        raise ConfigError(f"effects is {effects}", "Give 0 (age and sex only) to 2 (strong).")
