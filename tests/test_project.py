"""The project's own rules: imports, dependencies, notebooks."""

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
import yaml

import csegsynth_kit

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def dependencies() -> list[str]:
    return [*PYPROJECT["dependencies"], *PYPROJECT["optional-dependencies"]["test"]]


def test_wings_import_only_from_the_wings_before_them():
    command = [str(Path(sys.executable).parent / "lint-imports")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_conda_environment_agrees_with_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = (entry["pip"] for entry in environment if isinstance(entry, dict))
    assert [entry for entry in pip if entry != "-e ."] == dependencies()


def test_constraints_pin_every_dependency_exactly():
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    names = {pin.split("==")[0].lower().replace("_", "-") for pin in pins}
    assert all(re.fullmatch(r"[\w.\-]+==[\w.]+", pin) for pin in pins)
    wanted = {re.split(r"[>=<]", dependency)[0].lower() for dependency in dependencies()}
    assert wanted - names == set()


def test_every_exported_name_exists():
    assert len(csegsynth_kit.__all__) <= 25
    for name in csegsynth_kit.__all__:
        assert getattr(csegsynth_kit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        csegsynth_kit.nonsense  # noqa: B018


def test_importing_loads_neither_torch_nor_the_network():
    code = "import sys, csegsynth_kit, csegsynth_kit.cli; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False"


def test_generating_waits_for_nothing_that_it_does_not_use():
    """What only trains, measures or draws figures would double the seconds to the first map."""
    heavy = "sklearn", "monai", "scipy.stats", "matplotlib", "seaborn", "statsmodels", "nilearn"
    code = (
        "import sys, csegsynth_kit as cs, csegsynth_kit.commands.generate; "
        "cs.generate(cs.load_pretrained('csegsynth-small'), {'age': 70}, n=2).volumes_ml(); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_no_file_is_longer_than_it_should_be():
    lines = {p: len(p.read_text().splitlines()) for p in (ROOT / "csegsynth_kit").rglob("*.py")}
    assert {str(p.relative_to(ROOT)): n for p, n in lines.items() if n > 400} == {}


def test_nothing_is_pickled_and_no_device_is_fixed():
    forbidden = re.compile(r"\bpickle\b|weights_only=False|allow_pickle=True|\.cuda\(\)|\bprint\(")
    package = ROOT / "csegsynth_kit"
    # These speak to a person at a terminal.
    allowed = {package / "cli.py", *(package / "commands").glob("*.py")}
    for path in package.rglob("*.py"):
        found = forbidden.findall(path.read_text())
        assert [f for f in found if f != "print(" or path not in allowed] == [], path


def test_there_are_six_notebooks():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]
    assert find_spec("nbval")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_follows_the_rules(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.cells[0].source.startswith(f"# {int(path.name[:2])}. ")
    assert "**In:**" in notebook.cells[0].source
    assert "**Out:**" in notebook.cells[0].source
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert len(cell.source.splitlines()) <= 15, cell.source
        assert not re.search(r"^\s*(def|class|import os|%|!)", cell.source, re.MULTILINE)
        assert [o for o in cell.outputs if o.output_type == "error"] == []
        assert [o for o in cell.outputs if o.get("name") == "stderr"] == []
    assert path.stat().st_size <= 300_000
    assert all(a.cell_type == "markdown" or b for a, b in _explained(notebook.cells))


def _explained(cells):
    """Pair every cell with whether prose stands within three cells before it."""
    for i, cell in enumerate(cells):
        before = cells[max(0, i - 3) : i]
        yield cell, any(c.cell_type == "markdown" for c in before) or i == 0


def test_committed_text_names_no_machine_path():
    files = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.toml", "*.yml", "*.cfg", "Makefile", "*.ipynb"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    path = re.compile(r"(?<![\w.])/(root|home|work|farm|tmp)\b/")
    assert [f for f in files if path.search((ROOT / f).read_text())] == []
