"""Simulated answers: a sparse Gaussian model of what people tell about themselves.

Names follow the participants' table of AOMIC ID1000 where it has the question. Fifteen latent
Gaussian traits, correlated and shifted by age and sex, are turned into answers. Score scales,
latent correlations and shifts are invented, of plausible size and sign; they are no finding
about people.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import ConfigError

#: Ages are uniform between these years. "young" is the range of AOMIC ID1000.
AGES_YEARS = {"lifespan": (18.0, 88.0), "young": (19.0, 26.0)}
_LEFT_HANDED = 0.11
#: Age (years) at which no trait is shifted.
_SHIFT_AGE_YEARS = 50.0

#: Streams of random numbers. A stream is read row by row, so that a participant's numbers
#: depend on the seed and on their place in the cohort, never on how many others there are.
STREAMS = {"answers": 1, "missing": 2, "volumes": 3, "targets": 4, "bases": 5, "anatomy": 6}


@dataclass(frozen=True)
class Trait:
    """One latent trait x ~ N(shift, 1) and the answer it leads to.

    Args:
        name: Name of the answer.
        latent: Short name in :data:`CORRELATIONS`.
        center: Answer at x = 0.
        scale: Change of the answer per unit of x; of its logarithm if ``logarithmic``.
        bounds: Smallest and largest possible answer.
        step: Answers are multiples of this.
        logarithmic: Whether the answer is center * exp(scale * x).
        cuts: Thresholds of x between the levels of a named answer.
        levels: The named answers, in order.
        per_decade: Shift of x (SD) per decade of age from 50.
        male: Shift of x (SD) of men relative to women, half of it up and half down.
        units: Unit of the answer.
        description: What was asked.
    """

    name: str
    latent: str
    center: float = 0.0
    scale: float = 1.0
    bounds: tuple[float, float] = (-np.inf, np.inf)
    step: float = 1.0
    logarithmic: bool = False
    cuts: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    per_decade: float = 0.0
    male: float = 0.0
    units: str = ""
    description: str = ""

    def shift(self, age: np.ndarray, male: np.ndarray) -> np.ndarray:
        """Return (N,) mean of the trait given (N,) age (years) and sex (1 for men)."""
        return self.per_decade * (age - _SHIFT_AGE_YEARS) / 10 + self.male * (male - 0.5)

    def answer(self, x: np.ndarray) -> np.ndarray:
        """Turn (N,) trait values into answers: numbers, or names for a trait with levels."""
        if self.levels:
            return np.array(self.levels, dtype=object)[np.searchsorted(self.cuts, x)]
        raw = self.center * np.exp(self.scale * x) if self.logarithmic else None
        raw = self.center + self.scale * x if raw is None else raw
        # Decimal steps are divided out so that 0.1-steps print as 23.4, not 23.400000000000002.
        return (np.clip(raw, *self.bounds) / self.step).round() / round(1 / self.step, 6)


_IST = "Intelligence Structure Test: "
_NEO = "NEO Five-Factor Inventory: "
TRAITS = (
    Trait(
        "BMI", "bmi", 25, 0.145, (13, 60), 0.1, logarithmic=True, per_decade=0.15, male=0.1,
        units="kg/m^2", description="Body mass index",
    ),
    Trait(
        "education_level", "edu", cuts=(-0.8, 0.5), levels=("low", "medium", "high"),
        per_decade=-0.10, description="Level of education",
    ),
    Trait(
        "background_SES", "ses", 4, 0.9, (2, 6), 0.5, units="points",
        description="Socioeconomic status of the parents",
    ),
    Trait(
        "IST_fluid", "flu", 120, 25, (0, 220), per_decade=-0.35, units="points",
        description=_IST + "fluid intelligence",
    ),
    Trait(
        "IST_memory", "mem", 42, 9, (0, 80), per_decade=-0.22, units="points",
        description=_IST + "memory",
    ),
    Trait(
        "IST_crystallised", "cry", 38, 9, (0, 80), units="points",
        description=_IST + "crystallised intelligence",
    ),
    Trait(
        "NEO_N", "N", 31, 8, (12, 60), per_decade=-0.10, male=-0.4, units="points",
        description=_NEO + "neuroticism",
    ),
    Trait(
        "NEO_E", "E", 42, 6, (12, 60), units="points", description=_NEO + "extraversion"
    ),
    Trait(
        "NEO_O", "O", 42, 6, (12, 60), per_decade=-0.08, units="points",
        description=_NEO + "openness",
    ),
    Trait(
        "NEO_A", "A", 43, 5, (12, 60), male=-0.4, units="points",
        description=_NEO + "agreeableness",
    ),
    Trait(
        "NEO_C", "C", 42, 6, (12, 60), units="points", description=_NEO + "conscientiousness"
    ),
    Trait(
        "STAI_T", "stai", 38, 9, (20, 80), per_decade=-0.05, male=-0.25, units="points",
        description="State-Trait Anxiety Inventory, trait",
    ),
    Trait(
        "smoking", "smk", cuts=(0.15, 0.95), levels=("never", "former", "current"), male=0.1,
        description="Smoking",
    ),
    Trait(
        "alcohol", "alc", 5, 0.8, (0, 120), 0.1, logarithmic=True, male=0.4,
        units="units/week", description="Alcohol",
    ),
    Trait(
        "activity", "act", 3.5, 0.6, (0, 60), 0.1, logarithmic=True, per_decade=-0.05,
        units="h/week", description="Physical activity",
    ),
)  # fmt: skip

#: Latent correlations; all others are 0.
CORRELATIONS = {
    ("edu", "ses"): 0.35, ("edu", "cry"): 0.45, ("edu", "flu"): 0.35, ("edu", "mem"): 0.25,
    ("ses", "cry"): 0.25, ("ses", "flu"): 0.15, ("cry", "flu"): 0.50, ("cry", "mem"): 0.35,
    ("flu", "mem"): 0.50, ("O", "cry"): 0.25, ("O", "flu"): 0.10, ("O", "edu"): 0.20,
    ("N", "E"): -0.35, ("N", "C"): -0.30, ("N", "A"): -0.15, ("N", "stai"): 0.75,
    ("E", "stai"): -0.35, ("C", "stai"): -0.30, ("E", "A"): 0.15, ("A", "C"): 0.15,
    ("E", "C"): 0.20, ("bmi", "edu"): -0.15, ("bmi", "act"): -0.20, ("bmi", "ses"): -0.10,
    ("smk", "edu"): -0.20, ("smk", "C"): -0.15, ("smk", "alc"): 0.30, ("act", "edu"): 0.10,
    ("act", "C"): 0.10, ("alc", "C"): -0.10, ("E", "alc"): 0.10, ("E", "act"): 0.10,
}  # fmt: skip

#: The questions of a simulated table, in its order.
COLUMNS = (
    Column("age", "continuous", units="years", description="Age"),
    Column("sex", "categorical", ("female", "male"), description="Sex"),
    Column("handedness", "categorical", ("left", "right"), description="Handedness"),
    *(
        Column(
            trait.name,
            "ordinal" if trait.levels else "continuous",
            trait.levels,
            trait.units,
            trait.description,
        )
        for trait in TRAITS
    ),
)
FEATURES = tuple(column.name for column in COLUMNS)


def latent_correlation() -> np.ndarray:
    """Return the (15, 15) correlation of the traits, in the order of TRAITS."""
    names = [trait.latent for trait in TRAITS]
    matrix = np.eye(len(names))
    for (a, b), r in CORRELATIONS.items():
        i, j = names.index(a), names.index(b)
        matrix[i, j] = matrix[j, i] = r
    return matrix


def uniforms(n: int, width: int, *key: int) -> np.ndarray:
    """Return (n, width) numbers in (0, 1); row i is the same for every ``n`` above i."""
    rng = np.random.default_rng([_checked_seed(k) for k in key])
    return np.maximum(rng.random((n, width)), np.finfo(float).tiny)


def correlate(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Multiply every row of (N, K) by a (J, K) matrix; (N, J).

    Unlike a matrix product, whose order of summation may depend on N, this gives a row the
    same digits whatever the other rows are.
    """
    return np.einsum("nk,jk->nj", x, matrix, optimize=False)


