import json

import nbformat
import pytest

from csegsynth_kit.batch import find_notebooks, run_series, write_index
from csegsynth_kit.errors import ConfigError, SeriesError
from csegsynth_kit.refresh import normalized, refresh


def write_notebook(path, *cells, parameters="out = '.'\nnumber = 1"):
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    notebook.metadata["language_info"] = {"name": "python"}
    first = nbformat.v4.new_markdown_cell(f"# Title of {path.stem}")
    tagged = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    notebook.cells = [first, tagged, *(nbformat.v4.new_code_cell(cell) for cell in cells)]
    nbformat.write(notebook, path)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(folder / "01_first.ipynb", "open('seen.txt', 'w').write(str(number))")
    write_notebook(folder / "02_second.ipynb", "1 + 1", "raise ValueError('no luck')")
    write_notebook(folder / "03_third.ipynb", "open('third.txt', 'w').write('ran')")
    (folder / "helper.ipynb").write_text("{}")
    return folder


def test_notebooks_are_found_in_order_and_by_number(folder):
    assert [p.name[:2] for p in find_notebooks(folder)] == ["01", "02", "03"]
    assert [p.name[:2] for p in find_notebooks(folder, ["3", "01"])] == ["01", "03"]
    with pytest.raises(ConfigError, match="no notebook 07"):
        find_notebooks(folder, ["07"])
    with pytest.raises(ConfigError, match="no notebooks in"):
        find_notebooks(folder / "nowhere")


def test_parameters_arrive_and_the_report_links_what_ran(folder, tmp_path):
    chosen = find_notebooks(folder, ["01", "03"])
    (tmp_path / "out" / "figures").mkdir(parents=True)
    (tmp_path / "out" / "figures" / "01_volumes.png").write_bytes(b"")
    parameters = {"number": 7, "out": "x<y"}
    index = run_series(chosen, tmp_path / "out", parameters, progress=False)
    assert (folder / "seen.txt").read_text() == "7"
    page = index.read_text()
    assert 'href="notebooks/01_first.html"' in page
    assert "Title of 03_third" in page
    assert "x&lt;y" in page
    assert "figures/01_volumes.png" in page
    assert "Title of 01_first" in (tmp_path / "out" / "notebooks" / "01_first.html").read_text()


def test_the_report_says_what_models_were_trained_on(tmp_path):
    simulated, mine = {"statement": "Not <real>."}, {"source": "/mine"}
    for name, said in (("x-pretrain-1", simulated), ("x-finetune-1", mine)):
        (tmp_path / "models" / name).mkdir(parents=True)
        provenance = json.dumps({"cohort": said})
        (tmp_path / "models" / name / "provenance.json").write_text(provenance)
    text = write_index(tmp_path, {}).read_text()
    assert "<strong>Pre-training: Not &lt;real&gt;.</strong>" in text
    assert "<strong>Fine-tuning: Segmentations of /mine.</strong>" in text
    (tmp_path / "models" / "x-finetune-1" / "provenance.json").write_text(
        json.dumps({"cohort": simulated})
    )
    text = write_index(tmp_path, {}).read_text()
    assert text.count("<strong>Not &lt;real&gt;.</strong>") == 1


