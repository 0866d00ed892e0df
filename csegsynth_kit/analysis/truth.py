"""What is known to be true of a simulated cohort, for scoring models against it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from csegsynth_kit.constants import MEASURED, VOLUME_COLUMNS
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.simulate.questionnaire import AGES_YEARS, FEATURES, draw_participants
from csegsynth_kit.simulate.structural import ACTIVE, draw_volumes
from csegsynth_kit.simulate.truth import NOISE, conditional_means, gradients


@dataclass(frozen=True)
class Truth:
    """The structural model behind a simulated cohort.

    Args:
        age: Age range of the cohort.
        effects: Strength of its weak effects.
    """

    age: str
    effects: float

    def predict(self, people: pd.DataFrame) -> np.ndarray:
        """Return (N, 3) expected volumes (mL): no predictor can do better.

        NaN for people who leave a question unanswered that matters: the formula needs them all.
        """
        expected = np.full((len(people), len(MEASURED)), np.nan)
        complete = people.reindex(columns=list(ACTIVE)).notna().all(axis=1).to_numpy()
        if complete.any():
            expected[complete] = conditional_means(people[complete], self.effects)
        return expected

    def effects_of(self, people: pd.DataFrame, features: Features) -> pd.DataFrame:
        """Mean effect of each question (mL per training SD) over those who answer them all."""
        people = people.dropna()
        sd = pd.Series(features.sd, index=list(features.names)).reindex(list(FEATURES))
        mean = gradients(people, self.effects, sd=sd).mean(axis=0)
        table = pd.DataFrame(mean, index=list(FEATURES), columns=list(MEASURED))
        table = table.loc[list(features.questions)].rename_axis("feature").reset_index()
        return table.melt("feature", var_name="tissue", value_name="effect_ml")

    def floor(self) -> pd.DataFrame:
        """SD and mean absolute error (mL) that remain whatever is asked of a person."""
        return NOISE.to_frame()

    def fresh_people(self, n: int, *, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
        """Draw answers and (n, 3) volumes (mL) of people nobody has seen, from the same model."""
        people = draw_participants(n, age=self.age, seed=seed)
        volumes = draw_volumes(people, effects=self.effects, seed=seed)
        return people, volumes[list(VOLUME_COLUMNS)].to_numpy()


def known_truth(cohort: Cohort) -> Truth | None:
    """Return the truth behind a cohort, or None if it is not known."""
    provenance = cohort.provenance
    if provenance.get("age") not in AGES_YEARS or "effects" not in provenance:
        return None
    return Truth(provenance["age"], provenance["effects"])
