"""Running the notebook series headless, and turning it into a report."""

import html
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
import papermill
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from tqdm.auto import tqdm

from csegsynth_kit.data.files import write_text
from csegsynth_kit.errors import ConfigError, SeriesError
from csegsynth_kit.show.study import FAMILY_NAMES, suffix

logger = logging.getLogger(__name__)

Scalar = str | int | float | bool
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#222}img{max-width:100%}code{background:#f3f3f3;padding:0 .2em}"
    "figure{margin:1.5rem 0}figcaption{color:#555;font-size:.9rem}"
)


def find_notebooks(folder: Path | str, only: Sequence[str] = ()) -> list[Path]:
    """Return the numbered notebooks of a folder in order.

    Args:
        folder: Where they are.
        only: Numbers such as ``03``; all without it.

    Raises:
        ConfigError: if the folder has none, or not those asked for.
    """
    found = {path.name[:2]: path for path in sorted(Path(folder).glob("[0-9][0-9]_*.ipynb"))}
    if not found:
        raise ConfigError(
            f"there are no notebooks in {folder}",
            "Run this in a clone of the project, or pass --notebooks.",
        )
    wanted = [f"{int(number):02d}" if number.isdigit() else number for number in only]
    unknown = sorted(set(wanted) - set(found))
    if unknown:
        raise ConfigError(f"there is no notebook {unknown[0]}", f"Choose from {', '.join(found)}.")
    return [path for number, path in found.items() if not wanted or number in wanted]


def run_series(
    notebooks: Sequence[Path],
    out: Path | str,
    parameters: Mapping[str, Scalar],
    *,
    families: Sequence[str] = (),
    progress: bool = True,
) -> Path:
    """Execute notebooks one after the other and write an HTML report.

    Args:
        notebooks: From :func:`find_notebooks`.
        out: Folder of executed notebooks, HTML pages, figures and tables.
        parameters: Values for the notebooks' *parameters* cells.
        families: Notebooks with a parameter ``family`` are executed for each of them, those
            with a parameter ``families`` once for all, to compare them, and what follows a
            comparison for the last family only; the others do not depend on it.
        progress: Show a progress bar over notebooks.

    Returns:
        The report's ``index.html``.

    Raises:
        ConfigError: for a parameter a notebook does not have.
        SeriesError: if a cell fails; names the notebook and the cell. What was executed up to
            there is kept.
    """
    out = Path(out).resolve()
    tasks, asked = [], families
    for notebook in notebooks:
        tasks += _tasks(notebook, parameters, asked)
        if "families" in papermill.inspect_notebook(notebook):
            asked = families[-1:]
    folder = out / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    for notebook in notebooks:  # What an earlier series left of them is not of this one.
        for old in folder.glob(f"{notebook.stem}[.-]*"):
            old.unlink()
    shown = {**parameters, "families": ", ".join(families)} if families else parameters
    bar = tqdm(tasks, desc="Notebooks", unit="notebook", disable=not progress)
    for name, notebook, values in bar:
        bar.set_postfix_str(name)
        executed, failure = folder / f"{name}.ipynb", ""
        try:
            execute(notebook, executed, values)
        except SeriesError as error:
            failure = str(error)
            raise
        finally:
            if executed.exists():
                _to_html(executed)
            write_index(out, shown, failure)
    return out / "index.html"


def write_index(out: Path, parameters: Mapping[str, Scalar], failure: str = "") -> Path:
    """Write the report's first page: what failed, links to the notebooks, parameters, figures."""
    pages = sorted((out / "notebooks").glob("*.html"))
    links = "".join(
        f'<li><a href="notebooks/{page.name}">{_title(page.with_suffix(".ipynb"))}</a></li>'
        for page in pages
    )
    values = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(str(value))}</td></tr>"
        for name, value in parameters.items()
    )
    figures = "".join(
        f'<figure><img src="figures/{path.name}" alt="{path.stem}">'
        f"<figcaption>{html.escape(path.stem.replace('_', ' '))}</figcaption></figure>"
        for path in sorted((out / "figures").glob("*.png"))
    )
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>csegsynth_kit</title>'
        f"<style>{_STYLE}</style><h1>csegsynth_kit: report of a series</h1>"
        f"{_statements(out)}"
        f"{f'<p><strong>Stopped: {html.escape(failure)}</strong></p>' if failure else ''}"
        f"<ol>{links}</ol><h2>Parameters</h2><table>{values}</table>"
        f"<h2>Figures</h2>{figures}</html>\n"
    )
    write_text(out / "index.html", text)
    return out / "index.html"


