"""Pictures, volumes, controls and the printed twin of the studio."""

import io
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from csegsynth_kit.analysis.generate import generate, predict_shared_volumes
from csegsynth_kit.constants import COLORS, MEASURED
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import RunError
from csegsynth_kit.maps import Grid
from csegsynth_kit.show import studio_pictures as pictures
from csegsynth_kit.show.brains import VIEWS, usual_slice
from csegsynth_kit.show.studio_figure import studio_figure
from csegsynth_kit.show.studio_panel import panel_caption, volumes_panel
from csegsynth_kit.show.studio_portrait import encoded_person, portrait
from csegsynth_kit.show.studio_questions import Question, typical_answers
from csegsynth_kit.show.studio_server import find_cohort, find_run
from csegsynth_kit.show.studio_volumes import Reference, reference, spread_interval, volumes_of
from tests.models_for_tests import started_model
from tests.toy import toy_cohort
from tests.training.jobs import toy_preset, train

GRID = Grid("g", (10, 12, 14), (8.0, 7.0, 6.0), (1.0, -2.0, 3.0))
PERSON = {"age": 40.0, "sex": "female"}


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("parts") / "cohort", 60)


@pytest.fixture(scope="module")
def model(cohort):
    return started_model(cohort)


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize(
    "person",
    [{}, PERSON, {"age": 95.5, "education": "medium", "site": "c"}, {"sex": "male", "site": "a"}],
)
def test_the_short_way_gives_what_generate_gives(model, person):
    encoded = encoded_person(model.features, person)
    table = model.features.encode(model.features.table_of(person))
    np.testing.assert_allclose(encoded.values, table.values)
    np.testing.assert_array_equal(encoded.answered, table.answered)
    expected = generate(model, person, seed=5).probabilities[0]
    torch.testing.assert_close(portrait(model, person, seed=5), expected)


@pytest.mark.parametrize("view", VIEWS)
def test_positions_and_slices_invert_each_other(view):
    n = GRID.shape[VIEWS[view][0]]
    places = [pictures.position_mm(GRID, view, i) for i in range(n)]
    assert [pictures.slice_at(GRID, view, place) for place in places] == list(range(n))
    np.testing.assert_allclose(np.mean(places), GRID.center_mm[VIEWS[view][0]])
    assert pictures.slice_at(GRID, view, -1e3) == 0
    assert pictures.slice_at(GRID, view, 1e3) == n - 1


