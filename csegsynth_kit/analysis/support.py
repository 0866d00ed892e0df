"""How many real people are near a person at an age: what the training data can say.

A model answers for anybody. Whether training participants were anywhere near is a question to
the data, not to the model, and is answered here by counting them.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from csegsynth_kit.analysis.design import of_known_age
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import TableError

#: At most this far apart in age (years).
WITHIN_YEARS = 5.0
#: Answers are near if they differ less than those of this share of comparable participants.
_NEAR_SHARE = 0.5
#: Distances below this are those of equal answers (in standard deviations).
_ROUNDING = 1e-6
#: A person is supported who has as many near participants as all but this share of the
#: training participants have themselves, and never with fewer than so many.
_LONELY_SHARE, _FEWEST = 0.05, 3


@dataclass(frozen=True)
class Support:
    """The training participants, as neighbors.

    A participant is *near* a person if no more than 5 years older or younger, of the same sex,
    and if the other answers differ no more than in half of all such pairs of training
    participants. The difference is the root mean square over the questions the person answers,
    in training standard deviations; a question with several unordered answers counts once, and
    where a participant gave no answer the expected difference to a random one is taken.

    Args:
        features: The questions.
        values: (N, F) standardized answers, NaN where unanswered.
        ages_years: (N,) ages.
    """

    features: Features
    values: np.ndarray
    ages_years: np.ndarray

    @classmethod
    def fit(cls, train: Cohort, features: Features) -> "Support":
        """Take the training participants who gave their age, every person once.

        Raises:
            TableError: if age is not among the questions, or if its answers are no numbers.
        """
        if "age" not in features.questions:
            raise TableError(
                "this model has no feature 'age'", "Support is counted by age: train with it."
            )
        table = of_known_age(train.one_scan_each().table)
        return cls(features, features.encode(table).values, table["age"].to_numpy(float))

    def of(self, people: pd.DataFrame) -> pd.DataFrame:
        """Count the training participants near each person.

        Args:
            people: Answers, one row each, such as a scenario's. Compared are the questions that
                all rows answer.

        Returns:
            Per row ``age_years``; how many participants are within 5 years (``same_age_n``), of
            the same sex as well (``same_sex_n``), and near (``near_n``); how many are near the
            median training participant (``typical_n``), and near all but the 5 % loneliest
            (``least_n``); and ``supported``: whether ``near_n`` reaches ``least_n``, or 3 if
            that is more.
        """
        own = self.features.encode(people).values
        asked = ~np.isnan(own).any(axis=0)
        same_age = _within(people["age"].to_numpy(float), self.ages_years)
        same_sex = same_age & self._same_sex(own)
        distance = self._distance(own, asked)
        peers = _within(self.ages_years, self.ages_years) & self._same_sex(self.values)
        np.fill_diagonal(peers, False)
        apart = self._distance(self.values, asked)
        radius = _radius(apart[peers])
        usual = (peers & (apart <= radius)).sum(axis=1)
        near = (same_sex & (distance <= radius)).sum(axis=1)
        least = int(np.quantile(usual, _LONELY_SHARE, method="lower"))
        return pd.DataFrame(
            {
                "age_years": people["age"].to_numpy(float),
                "same_age_n": same_age.sum(axis=1),
                "same_sex_n": same_sex.sum(axis=1),
                "near_n": near,
                "typical_n": int(np.median(usual)),
                "least_n": least,
                "supported": near >= max(least, _FEWEST),
            }
        )

    def _columns(self, question: str) -> np.ndarray:
        """Return which of the F encoded columns belong to a question."""
        if question not in self.features.questions:
            return np.zeros(len(self.features.names), bool)
        return self.features.question == self.features.questions.index(question)

    def _same_sex(self, own: np.ndarray) -> np.ndarray:
        """Tell (N, M) whether sexes agree; without an answer they do."""
        sex = self._columns("sex")
        a, b = own[:, None, sex], self.values[None, :, sex]
        return (np.isclose(a, b) | np.isnan(a) | np.isnan(b)).all(axis=-1)

    def _distance(self, own: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """Return (N, M) root mean squared differences of the asked answers but age and sex."""
        counted = asked & ~self._columns("age") & ~self._columns("sex")
        sizes = np.bincount(self.features.question)[self.features.question]
        weights = np.where(counted, 1 / sizes, 0.0)
        if not counted.any():
            return np.zeros((len(own), len(self.values)))
        own, theirs = (np.where(counted, values, 0.0) for values in (own, self.values))
        (a, a_unknown), (b, b_unknown) = ((np.nan_to_num(v), np.isnan(v)) for v in (own, theirs))
        squares = ((a**2 + a_unknown) @ weights)[:, None] + (b**2 + b_unknown) @ weights
        squares -= 2 * (a * weights) @ b.T
        return np.sqrt(np.maximum(squares, 0.0) / weights.sum())


def _radius(distances: np.ndarray) -> float:
    """Return the distance within which two people are near.

    Where most pairs agree in all that is asked, near is what lies closer to an answer than to
    the next one: answers that move with age lie between those that people can give.
    """
    if not len(distances):
        return 0.0
    apart = distances[distances > _ROUNDING]
    least = apart.min() / 2 if len(apart) else _ROUNDING
    return max(float(np.quantile(distances, _NEAR_SHARE)), float(least))


def _within(ages_years: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.abs(ages_years[:, None] - others[None]) <= WITHIN_YEARS
