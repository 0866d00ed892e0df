"""Volumes of one synthetic person beside people with the same answers, and real participants."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t

from csegsynth_kit.analysis.generate import predict_shared_volumes
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.maps import SegmentationMaps
from csegsynth_kit.models import Family

#: Answers to a table with a row per ``tissue``: ``low_ml``, ``high_ml`` and ``level``; and, of
#: calibrated intervals, ``unanswered``: how many of the questions asked in calibration are open.
Interval = Callable[[Mapping], pd.DataFrame]
#: Whose range :func:`spread_interval` gives.
SPREAD = "people whom the model generates from the same answers"
#: Participants of about this person's age: so many years away at most.
YEARS = 5
#: Fewer participants have no quantiles worth showing.
LEAST_PEOPLE = 10
#: Shares of participants below the volumes that are shown.
QUANTILES = [0.05, 0.25, 0.5, 0.75, 0.95]
#: Standard deviations above the mean volume that bars must have room for.
_ROOM_SD = 4.0


@dataclass(frozen=True)
class Reference:
    """Participants of a person's age and sex.

    Args:
        quantiles: Share of people (5, 25, 50, 75, 95 %) in rows, tissues in columns (mL);
            empty for fewer than 10 people.
        n: How many people.
        who: Who they are, in words.
    """

    quantiles: pd.DataFrame
    n: int
    who: str


def reference(cohort: Cohort, answers: Mapping, *, years: float = YEARS) -> Reference:
    """Take the participants of the same sex and nearly the same age, each person once.

    What the person does not say, or the cohort does not know, restricts nobody.

    Args:
        cohort: Participants.
        answers: Of the person.
        years: Largest difference of ages (years).
    """
    cohort = cohort.one_scan_each()
    alike = pd.Series(True, index=cohort.table.index)
    words = []
    if answers.get("sex") is not None and "sex" in cohort.table:
        alike &= cohort.table["sex"] == answers["sex"]
        words.append(str(answers["sex"]))
    if answers.get("age") is not None and "age" in cohort.table:
        age = float(answers["age"])
        alike &= (cohort.table["age"] - age).abs() <= years
        words.append(f"{max(age - years, 0):g} to {age + years:g} years")
    volumes = cohort.volumes[alike].set_axis(list(MEASURED), axis=1)
    kind = "simulated" if cohort.simulated else "real"
    who = f"{kind} participants" + (f", {', '.join(words)}" if words else "")
    kept = volumes if len(volumes) >= LEAST_PEOPLE else volumes[:0]
    quantiles = kept.quantile(QUANTILES) if len(kept) else pd.DataFrame(columns=list(MEASURED))
    return Reference(quantiles, len(volumes), who)


def spread_interval(
    model: Family, *, draws: int = 32, level: float = 0.9, seed: int = 0
) -> Interval:
    """Return the function that gives the range of volumes of people with the same answers.

    It is a prediction interval for one more draw of the model (Student's t about the mean of
    the draws), neither calibrated on people nor an interval of one person's true volume.

    Args:
        model: A trained conditional model.
        draws: Individuals, in antithetic pairs; the same ones whatever the answers.
        level: Share of draws inside.
        seed: Of the draws.
    """

    def interval(answers: Mapping) -> pd.DataFrame:
        volumes = predict_shared_volumes(model, answers, n=draws, seed=seed)[0]
        # z and -z are equally far from the mean, so that pairs are counted, not draws.
        quantile = t.ppf((1 + level) / 2, df=max(draws // 2 - 1, 1)) * np.sqrt(1 + 1 / draws)
        half = quantile * volumes.std(axis=0, ddof=1)
        low, high = (volumes.mean(axis=0) + sign * half for sign in (-1, 1))
        return pd.DataFrame(
            {"tissue": MEASURED, "low_ml": low.clip(min=0), "high_ml": high, "level": level}
        )

    return interval


def caution_about(interval: pd.DataFrame) -> str:
    """Say that a calibrated range need not hold for a person who leaves questions open.

    Args:
        interval: Rows of an :data:`Interval`.

    Returns:
        One sentence; empty if everything is answered, or nothing was calibrated.
    """
    unanswered = int(interval["unanswered"].iloc[0]) if "unanswered" in interval else 0
    if not unanswered:
        return ""
    questions = "1 question is" if unanswered == 1 else f"{unanswered} questions are"
    return (
        f"{questions} unanswered, but the range was calibrated on people who answer: it may hold "
        f"less often than {100 * interval['level'].iloc[0]:g} %."
    )


def volumes_of(maps: SegmentationMaps) -> dict[str, float]:
    """Tissue to volume (mL) of the first map."""
    table = maps[:1].volumes_ml()
    return dict(zip(table["tissue"], table["volume_ml"], strict=True))


def axis_limit_ml(model: Family) -> float:
    """Largest volume (mL) that bars need room for, whatever the answers."""
    highest = model.volume_mean_ml + _ROOM_SD * model.volume_sd_ml
    return float(np.ceil(highest.max().item() / 100) * 100)