def draw_participants(
    n: int, *, age: str = "lifespan", seed: int = 0, missing: float = 0.0
) -> pd.DataFrame:
    """Draw a table of answers.

    Args:
        n: Participants.
        age: A key of AGES_YEARS.
        seed: Participant i depends on the seed and i alone.
        missing: Share of the answers left out at random; age and sex are always answered.

    Returns:
        FEATURES as columns, indexed by ``participant_id`` from ``sub-0001``; numbers are
        float64, named answers are strings, missing answers are NaN.

    Raises:
        ConfigError: for an unknown ``age``, a negative ``seed``, or shares outside [0, 1).
    """
    if age not in AGES_YEARS:
        raise ConfigError(
            f"there is no age range '{age}'", f"Choose one of {', '.join(AGES_YEARS)}."
        )
    if n < 1 or not 0 <= missing < 1:
        raise ConfigError(
            f"n is {n} and missing is {missing}",
            "Give at least one participant and 0 <= missing < 1.",
        )
    low, high = AGES_YEARS[age]
    u = uniforms(n, 3 + len(TRAITS), seed, STREAMS["answers"])
    years = (low + (high - low) * u[:, 0]).round(2)
    male = u[:, 1] < 0.5
    table = {
        "age": years,
        "sex": np.where(male, "male", "female").astype(object),
        "handedness": np.where(u[:, 2] < _LEFT_HANDED, "left", "right").astype(object),
    }
    z = correlate(ndtri(u[:, 3:]), np.linalg.cholesky(latent_correlation()))
    for i, trait in enumerate(TRAITS):
        table[trait.name] = trait.answer(z[:, i] + trait.shift(years, male))
    frame = pd.DataFrame(table, index=participant_ids(n))
    if missing:
        hidden = uniforms(n, len(FEATURES), seed, STREAMS["missing"]) < missing
        hidden[:, :2] = False  # age and sex are known of every participant of a scan
        frame = frame.mask(hidden)
    return frame


def participant_ids(n: int) -> pd.Index:
    """Return ``sub-0001`` and so on."""
    return pd.Index([f"sub-{i:04d}" for i in range(1, n + 1)], name="participant_id")


def _checked_seed(seed: int) -> int:
    if seed < 0:
        raise ConfigError(f"the seed is {seed}", "Give a seed of 0 or above.")
    return int(seed)
