"""The studio: move an answer, and see who could have given it.

A widget for a notebook cell, and the page of ``csegsynth studio``. Every picture is the map that
:func:`csegsynth_kit.generate` gives for the answers and the individual shown.
"""

from collections.abc import Mapping

import ipywidgets as widgets
import numpy as np
import pandas as pd
from torch import Tensor

from csegsynth_kit.analysis.generate import checked_people, generate
from csegsynth_kit.analysis.synthetic import SyntheticMaps
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.errors import ConfigError, CsegsynthError
from csegsynth_kit.maps import volumes_ml
from csegsynth_kit.models import Family
from csegsynth_kit.show import studio_words as words
from csegsynth_kit.show.brains import VIEWS
from csegsynth_kit.show.studio_latest import Latest, aside
from csegsynth_kit.show.studio_panel import panel_caption, volumes_panel
from csegsynth_kit.show.studio_portrait import portrait
from csegsynth_kit.show.studio_questions import Answer, Question, questions_of, typical_answers
from csegsynth_kit.show.studio_views import View
from csegsynth_kit.show.studio_volumes import (
    SPREAD,
    Interval,
    axis_limit_ml,
    reference,
    spread_interval,
)

#: The range of many draws is computed when nothing has moved for so long.
_PAUSE_S = 0.3
#: What may stand below the views once a person is pinned.
_PINNED = "pinned"
#: Time a year takes while ages play.
_YEAR_MS = 250
_PIN = "Pin this person"
_DESCRIBED = {"description_width": "96px"}
_NUMBER = {"width": "190px"}
_WIDE = {"width": "160px"}
_LEFT = {"width": "430px", "margin": "0 30px 0 0"}
_RIGHT = {"width": "900px"}
_SPREAD = {"justify_content": "space-between", "align_items": "flex-start"}


def studio(
    model: Family,
    cohort: Cohort | None = None,
    *,
    person: Mapping | None = None,
    seed: int = 0,
    interval: Interval | None = None,
    interval_name: str = SPREAD,
    out: str = "studio",
) -> "Studio":
    """Build the studio of a trained model; show it as the last line of a cell.

    Args:
        model: A trained conditional model.
        cohort: Participants to compare volumes with; none without.
        person: Answers to begin with, some questions left out; by default a typical training
            participant's.
        seed: The individual to begin with: the same answers, another person.
        interval: Gives the range of volumes from answers, such as ``Intervals.of`` of calibrated
            intervals; by default :func:`studio_volumes.spread_interval`.
        interval_name: Whose range that is, as in ``range of ...``.
        out: Folder that persons are exported to, unless the page says otherwise.

    Raises:
        ConfigError: if the model takes no answers.
        TableError: for unknown features and impossible answers of ``person``, by name.
    """
    if not model.conditional:
        raise ConfigError(
            "the model was only pre-trained and takes no answers", "Give a fine-tuned model."
        )
    made = Studio(model, cohort, interval or spread_interval(model), interval_name)
    made.individual.value = seed
    made.folder.value = out
    if person is not None:
        made.answer(person)
    return made


