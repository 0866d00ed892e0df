"""The studio in a real browser: serve it, open it without a window, press keys."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from csegsynth_kit.show.studio_server import server

#: The picture of a view, a number beside it, and the handle of a question's slider.
PICTURE = ".studio-axial img"
VOLUME = "[data-volume='{}']"
_QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
_PLAIN = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
#: Starting a kernel, torch and a browser on a busy machine (s).
PATIENCE_S = 120


def lacking() -> str:
    """Say what is missing for a test in the browser; empty if nothing is."""
    for module in ("voila", "selenium"):
        if find_spec(module) is None:
            return f"{module} is not installed: pip install 'csegsynth_kit[studio-test]'"
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: apt-get install chromium chromium-driver)"
    return ""


@contextmanager
def served(run: Path, cohort: Path, out: Path) -> Iterator[str]:
    """Serve the studio while inside, and give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, environment = server(run, cohort=cohort, port=port, browser=False, out=out)
    process = subprocess.Popen(command, env=environment)
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError("the server of the studio did not start")


@contextmanager
def opened(address: str, profile: Path, *, size: tuple[int, int] = (1400, 1010)) -> Iterator:
    """Open the page in a browser of its own, and wait until the first picture is there."""
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    window = (f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}")
    for argument in (*_PLAIN, *_QUIET, *window):
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    try:
        browser.get(address)
        WebDriverWait(browser, PATIENCE_S).until(lambda page: complete(page))
        yield browser
    finally:
        browser.quit()


def complete(browser) -> bool:
    """Tell whether the picture and the range of volumes are there."""
    return browser.execute_script(
        "const picture = document.querySelector(arguments[0]);"
        "return Boolean(picture && picture.naturalWidth && "
        "document.body.innerText.includes('90 % range'))",
        PICTURE,
    )


def slider(browser, label: str):
    """The handle of the slider whose description begins with ``label``; arrow keys move it."""
    return browser.execute_script(
        "return [...document.querySelectorAll('.widget-slider')].find(s => "
        "s.querySelector('label').textContent.startsWith(arguments[0]))"
        ".querySelector('.noUi-handle')",
        label,
    )


def state(browser) -> tuple[str, list[str]]:
    """The axial picture's content and the three volumes, as the page has them."""
    picture = browser.execute_script(
        "const p = document.querySelector(arguments[0]), c = document.createElement('canvas');"
        "c.width = p.naturalWidth; c.height = p.naturalHeight;"
        "c.getContext('2d').drawImage(p, 0, 0); return c.toDataURL()",
        PICTURE,
    )
    volumes = [
        browser.execute_script(
            "return document.querySelector(arguments[0]).textContent", VOLUME.format(tissue)
        )
        for tissue in ("WM", "GM", "CSF")
    ]
    return picture, volumes


def show_off(browser, path: Path) -> None:
    """Pin a person in the thirties, add 40 years, and keep a picture of the page."""
    from selenium.webdriver.common.keys import Keys

    handle = slider(browser, "age")
    handle.send_keys(Keys.HOME + Keys.ARROW_RIGHT * 24)
    time.sleep(3)
    names = browser.find_elements("tag name", "button")
    next(button for button in names if button.text == "Pin this person").click()
    time.sleep(1)
    handle.send_keys(Keys.ARROW_RIGHT * 40)
    time.sleep(3)
    browser.execute_script(
        "document.activeElement.blur();"
        "[...document.querySelectorAll('input')].find(i => i.value.includes('/')).value = 'studio'"
    )
    box = browser.find_element("css selector", ".csegsynth-studio")
    browser.set_window_size(1400, int(box.size["height"]) + 200)
    time.sleep(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    box.screenshot(str(path))
