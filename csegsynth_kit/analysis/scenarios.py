"""Named ways to live, as edits of the answers over age, and what they change.

An edit changes answers; what follows is how people with such answers differ from people with
others. Nobody was observed before and after, so none of it is the effect of a decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from csegsynth_kit.analysis.contrast import VolumeRegression
from csegsynth_kit.analysis.draws import with_monte_carlo_error
from csegsynth_kit.analysis.generate import predict_shared_volumes
from csegsynth_kit.analysis.support import Support
from csegsynth_kit.analysis.truth import Truth
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError, TableError
from csegsynth_kit.models import Family

#: What every comparison of lifestyles is, and is not.
SAME_AGE = "This compares people who answer differently at the same age; nobody changed."
#: What is left to say where no lifestyle applies.
NONE_APPLIES = (
    "Nothing to compare: none of these lifestyles says anything about this person. The table of "
    "scenarios gives the reason of each."
)
_COLUMNS = (
    "scenario",
    "age_years",
    "tissue",
    "difference_ml",
    "monte_carlo_error",
    "regression_ml",
    "regression_low",
    "regression_high",
    "true_ml",
    "supported",
)


@dataclass(frozen=True)
class Edit:
    """One change of one answer from an age on.

    Args:
        feature: The question.
        from_age_years: First age at which the answer is another one.
        kind: ``set`` gives the answer ``value``, ``shift`` adds ``value`` to a number, ``ramp``
            adds it little by little, in equal parts over ``over_years``.
        value: The new answer, or what is added (in the units of the question).
        over_years: Years until a ramp has reached ``value``.
        only_if: Answers that are edited; any, if empty. Who never smoked cannot stop.
    """

    feature: str
    from_age_years: float
    kind: Literal["set", "shift", "ramp"]
    value: object
    over_years: float = 0.0
    only_if: tuple[str, ...] = ()

    def __post_init__(self):
        if self.kind not in ("set", "shift", "ramp"):
            raise ConfigError(f"there is no kind of edit {self.kind!r}", "Use set, shift or ramp.")
        if self.kind == "ramp" and not self.over_years > 0:
            raise ConfigError(
                f"a ramp of {self.feature!r} takes {self.over_years} years",
                "Give a number above 0.",
            )

    def reason_against(self, person: Mapping, features: Features) -> str:
        """Say why this edit says nothing about this person; empty if it does.

        An edit that leaves the answer as it is ``changes nothing``.
        """
        if self.feature not in features.questions:
            return f"the model has no feature '{self.feature}'"
        answer, column = person.get(self.feature), features.column(self.feature)
        if self.kind != "set" and not column.numeric:
            return f"'{self.feature}' is no number, so nothing can be added to it"
        if self.kind == "set" and column.levels and self.value not in column.levels:
            return f"'{self.value}' is no answer to '{self.feature}'"
        if self.kind == "set" and answer == self.value:
            return f"changes nothing: '{self.feature}' is '{answer}' already"
        if answer is None or pd.isna(answer):
            return "" if self.kind == "set" and not self.only_if else f"'{self.feature}' is unknown"
        if self.only_if and answer not in self.only_if:
            other = " or ".join(map(repr, self.only_if))
            return f"changes nothing: '{self.feature}' is '{answer}', not {other}"
        if self.kind != "set" and self._moved(answer, 1.0, features) == answer:
            low, high = self._limits(features)
            limit = f"{low:g} at least" if self.value < 0 else f"{high:g} at most"
            return (
                f"changes nothing: '{self.feature}' is {answer:g}, and training participants "
                f"answered {limit}"
            )
        return ""

    def applied(self, people: pd.DataFrame, features: Features) -> pd.Series:
        """Return the edited answers of rows from ``from_age_years`` on.

        Sums stay within what training participants answered; an answer beyond stays as it is.
        """
        since = people["age"].to_numpy(float) - self.from_age_years
        answers = people[self.feature]
        if self.kind == "set":
            return answers.where(since < 0, self.value)
        share = (since >= 0).astype(float)
        if self.kind == "ramp":
            share = np.clip(since / self.over_years, 0, 1)
        return answers.where(share == 0, self._moved(answers, share, features))

    def _moved(
        self, answers: pd.Series | float, share: np.ndarray | float, features: Features
    ) -> np.ndarray:
        low, high = self._limits(features)
        return np.clip(
            answers + self.value * share, np.minimum(low, answers), np.maximum(high, answers)
        )

    def _limits(self, features: Features) -> tuple[float, float]:
        return features.support[features.questions.index(self.feature)]


@dataclass(frozen=True)
class Lifestyle:
    """A named scenario: edits on top of the ideal or the regressed one.

    Args:
        name: Shown in tables and figures.
        edits: What changes.
        needs: ``all`` edits must be possible, or at least ``any`` one.
    """

    name: str
    edits: tuple[Edit, ...]
    needs: Literal["all", "any"] = "all"

    def reason_against(self, person: Mapping, features: Features) -> str:
        """Say why this scenario says nothing about this person; empty if it does."""
        reasons = [edit.reason_against(person, features) for edit in self.edits]
        found = [reason for reason in reasons if reason]
        if not self.edits:
            return "it changes nothing"
        return "" if not found or (self.needs == "any" and not all(reasons)) else "; ".join(found)

    def applied(self, people: pd.DataFrame, features: Features) -> pd.DataFrame:
        """Edit the rows of one person over age.

        Args:
            people: One row per age, from ``trajectory.scenario``.
            features: The model's questions.

        Raises:
            TableError: if the scenario says nothing about this person, with the reason.
        """
        person = people.iloc[0].to_dict()
        reason = self.reason_against(person, features)
        if reason:
            raise TableError(
                f"scenario '{self.name}' cannot be simulated: {reason}",
                "Choose another scenario, or edit other features.",
            )
        edited = people.copy()
        for edit in self.edits:
            if not edit.reason_against(person, features):
                if edit.feature not in edited:
                    edited[edit.feature] = np.nan
                edited[edit.feature] = edit.applied(edited, features)
        return edited


def lifestyles(*, from_age_years: float = 50.0) -> tuple[Lifestyle, ...]:
    """Scenarios for tables with columns as AOMIC ID1000 or CamCAN name them.

    How much retirement changes is an assumption, not a finding: two more hours of activity a
    week within two years, and no working hours, as far as the table has such columns.
    """
    age = from_age_years
    return (
        Lifestyle("stop smoking", (Edit("smoking", age, "set", "former", only_if=("current",)),)),
        Lifestyle("more activity", (Edit("activity", age, "shift", 3.0),)),
        Lifestyle("less alcohol", (Edit("alcohol", age, "shift", -7.0),)),
        Lifestyle(
            "retirement",
            (
                Edit("activity", age, "ramp", 2.0, over_years=2.0),
                Edit("social_contacts", age, "ramp", 1.0, over_years=2.0),
                Edit("work_hours", age, "set", 0.0),
                Edit("employment", age, "set", "retired"),
            ),
            needs="any",
        ),
    )


def which_apply(chosen: Sequence[Lifestyle], person: Mapping, features: Features) -> pd.DataFrame:
    """List scenarios: whether the model can say something about them, and if not, why.

    Returns:
        ``scenario``, ``possible``, and the ``reason`` where it is not, which says
        ``changes nothing`` of an edit that would leave this person as they are.
    """
    rows = [(one.name, one.reason_against(person, features)) for one in chosen]
    table = pd.DataFrame(rows, columns=["scenario", "reason"])
    table.insert(1, "possible", table["reason"] == "")
    return table


def compare_lifestyle(
    model: Family,
    people: pd.DataFrame,
    lifestyle: Lifestyle,
    *,
    regression: VolumeRegression,
    support: Support | None = None,
    truth: Truth | None = None,
    draws: int = 32,
    seed: int = 0,
) -> pd.DataFrame:
    """Difference that a scenario makes, of the same individuals at the same ages.

    Args:
        model: A trained conditional model.
        people: One row per age, from ``trajectory.scenario``.
        lifestyle: What is edited.
        regression: Fitted on the training participants; tells how sure any difference can be.
        support: The training participants as neighbors.
        truth: The truth behind the cohort, where it is known.
        draws: Individuals whose mean difference is taken.
        seed: Of the latents.

    Returns:
        ``scenario``, ``age_years``, ``tissue``, ``difference_ml`` of the model and
        ``monte_carlo_error`` (half-width of its 95 % interval from so few draws, which says
        nothing of the error of the model); ``regression_ml`` with its 95 % interval
        ``regression_low`` and ``regression_high``: what so many training participants can tell;
        ``true_ml``, NaN where it is not known; ``supported``: whether near participants exist
        for both sides of the comparison.
    """
    edited = lifestyle.applied(people, model.features)
    both = pd.concat([people, edited], ignore_index=True)
    volumes = predict_shared_volumes(model, both, n=draws, seed=seed)
    change = volumes[len(people) :] - volumes[: len(people)]
    mean, error = with_monte_carlo_error(change)
    checked = model.features.table_of(both)
    before, after = checked.iloc[: len(people)], checked.iloc[len(people) :]
    linear = regression.contrast(before, after)
    known = np.full_like(mean, np.nan)
    if truth is not None:
        known = truth.predict(edited) - truth.predict(people)
    supported = np.ones(len(people), bool)
    if support is not None:
        supported = (support.of(before)["supported"] & support.of(after)["supported"]).to_numpy()
    index = pd.MultiIndex.from_product(
        [people["age"].to_numpy(float), MEASURED], names=["age_years", "tissue"]
    )
    table = pd.DataFrame(
        {
            "difference_ml": mean.reshape(-1),
            "monte_carlo_error": error.reshape(-1),
            "regression_ml": linear[..., 0].reshape(-1),
            "regression_low": linear[..., 1].reshape(-1),
            "regression_high": linear[..., 2].reshape(-1),
            "true_ml": known.reshape(-1),
            "supported": np.repeat(supported, len(MEASURED)),
        },
        index=index,
    ).reset_index()
    return table.assign(scenario=lifestyle.name)[list(_COLUMNS)]


def compare_lifestyles(
    model: Family, people: pd.DataFrame, chosen: Sequence[Lifestyle], **options
) -> pd.DataFrame:
    """Compare all lifestyles that apply to a person, under each other.

    Args:
        model: A trained conditional model.
        people: One row per age, from ``trajectory.scenario``.
        chosen: What is edited; those that say nothing about this person are left out.
        options: Of :func:`compare_lifestyle`.

    Returns:
        As :func:`compare_lifestyle`; without rows where no lifestyle applies.
    """
    person = people.iloc[0].to_dict()
    parts = [
        compare_lifestyle(model, people, one, **options)
        for one in chosen
        if not one.reason_against(person, model.features)
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(_COLUMNS))