def _statements(out: Path) -> str:
    """Say what the models of this series were trained on; by stage, where that differs."""
    said: dict[str, dict[str, None]] = {"Pre-training": {}, "Fine-tuning": {}}
    for file in sorted(out.glob("models/*/provenance.json")):
        cohort = json.loads(file.read_text(encoding="utf-8")).get("cohort", {})
        stage = "Pre-training" if "-pretrain-" in file.parent.name else "Fine-tuning"
        said[stage][cohort.get("statement") or f"Segmentations of {cohort.get('source')}."] = None
    begun = [" ".join(texts) for texts in said.values() if texts]
    if len(set(begun)) > 1:
        begun = [f"{stage}: {' '.join(texts)}" for stage, texts in said.items()]
    return "".join(f"<p><strong>{html.escape(t)}</strong></p>" for t in dict.fromkeys(begun))


def execute(notebook: Path, executed: Path, parameters: Mapping[str, Scalar]) -> None:
    """Execute one notebook in its own folder, or raise SeriesError with the failing cell."""
    try:
        papermill.execute_notebook(
            notebook,
            executed,
            parameters=dict(parameters),
            cwd=notebook.parent,
            kernel_name="python3",
            language="python",
            progress_bar=False,
        )
    except PapermillExecutionError as error:
        # papermill's own cell with the parameters counts too.
        number = error.exec_count - (1 if parameters and error.exec_count > 2 else 0)
        raise SeriesError(
            f"cell {number} of {notebook.name} failed: {error.ename}: {error.evalue.rstrip('.')}",
            f"The traceback is in {executed}.",
            notebook,
        ) from error
    except Exception as error:  # The kernel died, most often for want of memory.
        raise SeriesError(
            f"{notebook.name} could not be executed: {type(error).__name__}: {error}",
            "Close other programs, or choose a preset with a coarser grid.",
            notebook,
        ) from error


def _tasks(
    notebook: Path, parameters: Mapping[str, Scalar], families: Sequence[str]
) -> list[tuple[str, Path, dict[str, Scalar]]]:
    """Return name, notebook and parameters of each execution of a notebook."""
    known = papermill.inspect_notebook(notebook)
    if families and "family" in known:
        named = {family: f"{notebook.stem}{suffix(family)}" for family in families}
        tasks = [(name, notebook, {**parameters, "family": f}) for f, name in named.items()]
    elif families and "families" in known:
        tasks = [(notebook.stem, notebook, {**parameters, "families": ",".join(families)})]
    else:
        tasks = [(notebook.stem, notebook, dict(parameters))]
    for _, _, values in tasks:
        _require_parameters(notebook, values)
    return tasks


def _require_parameters(notebook: Path, parameters: Mapping[str, Scalar]) -> None:
    """Refuse parameters the notebook does not have: papermill would only warn."""
    known = papermill.inspect_notebook(notebook)
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ConfigError(
            f"{notebook.name} has no parameter {unknown[0]!r}",
            f"Its parameters are {', '.join(known)}.",
        )


def _to_html(executed: Path) -> None:
    # Without the addresses of scripts, a page needs no network.
    exporter = HTMLExporter(template_name="lab", require_js_url="", mathjax_url="")
    body, _ = exporter.from_filename(str(executed))
    write_text(executed.with_suffix(".html"), body)


def _title(notebook: Path) -> str:
    """Return a notebook's heading; papermill puts cells of its own before it if a cell failed."""
    cells = nbformat.read(notebook, as_version=4).cells
    first = next(cell.source for cell in cells if cell.source.startswith("# "))
    _, _, family = notebook.stem.partition("-")
    of = f" ({FAMILY_NAMES[family][1]})" if family in FAMILY_NAMES else ""
    return html.escape(first.splitlines()[0].removeprefix("# ") + of)
