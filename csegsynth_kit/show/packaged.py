"""The weights in the package, asked about simulated people that they have never seen."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from csegsynth_kit.analysis.truth import Truth
from csegsynth_kit.data.cohort import Cohort, load_cohort
from csegsynth_kit.models import Family
from csegsynth_kit.simulate.cohort import simulate_cohort
from csegsynth_kit.training.pretrained import PACKAGED, load_pretrained, pretrained_card

#: Unlike the seeds of the embedded cohorts and of the people that cards report on.
_SEED = 2718
#: Column of a card's scores to what it says in a table.
_COLUMNS = {
    "mae_ml": "mean of draws",
    "one_draw_ml": "one draw",
    "ridge_ml": "ridge",
    "best_possible_ml": "best possible",
    "ratio_to_ridge": "mean of draws / ridge",
    "sd_ratio": "SD of cohort / real",
}


@dataclass(frozen=True)
class Packaged:
    """Conditional weights with their card, and the truth behind their simulated cohort.

    Args:
        model: Ready to generate.
        card: What it was trained on, and its scores.
        truth: The structural model that the training participants were drawn from.
    """

    model: Family
    card: dict
    truth: Truth

    @classmethod
    def open(cls, name: str = PACKAGED) -> "Packaged":
        """Load weights by name; see ``cs.load_pretrained``."""
        card = pretrained_card(name)
        cohort = card["training"]["cohort"]
        return cls(load_pretrained(name), card, Truth(cohort["age"], cohort["effects"]))

    def people(self, n: int, *, seed: int = _SEED) -> tuple[pd.DataFrame, np.ndarray]:
        """Draw answers and (n, 3) volumes (mL) of people that training has not seen."""
        people, volumes = self.truth.fresh_people(n, seed=seed)
        return people[list(self.model.features.questions)], volumes

    def cohort(self, n: int, *, prepared: str = "../data/prepared", seed: int = _SEED) -> Cohort:
        """Simulate n such people with their maps; a cohort that is there already is opened."""
        grid, about = self.model.config.grid.name, self.card["training"]["cohort"]
        path = Path(prepared) / f"fresh-{grid}-{n}-{seed}"
        if path.exists():
            return load_cohort(path)
        return simulate_cohort(
            path,
            n=n,
            age=about["age"],
            effects=about["effects"],
            grid=grid,
            seed=seed,
            progress=False,
        )

    def scores(self) -> pd.DataFrame:
        """Mean absolute errors (mL) on fresh people with 95 % intervals, from the card."""
        table = pd.DataFrame(self.card["scores"]["volumes"]).set_index("tissue")
        return table[list(_COLUMNS)].rename(columns=_COLUMNS)
