"""Who is simulated: drawn people, or real people of a table."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from csegsynth_kit.data.files import fingerprint
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.simulate.questionnaire import COLUMNS, draw_participants
from csegsynth_kit.simulate.structural import TRUTH_VERSION, draw_volumes
from csegsynth_kit.simulate.targets import Targets, targets_from_table

NOT_REAL = (
    "These participants do not exist: answers, volumes and maps were drawn by csegsynth_kit from "
    "a model with known effects. They are for testing software and are no evidence about people."
)
SEMI_REAL = (
    "The maps were drawn by csegsynth_kit; nobody has the brain shown beside their answers. For "
    "testing and demonstrating software; no evidence about where in the brain people differ."
)


@dataclass(frozen=True)
class People:
    """Who is simulated.

    Args:
        table: Their answers, as they will be written.
        columns: What each column of ``table`` is.
        volumes: Their volumes (mL), see ``structural.DRAWN_COLUMNS``.
        individuals: (N,) row of the person each row is of; retest rows share one.
        provenance: What is real and what is drawn.
    """

    table: pd.DataFrame
    columns: tuple[Column, ...]
    volumes: pd.DataFrame
    individuals: np.ndarray
    provenance: dict

    def targets_ml(self) -> np.ndarray:
        """Return (N, 4) WM, GM, sulcal CSF and lateral ventricles (mL)."""
        v = self.volumes
        return np.column_stack([v["wm_ml"], v["gm_ml"], v["csf_ml"] - v["lv_ml"], v["lv_ml"]])


def simulated_people(n: int, *, age: str, effects: float, seed: int, missing: float) -> People:
    """Draw people from the structural model; see ``cohort.simulate_cohort``."""
    complete = draw_participants(n, age=age, seed=seed)
    provenance = {
        "statement": NOT_REAL,
        "source": "structural model of csegsynth_kit",
        "structural_truth": TRUTH_VERSION,
        "n": n,
        "age": age,
        "effects": effects,
        "missing": missing,
    }
    return People(
        draw_participants(n, age=age, seed=seed, missing=missing),
        COLUMNS,
        draw_volumes(complete, effects=effects, seed=seed),
        np.arange(n),
        provenance,
    )


def real_people(source: Targets | Path | str, n: int | None, seed: int) -> People:
    """Take the first ``n`` people of a table with volumes (without ``n``, all)."""
    found = source if isinstance(source, Targets) else targets_from_table(source, seed)
    if n is not None and not 1 <= n <= len(found):
        raise ConfigError(f"n is {n}", f"The table has {len(found)} usable participants.")
    table, volumes = found.participants.frame.iloc[:n], found.volumes.iloc[:n]
    persons = found.participants.persons.iloc[:n]
    first = {person: row for row, person in reversed(list(enumerate(persons)))}
    provenance = {
        "statement": SEMI_REAL,
        "source": found.participants.known or "a table with volumes",
        "known_table": found.participants.known,
        "table": fingerprint([found.participants.frame.to_csv(), found.volumes.to_csv()]),
        "structural_truth": TRUTH_VERSION,
        "real": found.real,
        "drawn": found.drawn,
        "excluded": [
            {"subject": f.subject, "code": f.code, "message": f.message} for f in found.findings
        ],
        "persons": {i: p for i, p in persons.items() if i != p},
    }
    return People(
        table,
        found.participants.columns,
        volumes,
        np.array([first[person] for person in persons]),
        provenance,
    )