def test_a_picture_has_the_proportions_of_the_head_and_stands_upright():
    maps = torch.zeros(4, *GRID.shape)
    maps[3] = 1
    maps[3, :, 6:, 7:], maps[1, :, 6:, 7:] = 0, 1  # gray matter in front, on top
    colors = opened(pictures.tissue_picture(maps, GRID, "sagittal", 4))
    height, width, _ = colors.shape
    assert (width, height) == (84, 84)  # 12 x 7 mm and 14 x 6 mm, one pixel each
    gray = np.abs(colors / 255 - to_rgb(COLORS["GM"])).max(-1) < 0.02
    assert gray[: height // 2 - 14, width // 2 + 14 :].all()
    assert not gray[height // 2 + 14 :].any()
    assert not gray[:, : width // 2 - 14].any()


def test_change_is_white_where_nothing_changes_and_purple_where_tissue_is_lost():
    before = torch.zeros(4, *GRID.shape)
    before[0] = 1
    after = before.clone()
    after[:2, :5] = torch.tensor([0.0, 1.0])[:, None, None, None]
    wm, gm = (
        pictures.change_slice(before, after, "axial", 5, tissue=tissue) for tissue in ("WM", "GM")
    )
    assert wm.shape == (12, 10, 3)
    assert (wm[:, 5:] == 255).all()
    lost, gained = wm[0, 0].astype(int), gm[0, 0].astype(int)
    assert lost[1] < min(lost[0], lost[2])  # purple
    assert gained[1] > max(gained[0], gained[2])  # green
    back = pictures.change_slice(after, before, "axial", 5, tissue="WM")
    assert (back == gm).all()


def test_reference_is_of_the_same_sex_and_about_the_same_age(cohort):
    people = reference(cohort, PERSON, years=15)
    table = cohort.table
    alike = (table["sex"] == "female") & table["age"].between(25, 55)
    assert people.n == alike.sum() >= 10
    np.testing.assert_allclose(people.quantiles.loc[0.5], cohort.volumes[alike].median())
    assert people.who == "simulated participants, female, 25 to 55 years"
    assert reference(cohort, {}).n == len(cohort)
    few = reference(cohort, PERSON, years=1)
    assert few.n < 10
    assert few.quantiles.empty


def test_the_spread_holds_as_many_draws_as_it_says(model):
    interval = spread_interval(model, draws=256, level=0.8)
    rows = interval(PERSON).set_index("tissue")
    draws = predict_shared_volumes(model, PERSON, n=400, seed=9)[0]
    for i, tissue in enumerate(MEASURED):
        low, high = rows.loc[tissue, ["low_ml", "high_ml"]]
        inside = ((draws[:, i] >= low) & (draws[:, i] <= high)).mean()
        assert 0.68 < inside < 0.92, tissue
    wider = spread_interval(model, draws=256, level=0.95)(PERSON).set_index("tissue")
    assert (wider["low_ml"] < rows["low_ml"]).all()
    assert (wider["high_ml"] > rows["high_ml"]).all()


def test_the_panel_is_drawn_to_scale_and_read_aloud():
    volumes = {"WM": 500.0, "GM": 250.0, "CSF": 1000.0}
    panel = volumes_panel(volumes, limit_ml=1000.0, before=volumes | {"GM": 280.0})
    tree = ElementTree.fromstring(panel)
    assert tree.get("aria-label") == "Volumes: WM 500 mL, GM 250 mL, CSF 1000 mL"
    bars = {box.get("fill"): float(box.get("width")) for box in tree.iter("rect")}
    widest = bars[COLORS["CSF"]]
    assert bars[COLORS["WM"]] == pytest.approx(widest / 2)
    assert bars[COLORS["GM"]] == pytest.approx(widest / 4)
    text = [node.text for node in tree.iter("text")]
    assert "\u221230" in text
    assert text.count("0") == 3  # the axis begins at 0, and two tissues did not change


def test_too_few_people_are_said_to_be():
    people = Reference(pd.DataFrame(columns=list(MEASURED)), 4, "real participants")
    panel = volumes_panel(dict.fromkeys(MEASURED, 100.0), limit_ml=1000.0, people=people)
    assert "too few to show" in panel
    assert "Only 4 real participants" in panel_caption(None, "", people)


def test_sliders_have_natural_steps_and_reach_beyond_what_was_seen():
    question = Question(Column("BMI", "continuous", units="kg/m^2"), (17.3, 41.2), 25.0)
    slider = question.control
    assert slider.description == "BMI (kg/m\u00b2)"
    assert slider.step == 0.2
    assert slider.min < 17.3 < 41.2 < slider.max
    assert not question.outside
    question.answer = 60.0  # a person of that BMI can be looked at as well
    assert (question.answer, question.outside) == (60.0, True)
    assert Question(Column("alcohol", "continuous"), (0.0, 40.0), 5.0).control.min == 0
    assert Question(Column("children", "ordinal"), (0.0, 6.0), 1.0).control.step == 1


def test_an_answer_that_training_lacks_is_offered_and_outside():
    question = Question(Column("site", "categorical", ("a", "b", "c")), ("a", "b"), "a")
    assert question.control.options == ("a", "b", "c")
    question.answer = "c"
    assert question.outside
    question.answer = None
    assert not question.outside


def test_typical_answers_are_means_and_common_answers(model, cohort):
    typical = typical_answers(model.features)
    assert typical["age"] == round(cohort.table["age"].mean())
    assert typical["site"] == cohort.table["site"].mode()[0]
    generate(model, typical)


def test_the_printed_twin_shows_views_and_volumes(model, cohort):
    figure = studio_figure(model, PERSON | {"age": 80.0}, cohort, before=PERSON, seed=2)
    figure.canvas.draw()
    images = [ax for ax in figure.axes if ax.images]
    assert len(images) == 6
    (chart,) = (ax for ax in figure.axes if ax.get_xlabel() == "Volume (mL)")
    widths = [bar.get_width() for bar in chart.patches if np.isclose(bar.get_height(), 0.4)]
    volumes = volumes_of(generate(model, PERSON | {"age": 80.0}, seed=2))
    np.testing.assert_allclose(widths, [volumes[tissue] for tissue in MEASURED])
    said = " ".join(figure.subfigs[1]._supxlabel.get_text().split())
    assert "not a prediction of an individual brain" in said
    assert "simulated participants" in said
    assert "Triangles: before the change from age 40 to 80." in said
    title = figure.subfigs[0]._suptitle.get_text()
    assert title.splitlines() == [
        "One generated individual: 80 years, female",
        "Below: change of CSF from age 40 to 80",
    ]
    assert images[0].images[0].get_array().shape == (16, 12, 3)
    assert usual_slice(cohort.grid, "sagittal") == 4


def test_run_and_cohort_are_found(tmp_path, cohort):
    prepared = tmp_path / "prepared"
    toy_cohort(prepared / "right", 24)
    toy_cohort(prepared / "wrong", 24, seed=5)
    run = train(prepared / "right", tmp_path / "out" / "models", toy_preset(epochs=1))
    assert find_run(run.path).path == run.path
    assert find_run(tmp_path / "out").path == run.path
    assert find_cohort(run, prepared).path == prepared / "right"
    assert find_cohort(run, tmp_path / "nowhere") is None
    with pytest.raises(RunError, match="holds no fine-tuned model"):
        find_run(tmp_path)
