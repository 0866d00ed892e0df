"""The page of ``csegsynth studio`` in Chromium: keys move sliders, picture and numbers follow."""

import time

import pytest

from csegsynth_kit.data.cohort import load_cohort
from tests.browser import page
from tests.toy import toy_cohort
from tests.training.jobs import toy_preset, train

pytestmark = pytest.mark.skipif(bool(page.lacking()), reason=page.lacking() or "nothing is lacking")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    toy_cohort(folder / "cohort", 60)
    run = train(folder / "cohort", folder / "runs", toy_preset(epochs=1))
    assert load_cohort(folder / "cohort").simulated
    with (
        page.served(run.path, folder / "cohort", folder / "out") as address,
        page.opened(address, folder / "profile") as opened,
    ):
        opened.out = folder / "out"
        yield opened


def eventually(true, *, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False


def test_arrow_keys_move_picture_and_numbers_and_back(browser):
    from selenium.webdriver.common.keys import Keys

    before = page.state(browser)
    handle = page.slider(browser, "age")
    handle.send_keys(Keys.ARROW_RIGHT * 12)
    assert browser.switch_to.active_element == handle  # the keyboard's focus stays on it
    assert eventually(lambda: page.state(browser)[0] != before[0])
    assert eventually(lambda: page.state(browser)[1] != before[1])
    handle.send_keys(Keys.ARROW_LEFT * 12)
    assert eventually(lambda: page.state(browser) == before)


def test_what_must_be_said_is_on_the_page(browser):
    text = browser.find_element("tag name", "body").text
    assert "A synthetic person, not a prediction of an individual brain." in text
    assert "nobody was followed over time" in text
    assert "simulated participants, who do not exist" in text


def test_the_page_loads_nothing_from_elsewhere(browser):
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource')"
        ".filter(e => e.transferSize > 0).map(e => new URL(e.name).hostname)"
    )
    assert set(loaded) <= {"127.0.0.1", ""}


def test_every_control_is_reached_by_the_tab_key(browser):
    """Counted in the page: two stops for each question, and all can take the focus."""
    stops = browser.execute_script(
        "return [...document.querySelectorAll('.csegsynth-studio .noUi-handle, "
        ".csegsynth-studio select, .csegsynth-studio input, .csegsynth-studio button')]"
        ".filter(e => e.offsetParent && !e.disabled).map(e => e.tabIndex)"
    )
    assert len(stops) >= 2 * 4 + 3  # four questions with their boxes, three places to cut
    assert min(stops) >= 0


def test_a_person_is_exported_from_the_page(browser):
    (button,) = (
        b for b in browser.find_elements("tag name", "button") if b.text == "Export as BIDS"
    )
    button.click()
    assert eventually(lambda: list(browser.out.rglob("*_label-GM_probseg.nii.gz")))
