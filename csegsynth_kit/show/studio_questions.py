"""A slider or a menu for every question of a model, each of which may be left unanswered."""

import math
from collections.abc import Callable

import ipywidgets as widgets

from csegsynth_kit.data.features import Features
from csegsynth_kit.data.schema import Column

Answer = float | str | None

#: How far a slider goes beyond what training participants answered, in their ranges: far enough
#: to see what the model does there, and the warning.
_MARGIN = 0.1
#: Steps of a slider within what training participants answered, at least.
_LEAST_STEPS = 50
_WIDTH, _LABEL = "392px", "168px"


class Question(widgets.HBox):
    """One question: its control, and a box that says whether it is answered.

    Args:
        column: What is asked.
        seen: The smallest and largest number, or the answers, that training participants gave.
        typical: Where the control stands at first.
    """

    def __init__(self, column: Column, seen: tuple, typical: Answer):
        self.column, self._seen = column, seen
        self.control = _slider(column, seen) if column.numeric else _menu(column)
        self.answered = widgets.Checkbox(
            value=True,
            indent=False,
            tooltip=f"{column.name}: answered",
            layout=widgets.Layout(width="24px", margin="2px 0 0 10px"),
        )
        super().__init__([self.control, self.answered])
        self.answer = typical

    @property
    def answer(self) -> Answer:
        """The answer, or None while the question is unanswered."""
        if not self.answered.value:
            return None
        return round(self.control.value, 6) if self.column.numeric else self.control.value

    @answer.setter
    def answer(self, answer: Answer) -> None:
        if answer is not None:
            if self.column.numeric:  # A person beyond the slider's end widens it.
                self.control.min = min(self.control.min, answer)
                self.control.max = max(self.control.max, answer)
            self.control.value = answer
        self.answered.value = answer is not None
        self.control.disabled = answer is None

    @property
    def outside(self) -> bool:
        """Whether no training participant gave, or reached, this answer."""
        answer = self.answer
        if answer is None:
            return False
        if self.column.numeric:
            return not self._seen[0] <= answer <= self._seen[1]
        return answer not in self._seen

    def on_change(self, act: Callable[[], None]) -> None:
        """Call ``act`` whenever the answer changes."""

        def answered(change) -> None:
            self.control.disabled = not change["new"]
            act()

        self.answered.observe(answered, "value")
        self.control.observe(lambda change: act(), "value")


def questions_of(features: Features) -> dict[str, Question]:
    """Build the controls of all questions, at the answers of a typical training participant."""
    typical = typical_answers(features)
    return {
        column.name: Question(column, seen, typical[column.name])
        for column, seen in zip(features.columns, features.support, strict=True)
    }


def typical_answers(features: Features) -> dict[str, Answer]:
    """Return the mean of every numeric question, and the commonest or middle other answer.

    Means of training participants, no participant's row.
    """
    (mean,) = features.decode([[0.0] * len(features.names)]).to_dict("records")
    answers = {}
    for column, seen in zip(features.columns, features.support, strict=True):
        answer = mean[column.name]
        if column.numeric:
            step = _step(column, seen)
            answer = round(step * round(answer / step), 6)
        answers[column.name] = answer
    return answers


def _slider(column: Column, seen: tuple[float, float]) -> widgets.FloatSlider:
    low, high = seen
    step = _step(column, seen)
    margin = _MARGIN * (high - low)
    least = low - margin if low < 0 else max(low - margin, 0.0)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return widgets.FloatSlider(
        value=low,
        min=step * math.floor(least / step),
        max=step * math.ceil((high + margin) / step),
        step=step,
        readout_format=f".{digits}f",
        description=_named(column),
        tooltip=column.description or column.name,
        continuous_update=True,
        layout=widgets.Layout(width=_WIDTH),
        style={"description_width": _LABEL},
    )


def _step(column: Column, seen: tuple[float, float]) -> float:
    """The largest of 1, 2, 5, 10 ... (or .1, .2, .5) that gives a slider enough steps."""
    if column.kind == "ordinal" or column.name == "age":
        return 1.0
    wanted = max(seen[1] - seen[0], 1e-9) / _LEAST_STEPS
    power = 10.0 ** math.floor(math.log10(wanted))
    return max(power * factor for factor in (1, 2, 5) if power * factor <= wanted * (1 + 1e-9))


def _menu(column: Column) -> widgets.Dropdown:
    return widgets.Dropdown(
        options=list(column.levels),
        description=_named(column),
        tooltip=column.description or column.name,
        layout=widgets.Layout(width=_WIDTH),
        style={"description_width": _LABEL},
    )


def _named(column: Column) -> str:
    """Name of a question with its unit, as a person reads it."""
    name = column.name.replace("_", " ")
    units = column.units.replace("^2", "\u00b2").replace("^3", "\u00b3")
    return f"{name} ({units})" if units else name