def test_notebooks_run_once_for_each_family_where_they_depend_on_it(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    seen = "open('seen.txt', 'a').write({} + '\\n')"
    write_notebook(folder / "01_data.ipynb", seen.format("'once'"))
    write_notebook(
        folder / "02_each.ipynb", seen.format("family"), parameters="family = ''\nout = ''"
    )
    write_notebook(
        folder / "03_all.ipynb", seen.format("families"), parameters="families = ''\nout = ''"
    )
    write_notebook(
        folder / "04_one.ipynb", seen.format("family"), parameters="family = ''\nout = ''"
    )
    index = run_series(
        find_notebooks(folder),
        tmp_path / "out",
        {"out": "x"},
        families=["cvae", "csegsynth"],
        progress=False,
    )
    lines = (folder / "seen.txt").read_text().split()
    assert lines == ["once", "cvae", "csegsynth", "cvae,csegsynth", "csegsynth"]
    page = index.read_text()
    assert 'href="notebooks/02_each-cvae.html">Title of 02_each (C-VAE)<' in page
    assert 'href="notebooks/02_each.html">Title of 02_each<' in page


def test_pages_of_families_that_are_no_longer_asked_for_go(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(folder / "02_each.ipynb", "1", parameters="family = ''")
    for families in (["cvae", "csegsynth"], ["csegsynth"]):
        index = run_series(
            find_notebooks(folder), tmp_path / "out", {}, families=families, progress=False
        )
    assert "C-VAE" not in index.read_text()
    assert sorted(p.name for p in (tmp_path / "out" / "notebooks").iterdir()) == [
        "02_each.html",
        "02_each.ipynb",
    ]


def test_a_failing_cell_stops_the_series_and_is_named(folder, tmp_path):
    with pytest.raises(SeriesError) as error:
        run_series(find_notebooks(folder), tmp_path / "out", {}, progress=False)
    assert "cell 3 of 02_second.ipynb failed: ValueError: no luck" in str(error.value)
    assert not (folder / "third.txt").exists()
    assert "Stopped: " in (tmp_path / "out" / "index.html").read_text()
    assert "Title of 02_second" in (tmp_path / "out" / "index.html").read_text()
    assert (tmp_path / "out" / "notebooks" / "02_second.html").exists()


def test_the_cell_is_counted_as_in_the_notebook_whatever_the_parameters(folder, tmp_path):
    with pytest.raises(SeriesError, match="cell 3 of 02_second"):
        run_series(find_notebooks(folder, ["02"]), tmp_path / "out", {"number": 2}, progress=False)


def test_a_dead_kernel_stops_the_series_and_is_named(folder, tmp_path):
    write_notebook(folder / "01_first.ipynb", "import os", "os._exit(1)")
    with pytest.raises(SeriesError, match=r"01_first\.ipynb could not be executed: DeadKernel"):
        run_series(find_notebooks(folder, ["01"]), tmp_path / "out", {}, progress=False)
    assert "could not be executed" in (tmp_path / "out" / "index.html").read_text()


def test_pages_need_no_network(folder, tmp_path):
    run_series(find_notebooks(folder, ["01"]), tmp_path / "out", {}, progress=False)
    page = (tmp_path / "out" / "notebooks" / "01_first.html").read_text()
    assert 'src="http' not in page


def test_unknown_parameters_are_refused_before_anything_runs(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"01_first\.ipynb has no parameter 'nubmer'"):
        run_series(find_notebooks(folder), tmp_path / "out", {"nubmer": 3}, progress=False)
    assert not (folder / "seen.txt").exists()


def test_refreshed_notebooks_are_the_same_each_time(folder):
    for name in ("02_second", "03_third"):
        (folder / f"{name}.ipynb").unlink()
    (folder / "helper.ipynb").unlink()
    write_notebook(folder / "01_first.ipynb", "print(number)", "number + 1")
    refresh(folder)
    first = (folder / "01_first.ipynb").read_text()
    refresh(folder)
    assert (folder / "01_first.ipynb").read_text() == first
    cells = json.loads(first)["cells"]
    assert [c.get("execution_count") for c in cells] == [None, 1, 2, 3]
    assert cells[2]["outputs"][0]["text"] == ["1\n"]
    assert "papermill" not in first


def test_progress_bars_are_dropped_and_warnings_kept():
    notebook = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell("x")
    stream = nbformat.v4.new_output
    cell.outputs = [
        stream("stream", name="stderr", text="train:  50%|#####     | 1/2"),
        stream("stream", name="stderr", text="a warning"),
        stream("display_data", {"application/vnd.jupyter.widget-view+json": {}}),
    ]
    notebook.cells = [cell]
    assert [o.text for o in normalized(notebook).cells[0].outputs] == ["a warning"]
