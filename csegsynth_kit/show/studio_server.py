"""Start the studio as a page of its own, served by Voilà to this computer only."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from csegsynth_kit.data.cohort import Cohort, load_cohort
from csegsynth_kit.data.files import require_folder
from csegsynth_kit.errors import CohortError, ConfigError, RunError
from csegsynth_kit.show.studio import Studio, studio
from csegsynth_kit.training.pretrained import (
    is_packaged,
    open_model,
    pretrained_card,
    trained_on,
)
from csegsynth_kit.training.runs import Run

#: The page: a notebook that Voilà shows without its code.
APP = Path(__file__).with_name("studio_app.ipynb")
#: Where the page finds what to open: paths of the run, the cohort and exports, as JSON.
VARIABLE = "CSEGSYNTH_STUDIO"
#: Lets the browser load nothing from elsewhere, such as the fonts that Voilà's pages ask for.
_HERE_ONLY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob: ws: wss:"
#: Where ``csegsynth run`` keeps the embedded cohorts.
PREPARED = "data/prepared"


def server(
    path: Path | str,
    *,
    cohort: Path | str | None = None,
    port: int = 8866,
    browser: bool = True,
    out: Path | str = "studio",
) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves a trained model's studio, and its environment.

    Nothing leaves the computer: the page is served to it alone, and needs no network.

    Args:
        path: Run folder of a fine-tuned model, or the folder of a series; then the newest one of
            the default family is taken. Or the name of packaged weights.
        cohort: Prepared cohort to compare with; by default the one the model was trained on, if
            it is among those under ``data/prepared``.
        port: Where the page is served.
        browser: Whether to open it in the browser.
        out: Folder for exported persons.

    Raises:
        ConfigError: if Voilà is not installed, or ``out`` is no place for a folder.
        RunError: if there is no fine-tuned model.
    """
    if find_spec("voila") is None:
        raise ConfigError(
            "the studio's page needs Voilà, which is not installed",
            "Install it with: pip install 'csegsynth_kit[studio]'. In a notebook, "
            "csegsynth_kit.studio works without.",
        )
    require_folder(Path(out))
    if is_packaged(path):
        model, found = str(path), _cohort_of_packaged(str(path))
    else:
        run = find_run(path)
        model, found = str(run.path.resolve()), None if cohort else find_cohort(run)
    found = load_cohort(cohort) if cohort is not None else found
    paths = {
        "run": model,
        "cohort": None if found is None else str(found.path.resolve()),
        "out": str(Path(out).resolve()),
    }
    command = [sys.executable, "-m", "voila", str(APP), f"--port={port}"]
    command += ["--Voila.ip=127.0.0.1", "--Voila.log_level=WARN"]
    headers = {"headers": {"Content-Security-Policy": _HERE_ONLY}}
    command += [f"--Voila.tornado_settings={headers}"]
    command += [] if browser else ["--no-browser"]
    return command, {**os.environ, VARIABLE: json.dumps(paths)}


def open_app() -> Studio:
    """Build the studio that the environment describes; called by the page."""
    if VARIABLE not in os.environ:
        raise ConfigError(
            "the page was not started by 'csegsynth studio'", "Start it with: csegsynth studio RUN"
        )
    paths = json.loads(os.environ[VARIABLE])
    model = open_model(paths["run"])
    cohort = None if paths["cohort"] is None else load_cohort(paths["cohort"])
    return studio(model, cohort, out=paths["out"])


def find_run(path: Path | str) -> Run:
    """Open a fine-tuned run: the folder itself, or the newest of a series' default family.

    Raises:
        RunError: if there is none.
    """
    path = Path(path)
    if (path / "config.json").exists():
        runs = [Run.load(path)]
    else:
        runs = [Run.load(p.parent) for p in sorted(path.glob("models/csegsynth-*/config.json"))]
    trained = [r for r in runs if r.config["stage"] == "finetune" and r.best().exists()]
    if not trained:
        raise RunError(
            "holds no fine-tuned model",
            "Give the run folder of one, or the folder that 'csegsynth run' wrote (runs/tiny).",
            path,
        )
    return max(trained, key=lambda run: run.best().stat().st_mtime)


def find_cohort(run: Run, prepared: Path | str = PREPARED) -> Cohort | None:
    """Find the cohort whose participants a run was trained on, or None.

    Args:
        run: A trained run.
        prepared: Folder of prepared cohorts.
    """
    known = run.provenance()
    for path in sorted(Path(prepared).glob("*/grid.json")):
        try:
            cohort = load_cohort(path.parent)
            trained = cohort.subset(known["participants"]["train"])
        except (CohortError, KeyError):
            continue
        if trained.fingerprint == known["data"]["train"]:
            return cohort
    return None


def _cohort_of_packaged(name: str, prepared: Path | str = PREPARED) -> Cohort | None:
    """Find the simulated cohort that packaged weights were trained on, or None."""
    for path in sorted(Path(prepared).glob("*/grid.json")):
        try:
            cohort = load_cohort(path.parent)
        except CohortError:
            continue
        if trained_on(pretrained_card(name), cohort):
            return cohort
    return None