class Studio(widgets.VBox):
    """See :func:`studio`, which builds it.

    Args:
        model: A trained conditional model.
        cohort: Participants to compare with, or None.
        interval: Gives the range of volumes from answers.
        interval_name: Whose range that is.
    """

    def __init__(
        self, model: Family, cohort: Cohort | None, interval: Interval, interval_name: str
    ):
        self._model = model
        self._cohort = None if cohort is None else cohort.one_scan_each()
        self._interval, self._interval_name = interval, interval_name
        self._limit_ml = axis_limit_ml(model)
        self._asked: Mapping | None = None
        self._range: pd.DataFrame | None = None
        self._now: Tensor | None = None
        self._before: Tensor | None = None
        self._portrait = Latest(self._draw_person)
        self._rest = Latest(self._draw_rest, delay_s=_PAUSE_S)

        self.questions: dict[str, Question] = questions_of(model.features)
        self.individual = widgets.BoundedIntText(
            min=0, max=9999, description="individual no.", style=_DESCRIBED, layout=_NUMBER
        )
        self.views = {name: View(name, model.config.grid) for name in VIEWS}
        self.volumes = widgets.HTML()
        self.warnings = widgets.HTML()
        self.pin = widgets.ToggleButton(description=_PIN, layout=_WIDE)
        self.beside = widgets.ToggleButtons(
            options=[("pinned person", _PINNED), *((f"change of {t}", t) for t in MEASURED)],
            value="CSF",
            style={"button_width": "112px"},
            layout={"display": "none"},
        )
        self.folder = widgets.Text(description="folder", layout={"width": "340px"})
        self.name = widgets.Text(value="person01", description="name", layout=_NUMBER)
        self.export = widgets.Button(description="Export as BIDS", layout=_WIDE)
        self.said = widgets.HTML()
        self._legend = widgets.HTML(words.tissue_legend())
        super().__init__(self._parts())
        self.add_class("csegsynth-studio")
        self._listen()
        self._draw_person()

    @property
    def answers(self) -> dict[str, Answer]:
        """The answers given; unanswered questions are left out."""
        given = {name: question.answer for name, question in self.questions.items()}
        return {name: answer for name, answer in given.items() if answer is not None}

    @property
    def maps(self) -> SyntheticMaps:
        """The person shown, as :func:`csegsynth_kit.generate` gives it."""
        return generate(self._model, self.answers, seed=self.individual.value)

    def answer(self, person: Mapping) -> None:
        """Take over a person's answers; what they do not say is left unanswered.

        Raises:
            TableError: for unknown features and impossible answers, by name.
        """
        (checked,) = self._model.features.table_of(person).to_dict("records")
        with self._portrait.once():
            for name, question in self.questions.items():
                question.answer = None if pd.isna(checked[name]) else checked[name]

    def write(self) -> None:
        """Write the person shown as a BIDS derivative to the folder, and say so on the page."""
        try:
            place = self.maps.to_bids(self.folder.value, self.name.value)
        except (CsegsynthError, OSError) as error:
            self.said.value = words.warnings_box([str(error)])
            return
        self.said.value = words.note(f"Written to {place}, marked as synthetic.")

    def _listen(self) -> None:
        for question in self.questions.values():
            question.on_change(self._portrait.request)
        self.individual.observe(lambda change: self._portrait.request(), "value")
        for view in self.views.values():
            view.on_cut(lambda view=view: self._draw_view(view))
        self.pin.observe(lambda change: self._set_pin(change["new"]), "value")
        self.beside.observe(lambda change: self._draw_pictures(), "value")
        self.export.on_click(lambda button: self.write())

    def _set_pin(self, pinned: bool) -> None:
        self._before = self._now if pinned else None
        self.pin.description = "Unpin" if pinned else _PIN
        self.beside.layout.display = None if pinned else "none"
        self._draw_pictures()
        self._draw_volumes()

    def _draw_person(self) -> None:
        self._now = portrait(self._model, self.answers, seed=self.individual.value)
        self._draw_pictures()
        self._draw_volumes(stale=True)
        self._rest.request()

    def _draw_rest(self) -> None:
        """What takes longer than a picture, or matters only once the answers stand still."""
        for question in self.questions.values():
            (question.add_class if question.outside else question.remove_class)("studio-outside")
        self._asked = answers = self.answers
        aside(lambda: self._rest_of(answers), lambda rest: self._take(answers, *rest))

    def _rest_of(self, answers: Mapping) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
        """Range of the volumes, and warnings; nothing where others have been asked for since."""
        if answers is not self._asked:
            return None, ()
        _, warnings = checked_people(self._model, answers)
        try:
            return self._interval(answers), warnings
        except CsegsynthError as error:  # Calibrated intervals may not hold for these answers.
            return None, (*warnings, str(error))

    def _take(
        self, answers: Mapping, interval: pd.DataFrame | None, warnings: tuple[str, ...]
    ) -> None:
        if answers is not self._asked:
            return
        self._range = interval
        self.warnings.value = words.warnings_box(warnings)
        self._draw_volumes(stale=answers != self.answers)

    def _draw_pictures(self) -> None:
        for view in self.views.values():
            self._draw_view(view)
        tissue = None if self._before is None else self._changed
        change = words.change_legend(tissue) if tissue else ""
        self._legend.value = words.tissue_legend() + change

    def _draw_view(self, view: View) -> None:
        view.show(self._now, self._before, tissue=self._changed)

    @property
    def _changed(self) -> str | None:
        return None if self.beside.value == _PINNED else self.beside.value

    def _draw_volumes(self, *, stale: bool = False) -> None:
        people = None if self._cohort is None else reference(self._cohort, self.answers)
        panel = volumes_panel(
            self._volumes(self._now),
            limit_ml=self._limit_ml,
            interval=self._range,
            stale=stale,
            people=people,
            before=None if self._before is None else self._volumes(self._before),
        )
        self.volumes.value = panel + panel_caption(self._range, self._interval_name, people)

    def _volumes(self, maps: Tensor) -> dict[str, float]:
        volumes = volumes_ml(maps[: len(MEASURED)], self._model.config.grid.voxel_ml)
        return dict(zip(MEASURED, volumes.tolist(), strict=True))

    def _parts(self) -> list[widgets.Widget]:
        """Arrange the page."""
        simulated = self._model.card["simulated"]
        head = words.STYLE + words.heading() + words.standing(simulated)
        typical = typical_answers(self._model.features)
        left = [
            words.titled("Answers", "tick: answered"),
            *self.questions.values(),
            *self._player(),
            self.individual,
            widgets.HBox([self._setter("Typical", typical), self._setter("Leave unanswered", {})]),
            self.warnings,
        ]
        right = [
            widgets.HBox(list(self.views.values()), layout=_SPREAD),
            self._legend,
            widgets.HBox([self.pin, self.beside]),
            words.titled("Volumes"),
            self.volumes,
            widgets.HBox([self.export, self.name, self.folder]),
            self.said,
        ]
        columns = [widgets.VBox(left, layout=_LEFT), widgets.VBox(right, layout=_RIGHT)]
        return [widgets.HTML(head), widgets.HBox(columns, layout={"margin": "14px 0 0 0"})]

    def _setter(self, name: str, person: Mapping) -> widgets.Button:
        button = widgets.Button(description=name, layout=_WIDE)
        button.on_click(lambda _: self.answer(person))
        return button

    def _player(self) -> list[widgets.Widget]:
        """What moves the age by itself, between the ages of the training participants."""
        age = self.questions.get("age")
        if age is None or not age.column.numeric:
            return []
        youngest, oldest = self._model.features.support[list(self.questions).index("age")]
        play = widgets.Play(
            min=int(np.ceil(youngest)), max=int(oldest), interval=_YEAR_MS, show_repeat=False
        )
        # In the browser, where it also works while Python is still drawing; the age comes first,
        # because the first of both is what the other begins with.
        widgets.jslink((age.control, "value"), (play, "value"))
        return [widgets.HBox([widgets.Label("play over age", layout=_NUMBER), play])]
