"""Executing the committed notebooks in place, and making their outputs comparable.

``python -m csegsynth_kit.refresh notebooks`` runs every notebook with its own parameters. Counts
run from 1, and nothing is kept that differs between equal executions: times, ids of the
machine, widget states, progress bars.
"""

import base64
import io
import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

from csegsynth_kit.batch import execute, find_notebooks
from csegsynth_kit.data.files import write_text

#: Metadata of a notebook that says what it is, not how it was run.
_KEPT = ("kernelspec", "language_info")


def refresh(folder: Path) -> None:
    """Execute and normalize all numbered notebooks of a folder."""
    for path in find_notebooks(folder):
        with tempfile.TemporaryDirectory() as scratch:
            executed = Path(scratch) / path.name
            execute(path, executed, {})
            notebook = nbformat.read(executed, as_version=4)
        write_text(path, nbformat.writes(normalized(notebook)) + "\n")


def normalized(notebook: NotebookNode) -> NotebookNode:
    """Keep of an executed notebook what another execution would give again."""
    metadata = {key: notebook.metadata[key] for key in _KEPT if key in notebook.metadata}
    metadata["language_info"] = {"name": "python"}
    notebook.metadata = NotebookNode(metadata)
    count = 0
    for cell in notebook.cells:
        tags = [t for t in cell.metadata.get("tags", []) if not t.startswith("papermill")]
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = [o for o in cell.outputs if not _passing(o)]
        for output in cell.outputs:
            output.pop("execution_count", None)
            if output.output_type == "execute_result":
                output.execution_count = count
            output.get("metadata", {}).clear()
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _smaller(output.data["image/png"])
    return notebook


def _smaller(picture: str) -> str:
    """Reduce a PNG (base64) to 128 colors, rare ones too: a third of the bytes."""
    reduced = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        reduced, "PNG", optimize=True
    )
    return base64.b64encode(reduced.getvalue()).decode() + "\n"


def _passing(output: NotebookNode) -> bool:
    """Progress bars: nbval ignores them, readers gain nothing from them."""
    if output.output_type == "stream":
        return output.name == "stderr" and "%|" in output.text
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})


if __name__ == "__main__":
    refresh(Path(sys.argv[1]))
