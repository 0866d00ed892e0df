"""The widgets of the studio, moved from Python: what is shown follows what is answered."""

import asyncio
import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from csegsynth_kit.analysis.certainty import Intervals
from csegsynth_kit.analysis.generate import generate
from csegsynth_kit.errors import ConfigError, TableError
from csegsynth_kit.show.studio import studio
from csegsynth_kit.show.studio_figure import studio_figure
from csegsynth_kit.show.studio_latest import Latest
from csegsynth_kit.show.studio_volumes import volumes_of
from tests.models_for_tests import started_model
from tests.toy import toy_cohort

PERSON = {"age": 40.0, "sex": "female", "education": "high"}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("studio") / "cohort", 60)


@pytest.fixture(scope="module")
def model(cohort):
    return started_model(cohort)


@pytest.fixture
def page(model, cohort):
    return studio(model, cohort, person=PERSON, seed=3)


def shown(page) -> list[bytes]:
    return [view.now.value for view in page.views.values()]


def test_the_page_shows_what_generate_gives(page, model):
    assert page.answers == PERSON
    expected = generate(model, PERSON, seed=3)
    torch.testing.assert_close(page.maps.probabilities, expected.probabilities)
    for tissue, volume in volumes_of(expected).items():
        assert f'data-volume="{tissue}">{volume:.0f}<' in page.volumes.value


def test_every_question_has_a_control_with_its_unit_and_can_be_unanswered(page, model):
    assert tuple(page.questions) == model.features.questions
    assert page.questions["age"].control.description == "age (years)"
    assert page.questions["education"].control.options == ("low", "medium", "high")
    for name, question in page.questions.items():
        page.answer(PERSON | {"site": "b"})
        question.answered.value = False
        assert name not in page.answers
        assert question.control.disabled
    page.answer({})
    assert page.answers == {}
    torch.testing.assert_close(page.maps.probabilities, generate(model, {}, seed=3).probabilities)


def test_picture_and_numbers_follow_a_slider_and_come_back(page):
    before, numbers = shown(page), page.volumes.value
    page.questions["age"].control.value = 80.0
    assert all(a != b for a, b in zip(shown(page), before, strict=True))
    assert page.volumes.value != numbers
    page.questions["age"].control.value = 40.0
    assert shown(page) == before
    assert page.volumes.value == numbers


def test_another_individual_gives_the_same_answers(page):
    before = shown(page)
    page.individual.value = 4
    assert shown(page) != before
    assert page.answers == PERSON


def test_a_cut_moves_one_view_only(page):
    before = shown(page)
    page.views["coronal"].cut.value += 20.0
    changed = [a != b for a, b in zip(shown(page), before, strict=True)]
    assert changed == [name == "coronal" for name in page.views]


def test_a_pinned_person_stays_and_the_difference_appears(page):
    before = shown(page)
    page.pin.value = True
    hidden = [view.beside.layout.display for view in page.views.values()]
    unchanged = [view.beside.value for view in page.views.values()]
    assert hidden == [None] * 3
    page.questions["age"].control.value = 80.0
    assert all(v.beside.value != u for v, u in zip(page.views.values(), unchanged, strict=True))
    page.beside.value = "pinned"
    assert [view.beside.value for view in page.views.values()] == before
    assert "change since" in page.volumes.value
    page.pin.value = False
    assert [view.beside.layout.display for view in page.views.values()] == ["none"] * 3
    assert "change since" not in page.volumes.value


def test_answers_nobody_gave_are_warned_of_where_they_stand(page, model):
    assert page.warnings.value == ""
    oldest = model.features.support[0][1]
    page.questions["age"].control.value = oldest + 2
    assert "outside" in page.warnings.value
    assert "studio-outside" in page.questions["age"]._dom_classes
    page.questions["age"].control.value = 40.0
    assert page.warnings.value == ""
    assert "studio-outside" not in page.questions["age"]._dom_classes


def test_the_standing_sentences_are_on_the_page(page):
    head = page.children[0].value
    assert "not a prediction of an individual brain" in head
    assert "nobody was followed" in head
    assert "simulated participants" in head


