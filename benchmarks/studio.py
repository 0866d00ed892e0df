"""Time from key press to changed picture in the studio, measured in the browser, as Markdown.

    python -m benchmarks.studio --run runs/tiny --cohort data/prepared/lifespan-tiny
    python -m benchmarks.studio --grid small

With --grid, a model of that preset is begun on a few simulated people and hardly trained: how
long a picture takes does not depend on what it shows. Needs Voila, Selenium and Chromium.
"""

import argparse
import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from selenium.webdriver.common.keys import Keys

from csegsynth_kit.data.features import Features
from csegsynth_kit.models import build
from csegsynth_kit.models.presets import preset
from csegsynth_kit.simulate.cohort import simulate_cohort
from csegsynth_kit.training.runs import Run
from csegsynth_kit.training.trainer import Trainer
from tests.browser import page

log = logging.getLogger("studio")

#: Keeps, for every key, the time until the browser has decoded the picture that it led to.
_RECORD = """
const picture = document.querySelector(arguments[0]);
window.waits = []; let pressed = null;
document.addEventListener('keydown', () => { pressed = performance.now(); }, true);
new MutationObserver(async () => {
  const since = pressed; pressed = null;
  if (since === null) return;
  await picture.decode();
  window.waits.push(performance.now() - since);
}).observe(picture, {attributes: true, attributeFilter: ['src']});
"""


def begun(folder: Path, grid: str, people: int) -> tuple[Path, Path]:
    """Simulate people, begin a model on them, and return the folders of run and cohort."""
    cohort = simulate_cohort(folder / "cohort", n=people, grid=grid, seed=3)
    train, valid, _ = cohort.split((0.8, 0.2, 0.0))
    features = Features.fit(train.table, train.feature_columns)
    chosen = preset("csegsynth", grid)
    chosen = replace(chosen, finetune=replace(chosen.finetune, steps=1, epochs=0))
    run = Run.open(folder / "runs", family="csegsynth", stage="finetune", preset=chosen)
    Trainer(build(chosen.model, features), chosen.finetune, run, progress=False).fit(train, valid)
    return run.path, cohort.path


def waits_ms(browser, moves: int) -> np.ndarray:
    """Move the age by key, each time after the picture of the last move has come."""
    browser.execute_script(_RECORD, page.PICTURE)
    handle = page.slider(browser, "age")
    for move in range(moves):
        handle.send_keys(Keys.ARROW_RIGHT if move % 20 < 10 else Keys.ARROW_LEFT)
        end = time.monotonic() + 30
        while browser.execute_script("return waits.length") <= move:
            if time.monotonic() > end:
                raise TimeoutError(f"move {move} led to no picture")
            time.sleep(0.02)
        time.sleep(0.1)
    return np.array(browser.execute_script("return waits"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder, or folder of a series")
    parser.add_argument("--cohort", type=Path, help="prepared cohort to compare with")
    parser.add_argument("--grid", choices=("tiny", "small", "full"), help="instead of --run")
    parser.add_argument("--people", type=int, default=60, help="simulated for --grid")
    parser.add_argument("--moves", type=int, default=50)
    parser.add_argument("--figure", type=Path, help="where to write a picture of the page")
    options = parser.parse_args()
    if bool(options.run) == bool(options.grid):
        parser.error("give either --run or --grid")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        run, cohort = options.run, options.cohort
        if options.grid:
            run, cohort = begun(folder, options.grid, options.people)
        with (
            page.served(run, cohort, folder / "out") as address,
            page.opened(address, folder / "profile") as browser,
        ):
            waits = waits_ms(browser, options.moves)
            if options.figure:
                page.show_off(browser, options.figure)
    low, high = np.percentile(waits, [50, 95])
    log.info(
        "| %s | %d | %.0f | %.0f | %.0f |", options.grid or run, len(waits), low, high, waits.max()
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(2)
    log.info("| model | moves | median (ms) | 95th percentile (ms) | longest (ms) |")
    log.info("|---|---|---|---|---|")
    main()