def test_export_writes_the_person_shown_and_refuses_to_overwrite(page, tmp_path):
    page.folder.value = str(tmp_path / "out")
    page.export.click()
    assert "marked as synthetic" in page.said.value
    (file,) = (tmp_path / "out").rglob("*label-GM_probseg.nii.gz")
    np.testing.assert_array_equal(
        nib.load(file).get_fdata(dtype=np.float32), page.maps.probabilities[0, 1].numpy()
    )
    sidecar = json.loads(file.with_suffix("").with_suffix(".json").read_text())
    assert sidecar["Synthetic"] is True
    table = pd.read_csv(tmp_path / "out" / "participants.tsv", sep="\t", keep_default_na=False)
    assert table.loc[0, ["age", "sex", "site"]].tolist() == [40.0, "female", "n/a"]
    page.export.click()
    assert "holds sub-person01 already" in page.said.value


def test_another_interval_can_be_put_in(model, cohort):
    def interval(answers):
        low = [100.0, 200.0, 300.0]
        rows = {"tissue": ["WM", "GM", "CSF"], "low_ml": low, "high_ml": [900.0] * 3}
        return pd.DataFrame(rows | {"level": 0.8})

    page = studio(model, cohort, interval=interval, interval_name="calibrated people")
    assert "200 to 900" in page.volumes.value
    assert "80 % range of calibrated people" in page.volumes.value


@pytest.fixture(scope="module")
def calibrated(cohort, model):
    """Intervals of people who answer everything."""
    fresh = cohort.subset(cohort.ids[:30])
    return Intervals.calibrate(model, fresh, draws=4)


def test_open_questions_are_said_beside_a_calibrated_range(model, calibrated):
    everything = PERSON | {"site": "b"}
    page = studio(model, person=everything, interval=calibrated.of)
    assert "unanswered" not in page.volumes.value
    page.questions["age"].answered.value = False
    said = "1 question is unanswered, but the range was calibrated on people who answer"
    assert said in page.volumes.value
    assert "less often than 90 %" in page.volumes.value
    page.answer({"age": 40.0})
    assert "3 questions are unanswered" in page.volumes.value
    page.answer(everything)
    assert "unanswered" not in page.volumes.value
    caption = studio_figure(model, PERSON, interval=calibrated.of).subfigs[1]._supxlabel
    assert said in " ".join(caption.get_text().split())


def test_questions_that_calibration_left_out_may_stay_open(cohort, model):
    short = Intervals.calibrate(model, cohort, asked=["age", "sex"], draws=4)
    page = studio(model, person={"age": 40.0, "sex": "male"}, interval=short.of)
    assert "unanswered" not in page.volumes.value


def test_the_spread_of_draws_is_no_calibrated_range(page):
    page.answer({})
    assert "range of people whom the model generates" in page.volumes.value
    assert "unanswered" not in page.volumes.value


def test_an_interval_that_does_not_hold_says_why(model):
    def interval(answers):
        raise TableError("these questions were not asked", "Answer age.")

    page = studio(model, interval=interval)
    assert "these questions were not asked" in page.warnings.value
    assert "No cohort was given" in page.volumes.value


def test_a_model_without_questions_is_refused(cohort):
    with pytest.raises(ConfigError, match="takes no answers"):
        studio(started_model(cohort, conditional=False))


def test_many_moves_share_one_drawing_of_the_last(page, monkeypatch):
    drawn = []
    draw = page._draw_person
    monkeypatch.setattr(page._portrait, "_act", lambda: (drawn.append(page.answers), draw()))

    async def hurry():
        for age in range(41, 61):
            page.questions["age"].control.value = float(age)
        await asyncio.sleep(0.4)

    asyncio.run(hurry())
    assert [answers["age"] for answers in drawn] == [60.0]


def test_the_range_is_that_of_the_last_answers_and_faded_until_it_is(page):
    seen = []

    async def move():
        page.questions["age"].control.value = 60.0
        await asyncio.sleep(0.1)
        seen.append(page.volumes.value)
        await asyncio.sleep(1.5)

    asyncio.run(move())
    assert 'opacity="0.25"' in seen[0]
    assert 'opacity="1"' in page.volumes.value
    moved = page.volumes.value
    page._draw_rest()
    assert page.volumes.value == moved


def test_a_pause_is_waited_for_only_where_one_is_asked_for():
    calls = []

    async def requests():
        at_once, paused = (
            Latest(lambda: calls.append("at once")),
            Latest(lambda: calls.append("paused"), delay_s=0.1),
        )
        for _ in range(4):
            at_once.request()
            paused.request()
            await asyncio.sleep(0.03)
        await asyncio.sleep(0.3)

    asyncio.run(requests())
    assert calls == ["at once"] * 4 + ["paused"]
